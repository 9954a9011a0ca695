"""Upstreams: the endpoint of a cluster that gets the request, and over what it is dialled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.base_pb2 import Metadata as EnvoyMetadata
from envoy.config.core.v3.base_pb2 import TransportSocket
from envoy.config.core.v3.health_check_pb2 import DEGRADED, HEALTHY, UNKNOWN
from envoy.config.endpoint.v3.endpoint_components_pb2 import LbEndpoint, LocalityLbEndpoints
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.extensions.transport_sockets.proxy_protocol.v3.upstream_proxy_protocol_pb2 import (
    ProxyProtocolUpstreamTransport,
)
from envoy.extensions.transport_sockets.raw_buffer.v3.raw_buffer_pb2 import RawBuffer
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import CommonTlsContext, UpstreamTlsContext
from envoy.extensions.upstreams.http.v3.http_protocol_options_pb2 import HttpProtocolOptions
from google.protobuf.json_format import MessageToDict

from fairlead.envoy import names
from fairlead.envoy.endpoint import TRANSPORT_SOCKET_MATCH
from fairlead.simulate.connection import Inside
from fairlead.simulate.matching import Undecided, string_matches, unpacked

_USABLE = (UNKNOWN, HEALTHY, DEGRADED)


class Picked(NamedTuple):
    """The endpoint that the walk follows; `others` is how many could get the request as well."""

    endpoint: LbEndpoint
    locality: str
    priority: int
    others: int

    @property
    def address(self) -> str:
        """IP address, name, or `unix:` path."""
        at = self.endpoint.endpoint.address
        return at.socket_address.address if at.HasField("socket_address") else f"unix:{at.pipe.path}"

    @property
    def port(self) -> int:
        """The port, 0 for a Unix socket."""
        return self.endpoint.endpoint.address.socket_address.port_value

    @property
    def shown(self) -> str:
        """ADDRESS:PORT."""
        return _shown(self.endpoint)


def _shown(endpoint: LbEndpoint) -> str:
    at = endpoint.endpoint.address
    if not at.HasField("socket_address"):
        return f"unix:{at.pipe.path}"
    return f"{at.socket_address.address}:{at.socket_address.port_value}"


def pick(assignment: ClusterLoadAssignment, preferred: str = "") -> Picked | None:
    """The endpoint that gets most requests: of the first priority that has healthy ones, by locality and weight.

    `preferred` (ADDRESS:PORT) is taken where it is among those that could get the request.
    """
    by_priority: dict[int, list[LocalityLbEndpoints]] = {}
    for group in assignment.endpoints:
        by_priority.setdefault(group.priority, []).append(group)
    for priority in sorted(by_priority):
        usable = list(_usable(by_priority[priority]))
        if usable:
            liked = [one for one in usable if preferred and _shown(one[1]) == preferred]
            best = max(liked or usable, key=lambda one: (one[0].load_balancing_weight.value, _weight(one[1])))
            where = best[0].locality
            locality = "/".join(part for part in (where.region, where.zone, where.sub_zone) if part)
            return Picked(best[1], locality, priority, len(usable) - 1)
    return None


def _usable(groups: Sequence[LocalityLbEndpoints]) -> Iterator[tuple[LocalityLbEndpoints, LbEndpoint]]:
    for group in groups:
        for one in group.lb_endpoints:
            if one.health_status in _USABLE:
                yield group, one


def _weight(one: LbEndpoint) -> int:
    return one.load_balancing_weight.value or 1


class Dialled(msgspec.Struct, frozen=True):
    """How an endpoint is dialled. `match` is the name of the transport socket match, "" for the cluster's only one.

    `mesh`: with the workload's own certificate. `accepts` are the names of which the server's certificate must have
    one (none: any). `verifies` whether the server's certificate is looked at. `secrets` are those that it needs.
    """

    tls: bool = False
    match: str = ""
    sni: str = ""
    alpn: tuple[str, ...] = ()
    mesh: bool = False
    presents: bool = False
    accepts: Any = ()
    verifies: bool = False
    secrets: tuple[str, ...] = ()

    def accepts_name(self, name: str) -> bool:
        """Whether a server of this name is taken."""
        return not self.accepts or any(string_matches(one.matcher, name) for one in self.accepts)


def dial(cluster: Cluster, endpoint: LbEndpoint | None, host: str) -> Dialled:
    """The transport to an endpoint. Raises Undecided for one that is not modelled."""
    metadata = endpoint.metadata if endpoint is not None else EnvoyMetadata()
    said = metadata.filter_metadata[TRANSPORT_SOCKET_MATCH] if _has(metadata, TRANSPORT_SOCKET_MATCH) else None
    known = MessageToDict(said) if said is not None else {}
    for one in cluster.transport_socket_matches:
        asked = MessageToDict(one.match)
        if all(known.get(key) == value for key, value in asked.items()):
            return msgspec.structs.replace(_transport(one.transport_socket, host), match=one.name)
    return _transport(cluster.transport_socket, host) if cluster.HasField("transport_socket") else Dialled()


def _has(metadata: EnvoyMetadata, name: str) -> bool:
    return name in metadata.filter_metadata


def _transport(socket: TransportSocket, host: str) -> Dialled:
    packed = socket.typed_config
    if packed.Is(ProxyProtocolUpstreamTransport.DESCRIPTOR):
        return _transport(unpacked(packed, ProxyProtocolUpstreamTransport).transport_socket, host)
    if packed.Is(RawBuffer.DESCRIPTOR):
        return Dialled()
    if not packed.Is(UpstreamTlsContext.DESCRIPTOR):
        raise Undecided(f"transport socket {socket.name} is not modelled")
    context = unpacked(packed, UpstreamTlsContext)
    common = context.common_tls_context
    secrets = [one.name for one in common.tls_certificate_sds_secret_configs]
    combined = common.combined_validation_context.default_validation_context
    validation = combined if common.HasField("combined_validation_context") else common.validation_context
    return Dialled(
        tls=True,
        sni=context.sni or (host if context.auto_host_sni else ""),
        alpn=tuple(common.alpn_protocols),
        mesh=secrets[:1] == [names.IDENTITY_SECRET],
        presents=bool(secrets or common.tls_certificates),
        accepts=tuple(validation.match_typed_subject_alt_names),
        secrets=(*secrets, *(one for one in [_roots(common)] if one)),
        verifies=common.HasField("combined_validation_context") or common.HasField("validation_context"),
    )


def _roots(common: CommonTlsContext) -> str:
    """The secret with the authorities that judge the other side, "" for none."""
    return common.combined_validation_context.validation_context_sds_secret_config.name


def spoken(cluster: Cluster, inside: Inside, alpn: Sequence[str]) -> Inside:
    """Which HTTP a connection manager speaks to a cluster."""
    if names.HTTP_OPTIONS not in cluster.typed_extension_protocol_options:
        return "h2" if cluster.HasField("http2_protocol_options") else "http/1.1"
    options = unpacked(cluster.typed_extension_protocol_options[names.HTTP_OPTIONS], HttpProtocolOptions)
    match options.WhichOneof("upstream_protocol_options"):
        case "use_downstream_protocol_config":
            return inside
        case "auto_config":
            return "h2" if "h2" in alpn or not alpn else "http/1.1"
        case _:
            return "h2" if options.explicit_http_config.HasField("http2_protocol_options") else "http/1.1"


def limits(cluster: Cluster) -> str:
    """What limits requests to a cluster, in words; "" for nothing."""
    said: list[str] = []
    for one in cluster.circuit_breakers.thresholds[:1]:
        for name in ("max_connections", "max_pending_requests", "max_requests", "max_retries"):
            value = getattr(one, name).value
            if value and value != 2**32 - 1:
                said.append(f"{name.replace('_', ' ')} {value}")
    if cluster.HasField("outlier_detection"):
        said.append("outlier detection may take endpoints out")
    return ", ".join(said)
