"""Fields of connection pools and outlier detection, which DestinationRule and MeshConfig share."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from fairlead.model.object import Spec

Uint32 = Annotated[int, Meta(ge=0, le=4294967295)]
Int32 = Annotated[int, Meta(ge=-2147483648, le=2147483647)]


class TcpKeepalive(Spec, frozen=True):
    """SO_KEEPALIVE; the kernel's values where nothing is given."""

    probes: Annotated[Uint32, Meta(description="Unanswered probes before the connection is dead.")] = 0
    time: Annotated[str | None, Meta(description="Idle time before the first probe.")] = None
    interval: Annotated[str | None, Meta(description="Time between probes.")] = None


class TCPSettings(Spec, frozen=True):
    """Limits that hold for HTTP and TCP."""

    max_connections: Annotated[Int32, Meta(description="Connections to the host at most.")] = 0
    connect_timeout: Annotated[str | None, Meta(description="Time to connect.")] = None
    tcp_keepalive: Annotated[TcpKeepalive | None, Meta(description="Keepalive probes.")] = None
    max_connection_duration: Annotated[str | None, Meta(description="A connection is closed after this.")] = None
    idle_timeout: Annotated[str | None, Meta(description="An idle connection is closed after this; 0s: never.")] = None


class Http2KeepAlive(Spec, frozen=True):
    """HTTP/2 PING frames on upstream connections."""

    interval: Annotated[str | None, Meta(description="Time between pings.")] = None
    timeout: Annotated[str | None, Meta(description="Time to wait for the answer.")] = None


class HTTPSettings(Spec, frozen=True):
    """Limits for HTTP."""

    http1_max_pending_requests: Annotated[Int32, Meta(description="Requests that wait for a connection.")] = 0
    http2_max_requests: Annotated[Int32, Meta(description="Active requests at most.")] = 0
    max_requests_per_connection: Annotated[Int32, Meta(description="1 switches keepalive off.")] = 0
    max_retries: Annotated[Int32, Meta(description="Retries at one time at most.")] = 0
    idle_timeout: Annotated[str | None, Meta(description="A connection without requests is closed after this.")] = None
    h2_upgrade_policy: Annotated[
        Literal["DEFAULT", "DO_NOT_UPGRADE", "UPGRADE"],
        Meta(description="Whether HTTP/1.1 is carried over HTTP/2."),
    ] = "DEFAULT"
    use_client_protocol: Annotated[bool, Meta(description="Call with the protocol that the client spoke.")] = False
    max_concurrent_streams: Annotated[Int32, Meta(description="Streams on one HTTP/2 connection.")] = 0
    http2_keep_alive: Annotated[Http2KeepAlive | None, Meta(description="HTTP/2 PING frames.")] = None


class ConnectionPoolSettings(Spec, frozen=True):
    """Limits on connections and requests."""

    tcp: Annotated[TCPSettings | None, Meta(description="Limits for HTTP and TCP.")] = None
    http: Annotated[HTTPSettings | None, Meta(description="Limits for HTTP.")] = None


class OutlierDetection(Spec, frozen=True):
    """Stop calling endpoints that fail."""

    consecutive_errors: Annotated[Int32, Meta(description="Deprecated, and ignored as in Istio.")] = 0
    split_external_local_origin_errors: Annotated[
        bool, Meta(description="Count errors of the connection apart from errors of the endpoint.")
    ] = False
    consecutive_local_origin_failures: Annotated[
        Uint32 | None, Meta(description="Connection failures in a row before ejection.")
    ] = None
    consecutive_gateway_errors: Annotated[
        Uint32 | None, Meta(description="502, 503, 504 in a row before ejection; 0: off.")
    ] = None
    consecutive_5xx_errors: Annotated[
        Uint32 | None, Meta(description="5xx in a row before ejection; 5 if not given; 0: off.")
    ] = field(default=None, name="consecutive5xxErrors")
    interval: Annotated[str | None, Meta(description="Time between checks; 10s if not given.")] = None
    base_ejection_time: Annotated[
        str | None, Meta(description="Shortest ejection, times the number of ejections; 30s if not given.")
    ] = None
    max_ejection_percent: Annotated[Int32, Meta(description="Endpoints ejected at most; 10 if 0.")] = 0
    min_health_percent: Annotated[Int32, Meta(description="With fewer healthy ones, all are called.")] = 0
    outlier_detection_http_error_codes: Annotated[
        tuple[Annotated[int, Meta(ge=100, le=599)], ...],
        Meta(description="Statuses that count as 5xx, in place of 500 to 599."),
    ] = ()
