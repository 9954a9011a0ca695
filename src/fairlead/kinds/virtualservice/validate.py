"""What Istio's `ValidateVirtualService` would say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fairlead.ir.route import MESH
from fairlead.ir.visibility import host_matches, overlapping
from fairlead.kinds.virtualservice.spec import (
    L4MatchAttributes,
    RouteDestination,
    TCPRoute,
    TLSMatchAttributes,
    TLSRoute,
    VirtualServiceSpec,
)
from fairlead.kinds.virtualservice.unreachable import unreachable
from fairlead.kinds.virtualservice.validate_http import check_destination, check_gateways, check_http, check_weights
from fairlead.model.diagnostic import Problem
from fairlead.model.findings import doubtful, duplicate, forbidden, invalid, no_effect, required
from fairlead.model.names import is_dns_label
from fairlead.model.object import Object
from fairlead.model.path import SPEC, FieldPath
from fairlead.model.syntax import (
    export_problems,
    is_ip,
    is_ip_or_cidr,
    label_problems,
    port_problems,
    wrong_wildcard_domain,
)


def validate(obj: Object[VirtualServiceSpec]) -> Iterator[Problem]:
    """Errors and warnings of a VirtualService."""
    spec = obj.spec
    delegate = not spec.hosts
    if delegate:
        yield from _delegate(spec)
    yield from check_gateways(SPEC / "gateways", spec.gateways)
    yield from _hosts(spec)
    if not (spec.http or spec.tls or spec.tcp):
        yield required(SPEC, "http, tcp or tls must be provided in a virtual service", "Give at least one rule.")
    gateway_only = bool(spec.gateways) and MESH not in spec.gateways
    for at, route in enumerate(spec.http):
        yield from check_http(SPEC.child("http", at), route, delegate=delegate, gateway_only=gateway_only)
    for at, route in enumerate(spec.tls):
        yield from _tls(SPEC.child("tls", at), route, spec)
    for at, route in enumerate(spec.tcp):
        yield from _tcp(SPEC.child("tcp", at), route)
    yield from export_problems(spec.export_to, obj.ref.namespace, SPEC / "exportTo")
    for name, routes in (("http", spec.http), ("tls", spec.tls), ("tcp", spec.tcp)):
        yield from unreachable(SPEC / name, routes)


def _delegate(spec: VirtualServiceSpec) -> Iterator[Problem]:
    for name, given in (("gateways", spec.gateways), ("tls", spec.tls), ("tcp", spec.tcp)):
        if given:
            message = f"a virtual service without hosts is a delegate, which must have no {name}"
            yield forbidden(SPEC / name, message, "Give hosts, or remove it.")


def _hosts(spec: VirtualServiceSpec) -> Iterator[Problem]:
    for_gateway = bool(spec.gateways) and MESH not in spec.gateways
    sni = for_gateway and any(match.sni_hosts for one in spec.tls for match in one.match)
    faulty = False
    for at, host in enumerate(spec.hosts):
        path = SPEC.child("hosts", at)
        fault = _host_fault(host, sni=sni)
        if fault and not is_ip(host):
            faulty = True
            yield invalid(path, fault)
        elif host == "*" and not for_gateway:
            faulty = True
            message = "wildcard host * is not allowed for virtual services bound to the mesh gateway"
            yield invalid(path, message, "Name gateways, or name the hosts.")
    if faulty:
        return
    for first, second in overlapping(spec.hosts):
        message = f"duplicate hosts in virtual service: {spec.hosts[first]} (hosts[{first}]) and {spec.hosts[second]}"
        yield duplicate(SPEC.child("hosts", second), message, "Leave the more general one.")


def _host_fault(host: str, *, sni: bool) -> str | None:
    """A host's fault. For SNI routes on gateways, names that clients of the mesh send are hosts too.

    They look like `outbound_.80_.subset_.service.namespace.svc.cluster.local`.
    """
    if sni and host.startswith("outbound_"):
        parts = host.split("_")
        if len(parts) < 4 or not parts[1].strip(".").isdigit() or not any(one.isalpha() for one in parts[3]):
            return f"{host!r} does not look like outbound_.PORT_.SUBSET_.HOST"
        return None
    return wrong_wildcard_domain(host)


def _tls(path: FieldPath, route: TLSRoute, spec: VirtualServiceSpec) -> Iterator[Problem]:
    if not route.match:
        yield required(path / "match", "a TLS route must have at least one match", "Match the sniHosts.")
    for at, match in enumerate(route.match):
        yield from _tls_match(path.child("match", at), match, spec)
    yield from _destinations(path, route.route, "TLS")


def _tls_match(path: FieldPath, match: TLSMatchAttributes, spec: VirtualServiceSpec) -> Iterator[Problem]:
    if not match.sni_hosts:
        yield required(path / "sniHosts", "a TLS match must have at least one SNI host")
    for_gateway = MESH not in spec.gateways
    for at, host in enumerate(match.sni_hosts):
        where = path.child("sniHosts", at)
        fault = _host_fault(host, sni=for_gateway)
        if fault and is_ip(host):
            message = f"an IP address ({host}) goes against the SNI specification, and most clients do not send it"
            yield doubtful(where, message, "Match a host name.")
        elif fault:
            yield invalid(where, fault)
        elif not any(host_matches(pattern, host) for pattern in spec.hosts):
            message = f"SNI host {host!r} is not covered by any of the hosts: {', '.join(spec.hosts)}"
            yield invalid(where, message, "Add it to hosts.")
    yield from _l4_match(path, match)


def _tcp(path: FieldPath, route: TCPRoute) -> Iterator[Problem]:
    for at, match in enumerate(route.match):
        where = path.child("match", at)
        yield from _l4_match(where, match)
        if match.source_subnet:
            yield no_effect(where / "sourceSubnet", "Istio does not act on it either: use sourceLabels.")
    yield from _destinations(path, route.route, "TCP")


def _l4_match(path: FieldPath, match: TLSMatchAttributes | L4MatchAttributes) -> Iterator[Problem]:
    for at, subnet in enumerate(match.destination_subnets):
        if not is_ip_or_cidr(subnet):
            yield invalid(path.child("destinationSubnets", at), f"{subnet} is not a valid address or CIDR block")
    if match.port:
        yield from port_problems(match.port, path / "port")
    yield from label_problems(match.source_labels, path / "sourceLabels")
    yield from check_gateways(path / "gateways", match.gateways)
    if match.source_namespace and not is_dns_label(match.source_namespace):
        yield invalid(path / "sourceNamespace", f"{match.source_namespace!r} is not a namespace")


def _destinations(path: FieldPath, routes: Iterable[RouteDestination], kind: str) -> Iterator[Problem]:
    given = tuple(routes)
    if not given:
        yield required(path / "route", f"{kind} route is required", "Give at least one destination.")
    for at, one in enumerate(given):
        yield from check_destination(path.child("route", at, "destination"), one.destination)
    yield from check_weights(path / "route", [one.weight for one in given])
