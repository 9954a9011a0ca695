"""ServiceEntry to hosts and endpoints."""

from __future__ import annotations

from collections.abc import Iterator

from fairlead.inc import Reader
from fairlead.ir.filters import Pairs
from fairlead.ir.host import HOSTS, Host, HostKey, HostPort, Resolution
from fairlead.ir.kind import Emission
from fairlead.ir.locality import TRAFFIC_DISTRIBUTION, closeness
from fairlead.ir.protocol import Protocol, parse_protocol
from fairlead.ir.view import pairs
from fairlead.ir.workload import ENDPOINTS, Endpoint, EndpointKey
from fairlead.kinds.serviceentry.spec import ServiceEntry, ServicePort
from fairlead.kinds.serviceentry.status import ServiceEntryStatus
from fairlead.model.diagnostic import Origin
from fairlead.model.entry import EntrySpec, accepts_mesh_mtls, locality_said
from fairlead.model.object import Object
from fairlead.model.path import SPEC
from fairlead.model.ref import Ref
from fairlead.model.syntax import is_ip

_RESOLUTIONS = {
    "NONE": Resolution.PASSTHROUGH,
    "STATIC": Resolution.CLIENT_SIDE_LB,
    "DNS": Resolution.DNS_LB,
    "DNS_ROUND_ROBIN": Resolution.DNS_ROUND_ROBIN,
    "DYNAMIC_DNS": Resolution.DYNAMIC_DNS,
}


def lower(_: Reader, obj: Object[ServiceEntry]) -> Iterator[Emission]:
    """One host for each of `hosts`, and the endpoints under each."""
    spec = obj.spec
    resolution = _RESOLUTIONS[spec.resolution]
    ports = tuple(_port(port) for port in spec.ports)
    for at, hostname in enumerate(dict.fromkeys(host.lower() for host in spec.hosts)):
        key = HostKey(hostname, obj.ref.namespace)
        yield (
            HOSTS,
            key,
            Host(
                key=key,
                origin=Origin(obj.ref, SPEC.child("hosts", at)),
                ports=ports,
                resolution=resolution,
                addresses=spec.addresses,
                external=spec.location == "MESH_EXTERNAL",
                export_to=spec.export_to,
                selector=_selector(spec),
                labels=pairs(obj.meta.labels),
                name=obj.ref.name,
                created=obj.meta.creation_timestamp or "",
                subject_alt_names=spec.subject_alt_names,
                kubernetes=False,
                allocated=_allocated(obj, hostname),
                locality=closeness(obj.meta.annotations.get(TRAFFIC_DISTRIBUTION, "")),
            ),
        )
        yield from _endpoints(obj.ref, spec, key)


def _allocated(obj: Object[ServiceEntry], hostname: str) -> tuple[str, ...]:
    """The addresses that a host was given when the object was stored."""
    if obj.spec.addresses or not isinstance(obj.status, ServiceEntryStatus):
        return ()
    return tuple(one.value for one in obj.status.addresses if one.host.lower() == hostname and is_ip(one.value))


def _selector(spec: ServiceEntry) -> Pairs | None:
    return None if spec.workload_selector is None else pairs(spec.workload_selector.labels)


def _port(port: ServicePort) -> HostPort:
    protocol = parse_protocol(port.protocol) if port.protocol else Protocol.AUTO
    return HostPort(port.number, port.name, protocol, port.target_port)


def _endpoints(ref: Ref, spec: ServiceEntry, key: HostKey) -> Iterator[Emission]:
    """With DNS and nothing listed, the host's own name is where it is."""
    entries = spec.endpoints or ()
    if not entries and spec.workload_selector is None and spec.resolution in ("DNS", "DNS_ROUND_ROBIN"):
        at = EndpointKey(key, 0, ref.name)
        yield ENDPOINTS, at, Endpoint(at, Origin(ref, SPEC / "hosts"), key.hostname, serves=_numbers(spec))
        return
    for position, entry in enumerate(entries):
        if entry.address or entry.network:
            at = EndpointKey(key, position, ref.name)
            yield ENDPOINTS, at, _endpoint(at, Origin(ref, SPEC.child("endpoints", position)), entry, spec)


def _numbers(spec: ServiceEntry) -> tuple[int, ...]:
    return tuple(port.number for port in spec.ports)


def _endpoint(key: EndpointKey, origin: Origin, entry: EntrySpec, spec: ServiceEntry) -> Endpoint:
    return Endpoint(
        key=key,
        origin=origin,
        address=entry.address,
        labels=pairs(entry.labels),
        service_account=entry.service_account,
        ports=tuple(sorted(entry.ports.items())),
        network=entry.network,
        locality=entry.locality or locality_said(entry.labels),
        weight=entry.weight,
        mesh=spec.location == "MESH_INTERNAL" and accepts_mesh_mtls(entry.labels, entry.service_account),
        serves=_numbers(spec),
    )
