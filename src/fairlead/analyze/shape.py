"""Reading values out of documents of which nothing is known: what has another shape counts as absent."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]


def value(data: object, *path: str | int) -> Any:
    """The value at a path, None where there is none."""
    # Asked some fifty times of each document: data of texts has these classes themselves, and none derived from them.
    at: Any = data
    for part in path:
        if at.__class__ is dict:
            at = at.get(part)
        elif at.__class__ is list and isinstance(part, int) and part < len(at):
            at = at[part]
        else:
            return None
    return at


def mapping(data: object, *path: str | int) -> Json:
    """The object at a path, {} where there is none."""
    found = value(data, *path)
    return found if found.__class__ is dict else {}


def entries(data: object, *path: str | int) -> list[tuple[int, Json]]:
    """The objects of the list at a path, each with its position in the list."""
    found = value(data, *path)
    return [(at, one) for at, one in enumerate(found) if one.__class__ is dict] if found.__class__ is list else []


def items(data: object, *path: str | int) -> list[Json]:
    """The objects of the list at a path."""
    found = value(data, *path)
    return [one for one in found if one.__class__ is dict] if found.__class__ is list else []


def words(data: object, *path: str | int) -> list[str]:
    """The texts of the list at a path."""
    found = value(data, *path)
    return [one for one in found if one.__class__ is str] if found.__class__ is list else []


def pairs(data: object, *path: str | int) -> dict[str, str]:
    """The map of texts at a path; values that are no texts are left out."""
    found = value(data, *path)
    if found.__class__ is not dict:
        return {}
    return {key: one for key, one in found.items() if one.__class__ is str}


def text(data: object, *path: str | int) -> str:
    """The text at a path, "" where there is none."""
    found = value(data, *path)
    return found if found.__class__ is str else ""


def number(data: object, *path: str | int) -> int | None:
    """The whole number at a path."""
    found = value(data, *path)
    return found if isinstance(found, int) and not isinstance(found, bool) else None
