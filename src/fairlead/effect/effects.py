"""What a supposed change does to all proxies, grouped by what it does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import msgspec
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from google.protobuf.message import DecodeError

from fairlead.compiler.publish import Changes
from fairlead.effect.certificates import certificates_lost
from fairlead.effect.change import HELD, NO_CLUSTER, Change, Class, joined
from fairlead.effect.compare import compare
from fairlead.effect.denials import denials
from fairlead.effect.naming import destination, host, some
from fairlead.effect.routes import clusters_of
from fairlead.effect.seen import Known, Seen, refined
from fairlead.envoy.names import VIRTUAL_INBOUND
from fairlead.envoy.protojson import decode
from fairlead.envoy.resource import CLUSTER, LISTENER, ROUTE, SECRET, Resource, apart
from fairlead.ir.view import View

Catalog = Mapping[str, Mapping[str, Resource]]
Objection = Callable[[View, Changes], str]
"""Why a push to a view would be held; empty if it would not."""
_Versions = tuple[tuple[str, str, str, str], ...]


class Effect(msgspec.Struct, frozen=True):
    """What becomes different for some views, in words: for all of them the same."""

    views: tuple[View, ...]
    changes: tuple[Change, ...]

    @property
    def dangers(self) -> tuple[Change, ...]:
        """The changes that are marked as dangerous."""
        return tuple(one for one in self.changes if one.danger)


def effects(
    differing: Mapping[View, Changes],
    catalog: Callable[[View], Catalog],
    objection: Objection = lambda _view, _changes: "",
    seen: Seen = lambda _view: None,
    *,
    asks: Callable[[View], bool] = lambda _view: False,
    backwards: bool = False,
) -> tuple[Effect, ...]:
    """The effects of a supposition (`MeshModel.supposing`), while it stands; `catalog` gives what a view has in it;
    `seen` who has called its proxies, where its listeners change; `asks` whether they ask for clusters when they call.

    `backwards` tells what taking the supposition back does.
    """
    alike: dict[tuple[_Versions, str, bool, Known | None], list[View]] = {}
    versions: dict[int, _Versions] = {}
    for view, changes in differing.items():
        held = "" if backwards else objection(view, changes)
        if id(changes) not in versions:
            versions[id(changes)] = _versions(changes, catalog(view))
        if versions[id(changes)]:
            known = seen(view) if changes.get(LISTENER) and not backwards else None
            alike.setdefault((versions[id(changes)], held, asks(view), known), []).append(view)
    compared: dict[tuple[str, str, str, str], tuple[Change, ...]] = {}
    pieces: dict[tuple[str, str, bytes | None, bytes | None], tuple[Change, ...]] = {}
    found: dict[tuple[object, ...], tuple[list[View], tuple[Change, ...]]] = {}
    for (at, held, _, known), views in alike.items():
        changed, now = differing[views[0]], catalog(views[0])
        made = list(refined(_changes(at, changed, now, compared, pieces, backwards=backwards), known))
        if not backwards:
            # Who asks for clusters when they are called may lack any.
            made += [] if asks(views[0]) else _missing(changed, now)
            made += _denied(changed, now, known)
            if changed.get(SECRET) or changed.get(LISTENER):
                made += certificates_lost(changed, now)
        if held:
            made.append(Change("cluster", f"the push would be held: {held}", HELD))
        changes = joined(made)
        group = found.setdefault(tuple(one.key for one in changes), ([], changes))
        group[0].extend(views)
    out = [Effect(tuple(views), changes) for views, changes in found.values()]
    return tuple(sorted(out, key=lambda one: (not one.dangers, -len(one.views), [each.said for each in one.changes])))


def _versions(changes: Changes, now: Catalog) -> _Versions:
    """What identifies a difference: equal ones need to be compared once only."""
    out: list[tuple[str, str, str, str]] = []
    for type_url, names in changes.items():
        rows = now[type_url]
        for name, was in names.items():
            here = rows.get(name)
            if was != here:
                out.append((type_url, name, was.version if was else "", here.version if here else ""))
    return tuple(sorted(out))


def _changes(
    at: _Versions,
    changes: Changes,
    now: Catalog,
    compared: dict[tuple[str, str, str, str], tuple[Change, ...]],
    alike: dict[tuple[str, str, bytes | None, bytes | None], tuple[Change, ...]],
    *,
    backwards: bool,
) -> list[Change]:
    out: list[Change] = []
    for key in at:
        if key not in compared:
            type_url, name, *_ = key
            pair = (changes[type_url][name], now[type_url].get(name))
            bodies = apart(*reversed(pair)) if backwards else apart(*pair)
            # Long resources of different proxies mostly differ in the same short piece.
            piece = (type_url, name, *bodies)
            if piece not in alike:
                alike[piece] = compare(type_url, name, *bodies)
            compared[key] = alike[piece]
        out.extend(compared[key])
    return out


def _missing(changes: Changes, now: Catalog) -> list[Change]:
    """Routes that lead to clusters that are not there: newly so, or because the clusters vanish."""
    clusters, out = now[CLUSTER], dict[str, set[str]]()
    gone = [name for name, was in changes.get(CLUSTER, {}).items() if was is not None and name not in clusters]
    for name, was in changes.get(ROUTE, {}).items():
        resource = now[ROUTE].get(name)
        if resource is not None:
            old, new = apart(was, resource)
            before = dict(_targets(old or b""))
            for label, targets in _targets(new or b""):
                for one in targets:
                    if one not in clusters and one not in before.get(label, set()):
                        out.setdefault(one, set()).add(label)
    for name in gone:
        for resource in now[ROUTE].values():
            for piece in [one.body for one in resource.pieces] or [resource.body]:
                if name.encode() in piece:
                    out.setdefault(name, set()).update(label for label, targets in _targets(piece) if name in targets)
    return [
        Change(
            "route",
            f"{destination(name)} is not there, and requests for {some(sorted(map(host, labels)))} still go to it: "
            "they are answered with 503",
            NO_CLUSTER,
            (name,),
        )
        for name, labels in sorted(out.items())
        if labels
    ]


def _denied(changes: Changes, now: Catalog, known: Known | None) -> Iterator[Change]:
    """Callers that were seen and will be denied."""
    was, resource = changes.get(LISTENER, {}).get(VIRTUAL_INBOUND), now[LISTENER].get(VIRTUAL_INBOUND)
    if known is not None and known.callers and was is not None and resource is not None:
        old, new = (decode(LISTENER, one.body) for one in (was, resource))
        for one in denials(old, new, known.callers):
            yield msgspec.structs.replace(one, resources=(VIRTUAL_INBOUND,))


def _targets(body: bytes) -> Iterator[tuple[str, set[str]]]:
    """The clusters to which each virtual host of (a part of) a serialised route configuration leads."""
    try:
        hosts = RouteConfiguration.FromString(body).virtual_hosts
    except DecodeError:
        return
    for one in hosts:
        yield one.name, set(clusters_of(one))


def classes(found: tuple[Effect, ...]) -> dict[Class, int]:
    """How many changes there are of each class, in all groups."""
    out: dict[Class, int] = {}
    for effect in found:
        for one in effect.changes:
            out[one.kind] = out.get(one.kind, 0) + 1
    return dict(sorted(out.items()))
