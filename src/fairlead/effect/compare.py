"""Two versions of an Envoy resource, compared by meaning."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from fairlead.effect import clusters, listeners, routes
from fairlead.effect.change import Change, Field
from fairlead.effect.naming import field, some, turned
from fairlead.envoy.difference import Difference, differences
from fairlead.envoy.protojson import decode
from fairlead.envoy.resource import CLUSTER, ENDPOINT, EXTENSION, LISTENER, NAME_TABLE, ROUTE, SECRET
from fairlead.envoy.settings import written

Words = Callable[[str, Any, Any, Sequence[Difference]], Iterator[Change]]
_FEW = 4


def compare(type_url: str, name: str, old: bytes | None, new: bytes | None) -> tuple[Change, ...]:
    """What differs between two versions of a resource (None: there is none), in words. Secrets are never shown.

    Of long resources, the serialised fields that differ suffice (`resource.apart`).
    """
    if type_url in (SECRET, EXTENSION):
        # Keys, and the registries' credentials of modules, stay where they are.
        kind = "secret" if type_url == SECRET else "extension"
        how = "is new" if old is None else "is gone" if new is None else "changes (its contents are not shown)"
        hidden = (Field(name, None, None),)
        return (Change(kind, f"{kind} {name} {how}", "", (name,), hidden),)
    try:
        before, after = (None if one is None else decode(type_url, one) for one in (old, new))
    except KeyError:
        return (Change("name", f"{type_url.rpartition('.')[2]} {name} differs", "", (name,)),)
    found = tuple(differences(before, after))
    if not found:
        return ()
    made = list(_WORDS.get(type_url, _names)(name, before, after, found))
    return tuple(msgspec.structs.replace(one, resources=(name,)) for one in made)


def _endpoints(name: str, old: Any, new: Any, found: Sequence[Difference]) -> Iterator[Change]:
    yield from clusters.endpoints(name, old, new, found)


def _names(name: str, old: Any, new: Any, found: Sequence[Difference]) -> Iterator[Change]:
    """Differences of the names that agents resolve."""
    if old is None or new is None:
        yield Change("name", f"names of {name} {'are new' if old is None else 'are gone'}", fields=(field(found[0]),))
        return
    said = [turned(one, max(len(one.path) - 1, 0)) for one in found]
    untold = tuple(written(one.path) for one in found[_FEW:])
    yield Change("name", f"names of {name}: {some(said)}", fields=tuple(field(one) for one in found), untold=untold)


_WORDS: dict[str, Words] = {
    ROUTE: routes.words,
    CLUSTER: clusters.cluster,
    ENDPOINT: _endpoints,
    LISTENER: listeners.words,
    NAME_TABLE: _names,
}
