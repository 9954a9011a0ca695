"""Istio's standard metrics out of stock Envoy: the `stats` access logger counts, peers introduce themselves by header.

A proxy adds `x-fairlead-peer` (`fairlead.envoy.peer.introduction`) with its workload's names to requests it sends for
its application, and to responses it returns for it to those who have introduced themselves. The other side moves the
header into dynamic metadata and removes it, so no application sees it. Both are HTTP filters of the listener, not of
routes: route tables stay the same for all workloads. Neither do listeners name the workload: Envoy reads the
introduction from its environment (`fairlead.envoy.peer.environment`), so that workloads that are alike share listeners.
Hosts outside the mesh must not learn these names: routes to them remove the header (`fairlead.envoy.routeaction`), and
what they return under it.

Principals come from TLS, the destination service from the cluster's metadata (`service_metadata`). All labels stand in
one tag (`fairlead.envoy.statlabels`); `fairlead.telemetry.page` makes Istio's labels of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec
from envoy.config.accesslog.v3 import accesslog_pb2
from envoy.config.common.mutation_rules.v3 import mutation_rules_pb2
from envoy.config.core.v3 import base_pb2
from envoy.data.accesslog.v3 import accesslog_pb2 as accesslog_data_pb2
from envoy.extensions.access_loggers.stats.v3 import stats_pb2
from envoy.extensions.filters.http.header_mutation.v3 import header_mutation_pb2
from envoy.extensions.filters.http.header_to_metadata.v3 import header_to_metadata_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2
from google.protobuf import message, struct_pb2
from google.protobuf.wrappers_pb2 import UInt32Value

from fairlead.envoy import statlabels
from fairlead.envoy.names import PEER_HEADER
from fairlead.envoy.pack import framed, packed
from fairlead.envoy.peer import PEER_VARIABLE, Workload, introduction
from fairlead.envoy.statlabels import Reporter

PEER_METADATA = "fairlead.peer"
SERVICE_METADATA = "fairlead.service"
WORKLOAD_METADATA = "fairlead.workload"
PEER_FILTER = "fairlead.peer"
ANNOUNCE_FILTER = "fairlead.announce"
MAX_COUNTERS = 20_000
MAX_HISTOGRAMS = 10_000
MAX_MESSAGES = 5_000
"""Counters of gRPC messages: one for each set of labels and number of messages that a stream had."""
_COUNTS = "%FILTER_STATE(envoy.filters.http.grpc_stats:PLAIN)%"
_PREFIX = "istio"
_KEY = "id"

REQUESTS = "istio_requests_total"
REQUEST_DURATION = "istio_request_duration_milliseconds"
REQUEST_BYTES = "istio_request_bytes"
RESPONSE_BYTES = "istio_response_bytes"
TCP_OPENED = "istio_tcp_connections_opened_total"
TCP_CLOSED = "istio_tcp_connections_closed_total"
TCP_SENT = "istio_tcp_sent_bytes_total"
TCP_RECEIVED = "istio_tcp_received_bytes_total"
METRICS = {
    REQUESTS: "REQUEST_COUNT",
    REQUEST_DURATION: "REQUEST_DURATION",
    REQUEST_BYTES: "REQUEST_SIZE",
    RESPONSE_BYTES: "RESPONSE_SIZE",
    TCP_OPENED: "TCP_OPENED_CONNECTIONS",
    TCP_CLOSED: "TCP_CLOSED_CONNECTIONS",
    TCP_SENT: "TCP_SENT_BYTES",
    TCP_RECEIVED: "TCP_RECEIVED_BYTES",
    statlabels.REQUEST_MESSAGES: "GRPC_REQUEST_MESSAGES",
    statlabels.RESPONSE_MESSAGES: "GRPC_RESPONSE_MESSAGES",
}
"""The metrics, and how the Telemetry API calls them."""
METRIC_NAMES = {name.removeprefix("istio_"): metric for name, metric in METRICS.items()}
"""What Prometheus calls them, as Istio's `customMetric` names them: without the prefix."""


def reporter_of(direction: str) -> Reporter:
    """Who counts: the server's side of a call, or the client's (gateways are clients of what they forward to)."""
    return "destination" if direction == "inbound" else "source"


def service_metadata(host: str, name: str, namespace: str) -> struct_pb2.Struct:
    """For a cluster's `metadata.filter_metadata[SERVICE_METADATA]`: which service the cluster leads to.

    On outbound clusters the service called, on inbound clusters the service that the port belongs to.
    """
    return _struct({_KEY: statlabels.SERVICE_SEPARATOR.join((host, name, namespace))})


def name_peer(metadata: struct_pb2.Struct, workload: Workload) -> None:
    """Put the peer's names for TCP into an endpoint's `metadata.filter_metadata[WORKLOAD_METADATA]`."""
    metadata.fields[_KEY].string_value = introduction(workload)


