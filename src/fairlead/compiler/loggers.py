"""What counts, logs and traces requests and connections: the one place where that is chosen.

Every connection manager, TCP proxy and listener takes its loggers from here, so that another one is added once.
"""

from __future__ import annotations

from functools import lru_cache

from envoy.config.accesslog.v3.accesslog_pb2 import AccessLog

from fairlead.compiler.hosts import settings
from fairlead.compiler.telemetry import log_service, log_targets, metric_changes, trace
from fairlead.envoy.accesslog import access_logs, listener_access_logs
from fairlead.envoy.stats import (
    MetricChange,
    Reporter,
    counts_messages,
    reporter_of,
    stats_access_log,
    tcp_stats_access_log,
)
from fairlead.inc import Reader
from fairlead.ir.filters import FilterScope


def loggers(r: Reader, scope: FilterScope, *, tunnels: bool = True) -> tuple[AccessLog, ...]:
    """The loggers of the connection managers and TCP proxies (`scope.tcp`) of a proxy's filter chain.

    Without `tunnels` CONNECT is logged, but not counted.
    """
    changes = metric_changes(r, scope)
    counting = _counting(reporter_of(scope.direction), scope.tcp, tunnels, changes) if changes is not None else ()
    mesh, service = settings(r), log_service(r, scope)
    logged = access_logs(mesh, log_targets(r, scope), tcp=scope.tcp)
    reported = access_logs(mesh, (service,), tcp=scope.tcp) if service is not None else ()
    return (*counting, *logged, *reported)


def counts_grpc(r: Reader, scope: FilterScope) -> bool:
    """Whether a chain counts messages of gRPC."""
    changes = metric_changes(r, scope)
    return changes is not None and counts_messages(changes)


def listener_loggers(r: Reader, scope: FilterScope) -> tuple[AccessLog, ...]:
    """The loggers of a listener itself: connections for which no filter chain was found."""
    mesh = settings(r)
    return listener_access_logs(mesh, log_targets(r, scope)) if mesh.listener_log else ()


@lru_cache
def _counting(reporter: Reporter, tcp: bool, tunnels: bool, changes: tuple[MetricChange, ...]) -> tuple[AccessLog, ...]:
    """The loggers that count: they depend on nothing else, and building them costs more than the listener around them.

    Whoever gets them copies them into a message of its own.
    """
    if tcp:
        return tuple(tcp_stats_access_log(reporter, changes))
    return tuple(stats_access_log(reporter, tunnels=tunnels, changes=changes))


__all__ = ["counts_grpc", "listener_loggers", "loggers", "trace"]
