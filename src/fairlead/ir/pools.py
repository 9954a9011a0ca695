"""Connection pools and outlier detection: what is wrong with them (Istio's validation), and their facts."""

from __future__ import annotations

from collections.abc import Iterator

from fairlead.ir import poolspec as spec
from fairlead.ir.traffic import HttpPool, OutlierDetection, Ping, TcpKeepalive, TcpPool
from fairlead.model.diagnostic import Problem
from fairlead.model.duration import parse_duration
from fairlead.model.findings import deprecated, forbidden, invalid, required
from fairlead.model.path import FieldPath
from fairlead.model.syntax import wrong_duration

_PING_TIMEOUT = 20.0
"""Seconds to wait for the answer to a PING where the rule does not say: Envoy wants to be told, and gRPC waits so."""
_LIMITS = [
    "http1MaxPendingRequests",
    "http2MaxRequests",
    "maxRequestsPerConnection",
    "maxRetries",
    "maxConcurrentStreams",
]


def time_problems(path: FieldPath, text: str | None, *, zero: bool = False) -> Iterator[Problem]:
    """What is wrong with a duration; with `zero`, 0s is none."""
    if text is not None and (fault := wrong_duration(text, zero=zero)):
        yield invalid(path, fault, "Durations look like 1h, 30s or 250ms.")


def outlier_problems(path: FieldPath, outlier: spec.OutlierDetection | None) -> Iterator[Problem]:
    """What is wrong with outlier detection."""
    if outlier is None:
        return
    yield from time_problems(path / "baseEjectionTime", outlier.base_ejection_time)
    yield from time_problems(path / "interval", outlier.interval)
    if outlier.consecutive_errors:
        yield deprecated(path / "consecutiveErrors", "consecutiveGatewayErrors or consecutive5xxErrors")
    if outlier.consecutive_local_origin_failures and not outlier.split_external_local_origin_errors:
        message = "is only counted with splitExternalLocalOriginErrors"
        yield invalid(path / "consecutiveLocalOriginFailures", message, "Set splitExternalLocalOriginErrors: true.")
    percents = (("maxEjectionPercent", outlier.max_ejection_percent), ("minHealthPercent", outlier.min_health_percent))
    for name, value in percents:
        if not 0 <= value <= 100:
            yield invalid(path / name, f"percentage {value} is not in range 0..100")


def pool_problems(path: FieldPath, pool: spec.ConnectionPoolSettings | None) -> Iterator[Problem]:
    """What is wrong with a connection pool."""
    if pool is None:
        return
    if pool.http is None and pool.tcp is None:
        yield required(path, "connection pool must have at least one field", "Remove it, or give http or tcp.")
    if pool.http is not None:
        yield from _http_pool(path / "http", pool.http)
    if pool.tcp is not None:
        tcp, where = pool.tcp, path / "tcp"
        if tcp.max_connections < 0:
            yield invalid(where / "maxConnections", "must not be negative")
        yield from time_problems(where / "connectTimeout", tcp.connect_timeout)
        yield from time_problems(where / "maxConnectionDuration", tcp.max_connection_duration)
        yield from time_problems(where / "idleTimeout", tcp.idle_timeout, zero=True)
        if tcp.tcp_keepalive is not None:
            yield from time_problems(where.child("tcpKeepalive", "time"), tcp.tcp_keepalive.time)
            yield from time_problems(where.child("tcpKeepalive", "interval"), tcp.tcp_keepalive.interval)


def _http_pool(path: FieldPath, http: spec.HTTPSettings) -> Iterator[Problem]:
    limits = (
        http.http1_max_pending_requests,
        http.http2_max_requests,
        http.max_requests_per_connection,
        http.max_retries,
        http.max_concurrent_streams,
    )
    for name, value in zip(_LIMITS, limits, strict=True):
        if value < 0:
            yield invalid(path / name, "must not be negative")
    yield from time_problems(path / "idleTimeout", http.idle_timeout)
    if http.h2_upgrade_policy == "UPGRADE" and http.use_client_protocol:
        message = "useClientProtocol must not be true when h2UpgradePolicy is UPGRADE"
        yield forbidden(path / "useClientProtocol", message, "Leave one of them.")
    keepalive, where = http.http2_keep_alive, path / "http2KeepAlive"
    if keepalive is not None:
        if keepalive.interval is None:
            yield required(where / "interval", "interval is required for http2KeepAlive")
        yield from time_problems(where / "interval", keepalive.interval)
        yield from time_problems(where / "timeout", keepalive.timeout)


def _seconds(text: str | None) -> float | None:
    return None if text is None else parse_duration(text)


def tcp_pool(pool: spec.ConnectionPoolSettings | None) -> TcpPool | None:
    """Istio overrides a connection pool as one: where any of it is given, both parts are said here."""
    if pool is None:
        return None
    tcp = pool.tcp or spec.TCPSettings()
    keepalive = tcp.tcp_keepalive
    return TcpPool(
        max_connections=tcp.max_connections or None,
        connect_timeout=_seconds(tcp.connect_timeout),
        keepalive=TcpKeepalive(keepalive.probes, _seconds(keepalive.time) or 0, _seconds(keepalive.interval) or 0)
        if keepalive
        else None,
        idle_timeout=_seconds(tcp.idle_timeout),
        max_connection_duration=_seconds(tcp.max_connection_duration),
    )


def http_pool(pool: spec.ConnectionPoolSettings | None) -> HttpPool | None:
    """The part of a connection pool that is about HTTP; None where there is no pool."""
    if pool is None:
        return None
    http = pool.http or spec.HTTPSettings()
    return HttpPool(
        max_pending_requests=http.http1_max_pending_requests or None,
        max_requests=http.http2_max_requests or None,
        max_requests_per_connection=http.max_requests_per_connection or None,
        max_retries=http.max_retries or None,
        idle_timeout=_seconds(http.idle_timeout),
        h2_upgrade=http.h2_upgrade_policy,
        use_client_protocol=http.use_client_protocol,
        max_concurrent_streams=http.max_concurrent_streams or None,
        ping=_ping(http.http2_keep_alive),
    )


def _ping(keepalive: spec.Http2KeepAlive | None) -> Ping | None:
    if keepalive is None or keepalive.interval is None:
        return None
    return Ping(parse_duration(keepalive.interval), _seconds(keepalive.timeout) or _PING_TIMEOUT)


def outlier_detection(outlier: spec.OutlierDetection | None) -> OutlierDetection | None:
    """Outlier detection. `min_health_percent` is always said: Istio's default of 0 switches panic mode off."""
    if outlier is None:
        return None
    return OutlierDetection(
        consecutive_5xx=outlier.consecutive_5xx_errors,
        consecutive_gateway=outlier.consecutive_gateway_errors,
        consecutive_local_origin=outlier.consecutive_local_origin_failures,
        split_local_origin=outlier.split_external_local_origin_errors,
        interval=_seconds(outlier.interval),
        base_ejection=_seconds(outlier.base_ejection_time),
        max_ejection_percent=outlier.max_ejection_percent or None,
        min_health_percent=outlier.min_health_percent,
        error_codes=tuple(sorted(set(outlier.outlier_detection_http_error_codes))),
    )
