"""Endpoints: ClusterLoadAssignment messages (envoy.config.endpoint.v3)."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from envoy.config.core.v3 import address_pb2, base_pb2
from envoy.config.endpoint.v3 import endpoint_components_pb2, endpoint_pb2

from fairlead.envoy.peer import Workload
from fairlead.envoy.resource import ENDPOINT, Resource
from fairlead.envoy.stats import WORKLOAD_METADATA, name_peer
from fairlead.ir.filters import Pairs

TLS_MODE = "tlsMode"
TRANSPORT_SOCKET_MATCH = "envoy.transport_socket_match"


class LbEndpoint(msgspec.Struct, frozen=True, order=True):
    """One endpoint as a proxy dials it.

    `mtls` marks endpoints whose sidecar accepts mesh mTLS. `workload` names the instance in metrics and logs, where it
    is known. `weight` is at least 1. `network`, `cluster` and `labels` (only those at which somebody looks) do not
    reach Envoy: they decide who prefers it.
    """

    locality: str
    address: str
    port: int
    weight: int = 1
    mtls: bool = False
    workload: Workload = Workload()
    network: str = ""
    labels: Pairs = ()
    cluster: str = ""


class Group(msgspec.Struct, frozen=True, order=True):
    """Endpoints of one locality that have the same priority (0 first). `weight` is the group's among its equals."""

    priority: int
    locality: str
    weight: int
    members: tuple[LbEndpoint, ...]


def by_locality(endpoints: Iterable[LbEndpoint]) -> tuple[Group, ...]:
    """Endpoints grouped by locality, in a fixed order, all of the same priority."""
    groups: dict[str, list[LbEndpoint]] = {}
    for one in sorted(endpoints):
        groups.setdefault(one.locality, []).append(one)
    return tuple(Group(0, locality, sum_of(members), tuple(members)) for locality, members in groups.items())


MOST = 2**32 - 1
"""The largest weight that Envoy can count."""


def sum_of(members: Iterable[LbEndpoint]) -> int:
    """The weight of endpoints together, as far as Envoy can count."""
    return min(sum(one.weight for one in members), MOST)


def assignment(name: str, groups: Iterable[Group]) -> endpoint_pb2.ClusterLoadAssignment:
    """The message, with the groups in their order."""
    message = endpoint_pb2.ClusterLoadAssignment(cluster_name=name)
    for one in groups:
        group = message.endpoints.add()
        group.locality.CopyFrom(locality_of(one.locality))
        group.priority = one.priority
        for member in one.members:
            group.lb_endpoints.append(_endpoint(member))
        group.load_balancing_weight.value = one.weight
    return message


def load_assignment(name: str, groups: Iterable[Group]) -> Resource:
    """The EDS resource for a cluster."""
    return Resource.of(ENDPOINT, name, assignment(name, groups).SerializeToString(deterministic=True))


def locality_of(text: str) -> base_pb2.Locality:
    """`region/zone/subzone`, each part optional."""
    region, _, rest = text.partition("/")
    zone, _, sub_zone = rest.partition("/")
    return base_pb2.Locality(region=region, zone=zone, sub_zone=sub_zone)


def socket_address(address: str, port: int, *, netns: str = "") -> address_pb2.Address:
    """An address: `unix:///path`, or IP (or DNS name) and port, optionally inside a network namespace."""
    message = address_pb2.Address()
    _address(message, address, port, netns)
    return message


def _address(message: address_pb2.Address, address: str, port: int, netns: str = "") -> None:
    if address.startswith("unix://"):
        message.pipe.path = address.removeprefix("unix://")
        return
    at = message.socket_address
    at.address = address
    at.port_value = port
    if netns:
        at.network_namespace_filepath = netns


def _endpoint(one: LbEndpoint) -> endpoint_components_pb2.LbEndpoint:
    # Once for each endpoint of a mesh before its first proxy is served: fields are set in place.
    message = endpoint_components_pb2.LbEndpoint()
    _address(message.endpoint.address, one.address, one.port)
    message.load_balancing_weight.value = one.weight
    if not one.mtls and not one.workload.name:
        return message
    known = message.metadata.filter_metadata
    if one.mtls:
        known[TRANSPORT_SOCKET_MATCH].fields[TLS_MODE].string_value = "istio"
    if one.workload.name:
        known["istio"].fields["workload"].string_value = one.workload.summary
        name_peer(known[WORKLOAD_METADATA], one.workload)
    return message
