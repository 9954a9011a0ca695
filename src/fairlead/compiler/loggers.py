"""What counts and logs requests and connections: the one place where access loggers are chosen.

Every connection manager and TCP proxy takes its loggers from here, so that another one (metrics) is added once.
"""

from __future__ import annotations

from functools import lru_cache

from envoy.config.accesslog.v3.accesslog_pb2 import AccessLog

from fairlead.compiler.hosts import settings
from fairlead.envoy.accesslog import access_logs
from fairlead.envoy.stats import Reporter, reporter_of, stats_access_log, tcp_stats_access_log
from fairlead.inc import Reader
from fairlead.ir.filters import FilterScope


def loggers(r: Reader, scope: FilterScope, *, tunnels: bool = True) -> tuple[AccessLog, ...]:
    """The loggers of the connection managers and TCP proxies (`scope.tcp`) of a proxy's filter chain.

    Without `tunnels` CONNECT is logged, but not counted.
    """
    return (*_counting(reporter_of(scope.direction), scope.tcp, tunnels), *access_logs(settings(r)))


@lru_cache
def _counting(reporter: Reporter, tcp: bool, tunnels: bool) -> tuple[AccessLog, ...]:
    """The loggers that count: they depend on nothing else, and building them costs more than the listener around them.

    Whoever gets them copies them into a message of its own.
    """
    return tuple(tcp_stats_access_log(reporter) if tcp else stats_access_log(reporter, tunnels=tunnels))