def peer_filters(reporter: Reporter) -> list[hcm_pb2.HttpFilter]:
    """The filters that learn the peer and introduce this workload: the first two of an HTTP filter chain.

    First, so that local replies of later filters (a denial, a fault) carry the introduction too. `source` for
    outbound listeners and gateways, `destination` for inbound.
    """
    learn = header_to_metadata_pb2.Config()
    rules = learn.response_rules if reporter == "source" else learn.request_rules
    rule = rules.add(header=PEER_HEADER, remove=True)
    rule.on_header_present.metadata_namespace = PEER_METADATA
    rule.on_header_present.key = _KEY
    announce = header_mutation_pb2.HeaderMutation()
    own = f"%ENVIRONMENT({PEER_VARIABLE})%"
    if reporter == "source":
        announce.mutations.request_mutations.append(_set(own, "OVERWRITE_IF_EXISTS_OR_ADD"))
    else:
        # Only who has introduced itself hears who answers, as in Istio: others are not of the mesh. What was learned of
        # the peer stands in the header, if anything was, until the workload's own introduction takes its place.
        answers = announce.mutations.response_mutations
        answers.add(remove=PEER_HEADER)
        answers.append(_set(f"%DYNAMIC_METADATA({PEER_METADATA}:{_KEY})%", "OVERWRITE_IF_EXISTS_OR_ADD"))
        answers.append(_set(own, "OVERWRITE_IF_EXISTS"))
    return [_filter(ANNOUNCE_FILTER, announce), _filter(PEER_FILTER, learn)]


def _set(value: str, action: str) -> mutation_rules_pb2.HeaderMutation:
    """The introduction, set to what a format gives; where it gives nothing there is no header."""
    header = base_pb2.HeaderValue(key=PEER_HEADER, value=value)
    how = base_pb2.HeaderValueOption.HeaderAppendAction.Value(action)
    return mutation_rules_pb2.HeaderMutation(append=base_pb2.HeaderValueOption(header=header, append_action=how))


class MetricChange(msgspec.Struct, frozen=True):
    """How a metric, or all of them (`ALL_METRICS`), differs: not counted, or labels set by CEL or removed (None)."""

    metric: str
    disabled: bool = False
    tags: tuple[tuple[str, str | None], ...] = ()


def counts_messages(changes: tuple[MetricChange, ...]) -> bool:
    """Whether messages of gRPC are counted, those of requests or those of responses: one filter counts both."""
    said = {one.metric: one for one in changes}
    whole = said.get("ALL_METRICS", MetricChange(""))
    names = (METRICS[one] for one in (statlabels.REQUEST_MESSAGES, statlabels.RESPONSE_MESSAGES))
    return not all(said.get(one, whole).disabled for one in names)


def stats_access_log(
    reporter: Reporter, *, tunnels: bool = True, changes: tuple[MetricChange, ...] = ()
) -> list[accesslog_pb2.AccessLog]:
    """HTTP metrics: for `HttpConnectionManager.access_log`.

    Without `tunnels` CONNECT is not counted: what goes through the tunnel is.
    """
    config = stats_pb2.Config()
    for stat in _stats((REQUESTS,), reporter, changes, http=True):
        config.counters.add(stat=stat).value_fixed.value = 1
    unit = stats_pb2.Config.Histogram.Unit
    for name, kind, value in (
        (REQUEST_DURATION, unit.Milliseconds, "%DURATION%"),
        (REQUEST_BYTES, unit.Bytes, "%DOWNSTREAM_WIRE_BYTES_RECEIVED%"),
        (RESPONSE_BYTES, unit.Bytes, "%DOWNSTREAM_WIRE_BYTES_SENT%"),
    ):
        for stat in _stats((name,), reporter, changes, http=True):
            config.histograms.add(stat=stat, unit=kind, value_format=value)
    counted = _messages(reporter, changes)
    if not config.counters and not config.histograms:
        return counted
    made = _log(config)
    if not tunnels:
        method = made.filter.header_filter.header
        method.name, method.string_match.exact, method.invert_match = ":method", "CONNECT", True
    return [made, *counted]


def _messages(reporter: Reporter, changes: tuple[MetricChange, ...]) -> list[accesslog_pb2.AccessLog]:
    """The logger that counts messages of gRPC, as the filter `grpc_stats` has counted them by the end of a stream."""
    config = stats_pb2.Config()
    for name in statlabels.MESSAGES:
        for stat in _stats((name,), reporter, changes, http=True):
            config.counters.add(stat=stat).value_fixed.value = 1
    if not config.counters:
        return []
    made = scoped_log(config, statlabels.MESSAGES_PREFIX, MAX_MESSAGES)
    content = made.filter.header_filter.header
    content.name, content.string_match.prefix = "content-type", "application/grpc"
    return [made]


