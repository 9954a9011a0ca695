"""Istio's standard metrics out of stock Envoy: the `stats` access logger counts, peers introduce themselves by header.

A proxy adds `x-fairlead-peer` (a serialised google.protobuf.Value in base64) with its workload's names to requests it
sends for its application and to responses it returns for it. The other side moves the header into dynamic metadata
and removes it, so no application sees it. Both are HTTP filters of the listener, not of routes: route tables stay the
same for all workloads. Neither do listeners name the workload: Envoy reads its own names from its environment
(`fairlead.envoy.peer.environment`), so that workloads that are alike share listeners. Hosts outside the mesh must not
learn these names: routes to them remove the header (`fairlead.envoy.routeaction`), and what they return under it.

Principals come from TLS, the destination service from the cluster's metadata (`service_metadata`). What Envoy cannot
say in an operator (`unknown` for an absent value, `mutual_tls`, `grpc`) is put right by `fairlead.telemetry.page`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from envoy.config.accesslog.v3 import accesslog_pb2
from envoy.config.common.mutation_rules.v3 import mutation_rules_pb2
from envoy.config.core.v3 import base_pb2
from envoy.data.accesslog.v3 import accesslog_pb2 as accesslog_data_pb2
from envoy.extensions.access_loggers.stats.v3 import stats_pb2
from envoy.extensions.filters.http.header_mutation.v3 import header_mutation_pb2
from envoy.extensions.filters.http.header_to_metadata.v3 import header_to_metadata_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2
from google.protobuf import json_format, message, struct_pb2
from xds.type.v3 import typed_struct_pb2

from fairlead.envoy.names import PEER_HEADER
from fairlead.envoy.peer import NAMES, PEER_VARIABLE, UNKNOWN, Workload, variable, wire

Reporter = Literal["source", "destination"]

PEER_METADATA = "fairlead.peer"
SERVICE_METADATA = "fairlead.service"
WORKLOAD_METADATA = "fairlead.workload"
PEER_FILTER = "fairlead.peer"
ANNOUNCE_FILTER = "fairlead.announce"
MAX_COUNTERS = 20_000
MAX_HISTOGRAMS = 10_000
_SCOPE = "istio"

REQUESTS = "istio_requests_total"
REQUEST_DURATION = "istio_request_duration_milliseconds"
REQUEST_BYTES = "istio_request_bytes"
RESPONSE_BYTES = "istio_response_bytes"
TCP_OPENED = "istio_tcp_connections_opened_total"
TCP_CLOSED = "istio_tcp_connections_closed_total"
TCP_SENT = "istio_tcp_sent_bytes_total"
TCP_RECEIVED = "istio_tcp_received_bytes_total"

# Istio's labels in Istio's order (reference: istio/proxy testdata/metric).
LABELS = (
    "reporter",
    "source_workload",
    "source_canonical_service",
    "source_canonical_revision",
    "source_workload_namespace",
    "source_principal",
    "source_app",
    "source_version",
    "source_cluster",
    "destination_workload",
    "destination_workload_namespace",
    "destination_principal",
    "destination_app",
    "destination_version",
    "destination_service",
    "destination_canonical_service",
    "destination_canonical_revision",
    "destination_service_name",
    "destination_service_namespace",
    "destination_cluster",
    "request_protocol",
    "response_code",
    "grpc_response_status",
    "response_flags",
    "connection_security_policy",
)
_HTTP_ONLY = frozenset(("response_code", "grpc_response_status"))


def reporter_of(direction: str) -> Reporter:
    """Who counts: the server's side of a call, or the client's (gateways are clients of what they forward to)."""
    return "destination" if direction == "inbound" else "source"


def service_metadata(host: str, name: str, namespace: str) -> struct_pb2.Struct:
    """For a cluster's `metadata.filter_metadata[SERVICE_METADATA]`: which service the cluster leads to.

    On outbound clusters the service called, on inbound clusters the service that the port belongs to.
    """
    return _struct({"host": host, "name": name, "namespace": namespace})


def endpoint_metadata(workload: Workload) -> struct_pb2.Struct:
    """For an endpoint's `metadata.filter_metadata[WORKLOAD_METADATA]`: the peer's names for TCP."""
    return _struct(wire(workload))


def peer_filters(reporter: Reporter) -> list[hcm_pb2.HttpFilter]:
    """The filters that learn the peer and introduce this workload: the first two of an HTTP filter chain.

    First, so that local replies of later filters (a denial, a fault) carry the introduction too. `source` for
    outbound listeners and gateways, `destination` for inbound.
    """
    learn = header_to_metadata_pb2.Config()
    rules = learn.response_rules if reporter == "source" else learn.request_rules
    rule = rules.add(header=PEER_HEADER, remove=True)
    rule.on_header_present.metadata_namespace = PEER_METADATA
    rule.on_header_present.key = "peer"
    rule.on_header_present.type = header_to_metadata_pb2.Config.PROTOBUF_VALUE
    rule.on_header_present.encode = header_to_metadata_pb2.Config.BASE64
    announce = header_mutation_pb2.HeaderMutation()
    mutations = announce.mutations.request_mutations if reporter == "source" else announce.mutations.response_mutations
    mutations.append(
        mutation_rules_pb2.HeaderMutation(
            append=base_pb2.HeaderValueOption(
                header=base_pb2.HeaderValue(key=PEER_HEADER, value=f"%ENVIRONMENT({PEER_VARIABLE})%"),
                append_action=base_pb2.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD,
            )
        )
    )
    return [_filter(ANNOUNCE_FILTER, announce), _filter(PEER_FILTER, learn)]


def stats_access_log(reporter: Reporter) -> list[accesslog_pb2.AccessLog]:
    """HTTP metrics: for `HttpConnectionManager.access_log`."""
    tags = _tags(reporter, http=True)
    config = stats_pb2.Config()
    config.counters.add(stat=_stat(REQUESTS, tags)).value_fixed.value = 1
    unit = stats_pb2.Config.Histogram.Unit
    for name, kind, value in (
        (REQUEST_DURATION, unit.Milliseconds, "%DURATION%"),
        (REQUEST_BYTES, unit.Bytes, "%DOWNSTREAM_WIRE_BYTES_RECEIVED%"),
        (RESPONSE_BYTES, unit.Bytes, "%DOWNSTREAM_WIRE_BYTES_SENT%"),
    ):
        config.histograms.add(stat=_stat(name, tags), unit=kind, value_format=value)
    return [_log(config)]


def tcp_stats_access_log(reporter: Reporter) -> list[accesslog_pb2.AccessLog]:
    """TCP metrics: for `TcpProxy.access_log`, which also needs `access_log_options.flush_access_log_on_connected`.

    A connection counts as opened when the upstream is connected, as closed when it ends.
    """
    tags = _tags(reporter, http=False)
    opened, closed = stats_pb2.Config(), stats_pb2.Config()
    opened.counters.add(stat=_stat(TCP_OPENED, tags)).value_fixed.value = 1
    closed.counters.add(stat=_stat(TCP_CLOSED, tags)).value_fixed.value = 1
    closed.counters.add(stat=_stat(TCP_SENT, tags), value_format="%BYTES_SENT%")
    closed.counters.add(stat=_stat(TCP_RECEIVED, tags), value_format="%BYTES_RECEIVED%")
    kinds = accesslog_data_pb2.AccessLogType
    return [_log(opened, kinds.TcpUpstreamConnected), _log(closed, kinds.TcpConnectionEnd)]


def _tags(reporter: Reporter, *, http: bool) -> list[stats_pb2.Config.Tag]:
    mine, other = ("source", "destination") if reporter == "source" else ("destination", "source")
    side = "UPSTREAM" if reporter == "source" else "DOWNSTREAM"
    values = {
        "reporter": reporter,
        f"{mine}_principal": f"%{side}_LOCAL_URI_SAN%",
        f"{other}_principal": f"%{side}_PEER_URI_SAN%",
        "destination_service": f"%CLUSTER_METADATA({SERVICE_METADATA}:host)%",
        "destination_service_name": f"%CLUSTER_METADATA({SERVICE_METADATA}:name)%",
        "destination_service_namespace": f"%CLUSTER_METADATA({SERVICE_METADATA}:namespace)%",
        "request_protocol": "http" if http else "tcp",
        "response_code": "%RESPONSE_CODE%",
        "grpc_response_status": "%GRPC_STATUS_NUMBER%",
        "response_flags": "%RESPONSE_FLAGS%",
        "connection_security_policy": UNKNOWN if reporter == "source" else "%DOWNSTREAM_PEER_URI_SAN%",
    }
    for attribute, label, key in NAMES:
        values[f"{mine}_{label}"] = f"%ENVIRONMENT({variable(attribute)})%"
        if http:
            values[f"{other}_{label}"] = f"%DYNAMIC_METADATA({PEER_METADATA}:peer:{key})%"
        elif reporter == "source":
            values[f"{other}_{label}"] = f"%UPSTREAM_METADATA({WORKLOAD_METADATA}:{key})%"
        else:
            values[f"{other}_{label}"] = UNKNOWN
    wanted = (name for name in LABELS if http or name not in _HTTP_ONLY)
    return [stats_pb2.Config.Tag(name=name, value_format=values[name]) for name in wanted]


def _stat(name: str, tags: Iterable[stats_pb2.Config.Tag]) -> stats_pb2.Config.Stat:
    return stats_pb2.Config.Stat(name=name.removeprefix(f"{_SCOPE}_"), tags=tags)


def _log(
    config: stats_pb2.Config, only: accesslog_data_pb2.AccessLogType.ValueType | None = None
) -> accesslog_pb2.AccessLog:
    """The logger, as a TypedStruct: `stats_scope` came with Envoy 1.39 and the Python messages lack it.

    One scope shared by all of a proxy's loggers, with limits: labels that peers can influence must not fill memory.
    """
    log = accesslog_pb2.AccessLog(name="envoy.access_loggers.stats")
    value = json_format.MessageToDict(config, preserving_proto_field_name=True)
    value["stats_scope"] = {
        "max_counters": MAX_COUNTERS,
        "max_histograms": MAX_HISTOGRAMS,
        "prefix": _SCOPE,
        "sharing_name": _SCOPE,
    }
    typed = typed_struct_pb2.TypedStruct(type_url=f"type.googleapis.com/{config.DESCRIPTOR.full_name}")
    typed.value.update(value)
    log.typed_config.Pack(typed, deterministic=True)
    if only is not None:
        log.filter.log_type_filter.types.append(only)
    return log


def _filter(name: str, config: message.Message) -> hcm_pb2.HttpFilter:
    made = hcm_pb2.HttpFilter(name=name)
    made.typed_config.Pack(config, deterministic=True)
    return made


def _struct(values: Mapping[str, str]) -> struct_pb2.Struct:
    return struct_pb2.Struct(fields={key: struct_pb2.Value(string_value=text) for key, text in values.items()})
