"""How clients' connections are treated: what HTTP connection managers take from ProxyConfig `connectionSettings`."""

from __future__ import annotations

from envoy.config.core.v3.protocol_pb2 import HttpProtocolOptions
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)

from fairlead.envoy.pack import seconds
from fairlead.ir.connections import Connections

_COMMON = {
    "idle_timeout": "idle",
    "max_connection_duration": "longest",
    "max_stream_duration": "longest_stream",
}
_WHOLE = {
    "stream_idle_timeout": "stream_idle",
    "request_timeout": "request",
    "request_headers_timeout": "request_headers",
    "drain_timeout": "drain",
}
_HTTP2 = {
    "max_concurrent_streams": "streams",
    "initial_stream_window_size": "stream_window",
    "initial_connection_window_size": "connection_window",
}
"""Envoy's fields, and ours: of HttpProtocolOptions, HttpConnectionManager and Http2ProtocolOptions."""


def connect(made: HttpConnectionManager, said: Connections) -> None:
    """Put these settings into a manager; they count for more than MeshConfig's pathNormalization."""
    for message, fields in ((made.common_http_protocol_options, _COMMON), (made, _WHOLE)):
        for field, name in fields.items():
            value: float | None = getattr(said, name)
            if value is not None:
                getattr(message, field).CopyFrom(seconds(value))
    for field, name in _HTTP2.items():
        value = getattr(said, name)
        if value is not None:
            getattr(made.http2_protocol_options, field).value = value
    if said.underscores:
        chosen = HttpProtocolOptions.HeadersWithUnderscoresAction.Value(said.underscores)
        made.common_http_protocol_options.headers_with_underscores_action = chosen
    if said.merge_slashes is not None:
        made.merge_slashes = said.merge_slashes
    if said.escaped_slashes:
        action = HttpConnectionManager.PathWithEscapedSlashesAction.Value(said.escaped_slashes)
        made.path_with_escaped_slashes_action = action
