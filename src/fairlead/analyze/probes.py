"""Requests that would show what a finding claims; `witness` sends them through the simulator."""

from __future__ import annotations

from typing import Any

from fairlead.analyze import queries, shape
from fairlead.analyze.document import GATEWAY, SUBSET_ROUTES, Document, attached_to_mesh
from fairlead.analyze.finding import Probe
from fairlead.analyze.hosts import overlap
from fairlead.analyze.targets import targets
from fairlead.inc import Reader
from fairlead.ir.protocol import parse_protocol
from fairlead.model.path import FieldPath
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
        number = shape.number(server, "port", "number")
        protocol = parse_protocol(shape.text(server, "port", "protocol"))
        if number is None or shape.mapping(server, "tls") or not protocol.is_http:
            continue
        for pattern in shape.words(server, "hosts"):
            plain = pattern.rpartition("/")[2]
            if overlap(plain, host):
                request = _request(_plain(host, plain), number, rule)
                return None if request is None else Probe(Caller("internet"), request)
    return None


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
        headers = {name.lower(): _text(shape.mapping(asked, name), "") for name in asked}
        if path is None or method is None or None in headers.values():
            continue
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
