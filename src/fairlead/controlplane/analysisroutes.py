"""The route that analyzes the running mesh: POST `/fairlead/v1/analysis`, for administrators.

The body may have `with` (documents, as if they were applied; of kinds that are not served, too), `at` (a revision, as
things stood then) and `only` (names of analyzers). The answer has `findings`: with documents those about them, and
those that are there because of them; else all. The analysis is made when it is first asked for and kept current
afterwards, by the changes between two questions; what is asked of it then is worked on in a copy of the process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Iterable
from functools import partial
from itertools import islice
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from fairlead.analyze.analysis import Analysis, Found, reference
from fairlead.analyze.analyzer import analyzers
from fairlead.analyze.finding import Finding, of_ref, placed
from fairlead.analyze.report import in_order, is_served, joined, of_diagnostic
from fairlead.analyze.suppression import of_objects, suppress
from fairlead.analyze.witness import Confirming
from fairlead.controlplane.aside import Found as Answered
from fairlead.controlplane.feed import Feed
from fairlead.controlplane.operations import administrators, answered, refused
from fairlead.controlplane.whyroutes import Differing, Walks
from fairlead.model.diagnostic import Diagnostic, Origin, Severity
from fairlead.model.path import FieldPath, path_of
from fairlead.model.ref import Ref
from fairlead.simulate.mesh import Mesh
from fairlead.store.errors import Gone, StoreError
from fairlead.store.store import Store

Json = dict[str, Any]
_SLICE, _LOOKS = 300, 15
"""Documents taken over, and looked at by the analyzers, between two turns of the loop: some 5 ms, so that proxies do
not wait for a first analysis."""
_MOST_WALKS = 50
"""Requests that are walked for one report."""
_WRITTEN = frozenset(("managedFields", "resourceVersion", "generation", "uid", "selfLink"))
"""Metadata that changes with every write and means nothing."""


class Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"more": "with"}):
    """The body of a request."""

    more: tuple[Json, ...] = ()
    at: int | None = None
    only: tuple[str, ...] = ()


class Analyses:
    """The findings of the running mesh, as it is, as it was, or as it would be. `now` is the time in seconds."""

    def __init__(
        self,
        store: Store,
        feed: Feed,
        walks: Walks,
        now: Callable[[], float],
    ) -> None:
        self._store = store
        self._feed = feed
        self._walks = walks
        self._now = now
        self._analysis: Analysis | None = None
        self._documents: dict[Ref, Json] = {}
        self._pending: dict[Ref, Json | None] = {}
        self._revision = 0
        self._turns = asyncio.Lock()

    async def answer(self, asked: Asked) -> Answered:
        """The report. Raises ValueError, StoreError and Unanswered with messages for people."""
        unknown = set(asked.only) - {one.name for one in analyzers()}
        if unknown:
            raise ValueError(f"no analyzer {', '.join(sorted(unknown))}")
        async with self._turns:
            # In a thread: the first time it is all that is stored.
            self._pending.update(await asyncio.to_thread(self._changed))
            for _ in self.steps():
                await asyncio.sleep(0)
            analysis = self._current()
            valid, refused_ = self._read(asked.more)
            return await self._walks.on(asked.at, valid, partial(self._report, asked, analysis, refused_))

    def _report(
        self, asked: Asked, analysis: Analysis, refused_: list[Finding], mesh: Mesh, differing: Differing
    ) -> Json:
        """The report over a mesh in which something differs from now. Made in a copy of the process."""
        given: Differing = {reference(one): one for one in asked.more}
        supposed: Differing = {**differing, **given}
        found = [*self._confirmed(asked, analysis, given, mesh, supposed), *refused_]
        everything = {ref: one for ref, one in {**self._documents, **supposed}.items() if one is not None}
        if not given and not asked.only and asked.at is None:
            found.extend(self._invalid())
        about = {ref: one for ref, one in everything.items() if not given or ref in given}
        left, hidden = suppress(in_order(found), of_objects(about))
        return {
            "revision": asked.at if asked.at is not None else self._revision,
            "objects": len(everything),
            "proxies": len(mesh.workloads.names()),
            "suppressed": hidden,
            "findings": [msgspec.to_builtins(_placed(one, mesh)) for one in in_order(left)],
        }

    def _confirmed(
        self, asked: Asked, analysis: Analysis, given: Differing, mesh: Mesh, supposed: Differing
    ) -> list[Finding]:
        """The findings, of which those that claim that traffic goes wrong have a witness."""
        codes = _codes(asked.only)
        base = set(analysis.found()) if given else set[Found]()
        said = [
            one
            for one in self._supposed(analysis, supposed)
            if (not given or one not in base or one.ref in given) and one.finding.code in codes
        ]
        diagnostics = [] if asked.only else mesh.model.diagnostics()
        about_given = [one for one in diagnostics if not given or one.origin.ref in given]
        return [finding for _, _, finding in joined(said, about_given, Confirming(mesh, _MOST_WALKS))]

    def _supposed(self, analysis: Analysis, documents: dict[Ref, Json | None]) -> list[Found]:
        """The findings with these documents; afterwards the analysis is as before."""
        if not documents:
            return analysis.found()
        analysis.apply({ref: None if one is None else _meaning(one) for ref, one in documents.items()})
        try:
            return analysis.found()
        finally:
            analysis.apply({ref: self._documents.get(ref) for ref in documents})

    def steps(self) -> Generator[None]:
        """Bring the analysis to what is stored now, in steps between which other things may happen."""
        analysis = self._analysis = self._analysis or Analysis()
        analysis.tick(self._now())
        # Kept here until it is applied, should whoever asks not wait for the end.
        self._pending.update(self._changed())
        while self._pending:
            part = dict(islice(self._pending.items(), _SLICE))
            self._keep(analysis, part)
            for ref in part:
                del self._pending[ref]
            yield
        while not analysis.settle(_LOOKS):
            yield

    def _current(self) -> Analysis:
        """The analysis of what is stored now."""
        for _ in self.steps():
            pass
        return self._analysis or Analysis()

    def _changed(self) -> dict[Ref, Json | None]:
        """What has changed since the last time; everything, where that is not known any more."""
        if self._revision:
            try:
                changes = self._store.changes_since(self._revision)
            except Gone:
                pass
            else:
                self._revision = max((one.revision for one in changes), default=self._revision)
                return {one.ref: None if one.new is None else _meaning(one.new) for one in changes}
        stored, self._revision = self._store.snapshot()
        gone: dict[Ref, Json | None] = dict.fromkeys(self._documents)
        return {**gone, **{ref: _meaning(one) for ref, one in stored.items()}}

    def _keep(self, analysis: Analysis, changed: dict[Ref, Json | None]) -> None:
        analysis.apply(changed)
        for ref, one in changed.items():
            if one is None:
                self._documents.pop(ref, None)
            else:
                self._documents[ref] = one

    def _read(self, documents: Iterable[Json]) -> tuple[tuple[Json, ...], list[Finding]]:
        """The documents that can be supposed, and what admission says of all of them."""
        kinds = self._feed.model.kinds
        valid: list[Json] = []
        found: list[Finding] = []
        for one in documents:
            if not is_served(self._feed.model, one):
                continue
            obj, problems = kinds.read(one)
            found.extend(of_diagnostic(Diagnostic.of(problem, reference(one))) for problem in problems)
            if obj is not None:
                valid.append(one)
        return tuple(valid), found

    def _invalid(self) -> list[Finding]:
        """Objects that are stored and that this version cannot read."""
        return [
            Finding(
                Severity.ERROR,
                problem.code,
                f"stored, and not valid any more: {problem.message}",
                problem.remedy,
                field=str(FieldPath(problem.path)),
                **of_ref(ref),
            )
            for ref, problems in self._feed.invalid.items()
            for problem in problems
        ]


def _placed(one: Finding, mesh: Mesh) -> Finding:
    """A finding with its file and line, if it was applied from one; what is supposed stands elsewhere."""
    if one.line:
        return one
    ref = Ref(one.group, one.kind, one.namespace, one.name)
    path = path_of(one.field) if one.field else FieldPath()
    return placed(one, mesh.origins.position(Origin(ref, path)))


def _codes(only: tuple[str, ...]) -> frozenset[str]:
    """The codes of analyzers; of all without names. A failure is always told."""
    return frozenset(("IST0001", *(code for one in analyzers() if not only or one.name in only for code in one.codes)))


def _meaning(document: Json) -> Json:
    meta: Json = document.get("metadata") or {}
    return {**document, "metadata": {key: one for key, one in meta.items() if key not in _WRITTEN}}


def analysis_routes(analyses: Analyses) -> list[BaseRoute]:
    """The route."""

    async def ask(request: Request) -> Response:
        try:
            asked = msgspec.json.decode(await request.body() or b"{}", type=Asked)
            return await answered(request, analyses.answer(asked))
        except (msgspec.MsgspecError, ValueError, StoreError) as error:
            return refused(400, str(error))

    return [Route("/fairlead/v1/analysis", administrators(ask), methods=["POST"])]
