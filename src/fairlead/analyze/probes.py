"""Requests that would show what a finding claims; `witness` sends them through the simulator."""

from __future__ import annotations

from fairlead.analyze import queries, shape
from fairlead.analyze.document import Document, attached_to_mesh
from fairlead.analyze.finding import Probe
from fairlead.simulate.request import Caller, Request


def to_host(one: Document) -> Probe | None:
    """A sidecar of the VirtualService's namespace calls its first host; None where sidecars do not use it."""
    hosts = shape.words(one.spec, "hosts")
    if not hosts or hosts[0].startswith("*") or not attached_to_mesh(one):
        return None
    host = queries.qualified(hosts[0], one.ref.namespace)
    return Probe(Caller("workload", one.ref.namespace), Request(host, 0))
