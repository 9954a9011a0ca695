"""Writes that become one commit: what is asked of documents before they are stored, and what the store says of them.

Must not: commit, or tell anybody; `Store` does both.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache

import msgspec

from fairlead.model.ref import Ref
from fairlead.store.change import Json, Operation
from fairlead.store.database import Database
from fairlead.store.errors import AlreadyExists, Conflict, NotFound

_encode = msgspec.json.Encoder(order="deterministic").encode
_decode = msgspec.json.Decoder(dict).decode


def timestamp(seconds: float) -> str:
    """RFC 3339 in UTC with whole seconds, as Kubernetes writes times."""
    return _timestamp(int(seconds // 1))


@lru_cache(1024)
def _timestamp(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _essence(document: Json) -> Json:
    return {key: value for key, value in document.items() if key not in ("metadata", "status")}


def _unversioned(document: Json) -> Json:
    meta = {key: value for key, value in document.get("metadata", {}).items() if key != "resourceVersion"}
    return {**document, "metadata": meta}


class Transaction:
    """Writes that become one commit with one revision, or none. Made by `Store.transaction`.

    The store's own metadata (uid, creationTimestamp, generation, resourceVersion, name, namespace) is set here and
    what the writer says about it is ignored, except that a resourceVersion or uid that is given must match.
    """

    def __init__(self, database: Database, revision: int, now: float, uid: Callable[[], str]) -> None:
        self._database = database
        self._now = now
        self._uid = uid
        self.revision = revision
        self.changes: list[tuple[Operation, Ref, Json | None, Json | None]] = []

    def get(self, ref: Ref) -> Json | None:
        """The document as this transaction sees it."""
        found = self._database.live(ref)
        return None if found is None else _decode(found)

    def create(self, ref: Ref, document: Json) -> Json:
        """Add an object. Raises AlreadyExists."""
        if self.get(ref) is not None:
            raise AlreadyExists(ref)
        meta = dict(document.get("metadata") or {})
        meta.pop("deletionTimestamp", None)
        meta |= {"uid": self._uid(), "creationTimestamp": timestamp(self._now), "generation": 1}
        return self._write("ADDED", ref, None, {**document, "metadata": meta})

    def update(self, ref: Ref, document: Json) -> Json:
        """Replace an object. Raises NotFound, and Conflict where a given resourceVersion or uid differs."""
        old = self.get(ref)
        if old is None:
            raise NotFound(ref)
        given, kept = dict(document.get("metadata") or {}), old["metadata"]
        for field in ("resourceVersion", "uid"):
            if given.get(field) and given[field] != kept[field]:
                raise Conflict(ref, field, str(given[field]), kept[field])
        changed = _essence(document) != _essence(old)
        given |= {
            "uid": kept["uid"],
            "creationTimestamp": kept["creationTimestamp"],
            "generation": kept.get("generation", 1) + changed,
            "name": ref.name,
        }
        if ref.namespace:
            given["namespace"] = ref.namespace
        new = {**document, "metadata": given}
        if _unversioned(new) == _unversioned(old):
            return old
        return self._write("MODIFIED", ref, old, new)

    def put(self, ref: Ref, document: Json) -> Json:
        """Create or update. A given resourceVersion means update."""
        exists = self._database.live(ref) is not None
        meta: Json = document.get("metadata") or {}
        given = meta.get("resourceVersion")
        return self.update(ref, document) if exists or given else self.create(ref, document)

    def delete(self, ref: Ref, *, resource_version: str = "", uid: str = "") -> Json:
        """Remove an object; returns its last document. Raises NotFound and Conflict."""
        old = self.get(ref)
        if old is None:
            raise NotFound(ref)
        for field, wanted in (("resourceVersion", resource_version), ("uid", uid)):
            if wanted and wanted != old["metadata"][field]:
                raise Conflict(ref, field, wanted, old["metadata"][field])
        self._database.write(ref, self.revision, None)
        self.changes.append(("DELETED", ref, old, None))
        return old

    def _write(self, operation: Operation, ref: Ref, old: Json | None, new: Json) -> Json:
        meta = new["metadata"]
        meta |= {"name": ref.name, "resourceVersion": str(self.revision)}
        if ref.namespace:
            meta["namespace"] = ref.namespace
        else:
            meta.pop("namespace", None)
        encoded = _encode(new)
        self._database.write(ref, self.revision, encoded)
        # Decoded anew: whoever wrote the document may go on altering the parts of his own.
        new = _decode(encoded)
        self.changes.append((operation, ref, old, new))
        return _decode(encoded)
