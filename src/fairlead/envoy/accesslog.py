"""Access logs as Istio configures them: file loggers, their default formats, and the listener's own log.

The text and JSON defaults are Istio's (`pilot/pkg/model/telemetry_logging.go`), so that dashboards and parsers that
were made for Istio keep working.
"""

from __future__ import annotations

from typing import Any

import msgspec
from envoy.config.accesslog.v3.accesslog_pb2 import (
    AccessLog,
    AccessLogFilter,
    AndFilter,
    ExtensionFilter,
    ResponseFlagFilter,
)
from envoy.config.core.v3.base_pb2 import DataSource
from envoy.config.core.v3.config_source_pb2 import ApiVersion
from envoy.config.core.v3.extension_pb2 import TypedExtensionConfig
from envoy.config.core.v3.substitution_format_string_pb2 import JsonFormatOptions, SubstitutionFormatString
from envoy.extensions.access_loggers.file.v3.file_pb2 import FileAccessLog
from envoy.extensions.access_loggers.filters.cel.v3.cel_pb2 import ExpressionFilter
from envoy.extensions.access_loggers.grpc.v3.als_pb2 import (
    CommonGrpcAccessLogConfig,
    HttpGrpcAccessLogConfig,
    TcpGrpcAccessLogConfig,
)
from envoy.extensions.access_loggers.open_telemetry.v3.logs_service_pb2 import OpenTelemetryAccessLogConfig
from envoy.extensions.formatter.req_without_query.v3.req_without_query_pb2 import ReqWithoutQuery
from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct

from fairlead.envoy.pack import framed, pack
from fairlead.envoy.tracing import grpc_service
from fairlead.ir.mesh import Mesh
from fairlead.ir.observability import Logger

_FILE_LOGGER = "envoy.access_loggers.file"
_CEL_FILTER = "envoy.access_loggers.extension_filters.cel"
_WITHOUT_QUERY = "%REQ_WITHOUT_QUERY"
"""The one operator of those that Istio lets a format have which Envoy knows only where its extension is named."""
_LOG_NAMES = {"http": "http_envoy_accesslog", "tcp": "tcp_envoy_accesslog", "opentelemetry": "otel_envoy_accesslog"}

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


class LogTarget(msgspec.Struct, frozen=True):
    """A logger in use, and the CEL expression that chooses what it logs ("": everything)."""

    logger: Logger
    filter: str = ""
    builtin: bool = False
    """Whether it is the one for which MeshConfig gives the format."""


def access_logs(mesh: Mesh, targets: tuple[LogTarget, ...] | None = None, *, tcp: bool = False) -> list[AccessLog]:
    """The logs of a connection manager or (`tcp`) TCP proxy.

    Without targets (None) the file that MeshConfig names, or no log where it names none.
    """
    if targets is None:
        if not mesh.access_log_file:
            return []
        return [AccessLog(name=_FILE_LOGGER, typed_config=pack(_file(mesh, mesh.access_log_file)))]
    wrong = "http" if tcp else "tcp"
    return [_log(one, mesh, tcp=tcp) for one in targets if one.logger.kind != wrong]


def listener_access_logs(mesh: Mesh, targets: tuple[LogTarget, ...] | None = None) -> tuple[AccessLog, ...]:
    """What a listener logs itself: connections for which no filter chain was found, which nothing else would log."""
    unmatched = AccessLogFilter(response_flag_filter=ResponseFlagFilter(flags=["NR"]))
    return tuple(
        AccessLog(name=log.name, typed_config=log.typed_config, filter=_both(unmatched, log))
        for log in access_logs(mesh, targets, tcp=True)
    )


def _both(first: AccessLogFilter, log: AccessLog) -> AccessLogFilter:
    if not log.HasField("filter"):
        return first
    return AccessLogFilter(and_filter=AndFilter(filters=[first, log.filter]))


def _log(target: LogTarget, mesh: Mesh, *, tcp: bool) -> AccessLog:
    name, config = _config(target, mesh, tcp=tcp)
    made = AccessLog(name=name, typed_config=pack(config))
    if target.filter:
        chosen = pack(ExpressionFilter(expression=target.filter))
        made.filter.extension_filter.CopyFrom(ExtensionFilter(name=_CEL_FILTER, typed_config=chosen))
    return made


