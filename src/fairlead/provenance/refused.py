"""Which objects and fields are behind a resource that a proxy refuses.

What the proxy held before was fine. So what differs from that is looked at, or else all of it; of that what Envoy's
words are about, if they name a setting; and of the origins of that those of the objects that are under suspicion.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from fairlead.compiler.model import MeshModel
from fairlead.envoy.difference import differences
from fairlead.envoy.protojson import decode
from fairlead.envoy.settings import Path, leaves
from fairlead.ir.view import View
from fairlead.model.diagnostic import Origin
from fairlead.model.path import FieldPath
from fairlead.model.ref import Ref
from fairlead.provenance.trace import Study, study

MOST_FIELDS = 3
"""Of an object with more fields behind a refusal, the part is named in which all of them are."""
_ADDRESS: Path = ("address",)
_BIND = re.compile(r"cannot bind|address already in use", re.IGNORECASE)
_SETTING = re.compile(r"ValidationError\.(\w+)")
"""A field as Envoy's checks of bounds name it: `ClusterValidationError.ConnectTimeout`."""


def culprits(
    model: MeshModel, view: View, which: tuple[str, str], held: bytes, words: str, suspects: Collection[Ref]
) -> tuple[Origin, ...]:
    """The origins of what a proxy of an open view refuses, most decisive first.

    `which` is the type and name of the resource; `held` what the proxy has of it, empty if nothing; `words` are
    Envoy's; `suspects` objects one of which is to blame as far as is known otherwise. Raises PathError if there is no
    such resource any more.
    """
    type_url, name = which
    made = study(model, view, type_url, name)
    differing = [one.path for one in differences(made.message, decode(type_url, held))] if held else []
    found = _origins(made, _meant(made, differing, words))
    suspected = [one for one in found if one.ref in suspects]
    return tuple(_joined(suspected or found))


def _meant(made: Study, differing: list[Path], words: str) -> list[Path]:
    """The places that are looked at."""
    if _BIND.search(words):
        return [_ADDRESS]
    named = {one.lower() for one in _SETTING.findall(words)}
    inside = [path for at in differing or [()] for path in _below(made, at)] if named else []
    said = [path for path in inside if path and path[-1].lower() in named]
    return said or differing or [()]


def _below(made: Study, at: Path) -> Iterable[Path]:
    """A place that differs, and the settings inside of it."""
    yield at
    yield from (path for path, _ in leaves(made.message) if path[: len(at)] == at)


def _origins(made: Study, paths: Iterable[Path]) -> list[Origin]:
    """What sets these places; what they merely stand in only where nothing does."""
    found = [one for path in paths for one in made.origins(path)]
    sets = [one.origin for one in found if one.role == "sets"]
    return list(dict.fromkeys(sets or [one.origin for one in found]))


def _joined(found: Iterable[Origin]) -> Iterable[Origin]:
    """The origins, of each object at most a few."""
    by_object: dict[Ref, list[Origin]] = {}
    for one in found:
        by_object.setdefault(one.ref, []).append(one)
    for ref, origins in by_object.items():
        if len(origins) <= MOST_FIELDS:
            yield from origins
        else:
            yield Origin(ref, _common([one.path for one in origins]))


def _common(paths: list[FieldPath]) -> FieldPath:
    """The longest path that all of these begin with."""
    length = 0
    while all(len(one) > length for one in paths) and len({one[length] for one in paths}) == 1:
        length += 1
    return FieldPath(paths[0][:length])
