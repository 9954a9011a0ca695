"""Objects as a `Table` (meta.k8s.io/v1), which kubectl prints."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from fairlead.ir.kind import Column, Kind

Json = dict[str, Any]

_UNITS = ((31_536_000, "y"), (86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))


def age(created: str, now: float) -> str:
    """The time since a timestamp as kubectl writes it: two units where the first is small."""
    try:
        seconds = max(0, int(now - datetime.fromisoformat(created).timestamp()))
    except ValueError:
        return "<unknown>"
    if seconds < 120:
        return f"{seconds}s"
    for at, (size, unit) in enumerate(_UNITS):
        count, rest = divmod(seconds, size)
        # From ten on (days: eight, hours and years as kubectl has it) the smaller unit says nothing useful.
        if count and (seconds >= size * (2 if unit in "yd" else 1)):
            small, name = _UNITS[min(at + 1, len(_UNITS) - 1)]
            more = rest // small
            return f"{count}{unit}{more}{name}" if more and count < 10 and unit != "s" else f"{count}{unit}"
    return f"{seconds}s"


def _plain(value: object) -> object:
    if value is None:
        return ""
    # Lists and objects look as they do in the document, as kubectl shows columns of custom resources.
    return value if isinstance(value, str | int | float | bool) else json.dumps(value, separators=(",", ":"))


def _columns(kind: Kind[Any]) -> list[Column]:
    return [one for one in kind.columns if one.name.lower() not in ("name", "age")]


def table(
    kind: Kind[Any], documents: Iterable[Json], metadata: Mapping[str, Any], now: float, include: str = "Metadata"
) -> Json:
    """A `Table` with a row for each document: its name, the kind's columns, its age."""
    columns = _columns(kind)
    definitions: list[Json] = [
        {"name": "Name", "type": "string", "format": "name", "description": "The object's name.", "priority": 0},
        *(
            {
                "name": one.name,
                "type": one.type,
                "format": "",
                "description": one.description,
                "priority": one.priority,
            }
            for one in columns
        ),
        {"name": "Age", "type": "string", "format": "", "description": "Time since its creation.", "priority": 0},
    ]
    rows: list[Json] = []
    for document in documents:
        meta = document["metadata"]
        cells = [meta["name"], *(_plain(one.value(document)) for one in columns)]
        row: Json = {"cells": [*cells, age(str(meta.get("creationTimestamp", "")), now)]}
        if include == "Object":
            row["object"] = document
        elif include != "None":
            row["object"] = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": meta}
        rows.append(row)
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": dict(metadata),
        "columnDefinitions": definitions,
        "rows": rows,
    }
