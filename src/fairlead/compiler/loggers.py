"""What counts and logs requests and connections: the one place where access loggers are chosen.

Every connection manager and TCP proxy takes its loggers from here, so that another one (metrics) is added once.
"""

from __future__ import annotations

from envoy.config.accesslog.v3.accesslog_pb2 import AccessLog

from fairlead.compiler.hosts import settings
from fairlead.envoy.accesslog import access_logs
from fairlead.envoy.stats import reporter_of, stats_access_log, tcp_stats_access_log
from fairlead.inc import Reader
from fairlead.ir.filters import FilterScope


def loggers(r: Reader, scope: FilterScope, *, tunnels: bool = True) -> tuple[AccessLog, ...]:
    """The loggers of the connection managers and TCP proxies (`scope.tcp`) of a proxy's filter chain.

    Without `tunnels` CONNECT is logged, but not counted.
    """
    reporter = reporter_of(scope.direction)
    counted = tcp_stats_access_log(reporter) if scope.tcp else stats_access_log(reporter, tunnels=tunnels)
    return (*counted, *access_logs(settings(r)))
