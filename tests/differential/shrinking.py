"""Makes what disagrees small: fewer objects, then fewer fields, then a plainer call, as long as it still disagrees."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from copy import deepcopy
from typing import Any

import msgspec

from fairlead.simulate.request import Request
from tests.differential.calls import Call
from tests.differential.reality import Reality
from tests.differential.topology import Json
from tests.differential.trial import Tally, tried

Holds = Callable[[Sequence[Json], Call], Awaitable[bool]]
_PLAIN = {"path": "/", "method": "GET", "headers": (), "protocol": "http", "claims": None, "token_problem": ""}


def disagreeing(real: Reality) -> Holds:
    """Whether simulator and Envoy disagree on a call of a mesh; a mesh that is not valid does not count."""

    async def holds(documents: Sequence[Json], call: Call) -> bool:
        tally = Tally()
        await tried(real, "shrinking", documents, [call], tally)
        return bool(tally.disagreements)

    return holds


async def shrunk(documents: Sequence[Json], call: Call, holds: Holds) -> tuple[list[Json], Call]:
    """The smallest mesh and the plainest call that are found by leaving out one thing at a time."""
    kept = list(documents)
    call = await _plainer(kept, call, holds)
    at = 0
    while at < len(kept):
        without = [*kept[:at], *kept[at + 1 :]]
        if await holds(without, call):
            kept = without
        else:
            at += 1
    for at in range(len(kept)):
        kept = await _fewer_fields(kept, at, call, holds)
    return kept, await _plainer(kept, call, holds)


async def _fewer_fields(kept: list[Json], at: int, call: Call, holds: Holds) -> list[Json]:
    changed = True
    while changed:
        changed = False
        for path in list(_places(kept[at].get("spec", {}))):
            smaller = deepcopy(kept)
            if _drop(smaller[at]["spec"], path) and await holds(smaller, call):
                kept, changed = smaller, True
                break
    return kept


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Everything inside of a value, the largest parts first."""
    inside: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        inside = list(value.items())
    elif isinstance(value, list):
        inside = list(enumerate(value))
    for key, _ in inside:
        yield (*path, key)
    for key, one in inside:
        yield from _places(one, (*path, key))


def _drop(value: Any, path: tuple[Any, ...]) -> bool:
    for key in path[:-1]:
        try:
            value = value[key]
        except (KeyError, IndexError):
            return False
    try:
        del value[path[-1]]
    except (KeyError, IndexError):
        return False
    return True


async def _plainer(documents: Sequence[Json], call: Call, holds: Holds) -> Call:
    for name, value in _PLAIN.items():
        if getattr(call.request, name) != value:
            plainer = _asked(call, **{name: value})
            if await holds(documents, plainer):
                call = plainer
    for header in call.request.headers:
        fewer = _asked(call, headers=tuple(one for one in call.request.headers if one != header))
        if await holds(documents, fewer):
            call = fewer
    for name in list(call.request.claims or {}):
        fewer = _asked(call, claims={key: one for key, one in (call.request.claims or {}).items() if key != name})
        if await holds(documents, fewer):
            call = fewer
    return call


def _asked(call: Call, **changed: Any) -> Call:
    request: Request = msgspec.structs.replace(call.request, **changed)
    return msgspec.structs.replace(call, request=request)
