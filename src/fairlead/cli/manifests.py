"""Files of manifests: found, read, checked, and the place of every complaint in them."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from fairlead.cli.busy import counted
from fairlead.compiler.registry import Registry
from fairlead.ir.kind import Kind
from fairlead.model.diagnostic import Position, Severity
from fairlead.model.manifest import Manifest
from fairlead.model.path import FieldPath, path_of
from fairlead.model.ref import Ref
from fairlead.model.yaml import MAX_BYTES, YAMLError, parse_documents

if TYPE_CHECKING:
    from fairlead.cli.client import Refused

STDIN = "-"
STDIN_NAME = "<stdin>"
"""What the standard input is called where a place in it is named."""
SUFFIXES = (".yaml", ".yml", ".json")


class Complaint(msgspec.Struct, frozen=True):
    """What is wrong, where, and what to do: one line for people."""

    message: str
    position: Position | None = None
    file: str = ""
    severity: Severity = Severity.ERROR

    def __str__(self) -> str:
        where = str(self.position) if self.position else self.file
        return (
            f"{where}: {self.severity.lower()}: {self.message}" if where else f"{self.severity.lower()}: {self.message}"
        )


class Entry(msgspec.Struct, frozen=True):
    """One document that may be sent."""

    manifest: Manifest
    kind: Kind[Any]
    ref: Ref

    @property
    def version(self) -> str:
        """The version that the document is written in."""
        return str(self.manifest.data["apiVersion"]).rpartition("/")[2]


def files(paths: Iterable[str], *, recursive: bool) -> tuple[list[str], list[Complaint]]:
    """The files that `-f` means, in order: a directory is its .yaml, .yml and .json files."""
    out: list[str] = []
    wrong: list[Complaint] = []
    for given in paths:
        try:
            found = [given] if given == STDIN else _meant(given, recursive=recursive)
        except OSError as error:
            wrong.append(Complaint(error.strerror or "cannot be read", file=str(error.filename or given)))
            continue
        if found is None:
            wrong.append(Complaint("there is no such file or directory", file=given))
        elif not found:
            wrong.append(Complaint("no .yaml, .yml or .json file in this directory; -R looks below it", file=given))
        out.extend(found or ())
    return out, wrong


def _meant(given: str, *, recursive: bool) -> list[str] | None:
    """A file, or the files of a directory; None where there is neither. Raises OSError."""
    path = Path(given)
    if path.is_dir():
        inside = sorted(path.rglob("*") if recursive else path.iterdir())
        return [str(one) for one in inside if one.suffix in SUFFIXES and one.is_file()]
    return [given] if path.exists() else None


def content(name: str) -> bytes:
    """The bytes of a file or of standard input; of one that is too large, one more than are read of any.

    Raises OSError. Whoever parses says that it is too large: it need not be in memory for that.
    """
    if name == STDIN:
        return sys.stdin.buffer.read(MAX_BYTES + 1)
    with Path(name).open("rb") as file:
        return file.read(MAX_BYTES + 1)


def read(paths: Iterable[str]) -> tuple[list[Manifest], list[Complaint]]:
    """The documents of files, and what cannot be read."""
    out: list[Manifest] = []
    wrong: list[Complaint] = []
    for name in counted(list(paths), "reading file"):
        try:
            out.extend(parse_documents(content(name), STDIN_NAME if name == STDIN else name))
        except YAMLError as error:
            wrong.append(Complaint(error.message, error.position))
        except OSError as error:
            wrong.append(Complaint(error.strerror or "cannot be read", file=name))
    return out, wrong


def check(
    registry: Registry, manifests: Iterable[Manifest], namespace: str, *, given: bool
) -> tuple[list[Entry], list[Complaint]]:
    """Decode and validate everything. `given` means that the namespace was asked for and others are errors."""
    out: list[Entry] = []
    found: list[Complaint] = []
    for manifest in manifests:
        obj, diagnostics = registry.read_manifest(manifest, namespace)
        for one in diagnostics:
            said = f"{one.message}. {one.remedy}" if one.remedy else one.message
            field = f" {one.origin.path}" if one.origin.path else ""
            text = f"{one.origin.ref}{field}: {said} [{one.code}]"
            found.append(Complaint(text, one.origin.position, manifest.file, one.severity))
        if obj is None:
            continue
        if not obj.meta.name:
            place = manifest.position(FieldPath(("metadata",)))
            said = "apply needs metadata.name; generateName makes a new object each time"
            found.append(Complaint(f"{obj.ref}: {said}", place, manifest.file))
        elif given and obj.meta.namespace not in ("", namespace):
            place = manifest.position(FieldPath(("metadata", "namespace")))
            said = f"its namespace is not {namespace}, which -n asks for. Leave out one of them."
            found.append(Complaint(f"{obj.ref}: {said}", place, manifest.file))
        else:
            out.append(Entry(manifest, registry.of(obj.ref), obj.ref))
    return out, found


def complaints(entry: Entry, refused: Refused) -> list[Complaint]:
    """What the server said about a document, placed in its file."""
    manifest = entry.manifest
    causes = [one for one in refused.causes if one.get("reason") != "FieldManagerConflict"]
    if causes:
        return [
            Complaint(
                f"{entry.ref} {one['field']}: {one.get('message', '')}",
                manifest.position(path_of(str(one["field"]))),
                manifest.file,
            )
            for one in causes
        ]
    conflicts = [one for one in refused.causes if one.get("reason") == "FieldManagerConflict"]
    if conflicts:
        remedy = "--force-conflicts takes the field over; leaving it out of the file leaves it to its owner"
        return [
            Complaint(
                f"{entry.ref} {str(one['field']).lstrip('.')}: {one.get('message', '')}. {remedy}",
                manifest.position(path_of(str(one["field"]))),
                manifest.file,
            )
            for one in conflicts
        ]
    at = FieldPath(("metadata", "namespace")) if refused.code == 404 else FieldPath()
    return [Complaint(f"{entry.ref}: {refused}", manifest.position(at), manifest.file)]
