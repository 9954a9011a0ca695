"""What the store's history says: commits in words, who last changed each field, and what a rollback would do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, cast

import msgspec

from fairlead.model.difference import (
    ABSENT,
    Blamed,
    Difference,
    blamed,
    brief,
    differences,
    meaning,
)
from fairlead.model.merge import without
from fairlead.model.names import meant
from fairlead.model.path import FieldPath
from fairlead.model.ref import Ref
from fairlead.store.change import Change, Json, Version, Wanted
from fairlead.store.errors import Gone
from fairlead.store.store import Store
from fairlead.store.transaction import timestamp

SYSTEM = "system:fairlead"
_NODE = "by fairlead-node"
_NAMED = 3
_LOOKED_AT = 2000
"""So many names are compared with one that there is not."""
_WRITTEN = ("labels", "annotations")
_SECRET = ("data", "stringData")


class RollbackRefused(Exception):
    """A rollback that makes no sense; the text says why, with a code."""


class Plan(msgspec.Struct, frozen=True):
    """What a rollback writes (None: deletes), what it takes back, and which later edits stand against it."""

    documents: dict[Ref, Json | None]
    undone: list[Change]
    conflicts: list[str]


def machine_made(change: Change | Version) -> bool:
    """Whether the control plane or a node wrote it by itself, because something runs or ended."""
    return change.author == SYSTEM or change.via.endswith(_NODE)


def summary(change: Change) -> str:
    """What a change did, in one line."""
    if change.operation != "MODIFIED" or change.old is None or change.new is None:
        return "created" if change.operation == "ADDED" else "deleted"
    found = fields(change)
    if not found:
        return "status only" if change.old.get("status") != change.new.get("status") else "nothing that means anything"
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return "; ".join(str(one) for one in found[:_NAMED]) + more


def fields(change: Change, *, status: bool = False) -> list[Difference]:
    """The fields that a change touched. Values of secrets are not shown."""
    found = list(differences(meaning(change.old, status=status), meaning(change.new, status=status)))
    return [_discreet(one) if change.ref.kind == "Secret" else one for one in found]


def _discreet(one: Difference) -> Difference:
    if not one.path or one.path[0] not in _SECRET:
        return one
    hidden = "(secret)"
    before = ABSENT if one.before is ABSENT else hidden
    after = ABSENT if one.after is ABSENT else hidden if one.before is ABSENT else "(another secret)"
    return Difference(one.path, before, after)


def named(ref: Ref) -> Json:
    """A reference, JSON-shaped."""
    return {"group": ref.group, "kind": ref.kind, "namespace": ref.namespace, "name": ref.name}


def missing(store: Store, ref: Ref, at: int | None = None) -> str:
    """That there is no such object (at a revision), and which one was probably meant."""
    said = f"there is no {ref}{f' at revision {at}' if at else ''}"
    found = store.names(ref.group, ref.kind, None, "", _LOOKED_AT)
    elsewhere = [namespace for namespace, name in found if name == ref.name and namespace != ref.namespace]
    if elsewhere and not at:
        return f"{said}; there is one in namespace {elsewhere[0]}: name it with -n"
    return said + meant(ref.name, (name for namespace, name in found if namespace == ref.namespace))


def commits(store: Store, wanted: Wanted) -> list[Json]:
    """Commits, newest first, each with one line for every object."""
    return listed(store.commits(wanted))


def listed(changes: Iterable[Change]) -> list[Json]:
    """Commits of changes that stand together by revision."""
    return [_commit(list(found)) for _, found in groupby(changes, key=lambda one: one.revision)]


def described(ref: Ref, before: Json | None, after: Json | None) -> Json:
    """What becomes of an object, by field."""
    operation = "ADDED" if before is None else "DELETED" if after is None else "MODIFIED"
    change = Change(0, operation, ref, before, after)
    return {
        "operation": operation,
        "object": named(ref),
        "what": summary(change),
        "fields": [_field(one) for one in fields(change)] if operation == "MODIFIED" else [],
    }


def _commit(changes: Sequence[Change], *, whole: bool = False) -> Json:
    first = changes[0]
    out: Json = _who(first)
    out["changes"] = [
        {"operation": one.operation, "object": named(one.ref), "what": summary(one)}
        | ({"fields": [_field(each) for each in fields(one, status=not one.meant)]} if whole else {})
        for one in changes
    ]
    return out


def _who(one: Change | Version) -> Json:
    return {
        "revision": one.revision,
        "time": timestamp(one.time),
        "author": one.author,
        "via": one.via,
        "message": one.message,
        "command": one.command,
    }


def _field(one: Difference) -> Json:
    out: Json = {"path": str(one.path)}
    if one.before is not ABSENT:
        out["before"] = one.before
    if one.after is not ABSENT:
        out["after"] = one.after
    return out


def shown(store: Store, revision: int) -> Json:
    """One commit with every field that it changed. Raises Gone where it is not kept."""
    found = list(store.commits(Wanted(after=revision - 1, before=revision + 1, status=True)))
    if not found:
        raise Gone(revision, store.oldest, store.revision)
    return _commit(found, whole=True)


def blame(versions: Iterable[Version], at: int | None) -> Json | None:
    """The document at a revision (None: now) and which edit each of its fields is from; None if there is none."""
    known, before = Blamed(0), {}
    edits: dict[int, Json] = {}
    for one in versions:
        if at is not None and one.revision > at:
            break
        after = meaning(one.document)
        if not after:
            known, before = Blamed(0), {}
            continue
        if after != before:
            edits[one.revision] = _who(one)
            known = blamed(before, after, known, one.revision) if before else Blamed(one.revision)
            before = after
    if not before:
        return None
    lines = list(_leaves(before, known, FieldPath()))
    used = {edit for _, edit in lines}
    return {
        "document": before,
        "fields": [{"path": list(path), "revision": edit} for path, edit in lines],
        "edits": [one for revision, one in edits.items() if revision in used],
    }


def _leaves(value: Any, known: Blamed, path: FieldPath) -> Iterable[tuple[FieldPath, int]]:
    if isinstance(value, dict) and value:
        for key, inner in cast("Json", value).items():
            yield from _leaves(inner, known.part(key), path / key)
    elif isinstance(value, list) and value:
        for at, inner in enumerate(cast("list[object]", value)):
            yield from _leaves(inner, known.part(at), path / at)
    else:
        yield path, known.edit


def restored(store: Store, to: int, ref: Ref | None) -> Plan:
    """How one object, or everything that people wrote, becomes as it was at a revision. Raises Gone, RollbackRefused.

    More than one edit of an object since then is a conflict: the last one is what is meant to be taken back, the
    others may be somebody else's.
    """
    if ref is None:
        store.require(to)
        edits = list(store.commits(Wanted(after=to)))
    else:
        edits = list(store.commits(Wanted(ref.group, ref.kind, ref.namespace, ref.name, after=to)))
        if not edits and store.get(ref) is None:
            raise RollbackRefused(missing(store, ref))
    since: dict[Ref, list[Change]] = {}
    for one in reversed(edits):
        if one.meant and not machine_made(one) and ref in (None, one.ref):
            since.setdefault(one.ref, []).append(one)
    documents: dict[Ref, Json | None] = {}
    undone: list[Change] = []
    conflicts: list[str] = []
    for at, found in since.items():
        then, now = store.get_at(at, to), store.get(at)
        if meaning(then) == meaning(now):
            continue
        documents[at] = then
        undone += found
        conflicts += (f"{at} was edited again in {_told(one)}" for one in found[1:][-_NAMED:])
        if len(found) > _NAMED + 1:
            conflicts.append(f"{at} was edited {len(found) - _NAMED - 1} times more in between")
    return Plan(documents, sorted(undone, key=lambda one: -one.revision), conflicts)


def taken_back(store: Store, revision: int) -> Plan:
    """How everything becomes as if one revision had not been. Raises Gone, RollbackRefused.

    Fields that were edited again since are conflicts; with force they go back to what they were before, too.
    """
    store.require(revision)
    changes = [one for one in store.commits(Wanted(after=revision - 1, before=revision + 1)) if one.meant]
    if not changes:
        raise RollbackRefused(
            f"revision {revision} changed no object's meaning: there is nothing to take back [FL3901]"
        )
    documents: dict[Ref, Json | None] = {}
    conflicts: list[str] = []
    for one in changes:
        now = store.get(one.ref)
        if one.old is None or one.new is None or now is None:
            if meaning(now) != meaning(one.new):
                conflicts += _since(store, one, "")
            if meaning(now) != meaning(one.old):
                documents[one.ref] = one.old
            continue
        merged = without(meaning(now), meaning(one.new), meaning(one.old))
        for path in merged.conflicts:
            conflicts += _since(store, one, f" {path}")
        document: Json = {**merged.document, "status": now["status"]} if "status" in now else merged.document
        if merged.conflicts:
            document = one.old
        document = {**document, "metadata": _annotated(now, document)}
        if meaning(document) != meaning(now):
            documents[one.ref] = document
    return Plan(documents, changes, conflicts)


def _annotated(now: Mapping[str, Any], document: Mapping[str, Any]) -> Json:
    """Metadata as it is, with the labels and annotations of a document: what a person writes of it."""
    kept = {key: value for key, value in now["metadata"].items() if key not in _WRITTEN}
    return kept | {key: document["metadata"][key] for key in _WRITTEN if key in document["metadata"]}


def _since(store: Store, change: Change, field: str) -> list[str]:
    found = list(
        store.commits(
            Wanted(change.ref.group, change.ref.kind, change.ref.namespace, change.ref.name, after=change.revision)
        )
    )
    return [f"{change.ref}{field} was edited again in {_told(one)}" for one in found[:_NAMED] if one.ref == change.ref]


def _told(one: Change) -> str:
    who = one.command or f"{one.author}, {one.via}"
    return f"revision {one.revision} ({who}): {brief(summary(one), 160)}"
