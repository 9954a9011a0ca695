"""Counting who comes in without mutual TLS: a counter for each address and port, which the agent reads and reports.

It stands on the inbound filter chains that do not end mesh mTLS, so calls over mTLS cost nothing.
"""

from __future__ import annotations

from functools import lru_cache

from envoy.config.accesslog.v3.accesslog_pb2 import AccessLog
from envoy.data.accesslog.v3 import accesslog_pb2 as accesslog_data_pb2
from envoy.extensions.access_loggers.stats.v3 import stats_pb2

from fairlead.envoy.stats import scoped_log

PREFIX = "fairlead"
COUNTER = "plaintext_calls_total"
TAG = "caller"
SEPARATOR = "|"
MAX_CALLERS = 2_000
"""Of one proxy. Addresses are chosen by peers: they must not fill memory."""


@lru_cache
def plaintext_access_log(*, tcp: bool) -> AccessLog:
    """The logger: counts HTTP requests when they end, TCP connections when they are connected."""
    text = f"%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%{SEPARATOR}%DOWNSTREAM_LOCAL_PORT%"
    stat = stats_pb2.Config.Stat(name=COUNTER, tags=[stats_pb2.Config.Tag(name=TAG, value_format=text)])
    config = stats_pb2.Config()
    config.counters.add(stat=stat).value_fixed.value = 1
    only = accesslog_data_pb2.AccessLogType.TcpUpstreamConnected if tcp else None
    return scoped_log(config, PREFIX, MAX_CALLERS, only)
