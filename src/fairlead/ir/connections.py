"""How a proxy treats its clients' connections (ProxyConfig `connectionSettings`)."""

from __future__ import annotations

from typing import Literal

import msgspec

from fairlead.ir.proxyconfig import ConnectionSettings
from fairlead.model.duration import parse_duration

Underscores = Literal["", "ALLOW", "REJECT_REQUEST", "DROP_HEADER"]
EscapedSlashes = Literal["", "KEEP_UNCHANGED", "REJECT_REQUEST", "UNESCAPE_AND_REDIRECT", "UNESCAPE_AND_FORWARD"]


class Connections(msgspec.Struct, frozen=True):
    """What is said of connections; None and "" leave what holds otherwise. Times are seconds, sizes bytes.

    `edge` has gateways take Envoy's advice for proxies at the edge (`EDGE`) where the other fields say nothing.
    `underscores` and `escaped_slashes` are Envoy's words.
    """

    edge: bool = False
    listener_buffer: int | None = None
    cluster_buffer: int | None = None
    idle: float | None = None
    longest: float | None = None
    longest_stream: float | None = None
    stream_idle: float | None = None
    request: float | None = None
    request_headers: float | None = None
    drain: float | None = None
    streams: int | None = None
    stream_window: int | None = None
    connection_window: int | None = None
    underscores: Underscores = ""
    merge_slashes: bool | None = None
    escaped_slashes: EscapedSlashes = ""

    def at(self, *, gateway: bool) -> Connections:
        """What holds for gateways, or for sidecars, with which the profile has nothing to do."""
        if not (self.edge and gateway):
            return self
        said = {name: value for name in self.__struct_fields__ if (value := getattr(self, name)) not in (None, "")}
        return msgspec.structs.replace(EDGE, **said)


EDGE = Connections(
    edge=True,
    listener_buffer=32768,
    cluster_buffer=32768,
    idle=3600,
    stream_idle=300,
    request=300,
    request_headers=60,
    streams=100,
    stream_window=65536,
    connection_window=1048576,
    underscores="REJECT_REQUEST",
    merge_slashes=True,
    escaped_slashes="UNESCAPE_AND_REDIRECT",
)
"""What Istio's profile EDGE says: Envoy's best practices for edge proxies."""


def connections_of(said: ConnectionSettings | None) -> Connections:
    """The fact of valid settings."""
    if said is None:
        return Connections()
    underscores = said.http_headers_with_underscores_action.removeprefix("HEADERS_WITH_UNDERSCORES_")
    slashes = said.http_path_with_escaped_slashes_action
    return Connections(
        edge=said.profile == "EDGE",
        listener_buffer=said.listener_per_connection_buffer_limit_bytes,
        cluster_buffer=said.cluster_per_connection_buffer_limit_bytes,
        idle=_seconds(said.http_idle_timeout),
        longest=_seconds(said.http_max_connection_duration),
        longest_stream=_seconds(said.http_max_stream_duration),
        stream_idle=_seconds(said.http_stream_idle_timeout),
        request=_seconds(said.http_request_timeout),
        request_headers=_seconds(said.http_request_headers_timeout),
        drain=_seconds(said.http_drain_timeout),
        streams=said.http_max_concurrent_streams,
        stream_window=said.http2_initial_stream_window_size,
        connection_window=said.http2_initial_connection_window_size,
        underscores=_UNDERSCORES[underscores],
        merge_slashes=said.http_merge_slashes,
        escaped_slashes="" if slashes == "PATH_WITH_ESCAPED_SLASHES_UNSPECIFIED" else slashes,
    )


_UNDERSCORES: dict[str, Underscores] = {
    "UNSPECIFIED": "",
    "ALLOW": "ALLOW",
    "REJECT_REQUEST": "REJECT_REQUEST",
    "DROP_HEADER": "DROP_HEADER",
}


def _seconds(text: str) -> float | None:
    return parse_duration(text) if text else None
