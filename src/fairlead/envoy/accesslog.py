"""Access logs as Istio configures them: file loggers, their default formats, and the listener's own log.

The text and JSON defaults are Istio's (`pilot/pkg/model/telemetry_logging.go`), so that dashboards and parsers that
were made for Istio keep working.
"""

from __future__ import annotations

from typing import Any

import msgspec
from envoy.config.accesslog.v3.accesslog_pb2 import AccessLog, AccessLogFilter, ResponseFlagFilter
from envoy.config.core.v3.base_pb2 import DataSource
from envoy.config.core.v3.substitution_format_string_pb2 import JsonFormatOptions, SubstitutionFormatString
from envoy.extensions.access_loggers.file.v3.file_pb2 import FileAccessLog
from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.struct_pb2 import Struct

from fairlead.envoy.pack import pack
from fairlead.ir.mesh import Mesh

_FILE_LOGGER = "envoy.access_loggers.file"

JSON_FIELDS: dict[str, str] = {
    "start_time": "%START_TIME%",
    "route_name": "%ROUTE_NAME%",
    "method": "%REQ(:METHOD)%",
    "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
    "protocol": "%PROTOCOL%",
    "response_code": "%RESPONSE_CODE%",
    "response_flags": "%RESPONSE_FLAGS%",
    "response_code_details": "%RESPONSE_CODE_DETAILS%",
    "connection_termination_details": "%CONNECTION_TERMINATION_DETAILS%",
    "bytes_received": "%BYTES_RECEIVED%",
    "bytes_sent": "%BYTES_SENT%",
    "duration": "%DURATION%",
    "upstream_service_time": "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%",
    "x_forwarded_for": "%REQ(X-FORWARDED-FOR)%",
    "user_agent": "%REQ(USER-AGENT)%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "authority": "%REQ(:AUTHORITY)%",
    "upstream_host": "%UPSTREAM_HOST%",
    "upstream_cluster": "%UPSTREAM_CLUSTER_RAW%",
    "upstream_local_address": "%UPSTREAM_LOCAL_ADDRESS%",
    "downstream_local_address": "%DOWNSTREAM_LOCAL_ADDRESS%",
    "downstream_remote_address": "%DOWNSTREAM_REMOTE_ADDRESS%",
    "requested_server_name": "%REQUESTED_SERVER_NAME%",
    "upstream_transport_failure_reason": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
}
"""Keys of a JSON access log and the operators that fill them."""


def _default_text() -> str:
    field = JSON_FIELDS
    parts = [
        f"[{field['start_time']}]",
        f'"{field["method"]} {field["path"]} {field["protocol"]}"',
        *(field[name] for name in ("response_code", "response_flags", "response_code_details")),
        field["connection_termination_details"],
        f'"{field["upstream_transport_failure_reason"]}"',
        *(field[name] for name in ("bytes_received", "bytes_sent", "duration", "upstream_service_time")),
        *(f'"{field[name]}"' for name in ("x_forwarded_for", "user_agent", "request_id", "authority", "upstream_host")),
        *(field[name] for name in ("upstream_cluster", "upstream_local_address", "downstream_local_address")),
        *(field[name] for name in ("downstream_remote_address", "requested_server_name", "route_name")),
    ]
    return " ".join(parts) + "\n"


TEXT_FORMAT = _default_text()
"""The line that is written per request or connection unless the mesh says otherwise."""


def access_logs(mesh: Mesh) -> tuple[AccessLog, ...]:
    """The log of requests and connections that the mesh settings ask for; none where they name no file."""
    if not mesh.access_log_file:
        return ()
    return (AccessLog(name=_FILE_LOGGER, typed_config=pack(_file(mesh))),)


def listener_access_logs(mesh: Mesh) -> tuple[AccessLog, ...]:
    """What a listener logs itself: connections for which no filter chain was found, which nothing else would log."""
    return tuple(
        AccessLog(
            name=log.name,
            typed_config=log.typed_config,
            filter=AccessLogFilter(response_flag_filter=ResponseFlagFilter(flags=["NR"])),
        )
        for log in access_logs(mesh)
    )


def _file(mesh: Mesh) -> FileAccessLog:
    if mesh.access_log_encoding == "JSON":
        chosen = SubstitutionFormatString(
            json_format=_json_format(mesh.access_log_format),
            json_format_options=JsonFormatOptions(sort_properties=False),
        )
    else:
        text = mesh.access_log_format or TEXT_FORMAT
        line = text if text.endswith("\n") else text + "\n"
        chosen = SubstitutionFormatString(text_format_source=DataSource(inline_string=line))
    return FileAccessLog(path=mesh.access_log_file, log_format=chosen)


def _json_format(said: str) -> Struct:
    """The mesh's own JSON object, or the default one where it is absent or not an object."""
    if said:
        try:
            return ParseDict(msgspec.json.decode(said, type=dict[str, Any]), Struct())
        except (msgspec.MsgspecError, ParseError):
            # Admission refuses such a format; a mesh that has one from elsewhere still gets a log.
            pass
    return ParseDict(JSON_FIELDS, Struct())