def tcp_stats_access_log(reporter: Reporter, changes: tuple[MetricChange, ...] = ()) -> list[accesslog_pb2.AccessLog]:
    """TCP metrics: for `TcpProxy.access_log`, which also needs `access_log_options.flush_access_log_on_connected`.

    A connection counts as opened when the upstream is connected, as closed when it ends.
    """
    opened, closed = stats_pb2.Config(), stats_pb2.Config()
    for stat in _stats((TCP_OPENED,), reporter, changes, http=False):
        opened.counters.add(stat=stat).value_fixed.value = 1
    for stat in _stats((TCP_CLOSED,), reporter, changes, http=False):
        closed.counters.add(stat=stat).value_fixed.value = 1
    for name, value in ((TCP_SENT, "%BYTES_SENT%"), (TCP_RECEIVED, "%BYTES_RECEIVED%")):
        for stat in _stats((name,), reporter, changes, http=False):
            closed.counters.add(stat=stat, value_format=value)
    kinds = accesslog_data_pb2.AccessLogType
    logs = ((opened, kinds.TcpUpstreamConnected), (closed, kinds.TcpConnectionEnd))
    return [_log(config, kind) for config, kind in logs if config.counters]


def _stats(
    names: tuple[str, ...], reporter: Reporter, changes: tuple[MetricChange, ...], *, http: bool
) -> Iterator[stats_pb2.Config.Stat]:
    """The metrics of these names that are counted, with their labels."""
    for name in names:
        said = {one.metric: one for one in changes}
        change = said.get(METRICS[name]) or said.get("ALL_METRICS")
        if change is None or not change.disabled:
            yield _stat(name, reporter, dict(change.tags) if change is not None else {}, http=http)


def _stat(name: str, reporter: Reporter, tags: Mapping[str, str | None], *, http: bool) -> stats_pb2.Config.Stat:
    side = "UPSTREAM" if reporter == "source" else "DOWNSTREAM"
    if http:
        workload = f"%DYNAMIC_METADATA({PEER_METADATA}:{_KEY})%"
    else:
        workload = f"%UPSTREAM_METADATA({WORKLOAD_METADATA}:{_KEY})%" if reporter == "source" else statlabels.ABSENT
    values = {
        "reporter": reporter,
        "local": f"%{side}_LOCAL_URI_SAN%",
        "peer": f"%{side}_PEER_URI_SAN%",
        "service": f"%CLUSTER_METADATA({SERVICE_METADATA}:{_KEY})%",
        "protocol": "http" if http else "tcp",
        "code": "%RESPONSE_CODE%" if http else "",
        "grpc": "%GRPC_STATUS_NUMBER%" if http else "",
        "flags": "%RESPONSE_FLAGS%",
        "workload": workload,
    }
    if name in statlabels.MESSAGES:
        values |= {"protocol": "grpc", "code": "", "grpc": "", "flags": ""}
    # Labels that do not count any more must not make series either.
    for field in statlabels.unneeded(tags, reporter):
        values[field] = ""
    text = statlabels.SEPARATOR.join(values[field] for field in statlabels.FIELDS)
    made = stats_pb2.Config.Stat(name=name.removeprefix(f"{_PREFIX}_"))
    made.tags.add(name=statlabels.TAG, value_format=text)
    if name in statlabels.MESSAGES:
        made.tags.add(name=statlabels.COUNTS, value_format=_COUNTS)
    if tags:
        # A label that is set anew is left out, too, and stands by itself.
        made.tags.add(name=statlabels.OMITTED, value_format=statlabels.SERVICE_SEPARATOR.join(sorted(tags)))
    for label, expression in sorted(tags.items()):
        if expression is not None:
            made.tags.add(name=label, value_format=f"%CEL({expression})%")
    return made


def _scope(prefix: str, counters: int) -> bytes:
    """`stats_scope` on the wire: it came with Envoy 1.39, and the Python messages lack it.

    One scope shared by all of a proxy's loggers, with limits: labels that peers can influence must not fill memory.
    """
    limits = ((1, counters), (3, MAX_HISTOGRAMS))
    scope = b"".join(framed(field, UInt32Value(value=most).SerializeToString()) for field, most in limits)
    scope += framed(5, prefix.encode()) + framed(6, prefix.encode())
    return framed(6, scope)


def _log(
    config: stats_pb2.Config, only: accesslog_data_pb2.AccessLogType.ValueType | None = None
) -> accesslog_pb2.AccessLog:
    return scoped_log(config, _PREFIX, MAX_COUNTERS, only)


def scoped_log(
    config: stats_pb2.Config,
    prefix: str,
    counters: int,
    only: accesslog_data_pb2.AccessLogType.ValueType | None = None,
) -> accesslog_pb2.AccessLog:
    """A logger that counts under `prefix`, in at most so many counters; `only` at this moment of a connection."""
    log = accesslog_pb2.AccessLog(name="envoy.access_loggers.stats")
    log.typed_config.CopyFrom(
        packed(config.DESCRIPTOR.full_name, config.SerializeToString(deterministic=True) + _scope(prefix, counters))
    )
    if only is not None:
        log.filter.log_type_filter.types.append(only)
    return log


def _filter(name: str, config: message.Message) -> hcm_pb2.HttpFilter:
    made = hcm_pb2.HttpFilter(name=name)
    made.typed_config.Pack(config, deterministic=True)
    return made


def _struct(values: Mapping[str, str]) -> struct_pb2.Struct:
    return struct_pb2.Struct(fields={key: struct_pb2.Value(string_value=text) for key, text in values.items()})
