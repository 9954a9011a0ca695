"""Requests that would show what a finding claims; `witness` sends them through the simulator."""

from __future__ import annotations

from typing import Any

from fairlead.analyze import queries, shape
from fairlead.analyze.document import Document, attached_to_mesh
from fairlead.analyze.finding import Probe
from fairlead.model.path import FieldPath
from fairlead.simulate.request import Caller, Request


def to_host(one: Document, at: FieldPath | None = None) -> Probe | None:
    """A sidecar calls the VirtualService's first host so that the rule that holds `at` takes the request.

    None where sidecars do not use the VirtualService, where it has no plain host, or where the rule's match cannot be
    turned into a request (regular expressions, conditions on the source).
    """
    hosts = shape.words(one.spec, "hosts")
    if not hosts or hosts[0].startswith("*") or not attached_to_mesh(one):
        return None
    section, number = (at[1], at[2]) if at is not None and len(at) > 2 else ("http", 0)
    if section != "http":
        return None
    host = queries.qualified(hosts[0], one.ref.namespace)
    request = _request(host, shape.mapping(one.spec, "http", number))
    return None if request is None else Probe(Caller("workload", one.ref.namespace), request)


def to_service(namespace: str, host: str, port: int = 0) -> Probe:
    """A sidecar of a namespace calls a host."""
    return Probe(Caller("workload", namespace), Request(queries.qualified(host, namespace), port))


def _request(host: str, rule: dict[str, Any]) -> Request | None:
    matches = shape.items(rule, "match")
    if not matches:
        return Request(host, 0)
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
            shape.number(match, "port") or 0,
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
