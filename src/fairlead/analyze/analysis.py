"""The running analysis: documents in, findings out, again only of what a change may have touched.

It has an engine of its own: a row for each document, a rule value for each analyzer and document. The compiled mesh is
another engine's; what is found there comes in as diagnostics (`report`).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any

import msgspec

from fairlead.analyze.analyzer import Analyzer, analyzers
from fairlead.analyze.codes import severity_of
from fairlead.analyze.document import CLOCK, CLUSTER_SCOPED, DOCUMENTS, Document, Sort
from fairlead.analyze.finding import Finding, Probe, Said, of_ref
from fairlead.analyze.queries import SYSTEM
from fairlead.analyze.shape import mapping
from fairlead.inc import Engine, Failure, Reader, Rule
from fairlead.model.manifest import Json
from fairlead.model.ref import Ref

_HOUR = 3600
Look = Rule[Ref, tuple[Said, ...]]
"""One analyzer's rule: a document's name to what is to be said of it."""


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
        self._by_sort: dict[Sort, tuple[Look, ...]] = {}
        self._everywhere: list[tuple[Look, Callable[[Document], bool] | None]] = []
        self._looking: dict[Ref, tuple[Look, ...]] = {}
        for one in analyzers():
            if one.standard if wanted is None else one.name in wanted:
                made = _rule(one)
                for sort in one.sorts:
                    self._by_sort[sort] = (*self._by_sort.get(sort, ()), made)
                if not one.sorts:
                    self._everywhere.append((made, one.applies))
        self._due: dict[tuple[Rule[Any, Any], Hashable], None] = {}
        self._said: dict[tuple[Look, Ref], tuple[Found, ...]] = {}
        if now is not None:
            self.tick(now)

    def tick(self, now: float) -> None:
        """Tell what time it is, in seconds since 1970; certificates expire by the hour."""
        with self.engine.transaction():
            self.engine.put(CLOCK, "now", int(now) // _HOUR * _HOUR)

    def apply(self, documents: Mapping[Ref, Json | None]) -> None:
        """Put documents, and remove those that are None; the findings they touch are made again when asked for."""
        wanted: dict[Ref, tuple[Look, ...]] = {}
        with self.engine.transaction():
            for ref, data in documents.items():
                if data is None or ref.namespace in SYSTEM:
                    self.engine.delete(DOCUMENTS, ref)
                    wanted[ref] = ()
                else:
                    one = Document(ref, data)
                    self.engine.put(DOCUMENTS, ref, one)
                    wanted[ref] = self._looks(one)
        for ref, looks in wanted.items():
            before = self._looking.get(ref, ())
            if looks == before:
                continue
            for rule in looks:
                if rule not in before:
                    self.engine.observe(rule, ref)
            for rule in before:
                if rule not in looks:
                    self.engine.unobserve(rule, ref)
                    self._said.pop((rule, ref), None)
            if looks:
                self._looking[ref] = looks
            else:
                self._looking.pop(ref, None)

    def settle(self, most: int | None = None) -> bool:
        """Make findings again that a change may have touched, at most so many; True if there is nothing left to do."""
        self._due.update(dict.fromkeys(self.engine.take_stale()))
        for at in list(self._due)[:most]:
            del self._due[at]
            rule, key = at
            if not isinstance(key, Ref) or rule not in self._looking.get(key, ()):
                continue
            said = tuple(_found(key, one) for one in self._called(rule, key))
            if said:
                self._said[(rule, key)] = said
            else:
                self._said.pop((rule, key), None)
        return not self._due

    def found(self) -> list[Found]:
        """All findings, in no particular order, each once."""
        self.settle()
        return list({one: None for many in self._said.values() for one in many})

    def _called(self, rule: Look, key: Ref) -> tuple[Said, ...]:
        try:
            return self.engine.call(rule, key)
        except Failure as error:
            # A defect of one analyzer must not keep the findings of the others from people.
            text = f"{error}: please report it"
            return (Said("IST0001", text),)

    def _looks(self, one: Document) -> tuple[Look, ...]:
        always = self._by_sort.get(one.sort, ())
        for rule, applies in self._everywhere:
            if applies is None or applies(one):
                always = (*always, rule)
        return always


def _rule(analyzer: Analyzer) -> Look:
    def run(r: Reader, ref: Ref) -> tuple[Said, ...]:
        document = r.get(DOCUMENTS, ref)
        return () if document is None else tuple(analyzer.run(r, document))

    return Rule(f"analyze.{analyzer.name}", run)


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
