"""What a client that returns has, against what it should have: told as the exceptions. Pure.

A thousand proxies that come back at once say of a thousand resources each which version they have, and nearly all of
them have nearly everything. So sets of what is said are compared, and names are looked at only where they differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, cast

from fairlead.envoy.resource import Resource
from fairlead.xds.held import FEW
from fairlead.xds.messages import WILDCARD, DeltaRequest
from fairlead.xds.requests import Claims, claimed

_SHARE = 4
"""With exceptions for more than one in so many names there is nothing to gain."""


class Returned(NamedTuple):
    """How a client differs from one that asks for all that the catalog has, and has it."""

    held: dict[str, Resource | None]
    """What it has instead (None: nothing)."""
    wanted: dict[str, bool]
    """Names of the catalog that it does not ask for, and others that it does; empty for who asks for everything."""
    due: set[str]
    """Names that it must be told of."""
    forced: set[str]
    """Those of them for which it waits."""


def returned(request: DeltaRequest, catalog: Mapping[str, Resource], *, named: bool) -> Returned | None:
    """What a client's first request about a type says; None if that is to be looked at name by name.

    `named` tells types of which a request without names asks for nothing. Raises ProtocolError.
    """
    claims = request.initial_versions
    known = cast("Callable[[], tuple[set[bytes], ...]] | None", getattr(catalog, "claims", None))
    if not isinstance(claims, Claims) or known is None or WILDCARD in request.subscribe:
        return None
    if named and not request.subscribe:
        return None
    asked = claims.asked(request.subscribe) if request.subscribe else None
    should = known()
    total = sum(map(len, should))
    others, lacking = claims.against(should)
    if total <= FEW or (len(others) + len(lacking)) * _SHARE > total:
        return None
    instead = dict(map(claimed, others))
    names = {*instead, *(claimed(entry)[0] for entry in lacking)}
    if asked is not None and not (len(asked) == len(catalog) and asked.issuperset(catalog)):
        names |= asked.symmetric_difference(catalog)
        if len(names) * _SHARE > total:
            return None
    found = Returned({}, {}, set(), set())
    for name in names:
        _look(found, name, catalog.get(name), request.type_url, claims, instead.get(name), asked)
    return found


def _look(
    found: Returned,
    name: str,
    target: Resource | None,
    type_url: str,
    claims: Claims,
    instead: str | None,
    asked: frozenset[str] | None,
) -> None:
    """Note how one name differs."""
    if asked is not None and name not in asked:
        if target is not None:
            found.wanted[name] = False
            found.held[name] = None
        return
    if asked is not None and target is None:
        found.wanted[name] = True
    if instead is not None:
        name = name if target is None else target.name
        found.held[name] = Resource(type_url, name, instead)
        found.due.add(name)
    elif target is None or not claims.says(target.claim):
        if target is not None:
            found.held[name] = None
        found.due.add(name)
        if asked is not None:
            found.forced.add(name)
