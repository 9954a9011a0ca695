"""Istio's validation of PeerAuthentication."""

from __future__ import annotations

from collections.abc import Iterator

from fairlead.kinds.peerauthentication.spec import PeerAuthentication
from fairlead.model.diagnostic import Problem
from fairlead.model.object import Object
from fairlead.model.path import SPEC
from fairlead.model.target import selector_problems

_PORTS = SPEC / "portLevelMtls"


def validate(obj: Object[PeerAuthentication]) -> Iterator[Problem]:
    """Ports only for chosen workloads, and only ports; labels."""
    ports, selector = obj.spec.port_level_mtls, obj.spec.selector
    if ports and (selector is None or not selector.match_labels):
        said = "portLevelMtls requires selector: a whole namespace has no ports"
        yield Problem(_PORTS, said, remedy="Add selector.matchLabels.", reason="FieldValueForbidden")
    if ports is not None and not ports:
        yield Problem(_PORTS, "must have at least one element", remedy="Remove portLevelMtls, or name a port.")
    for port in ports or ():
        if not (port.isascii() and port.isdigit() and 1 <= int(port[:6]) <= 65535):
            yield Problem(_PORTS / port, f"{port!r} is not a port", remedy="A port must be between 1-65535.")
    yield from selector_problems(selector)
