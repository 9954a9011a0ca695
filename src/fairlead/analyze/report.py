"""A report: the findings of documents and of their compiled mesh together, confirmed, placed and in order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from fairlead.analyze.analysis import Analysis, Found, reference
from fairlead.analyze.codes import CODES
from fairlead.analyze.finding import Finding, of_ref, placed
from fairlead.analyze.suppression import Suppression, of_objects, suppress
from fairlead.analyze.witness import Confirming
from fairlead.compiler import offline
from fairlead.compiler.model import MeshModel
from fairlead.ir.view import View
from fairlead.model.diagnostic import Diagnostic, Severity
from fairlead.model.manifest import Json, Manifest
from fairlead.model.path import FieldPath
from fairlead.model.ref import Ref
from fairlead.simulate.kubernetes import workloads
from fairlead.simulate.mesh import Mesh
from fairlead.simulate.standin import FileWorkloads

_MOST_PROXIES = 60
"""Proxies of files for which configuration is compiled: what the compiler finds wrong it finds in what proxies get."""
_RANK = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.INFO: 2}


class Report(msgspec.Struct, frozen=True):
    """All findings in order, of how many documents, how many were suppressed, and for how many proxies was compiled."""

    findings: tuple[Finding, ...]
    objects: int
    suppressed: int = 0
    proxies: int = 0


def of_diagnostic(said: Diagnostic) -> Finding:
    """What admission or the compiler says, as a finding."""
    origin = said.origin
    made = Finding(said.severity, said.code, said.message, said.remedy, field=str(origin.path), **of_ref(origin.ref))
    return placed(made, origin.position)


def settled(found: Iterable[Found], confirming: Confirming | None) -> list[tuple[Found, Finding]]:
    """Each finding with its witness; what claims that traffic goes wrong is an error only with one."""
    out: list[tuple[Found, Finding]] = []
    for one in found:
        finding = one.finding
        if finding.severity is Severity.ERROR and CODES[finding.code].traffic:
            seen = confirming.confirm(one.ref, one.probe) if confirming is not None and one.probe is not None else None
            severity = Severity.ERROR if seen is not None else Severity.WARNING
            finding = msgspec.structs.replace(finding, severity=severity, witness=seen)
        out.append((one, finding))
    return out


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """By place in the text, where there is one, else by object; the worse first."""
    return tuple(sorted(set(findings), key=_position))


def _position(one: Finding) -> tuple[str | int, ...]:
    return one.file, one.line, one.column, _RANK[one.severity], one.object, one.field, one.code, one.message


def examine(
    manifests: Sequence[Manifest],
    *,
    namespace: str = "default",
    now: float | None = None,
    only: Iterable[str] | None = None,
    asked: Iterable[Suppression] = (),
) -> Report:
    """Everything that is to be said of documents, with no mesh running. `only` names analyzers (None: all)."""
    model = MeshModel()
    served: list[Manifest] = []
    pods: list[Manifest] = []
    for one in manifests:
        (served if is_served(model, one.data) else pods).append(one)
    found = [of_diagnostic(one) for one in offline.load(model, served, namespace)] if only is None else []
    # Pods and what makes them call and are called; what is wrong with them is not admission's to say.
    offline.load(model, [one for one in workloads(pods) if is_served(model, one.data)], namespace)
    documents: dict[Ref, Json] = {}
    places: dict[Ref, Manifest] = {}
    for one in manifests:
        ref = reference(one.data, namespace)
        documents[ref], places[ref] = one.data, one
    analysis = Analysis(now, only)
    analysis.apply(documents)
    said = analysis.found()
    found = [one for one in found if not _said_again(one, said)]
    mesh = _files(model, wanted=only is None or any(one.probe for one in said))
    compiled = 0
    try:
        diagnostics: list[Diagnostic] = []
        if mesh is not None and only is None:
            compiled, diagnostics = _compiled(mesh)
        for ref, path, finding in joined(said, diagnostics, None if mesh is None else Confirming(mesh)):
            manifest = places.get(ref)
            found.append(placed(finding, None if manifest is None else manifest.position(path)))
    finally:
        if mesh is not None:
            mesh.close()
    left, hidden = suppress(in_order(found), (*asked, *of_objects(documents)))
    return Report(in_order(left), len(manifests), hidden, compiled)


_SAME = {"IST0002": "FL0101", "IST0134": "FL0101"}
"""Codes of analyzers that say of a field what admission says of it, too."""


def _said_again(admitted: Finding, said: Iterable[Found]) -> bool:
    """Whether an analyzer says of a field what admission has said."""
    place = (admitted.kind, admitted.namespace, admitted.name, admitted.field)
    return any(
        _SAME.get(one.finding.code) == admitted.code
        and place == (one.ref.kind, one.ref.namespace, one.ref.name, one.finding.field)
        for one in said
    )


def _files(model: MeshModel, *, wanted: bool) -> Mesh | None:
    """The mesh of files, if somebody will walk through it."""
    return Mesh(model, FileWorkloads(model), complete=False) if wanted else None


def joined(
    said: Iterable[Found], diagnostics: Iterable[Diagnostic], confirming: Confirming | None
) -> Iterator[tuple[Ref, FieldPath, Finding]]:
    """What analyzers say, with witnesses, and what the compiler says that they do not say more exactly."""
    said = list(said)
    for each, finding in settled(said, confirming):
        yield each.ref, FieldPath(each.path), finding
    told = {(each.ref, each.path) for each in said}
    for one in diagnostics:
        if not _repeats(one, told):
            yield one.origin.ref, one.origin.path, of_diagnostic(one)


def is_served(model: MeshModel, data: Json) -> bool:
    """Whether admission is to judge a document: of other kinds there is nothing that it could say."""
    api_version, kind = data.get("apiVersion"), data.get("kind")
    if not isinstance(api_version, str) or not isinstance(kind, str):
        return True
    return model.kinds.kind(api_version.rpartition("/")[0], kind) is not None


def _repeats(said: Diagnostic, told: set[tuple[Ref, tuple[str | int, ...]]]) -> bool:
    """Whether the compiler says of a route what an analyzer says more exactly of its destination."""
    path = tuple(said.origin.path)
    return said.code == "FL0202" and any(ref == said.origin.ref and at[: len(path)] == path for ref, at in told)


def _compiled(mesh: Mesh) -> tuple[int, list[Diagnostic]]:
    """What the compiler finds in the configuration of the proxies of the files, if these are not too many.

    With a part of them a patch for the others would seem to match nothing, so that it is all of them or none.
    """
    workloads = mesh.workloads
    names = workloads.names()
    views: dict[View, None] = {}
    if len(names) <= _MOST_PROXIES:
        for name in names:
            views.update((proxy.view, None) for proxy in workloads.named(name, ""))
        views.update((proxy.view, None) for proxy in workloads.routers())
    if len(views) > _MOST_PROXIES:
        views = {}
    for view in views:
        mesh.catalog(view)
    return len(views), mesh.model.diagnostics()
