"""Requests that would show what a finding claims; `witness` sends them through the simulator."""

from __future__ import annotations

from typing import Any

import msgspec

from fairlead.analyze import queries, shape
from fairlead.analyze.document import GATEWAY, GATEWAY_USERS, SUBSET_ROUTES, Document, attached_to_mesh
from fairlead.analyze.finding import CLAIM, Probe
from fairlead.analyze.hosts import overlap
from fairlead.analyze.targets import targets
from fairlead.inc import Reader
from fairlead.ir.protocol import parse_protocol
from fairlead.model.diagnostic import Origin
from fairlead.model.path import SPEC, FieldPath
from fairlead.simulate.request import Caller, Request


def to_host(r: Reader, one: Document, at: FieldPath | None = None) -> Probe | None:
    """A request for which the rule of a VirtualService that holds `at` decides.

    A sidecar calls the first host; where the VirtualService is for gateways only, a client outside of the mesh asks the
    first one. None where there is no plain host, or where the rule's match cannot be turned into a request (regular
    expressions, conditions on the source).
    """
    hosts = shape.words(one.spec, "hosts")
    section, number = (at[1], at[2]) if at is not None and len(at) > 2 else ("http", 0)
    if not hosts:
        return None
    rule = shape.mapping(one.spec, section, number)
    if section != "http":
        to = queries.qualified(shape.text(one.data, *(at or ()), "host"), one.ref.namespace)
        return _connection(one, hosts[0], rule, to=to, tls=section == "tls")
    if not attached_to_mesh(one):
        return _through_gateway(r, one, hosts[0], rule)
    if hosts[0].startswith("*"):
        return None
    request = _request(queries.qualified(hosts[0], one.ref.namespace), 0, rule)
    return None if request is None else Probe(Caller("workload", one.ref.namespace), request)


def _through_gateway(r: Reader, one: Document, host: str, rule: dict[str, Any]) -> Probe | None:
    namespace, _, name = shape.words(one.spec, "gateways")[0].rpartition("/")
    gateway = queries.document(r, GATEWAY, namespace or one.ref.namespace, name)
    for server in shape.items(gateway.spec if gateway is not None else {}, "servers"):
        asked = _of_server(server, host, rule)
        if asked is not None:
            return Probe(Caller("internet"), asked)
    return None


def _of_server(server: dict[str, Any], host: str, rule: dict[str, Any]) -> Request | None:
    """A request for a rule of a host that a server of a Gateway takes, with TLS where the server ends that."""
    number = shape.number(server, "port", "number")
    tls = shape.mapping(server, "tls")
    ends = shape.text(tls, "mode") in ("SIMPLE", "OPTIONAL_MUTUAL")
    protocol = parse_protocol(shape.text(server, "port", "protocol"))
    if number is None or not (ends if tls else protocol.is_http):
        return None
    for pattern in shape.words(server, "hosts"):
        plain = pattern.rpartition("/")[2]
        if overlap(plain, host):
            name = _plain(host, plain)
            made = _request(name, number, rule)
            return made if made is None or not ends else msgspec.structs.replace(made, tls=True, sni=name)
    return None


def for_rule(one: Document, host: str) -> Probe | None:
    """A sidecar's request for the first rule of a VirtualService, by one of its hosts, that can be made a request."""
    if host.startswith("*"):
        return None
    for at, rule in shape.entries(one.spec, "http"):
        request = _request(queries.qualified(host, one.ref.namespace), 0, rule)
        if request is not None:
            origin = Origin(one.ref, SPEC.child("http", at))
            return Probe(Caller("workload", one.ref.namespace), request, rule=origin)
    return None


def for_claim(r: Reader, one: Document, gateway: Document, claim: str) -> Probe | None:
    """A request with the claims that a rule of a VirtualService asks for, through a gateway."""
    for at, rule in shape.entries(one.spec, "http"):
        origin = Origin(one.ref, SPEC.child("http", at))
        for match in shape.items(rule, "match"):
            headers = shape.mapping(match, "headers")
            if claim not in headers:
                continue
            claims = tuple(
                (name, _text(shape.mapping(headers, name), "any") or "") for name in headers if name.startswith(CLAIM)
            )
            for host in shape.words(one.spec, "hosts"):
                for server in shape.items(gateway.spec, "servers"):
                    asked = _of_server(server, host, {"match": [match]})
                    if asked is not None:
                        return Probe(Caller("internet"), asked, rule=origin, claims=claims)
    return None