def _config(target: LogTarget, mesh: Mesh, *, tcp: bool) -> tuple[str, Message]:
    logger = target.logger
    if logger.kind == "file":
        if target.builtin and not logger.text and not logger.fields:
            return _FILE_LOGGER, _file(mesh, logger.path)
        return _FILE_LOGGER, FileAccessLog(path=logger.path, log_format=_formatted(logger))
    if logger.kind == "opentelemetry":
        return "envoy.access_loggers.open_telemetry", _otel(logger)
    common = CommonGrpcAccessLogConfig(
        log_name=logger.log_name or _LOG_NAMES[logger.kind], transport_api_version=ApiVersion.V3
    )
    if logger.address is not None:
        common.grpc_service.CopyFrom(grpc_service(logger.address))
    common.filter_state_objects_to_log.extend(logger.filter_state)
    if tcp:
        return "envoy.access_loggers.tcp_grpc", TcpGrpcAccessLogConfig(common_config=common)
    requests, responses, trailers = logger.headers
    return "envoy.access_loggers.http_grpc", HttpGrpcAccessLogConfig(
        common_config=common,
        additional_request_headers_to_log=requests,
        additional_response_headers_to_log=responses,
        additional_response_trailers_to_log=trailers,
    )


def _otel(logger: Logger) -> OpenTelemetryAccessLogConfig:
    made = OpenTelemetryAccessLogConfig()
    # `grpc_service` and `log_name` on the wire: newer than the Python messages; the older field is deprecated.
    if logger.address is not None:
        made.MergeFromString(framed(9, grpc_service(logger.address).SerializeToString(deterministic=True)))
    made.MergeFromString(framed(10, (logger.log_name or _LOG_NAMES[logger.kind]).encode()))
    made.body.string_value = logger.text or TEXT_FORMAT.rstrip("\n")
    for key, value in sorted(msgspec.json.decode(logger.fields or "{}", type=dict[str, Any]).items()):
        made.attributes.values.add(key=key).value.string_value = str(value)
    made.formatters.extend(_extensions(logger.text + logger.fields))
    return made


def _formatted(logger: Logger) -> SubstitutionFormatString:
    if logger.fields:
        return _json(logger.fields, omit_empty=logger.omit_empty)
    return _text(logger.text, omit_empty=logger.omit_empty)


def _file(mesh: Mesh, path: str) -> FileAccessLog:
    as_json = mesh.access_log_encoding == "JSON"
    return FileAccessLog(path=path, log_format=(_json if as_json else _text)(mesh.access_log_format))


def _json(said: str, *, omit_empty: bool = False) -> SubstitutionFormatString:
    return SubstitutionFormatString(
        json_format=_json_format(said),
        json_format_options=JsonFormatOptions(sort_properties=False),
        omit_empty_values=omit_empty,
        formatters=_extensions(said),
    )


def _text(said: str, *, omit_empty: bool = False) -> SubstitutionFormatString:
    text = said or TEXT_FORMAT
    line = text if text.endswith("\n") else text + "\n"
    return SubstitutionFormatString(
        text_format_source=DataSource(inline_string=line), omit_empty_values=omit_empty, formatters=_extensions(said)
    )


def _extensions(said: str) -> list[TypedExtensionConfig]:
    if _WITHOUT_QUERY not in said:
        return []
    return [TypedExtensionConfig(name="envoy.formatter.req_without_query", typed_config=pack(ReqWithoutQuery()))]


def _json_format(said: str) -> Struct:
    """The mesh's own JSON object, or the default one where it is absent, empty or not an object."""
    if said:
        try:
            return ParseDict(msgspec.json.decode(said, type=dict[str, Any]) or JSON_FIELDS, Struct())
        except (msgspec.MsgspecError, ParseError):
            # Admission refuses such a format; a mesh that has one from elsewhere still gets a log.
            pass
    return ParseDict(JSON_FIELDS, Struct())
