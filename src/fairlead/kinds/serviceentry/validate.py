"""Istio's validation of ServiceEntry."""

from __future__ import annotations

from collections.abc import Iterator

from fairlead.ir.elsewhere import platform_problems
from fairlead.ir.protocol import Protocol, parse_protocol
from fairlead.kinds.serviceentry.allocate import LABEL
from fairlead.kinds.serviceentry.spec import ServiceEntry
from fairlead.model.diagnostic import Problem, Severity
from fairlead.model.entry import EntrySpec, entry_problems
from fairlead.model.object import Object
from fairlead.model.path import METADATA, SPEC, FieldPath
from fairlead.model.syntax import (
    export_problems,
    is_ip_or_cidr,
    is_name_label,
    is_partial_wildcard,
    label_problems,
    port_problems,
    wrong_fqdn,
    wrong_wildcard_domain,
)

_MAX_LIST = 256
_PORTS, _ENDPOINTS, _SELECTOR = SPEC / "ports", SPEC / "endpoints", SPEC / "workloadSelector"


def _warning(path: FieldPath, message: str, remedy: str, code: str = "FL0101") -> Problem:
    return Problem(path, message, Severity.WARNING, remedy, code)


def validate(obj: Object[ServiceEntry]) -> Iterator[Problem]:
    """Hosts, addresses, ports, selector, endpoints as the resolution demands, and exportTo."""
    spec = obj.spec
    yield from _hosts(spec)
    yield from _addresses(spec)
    yield from _ports(spec, allocated=spec.resolution != "NONE" and obj.meta.labels.get(LABEL, "").lower() != "false")
    yield from _selector(spec)
    yield from _resolution(spec)
    yield from _shared_addresses(spec)
    yield from export_problems(spec.export_to, obj.ref.namespace, SPEC / "exportTo", none_allowed=True)
    yield from platform_problems(obj.meta, METADATA)


def _hosts(spec: ServiceEntry) -> Iterator[Problem]:
    path = SPEC / "hosts"
    if not spec.hosts:
        remedy = "Name at least one host."
        yield Problem(path, "a ServiceEntry needs a host", remedy=remedy, reason="FieldValueRequired")
    if len(spec.hosts) > _MAX_LIST:
        yield Problem(path, f"more than {_MAX_LIST} hosts", remedy="Split the object.")
    for at, host in enumerate(spec.hosts):
        if host == "*":
            remedy = "Use a domain (*.example.com); unknown hosts are the mesh's outboundTrafficPolicy's matter."
            yield Problem(path / at, "the host '*' is not possible", remedy=remedy)
            continue
        said = wrong_wildcard_domain(host)
        if said:
            yield Problem(path / at, said)
        elif is_partial_wildcard(host):
            yield _warning(path / at, f"{host!r} is a partial wildcard", "Most matching supports *. and a domain only.")


def _addresses(spec: ServiceEntry) -> Iterator[Problem]:
    path = SPEC / "addresses"
    if len(spec.addresses) > _MAX_LIST:
        yield Problem(path, f"more than {_MAX_LIST} addresses", remedy="Use networks (CIDR).")
    for at, address in enumerate(spec.addresses):
        if not is_ip_or_cidr(address):
            yield Problem(path / at, f"{address!r} is neither an IP address nor a network such as 10.0.0.0/8")
        elif "/" in address and spec.resolution not in ("NONE", "STATIC"):
            remedy = "Use single addresses, or resolution NONE or STATIC."
            yield Problem(path / at, "CIDR addresses are allowed only for NONE/STATIC resolution types", remedy=remedy)


def _ports(spec: ServiceEntry, *, allocated: bool) -> Iterator[Problem]:
    """`allocated`: hosts without an address are given one."""
    names: set[str] = set()
    numbers: set[int] = set()
    if len(spec.ports) > _MAX_LIST:
        yield Problem(_PORTS, f"more than {_MAX_LIST} ports", remedy="Split the object.")
    for at, port in enumerate(spec.ports):
        path = _PORTS / at
        if port.name in names:
            yield Problem(path / "name", f"port name {port.name!r} is used twice", reason="FieldValueDuplicate")
        if port.number in numbers:
            said = f"{port.number} stands twice: port number cannot be duplicated"
            yield Problem(path / "number", said, reason="FieldValueDuplicate")
        names.add(port.name)
        numbers.add(port.number)
        if not is_name_label(port.name):
            yield Problem(path / "name", f"{port.name!r} is not a port name", remedy="Use a DNS label.")
        yield from port_problems(port.number, path / "number")
        if port.target_port:
            yield from port_problems(port.target_port, path / "targetPort")
        if port.protocol and parse_protocol(port.protocol) is Protocol.AUTO:
            known = ", ".join(one.value for one in Protocol if one not in (Protocol.AUTO, Protocol.HBONE))
            remedy = f"One of: {known}."
            said = f"unsupported protocol {port.protocol!r}"
            yield Problem(path / "protocol", said, remedy=remedy, reason="FieldValueNotSupported")
        if not spec.addresses and not allocated and port.protocol.upper() in ("", "TCP"):
            said = "addresses are required for ports serving TCP (or unset) protocol"
            yield _warning(path, said, "Without addresses the port is told from others by its number only.")


