"""Calls on which simulator and Envoy once disagreed: the mesh, the call, and what Envoy makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import yaml

from tests.differential.agreement import ending, flags, plain
from tests.differential.calls import Call
from tests.differential.reality import Seen
from tests.differential.topology import Json

FOLDER = Path(__file__).parent / "cases"


class Recorded(msgspec.Struct, frozen=True, omit_defaults=True):
    """A case. `envoy` has what counts of Envoy's answer, by the names of a verdict's fields."""

    name: str
    call: Call
    envoy: dict[str, Any]
    documents: list[Json] = []


def of(name: str, documents: list[Json], call: Call, seen: Seen) -> Recorded:
    """The case that what was seen makes."""
    first, ender = seen.first, ending(seen)
    found: dict[str, Any] = {"status": seen.answer.status, "reached": bool(seen.answer.instance)}
    if first is not None and ender is not None and first.kind == "http":
        found.update(
            flags=flags(ender.flags),
            details=plain(ender.details),
            route=first.route or "",
            cluster=first.cluster or "",
        )
    return Recorded(name, call, found, documents)


def write(case: Recorded) -> Path:
    """Keep a case."""
    path = FOLDER / f"{case.name}.yaml"
    path.write_text(yaml.safe_dump(msgspec.to_builtins(case), sort_keys=False, width=100))
    return path


def all_cases() -> list[Recorded]:
    """The cases that are kept, by name."""
    found = sorted(FOLDER.glob("*.yaml"))
    return [msgspec.convert(yaml.safe_load(one.read_text()), Recorded) for one in found]
