"""The compiled mesh: objects in, what each view gets out."""

from __future__ import annotations

from collections.abc import Generator, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import msgspec

from fairlead.compiler.delegates import DELEGATION
from fairlead.compiler.discovery import Discovery, of_an_unseen_namespace, of_another_revision, revision_named
from fairlead.compiler.ingresses import GATHERING, INGRESS
from fairlead.compiler.patches import unmatched
from fairlead.compiler.publish import Catalog, Changes, Publisher
from fairlead.compiler.registry import Registry, registry
from fairlead.inc import Conflict, Derivation, Engine, Reader, Table
from fairlead.ir.host import Host, HostKey
from fairlead.ir.kind import Emission
from fairlead.ir.view import View
from fairlead.model.diagnostic import Diagnostic, Origin, Severity
from fairlead.model.object import Object
from fairlead.model.ref import Ref

OBJECTS: Table[Ref, Object[Any]] = Table("objects")
"""Every admitted object; the only input of the compiler."""


class MeshModel:
    """An engine over a set of objects, with the kinds' lowering registered."""

    def __init__(self, kinds: Registry | None = None) -> None:
        self.kinds = kinds or registry()
        self._discovery = Discovery(OBJECTS, self.kinds)
        self.engine = Engine([Derivation("lower", OBJECTS, 1, self._lower), DELEGATION, GATHERING, INGRESS])
        self.publisher = Publisher(self.engine)

    def apply(self, changed: Iterable[Object[Any]] = (), deleted: Iterable[Ref] = ()) -> None:
        """Put and remove objects as one change."""
        with self.engine.transaction():
            for ref in deleted:
                self.engine.delete(OBJECTS, ref)
            for obj in changed:
                self.engine.put(OBJECTS, obj.ref, _meaning(obj))

    @contextmanager
    def supposing(
        self, changed: Iterable[Object[Any]] = (), deleted: Iterable[Ref] = ()
    ) -> Generator[dict[View, Changes]]:
        """The mesh as if these objects were applied; afterwards it is as it was.

        Gives what open views get otherwise: by type URL and name, each with what is there without the change (what is
        there with it stands in the catalogs as long as the context does). The caller has called `Publisher.refresh`
        after the last change, else that change would be told here and to nobody else. Mappings of catalogs may be other
        ones afterwards, with equal contents.
        """
        put, gone = tuple(changed), tuple(deleted)
        before = {ref: self.engine.get(OBJECTS, ref) for ref in (*gone, *(one.ref for one in put))}
        self.apply(put, gone)
        try:
            yield self.publisher.refresh()
        finally:
            self.apply(
                [one for one in before.values() if one is not None],
                [ref for ref, one in before.items() if one is None],
            )
            self.publisher.refresh()

    @contextmanager
    def opened(self, view: View) -> Generator[Catalog]:
        """Everything that a proxy with this view gets; findings about it stand as long as the context does."""
        self.publisher.open(view)
        try:
            yield {type_url: dict(found) for type_url, found in self.publisher.catalog(view).items()}
        finally:
            self.publisher.close(view)

    def compile(self, view: View) -> Catalog:
        """Everything that a proxy with this view gets, at once (nothing is kept)."""
        with self.opened(view) as catalog:
            return catalog

    def unseen(self, ref: Ref, labels: Mapping[str, str]) -> Diagnostic | None:
        """Why the mesh does not look at an object with these labels; None if it does, or if it would say nothing.

        A Namespace that is for another revision is told of as well, though what is in it counts.
        """
        kind = self.kinds.kind(ref.group, ref.kind)
        if kind is None or kind.lower is None or kind.discovering is not None:
            return None
        revision = revision_named(ref, labels)
        if revision and revision != (own := self.engine.call(self._discovery.revision, "")):
            return of_another_revision(ref, revision, own)
        if ref.namespace and not self.engine.call(self._discovery.chosen, ref.namespace):
            return of_an_unseen_namespace(ref.namespace)
        return None

    def diagnostics(self) -> list[Diagnostic]:
        """What the rules have found wrong, in a fixed order; rules that failed are findings too."""
        found = {one for one in self.engine.reports() if isinstance(one, Diagnostic)}
        found.update(unmatched(self.engine.reports()))
        found.update(one for conflict in self.engine.conflicts() for one in _conflict(conflict))
        for name, key, error in self.engine.failures():
            ref = key if isinstance(key, Ref) else Ref("", "Mesh", "", name)
            said = f"{name} failed on {key!r}: {type(error).__name__}: {error}"
            found.add(
                Diagnostic(
                    "FL0000", Severity.ERROR, said, Origin(ref), "This is a defect in Fairlead: please report it."
                )
            )
        return sorted(found, key=str)

    def _lower(self, r: Reader, ref: Ref, obj: Object[Any]) -> Iterable[Emission]:
        kind = self.kinds.kind(ref.group, ref.kind)
        if kind is None or kind.lower is None:
            return ()
        counts = kind.discovering is not None or self._discovery.counts(r, obj)
        found = kind.lower(r, obj) if counts else ()
        return (
            (table, key, self._discovery.shown(r, row)) if isinstance(row, Host) else (table, key, row)
            for table, key, row in found
        )


def _conflict(conflict: Conflict) -> Iterator[Diagnostic]:
    """What objects say of something of which another object has already said it otherwise."""
    kept = next(_named(conflict.kept), None)
    for ref in (one for lost in conflict.lost for one in _named(lost)):
        what = " of namespace ".join(map(str, conflict.key)) if isinstance(conflict.key, HostKey) else conflict.key
        said = (
            f"{kept} already defines {what} in {conflict.table}, in a way that cannot be joined; this object does not"
        )
        yield Diagnostic(
            "FL0009", Severity.WARNING, said, Origin(ref), "Join the two objects, or give one of them another name."
        )


def _named(writer: Hashable) -> Iterator[Ref]:
    if isinstance(writer, tuple):
        yield from (one for one in cast("tuple[object, ...]", writer) if isinstance(one, Ref))


def _meaning(obj: Object[Any]) -> Object[Any]:
    """The object without what changes at every write and means nothing to a proxy."""
    meta = obj.meta
    if not (meta.resource_version or meta.generation or meta.managed_fields):
        return obj
    meta = msgspec.structs.replace(meta, resource_version="", generation=0, managed_fields=())
    return msgspec.structs.replace(obj, meta=meta)