def _selector(spec: ServiceEntry) -> Iterator[Problem]:
    selector = spec.workload_selector
    if selector is None:
        return
    if spec.endpoints is not None:
        said = "only one of WorkloadSelector or Endpoints can be set"
        yield Problem(_SELECTOR, said, remedy="Remove one of the two.", reason="FieldValueForbidden")
    if not selector.labels:
        said = "a workload selector without labels chooses every workload of the namespace"
        yield _warning(_SELECTOR, said, "Add labels.")
    for key, value in selector.labels.items():
        if not key:
            yield Problem(_SELECTOR / "labels", "an empty key is not possible")
        if "*" in key or "*" in value:
            remedy = "Name the labels exactly."
            yield Problem(_SELECTOR.child("labels", key), "wildcards are not supported in a selector", remedy=remedy)
    yield from label_problems({key: one for key, one in selector.labels.items() if key}, _SELECTOR / "labels")
    if spec.resolution == "NONE":
        said = "workloadSelector has no effect with resolution NONE"
        yield _warning(_SELECTOR, said, "Set resolution: STATIC.")


def _resolution(spec: ServiceEntry) -> Iterator[Problem]:
    endpoints = spec.endpoints or ()
    names = frozenset(port.name for port in spec.ports)
    if spec.resolution == "NONE":
        if endpoints:
            remedy = "Set resolution: STATIC or DNS, or remove the endpoints."
            yield Problem(_ENDPOINTS, "NONE mode cannot set endpoints", remedy=remedy, reason="FieldValueForbidden")
    elif spec.resolution == "STATIC":
        for at, entry in enumerate(endpoints):
            yield from entry_problems(entry, _ENDPOINTS / at, known_ports=names, names_allowed=False)
    elif spec.resolution == "DYNAMIC_DNS":
        yield from _dynamic(spec, endpoints)
    else:
        yield from _dns(spec, endpoints, names)


def _dns(spec: ServiceEntry, endpoints: tuple[EntrySpec, ...], names: frozenset[str]) -> Iterator[Problem]:
    if not endpoints and spec.workload_selector is None:
        for at, host in enumerate(spec.hosts):
            if host != "*" and wrong_fqdn(host):
                remedy = "Name the host in full, or list endpoints."
                said = f"hosts must be FQDN if no endpoints are provided for resolution mode {spec.resolution}"
                yield Problem(SPEC.child("hosts", at), said, remedy=remedy)
    if spec.resolution == "DNS_ROUND_ROBIN" and len(endpoints) > 1:
        remedy = "Keep one endpoint, or use resolution: DNS."
        yield Problem(_ENDPOINTS, "DNS_ROUND_ROBIN mode cannot have multiple endpoints", remedy=remedy)
    for at, entry in enumerate(endpoints):
        if entry.address.startswith("unix://"):
            yield Problem(_ENDPOINTS.child(at, "address"), "a unix address needs resolution STATIC")
        else:
            yield from entry_problems(entry, _ENDPOINTS / at, known_ports=names)
    opaque = any(parse_protocol(port.protocol).is_tcp for port in spec.ports)
    if spec.addresses and len(spec.hosts) > 1 and opaque:
        said = "several hosts have one address, and a port whose protocol may not name the host"
        yield _warning(SPEC / "hosts", said, "Declare one host per ServiceEntry.", "FL0103")


def _dynamic(spec: ServiceEntry, endpoints: tuple[EntrySpec, ...]) -> Iterator[Problem]:
    if endpoints:
        remedy = "Remove the endpoints: the name that the client asks for is resolved."
        yield Problem(_ENDPOINTS, "DYNAMIC_DNS mode cannot set endpoints", remedy=remedy, reason="FieldValueForbidden")
    for at, host in enumerate(spec.hosts):
        if not host.startswith("*"):
            remedy = "Use resolution: DNS for a full name."
            yield Problem(SPEC.child("hosts", at), "DYNAMIC_DNS needs a wildcard host", remedy=remedy)
    for at, port in enumerate(spec.ports):
        protocol = parse_protocol(port.protocol)
        if not protocol.is_http and not protocol.is_tls:
            remedy = "Declare HTTP, HTTP2, GRPC, HTTPS or TLS."
            said = "DYNAMIC_DNS needs a protocol that carries the name (HTTP or TLS)"
            yield Problem(_PORTS.child(at, "protocol"), said, remedy=remedy)


def _shared_addresses(spec: ServiceEntry) -> Iterator[Problem]:
    """Several hosts behind plain TCP cannot be told apart, unless the dialled address decides (NONE)."""
    if spec.resolution == "NONE" or len(spec.hosts) < 2:
        return
    for at, port in enumerate(spec.ports):
        protocol = parse_protocol(port.protocol)
        if not protocol.is_http and not protocol.is_tls:
            remedy = "Declare one host per ServiceEntry, or HTTP or TLS."
            said = "multiple hosts provided with non-HTTP, non-TLS ports"
            yield Problem(_PORTS.child(at, "protocol"), said, remedy=remedy)
            return
