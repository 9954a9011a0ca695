"""Application protocols of ports, and how they are declared (Istio's explicit protocol selection)."""

from __future__ import annotations

from enum import StrEnum


class Protocol(StrEnum):
    """What a port speaks. AUTO is a port that does not say: its protocol is detected from the first bytes."""

    HTTP = "HTTP"
    HTTP2 = "HTTP2"
    GRPC = "GRPC"
    GRPC_WEB = "GRPC-Web"
    HTTP_PROXY = "HTTP_PROXY"
    HTTPS = "HTTPS"
    TLS = "TLS"
    TCP = "TCP"
    MONGO = "Mongo"
    REDIS = "Redis"
    MYSQL = "MySQL"
    UDP = "UDP"
    HBONE = "HBONE"
    AUTO = "UnsupportedProtocol"

    @property
    def is_http(self) -> bool:
        """Whether the proxy parses HTTP on this port (TLS-wrapped HTTP is not parsed)."""
        return self in _HTTP

    @property
    def is_http2(self) -> bool:
        """Whether the application speaks HTTP/2 with prior knowledge."""
        return self in _HTTP2

    @property
    def is_tls(self) -> bool:
        """Whether bytes on this port are the application's own TLS."""
        return self in (Protocol.HTTPS, Protocol.TLS)

    @property
    def is_tcp(self) -> bool:
        """Whether the proxy forwards bytes without parsing HTTP."""
        return self in _TCP


_HTTP = frozenset((Protocol.HTTP, Protocol.HTTP2, Protocol.GRPC, Protocol.GRPC_WEB, Protocol.HTTP_PROXY))
_HTTP2 = frozenset((Protocol.HTTP2, Protocol.GRPC, Protocol.GRPC_WEB))
_TCP = frozenset(
    (Protocol.TCP, Protocol.HTTPS, Protocol.TLS, Protocol.MONGO, Protocol.REDIS, Protocol.MYSQL, Protocol.HBONE)
)

_BY_NAME = {one.value.lower(): one for one in Protocol if one is not Protocol.AUTO}
_APP_PROTOCOLS = {
    "kubernetes.io/h2c": Protocol.HTTP2,
    "kubernetes.io/ws": Protocol.HTTP,
    "kubernetes.io/wss": Protocol.HTTPS,
}
_WELL_KNOWN_TCP = frozenset((25, 53, 3306, 27017))


GRPC_STATUS = {
    name: code
    for code, name in enumerate(
        (
            "OK",
            "CANCELLED",
            "UNKNOWN",
            "INVALID_ARGUMENT",
            "DEADLINE_EXCEEDED",
            "NOT_FOUND",
            "ALREADY_EXISTS",
            "PERMISSION_DENIED",
            "RESOURCE_EXHAUSTED",
            "FAILED_PRECONDITION",
            "ABORTED",
            "OUT_OF_RANGE",
            "UNIMPLEMENTED",
            "INTERNAL",
            "UNAVAILABLE",
            "DATA_LOSS",
            "UNAUTHENTICATED",
        )
    )
}
"""gRPC status codes by name."""


def parse_protocol(text: str) -> Protocol:
    """The protocol that an API field names, in any case; AUTO where it names none that is known."""
    return _BY_NAME.get(text.lower(), Protocol.AUTO)


def port_protocol(number: int, name: str, app_protocol: str = "", transport: str = "TCP") -> Protocol:
    """The protocol of a Service port: `appProtocol`, else the prefix of its name, else detection.

    Ports of well-known server-first protocols (SMTP, DNS, MySQL, MongoDB) are TCP unless they say otherwise, since
    detection would wait for a client that waits for the server (Istio `kube.ConvertProtocol`).
    """
    if transport in ("UDP", "SCTP"):  # Envoy forwards neither for us.
        return Protocol.UDP
    if app_protocol:
        known = _APP_PROTOCOLS.get(app_protocol.lower())
        if known is not None:
            return known
        declared = parse_protocol(app_protocol)
        if declared is not Protocol.AUTO:
            return declared
    lowered = name.lower()
    if lowered == "grpc-web" or lowered.startswith("grpc-web-"):
        return Protocol.GRPC_WEB
    named = parse_protocol(lowered.partition("-")[0])
    if named is not Protocol.AUTO:
        return named
    return Protocol.TCP if number in _WELL_KNOWN_TCP else Protocol.AUTO
