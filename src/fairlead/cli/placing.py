"""Tells the control plane in which files and lines applied objects stand, so that its answers can name them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fairlead.cli.client import Client, Refused
from fairlead.cli.manifests import STDIN, STDIN_NAME, Entry

Json = dict[str, Any]
_AT_ONCE = 200
_MOST_MARKS = 2_000


def tell(client: Client, applied: Iterable[tuple[Entry, Json]]) -> None:
    """Say it of objects as the server answered. Whoever is no administrator may apply, and says nothing."""
    found = [_place(entry, document) for entry, document in applied if _is_file(entry)]
    for first in range(0, len(found), _AT_ONCE):
        try:
            client.request("POST", "/fairlead/v1/places", {"places": found[first : first + _AT_ONCE]})
        except Refused:
            # What was to be done is done; only lines will be missing.
            return


def _is_file(entry: Entry) -> bool:
    return bool(entry.manifest.marks) and entry.manifest.file not in ("", STDIN, STDIN_NAME)


def _place(entry: Entry, document: Json) -> Json:
    marks = sorted(entry.manifest.marks.items(), key=lambda one: len(one[0]))[:_MOST_MARKS]
    meta: Json = document["metadata"]
    return {
        "object": list(entry.ref),
        "uid": meta.get("uid", ""),
        "generation": meta.get("generation", 0),
        "file": entry.manifest.file,
        "marks": [[list(path), line, column] for path, (line, column) in marks],
    }
