"""What differs between two meshes that files describe: all of their proxies, and nothing needs to run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from fairlead.cli import manifests, printing, revisionfiles
from fairlead.cli.busy import counted as told_by_number
from fairlead.cli.offlinemesh import load_mesh, reference
from fairlead.compiler.model import OBJECTS, MeshModel
from fairlead.compiler.publish import Changes
from fairlead.effect import Effect, attributed, counted, effects, placed, told
from fairlead.effect.report import proxies as listed
from fairlead.envoy.resource import Resource
from fairlead.ir.view import View
from fairlead.model.manifest import Manifest
from fairlead.model.object import Object
from fairlead.model.ref import Ref
from fairlead.simulate.mesh import Mesh
from fairlead.simulate.standin import proxies

Json = dict[str, Any]


def documents(given: Sequence[str], *, recursive: bool) -> list[Manifest]:
    """The documents of files, directories and revisions (REV:PATH). Exits with 1 where something cannot be read."""
    out: list[Manifest] = []
    wrong: list[manifests.Complaint] = []
    for one in given:
        if not Path(one).exists() and revisionfiles.is_revision(one):
            found, unread = revisionfiles.read(one, recursive=recursive)
        else:
            names, unread = manifests.files([one], recursive=recursive)
            found, more = manifests.read(names)
            unread = [*unread, *more]
        out += found
        wrong += unread
    for one in wrong:
        printing.complain(one)
    if wrong:
        raise SystemExit(1)
    return out


def changed(
    before: Sequence[Manifest], change: Sequence[Manifest], namespace: str, *, deleting: bool
) -> list[Manifest]:
    """What there is after a change: its documents take the place of what they name again, or take it away."""
    named = {reference(one, namespace) for one in change}
    kept = [one for one in before if reference(one, namespace) not in named]
    return kept if deleting else [*kept, *change]


def compared(before: Sequence[Manifest], after: Sequence[Manifest], namespace: str, *, full: bool) -> Json:
    """What becomes different for the proxies of both, and which come and go; exits with 1 where files are wrong."""
    old, new = (_loaded(one, namespace) for one in (before, after))
    was, now = ({one.shown: one.view for one in proxies(mesh.workloads)} for mesh in (old, new))
    for mesh, views in ((old, was), (new, now)):
        for view in told_by_number(set(views.values()), "compiling configuration"):
            mesh.model.publisher.open(view)
    edited = _edited(old.model, new.model)
    found: Json = {"proxies": 0, "classes": {}, "effects": []}
    pairs: dict[tuple[View, View], list[str]] = {}
    for name in sorted({*was} & {*now}):
        pairs.setdefault((was[name], now[name]), []).append(name)
    for batch in told_by_number(_batches(pairs), "comparing part"):
        differing = {
            after_: _differing(old.model.publisher.catalog(before_), new.model.publisher.catalog(after_))
            for before_, after_ in batch
        }
        names = {after_: pairs[before_, after_] for before_, after_ in batch}
        judged = attributed(new.model, _judged(new.model, differing), differing, edited, partial(_judged, new.model))
        made = told(judged, names.__getitem__, full=full)
        found["effects"] += made["effects"]
        found["proxies"] += made["proxies"]
        for one, count in made["classes"].items():
            found["classes"][one] = found["classes"].get(one, 0) + count
    for word, only in (("new", {*now} - {*was}), ("gone", {*was} - {*now})):
        if only:
            found[word] = listed(sorted(only))
    return placed(counted(found, None), lambda one: new.origins.position(one) or old.origins.position(one))


def _judged(model: MeshModel, differing: Mapping[View, Changes]) -> tuple[Effect, ...]:
    return effects(differing, model.publisher.catalog, asks=model.publisher.asks)


def _edited(old: MeshModel, new: MeshModel) -> dict[Ref, Object[Any] | None]:
    """The objects that are not the same in both, as they were."""
    was, now = dict(old.engine.items(OBJECTS)), dict(new.engine.items(OBJECTS))
    return {ref: was.get(ref) for ref in {*was, *now} if was.get(ref) != now.get(ref)}


def _loaded(found: Sequence[Manifest], namespace: str) -> Mesh:
    try:
        return load_mesh(found, [], namespace)
    except SystemExit:
        raise SystemExit(1) from None


def _batches(pairs: Mapping[tuple[View, View], list[str]]) -> list[list[tuple[View, View]]]:
    """The pairs, so that no view that proxies come to have stands twice in a batch: some had other ones before."""
    out: list[list[tuple[View, View]]] = []
    for pair in pairs:
        free = next((one for one in out if all(pair[1] != other for _, other in one)), None)
        if free is None:
            out.append(free := [])
        free.append(pair)
    return out


def _differing(was: Mapping[str, Mapping[str, Resource]], now: Mapping[str, Mapping[str, Resource]]) -> Changes:
    out: Changes = {}
    for type_url, rows in now.items():
        before = was[type_url]
        names = {name: before.get(name) for name in {*before, *rows} if before.get(name) != rows.get(name)}
        if names:
            out[type_url] = dict(sorted(names.items()))
    return out
