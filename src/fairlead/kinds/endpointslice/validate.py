"""What Kubernetes' validation says of an EndpointSlice (`pkg/apis/discovery/validation`), but for addressType.

That may be absent: Istio reads the addresses as they are.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from fairlead.kinds.endpointslice.lower import SERVICE
from fairlead.kinds.endpointslice.spec import EndpointSliceSpec, SliceEndpoint
from fairlead.model.diagnostic import Problem
from fairlead.model.findings import duplicate, forbidden, invalid, no_effect, required, unused
from fairlead.model.names import is_dns_label, is_dns_subdomain
from fairlead.model.object import Object
from fairlead.model.path import METADATA, ROOT, FieldPath

_MOST_ENDPOINTS, _MOST_ADDRESSES, _MOST_PORTS = 1000, 100, 100
_VERSIONS = {"IPv4": 4, "IPv6": 6}


def validate(obj: Object[EndpointSliceSpec]) -> Iterator[Problem]:
    """Addresses of the type, ports with names of their own, and a Service to belong to."""
    spec = obj.spec
    if not obj.meta.labels.get(SERVICE):
        yield unused(METADATA / "labels", f"no label {SERVICE}: it belongs to no Service", "Name one.")
    if spec.address_type == "FQDN":
        yield no_effect(ROOT / "addressType", "Write a ServiceEntry with resolution DNS for names.")
    if len(spec.endpoints) > _MOST_ENDPOINTS:
        yield invalid(ROOT / "endpoints", f"{len(spec.endpoints)} endpoints; at most {_MOST_ENDPOINTS} are taken")
    for at, one in enumerate(spec.endpoints):
        yield from _endpoint(one, spec.address_type, ROOT.child("endpoints", at))
    yield from _ports(spec)


def validate_update(old: Object[EndpointSliceSpec], new: Object[EndpointSliceSpec]) -> Iterator[Problem]:
    """The type of the addresses stays."""
    if old.spec.address_type != new.spec.address_type:
        yield forbidden(ROOT / "addressType", "field is immutable", "Make another slice.")


def _endpoint(one: SliceEndpoint, address_type: str | None, path: FieldPath) -> Iterator[Problem]:
    if not one.addresses:
        yield required(path / "addresses", "must contain at least 1 address")
    if len(one.addresses) > _MOST_ADDRESSES:
        yield invalid(path / "addresses", f"{len(one.addresses)} addresses; at most {_MOST_ADDRESSES} are taken")
    for at, address in enumerate(one.addresses):
        if not _is_of(address, address_type):
            yield invalid(path.child("addresses", at), f"{address!r} is not an address of {address_type or 'IP'}")
    if one.hostname and not is_dns_label(one.hostname):
        yield invalid(path / "hostname", f"{one.hostname!r} is not a DNS label")


def _is_of(address: str, address_type: str | None) -> bool:
    if address_type == "FQDN":
        return is_dns_subdomain(address)
    try:
        return ipaddress.ip_address(address).version == _VERSIONS.get(address_type or "", 0) or address_type is None
    except ValueError:
        return False


def _ports(spec: EndpointSliceSpec) -> Iterator[Problem]:
    if len(spec.ports) > _MOST_PORTS:
        yield invalid(ROOT / "ports", f"{len(spec.ports)} ports; at most {_MOST_PORTS} are taken")
    seen: set[str] = set()
    for at, port in enumerate(spec.ports):
        path = ROOT.child("ports", at)
        if port.name in seen:
            yield duplicate(path / "name", f"another port is named {port.name!r} too")
        seen.add(port.name)
        if port.name and not is_dns_label(port.name):
            yield invalid(path / "name", f"{port.name!r} is not a DNS label")
        if port.port is not None and not 1 <= port.port <= 65535:
            yield invalid(path / "port", f"{port.port} is not between 1 and 65535")
