"""Reading values out of documents of which nothing is known: what has another shape counts as absent."""

from __future__ import annotations

from typing import Any, cast

Json = dict[str, Any]


def value(data: object, *path: str | int) -> Any:
    """The value at a path, None where there is none."""
    at: Any = data
    for part in path:
        if isinstance(part, int):
            many = cast("list[Any]", at) if isinstance(at, list) else []
            at = many[part] if part < len(many) else None
        else:
            at = cast("Json", at).get(part) if isinstance(at, dict) else None
        if at is None:
            return None
    return at


def mapping(data: object, *path: str | int) -> Json:
    """The object at a path, {} where there is none."""
    found = value(data, *path)
    return cast("Json", found) if isinstance(found, dict) else {}


def entries(data: object, *path: str | int) -> list[tuple[int, Json]]:
    """The objects of the list at a path, each with its position in the list."""
    found = value(data, *path)
    many = cast("list[Any]", found) if isinstance(found, list) else []
    return [(at, cast("Json", one)) for at, one in enumerate(many) if isinstance(one, dict)]


def items(data: object, *path: str | int) -> list[Json]:
    """The objects of the list at a path."""
    return [one for _, one in entries(data, *path)]


def words(data: object, *path: str | int) -> list[str]:
    """The texts of the list at a path."""
    found = value(data, *path)
    many = cast("list[Any]", found) if isinstance(found, list) else []
    return [one for one in many if isinstance(one, str)]


def pairs(data: object, *path: str | int) -> dict[str, str]:
    """The map of texts at a path; values that are no texts are left out."""
    return {key: one for key, one in mapping(data, *path).items() if isinstance(one, str)}


def text(data: object, *path: str | int) -> str:
    """The text at a path, "" where there is none."""
    found = value(data, *path)
    return found if isinstance(found, str) else ""


def number(data: object, *path: str | int) -> int | None:
    """The whole number at a path."""
    found = value(data, *path)
    return found if isinstance(found, int) and not isinstance(found, bool) else None
