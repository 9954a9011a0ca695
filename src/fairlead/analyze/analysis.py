"""The running analysis: documents in, findings out, again only of what a change may have touched.

It has an engine of its own: a row for each document, and a rule value for what all analyzers say of it. The compiled
mesh is another engine's; what is found there comes in as diagnostics (`report`).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from itertools import islice

import msgspec

from fairlead.analyze.analyzer import Analyzer, analyzers
from fairlead.analyze.codes import severity_of
from fairlead.analyze.document import CLOCK, CLUSTER_SCOPED, CONFIG_MAP, DOCUMENTS, MESH_CONFIG, Document, Sort
from fairlead.analyze.finding import Finding, Probe, Said, of_ref
from fairlead.analyze.queries import SYSTEM
from fairlead.analyze.shape import mapping, pairs
from fairlead.inc import Engine, EngineError, Failure, Reader, Rule
from fairlead.ir.discovery import DEFAULT_REVISION, REVISION, revision_of
from fairlead.ir.meshconfig import CONFIGMAP_NAME, CONFIGMAP_NAMESPACE
from fairlead.model.manifest import Json
from fairlead.model.ref import Ref

_HOUR = 3600
_SETTINGS = (Ref(*CONFIG_MAP, CONFIGMAP_NAMESPACE, CONFIGMAP_NAME), Ref(*MESH_CONFIG, "", CONFIGMAP_NAME))
"""The documents with the mesh's settings; the first that names a revision counts."""


class Found(msgspec.Struct, frozen=True):
    """A finding that is not placed in a text yet, with the request that may confirm it."""

    finding: Finding
    ref: Ref
    path: tuple[str | int, ...] = ()
    probe: Probe | None = None


class Analysis:
    """Findings about a set of documents, kept current. `only` names the analyzers to run; None: all."""

    def __init__(self, now: float | None = None, only: Iterable[str] | None = None) -> None:
        self.engine = Engine()
        wanted = None if only is None else frozenset(only)
        self._by_sort: dict[Sort, tuple[Analyzer, ...]] = {}
        self._everywhere: list[Analyzer] = []
        for one in analyzers():
            if one.standard if wanted is None else one.name in wanted:
                for sort in one.sorts:
                    self._by_sort[sort] = (*self._by_sort.get(sort, ()), one)
                if not one.sorts:
                    self._everywhere.append(one)
        # All analyzers of a document together: a cell for each would cost more than what most of them do.
        self._rule: Rule[Ref, tuple[Said, ...]] = Rule("analyze", self._run)
        self._watched: set[Ref] = set()
        self._due: dict[Hashable, None] = {}
        self._said: dict[Ref, tuple[Found, ...]] = {}
        self._revision = DEFAULT_REVISION
        self._revised: dict[Ref, Json] = {}
        """Documents that are for one revision of the mesh, of this one or of another."""
        if now is not None:
            self.tick(now)

    def tick(self, now: float) -> None:
        """Tell what time it is, in seconds since 1970; certificates expire by the hour."""
        with self.engine.transaction():
            self.engine.put(CLOCK, "now", int(now) // _HOUR * _HOUR)

    def apply(self, documents: Mapping[Ref, Json | None]) -> None:
        """Put documents, and remove those that are None; the findings they touch are made again when asked for."""
        if self._renamed(documents):
            documents = {**self._revised, **documents}
        looked_at: set[Ref] = set()
        with self.engine.transaction():
            for ref, data in documents.items():
                revision = self._noted(ref, data)
                if data is None or ref.namespace in SYSTEM or revision not in ("", self._revision):
                    self.engine.delete(DOCUMENTS, ref)
                else:
                    one = Document(ref, data)
                    self.engine.put(DOCUMENTS, ref, one)
                    if self._looks(one):
                        looked_at.add(ref)
        for ref in documents:
            if ref in looked_at:
                if ref not in self._watched:
                    self._watched.add(ref)
                    self.engine.observe(self._rule, ref)
            elif ref in self._watched:
                self._watched.discard(ref)
                self.engine.unobserve(self._rule, ref)
                self._said.pop(ref, None)

    def _renamed(self, documents: Mapping[Ref, Json | None]) -> bool:
        """Whether the mesh's settings among the documents name another revision than before."""
        before = self._revision
        if not documents.keys().isdisjoint(_SETTINGS):
            held = (self.engine.get(DOCUMENTS, ref) for ref in _SETTINGS)
            now = (documents.get(ref, one.data if one else None) for ref, one in zip(_SETTINGS, held, strict=True))
            said = (pairs(one, "metadata", "labels").get(REVISION) for one in now if one)
            self._revision = next(filter(None, said), DEFAULT_REVISION)
        return self._revision != before

    def _noted(self, ref: Ref, data: Json | None) -> str:
        """The revision for which a document is ("": all), which is remembered."""
        revision = revision_of(ref.group, pairs(data, "metadata", "labels")) if data else ""
        if data is not None and revision:
            self._revised[ref] = data
        else:
            self._revised.pop(ref, None)
        return revision

    def settle(self, most: int | None = None) -> bool:
        """Look again at documents whose findings a change may have touched, at most so many; True if none are left."""
        self._due.update((ref, None) for _, ref in self.engine.take_stale())
        for ref in list(islice(self._due, most)):
            del self._due[ref]
            if not isinstance(ref, Ref) or ref not in self._watched:
                continue
            said = tuple(_found(ref, one) for one in self.engine.call(self._rule, ref))
            if said:
                self._said[ref] = said
            else:
                self._said.pop(ref, None)
        return not self._due

    def found(self) -> list[Found]:
        """All findings, in no particular order, each once."""
        self.settle()
        return list({one: None for many in self._said.values() for one in many})

    def _run(self, r: Reader, ref: Ref) -> tuple[Said, ...]:
        document = r.get(DOCUMENTS, ref)
        if document is None:
            return ()
        return tuple(said for analyzer in self._looks(document) for said in _looked(r, analyzer, document))

    def _looks(self, one: Document) -> tuple[Analyzer, ...]:
        """The analyzers that look at a document."""
        looks = self._by_sort.get(one.sort, ())
        for analyzer in self._everywhere:
            if analyzer.applies is None or analyzer.applies(one):
                looks = (*looks, analyzer)
        return looks


def _looked(r: Reader, analyzer: Analyzer, document: Document) -> tuple[Said, ...]:
    """What an analyzer says of a document; its defects must not keep the findings of the others from people."""
    try:
        return tuple(analyzer.run(r, document))
    except EngineError:
        raise
    except Failure as error:
        return (Said("IST0001", f"{error}: please report it"),)
    except Exception as error:
        return (Said("IST0001", f"analyze.{analyzer.name} of {document.ref!r}: {error}: please report it"),)


def _found(key: Ref, said: Said) -> Found:
    ref = said.about or key
    finding = Finding(severity_of(said.code), said.code, said.message, said.remedy, field=str(said.path), **of_ref(ref))
    return Found(finding, ref, tuple(said.path), said.probe)


def reference(data: Json, namespace: str = "default") -> Ref:
    """Which object a document is of; one that names no namespace falls to `namespace`."""
    api_version = data.get("apiVersion")
    group = api_version.rpartition("/")[0] if isinstance(api_version, str) else ""
    kind = str(data.get("kind") or "?")
    named = mapping(data, "metadata")
    home = "" if (group, kind) in CLUSTER_SCOPED else str(named.get("namespace") or namespace)
    return Ref(group, kind, home, str(named.get("name") or "?"))