def to_server(r: Reader, gateway: Document, server: dict[str, Any]) -> Probe | None:
    """A request from outside for a rule of a VirtualService that a server of a Gateway should serve."""
    for _, one in r.rows(GATEWAY_USERS, f"{gateway.ref.namespace}/{gateway.ref.name}"):
        for at, rule in shape.entries(one.spec, "http"):
            for host in shape.words(one.spec, "hosts"):
                asked = _of_server(server, host, rule)
                if asked is not None:
                    return Probe(Caller("internet"), asked, rule=Origin(one.ref, SPEC.child("http", at)))
    return None


def to_certificate(server: dict[str, Any], refused: str) -> Probe | None:
    """A client that looks at certificates connects to a server of a Gateway that ends TLS."""
    number = shape.number(server, "port", "number")
    hosts = shape.words(server, "hosts")
    if number is None or not hosts:
        return None
    name = _plain(hosts[0].rpartition("/")[2], "*")
    return Probe(Caller("internet"), Request(name, number, tls=True, sni=name), refuses=refused)


def _connection(one: Document, host: str, rule: dict[str, Any], *, to: str, tls: bool) -> Probe | None:
    """A sidecar opens a connection that a TCP or TLS rule takes; None where other conditions than these decide."""
    matches = shape.items(rule, "match") or ([] if tls else [{}])
    for match in matches:
        names = shape.words(match, "sniHosts")
        if host.startswith("*") or not attached_to_mesh(one) or not set(match) <= {"port", "sniHosts"}:
            continue
        name = next((name for name in names if not name.startswith("*")), "")
        if tls and not name:
            continue
        at = shape.number(match, "port") or 0
        asked = Request(queries.qualified(host, one.ref.namespace), at, protocol="tcp", tls=tls, sni=name)
        return Probe(Caller("workload", one.ref.namespace), asked, cluster=to)
    return None


def _plain(host: str, pattern: str) -> str:
    """A host name that both patterns take."""
    for one in (host, pattern):
        if not one.startswith("*"):
            return one
    longest = max(host, pattern, key=len)
    return f"www{longest[1:]}" if len(longest) > 1 else "www.example.com"


def to_subset(r: Reader, host: str, namespace: str, subset: str) -> Probe | None:
    """A request that some route sends to a subset of a host; None where none does."""
    name = queries.qualified(host, namespace)
    for _, one in r.rows(SUBSET_ROUTES, (name, subset)):
        for to in targets(one):
            if to.subset == subset and queries.qualified(to.host, one.ref.namespace) == name:
                probe = to_host(r, one, to.path)
                if probe is not None:
                    return probe
    return None


def to_service(namespace: str, host: str, port: int = 0) -> Probe:
    """A sidecar of a namespace calls a host."""
    return Probe(Caller("workload", namespace), Request(queries.qualified(host, namespace), port))


def _request(host: str, port: int, rule: dict[str, Any]) -> Request | None:
    matches = shape.items(rule, "match")
    if not matches:
        return Request(host, port)
    for match in matches:
        known = {"name", "uri", "method", "headers", "port"}
        if not set(match) <= known:
            continue
        path, method = _text(shape.mapping(match, "uri"), "/"), _text(shape.mapping(match, "method"), "GET")
        asked = shape.mapping(match, "headers")
        told = {name: _text(shape.mapping(asked, name), "") for name in asked}
        if path is None or method is None or None in told.values():
            continue
        headers = {name.lower(): text for name, text in told.items() if not name.startswith(CLAIM)}
        return Request(
            host,
            port or shape.number(match, "port") or 0,
            path,
            method,
            tuple((name, text or "") for name, text in sorted(headers.items())),
        )
    return None


def _text(matcher: dict[str, Any], otherwise: str) -> str | None:
    """A text that a string match takes; None for a regular expression."""
    if not matcher:
        return otherwise
    found = matcher.get("exact", matcher.get("prefix"))
    return found if isinstance(found, str) else None
