"""What live views have, kept up to date by what changed and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import Any, cast

import msgspec

from fairlead.compiler.parts import TYPE_OF, Layer, Part, layers
from fairlead.compiler.reduced import reduced
from fairlead.envoy.resource import CLUSTER, ENDPOINT, EXTENSION, LISTENER, NAME_TABLE, ROUTE, SECRET, Resource, Rows
from fairlead.inc import Engine, Failure, Rule
from fairlead.inc.few import Few, joined, parted
from fairlead.ir.view import View

TYPES = (CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET, EXTENSION, NAME_TABLE)

Catalog = dict[str, dict[str, Resource]]
"""Resources by type URL and name."""
Changes = dict[str, dict[str, Resource | None]]
"""Names of resources that came, changed or went, by type URL, each with what was there before."""
_NOTHING: Mapping[str, Resource] = {}


class PartFailure(msgspec.Struct, frozen=True):
    """A part whose rule raised: its last good resource stays in place."""

    rule: str
    key: str
    error: str


class _HeldPart:
    """A part that some layer has: its last good resource, and the layers."""

    __slots__ = ("layers", "resource")

    def __init__(self) -> None:
        self.resource: Resource | None = None
        self.layers: Few[_HeldLayer] = ()


class _HeldLayer:
    """A layer that some group has: its parts, what they have made, and the groups."""

    __slots__ = ("groups", "layer", "members", "resources")

    def __init__(self, layer: Layer) -> None:
        self.layer = layer
        self.members: tuple[Part, ...] = ()
        self.resources = Rows()
        self.groups: Few[_Group] = ()


class _Group:
    """The open views that are reduced to one: the layers, what they have, and the views, each with its users."""

    __slots__ = ("catalog", "layers", "view", "views")

    def __init__(self, view: View) -> None:
        self.view = view
        self.layers: tuple[Layer, ...] = ()
        self.catalog: dict[str, Mapping[str, Resource]] = dict.fromkeys(TYPES, _NOTHING)
        self.views: dict[View, int] = {}


class _Stack(Mapping[str, Resource]):
    """Several layers as one mapping; of equal names the first layer's stands. Costs no copy of them."""

    __slots__ = ("_rows",)

    def __init__(self, rows: tuple[Rows, ...]) -> None:
        self._rows = rows

    def __getitem__(self, name: str) -> Resource:
        for one in self._rows:
            found = one.get(name)
            if found is not None:
                return found
        raise KeyError(name)

    def get(self, name: str, default: Any = None) -> Any:
        for one in self._rows:
            found = one.get(name)
            if found is not None:
                return found
        return default

    def __iter__(self) -> Iterator[str]:
        for number, one in enumerate(self._rows):
            above = self._rows[:number]
            for name in one:
                if not any(name in higher for higher in above):
                    yield name

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, name: object) -> bool:
        return any(name in one for one in self._rows)

    def claims(self) -> tuple[set[bytes], ...]:
        """What clients say that have the layers' resources; see `Rows`."""
        return tuple(found for one in self._rows for found in one.claims())


Moved = dict[str, Resource | None]
_Own = dict[View, Changes]


class Publisher:
    """Keeps a catalog for each live view.

    Views are reduced to what can matter and then grouped: those that are alike after that have one catalog, and hear of
    a change together. Groups share layers, and layers share parts: what a view costs is what it has for itself.
    `refresh` looks only at the rule values that the engine names as possibly changed. Not thread-safe: it belongs to
    the engine's owner.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._shown: dict[View, _Group] = {}
        self._groups: dict[View, _Group] = {}
        self._layers: dict[Layer, _HeldLayer] = {}
        self._parts: dict[Part, _HeldPart] = {}
        self._waiting: dict[View, None] = {}
        """Views that may have to go to another group."""
        self.failures: dict[tuple[Rule[Any, Any], Hashable], PartFailure] = {}

    @property
    def views(self) -> tuple[View, ...]:
        """The views that are open."""
        return tuple(self._shown)

    def sizes(self) -> dict[str, int]:
        """How many views, groups of views, layers and parts there are, and the bytes of all resources."""
        held = {id(one.resource): one.resource for one in self._parts.values() if one.resource is not None}
        # Parts may share one resource, and resources pieces: each is there once.
        pieces = {id(piece): len(piece.body) for one in held.values() for piece in one.pieces}
        size = sum(pieces.values()) + sum(one.size for one in held.values() if not one.pieces)
        return {
            "views": len(self._shown),
            "groups": len(self._groups),
            "layers": len(self._layers),
            "parts": len(self._parts),
            "bytes": size,
        }

    def catalog(self, view: View) -> Mapping[str, Mapping[str, Resource]]:
        """What an open view has now. The mappings are live: they change with `refresh`."""
        return self._shown[view].catalog

    def asks(self, view: View) -> bool:
        """Whether the proxies of an open view ask for clusters when they need them."""
        return self._shown[view].view.on_demand == "true"

    def part(self, view: View, type_url: str, name: str) -> Part | None:
        """What makes a resource of an open view; None if the view has no such resource."""
        found = self.listed(view, type_url, name)
        return found[1] if found is not None else None

    def listed(self, view: View, type_url: str, name: str) -> tuple[Layer, Part] | None:
        """What makes a resource of an open view, and the layer that lists it."""
        group = self._shown.get(view)
        for layer in group.layers if group is not None else ():
            if layer.type_url != type_url:
                continue
            for part in self._layers[layer].members:
                held = self._parts[part].resource
                if held is not None and held.name == name:
                    return layer, part
        return None

    def origins(self, view: View, type_url: str, name: str) -> list[Any]:
        """The keys of the input rows on which a resource of a view depends."""
        part = self.part(view, type_url, name)
        return [] if part is None else [key for _table, key in self._engine.why(part.rule, part.key)]

    def open(self, view: View) -> None:
        """Begin to keep a view up to date (counted: close it as often)."""
        group = self._shown.get(view)
        if group is None:
            self._engine.observe(reduced, view)
            group = self._group(self._reduced(view) or view)
            self._shown[view] = group
            group.views[view] = 0
        group.views[view] += 1

    def close(self, view: View) -> None:
        """Let a view go; what only it had is forgotten."""
        group = self._shown[view]
        group.views[view] -= 1
        if group.views[view]:
            return
        del self._shown[view]
        self._waiting.pop(view, None)
        self._ungroup(view, group)
        self.failures.pop((reduced, view), None)
        self._engine.unobserve(reduced, view)

    def refresh(self, emitted: Callable[[], None] = lambda: None) -> dict[View, Changes]:
        """Bring every open view up to date; what changed for whom. Views may share a value of what is returned.

        `emitted` is called when all resources are made and before it is found out whose they are.
        """
        own: _Own = {}
        grouped: dict[_Group, Changes] = {}
        moved: dict[_HeldLayer, Moved] = {}
        # From the outside in: a group, layer or part that has just come is up to date already.
        stale = self._engine.take_stale()
        for made_by, key in stale:
            if made_by is reduced and key in self._shown:
                self._waiting[cast("View", key)] = None
        waiting, self._waiting = self._waiting, {}
        for view in waiting:
            self._regroup(view, own)
        for made_by, key in stale:
            if made_by is layers and key in self._groups:
                self._restack(self._groups[cast("View", key)], grouped)
        for made_by, key in stale:
            held = self._layers.get(Layer(TYPE_OF[made_by], made_by, key)) if made_by in TYPE_OF else None
            if held is not None:
                self._relist(held, moved)
        for made_by, key in stale:
            part = Part(made_by, key)
            if part in self._parts:
                self._rebuild(part, moved)
        emitted()
        return _told(own, grouped, {layer: names for layer, names in moved.items() if names})

    def _reduced(self, view: View) -> View | None:
        """What a view is reduced to; None if that cannot be found out."""
        try:
            found = self._engine.call(reduced, view)
        except Failure as failure:
            self.failures[(reduced, view)] = _failure(reduced, view, failure)
            return None
        self.failures.pop((reduced, view), None)
        return found

    def _group(self, view: View) -> _Group:
        """The group of views that are reduced to this one."""
        group = self._groups.get(view)
        if group is None:
            group = self._groups[view] = _Group(view)
            self._engine.observe(layers, view)
            self._restack(group, {})
        return group

    def _ungroup(self, view: View, group: _Group) -> None:
        del group.views[view]
        if not group.views:
            self._forget(group)

    def _forget(self, group: _Group) -> None:
        del self._groups[group.view]
        for layer in group.layers:
            self._leave(layer, group)
        self.failures.pop((layers, group.view), None)
        self._engine.unobserve(layers, group.view)

    def _regroup(self, view: View, own: _Own) -> None:
        """Find out anew to what a view is reduced."""
        old, at = self._shown[view], self._reduced(view)
        if at is None or at == old.view:
            return
        new = self._group(at)
        if not new.layers:
            # Its rule failed: the view stays with what it had, and tries again.
            self._waiting[view] = None
            if not new.views:
                self._forget(new)
            return
        self._shown[view] = new
        new.views[view] = old.views[view]
        own[view] = self._difference(old.layers, new.layers, old.catalog, new.catalog)
        self._ungroup(view, old)

    def _restack(self, group: _Group, grouped: dict[_Group, Changes]) -> None:
        """Find out anew which layers a group has."""
        try:
            new = self._engine.call(layers, group.view)
        except Failure as failure:
            self.failures[(layers, group.view)] = _failure(layers, group.view, failure)
            return
        self.failures.pop((layers, group.view), None)
        old, before = group.layers, dict(group.catalog)
        if new == old:
            return
        group.layers = new
        for layer in new:
            if layer not in old:
                self._enter(layer, group)
        for type_url in TYPES:
            rows = tuple(self._layers[one].resources for one in new if one.type_url == type_url)
            group.catalog[type_url] = _NOTHING if not rows else rows[0] if len(rows) == 1 else _Stack(rows)
        if group.views:
            grouped[group] = self._difference(old, new, before, group.catalog)
        for layer in old:
            if layer not in new:
                self._leave(layer, group)

    def _difference(
        self,
        old: tuple[Layer, ...],
        new: tuple[Layer, ...],
        before: Mapping[str, Mapping[str, Resource]],
        after: Mapping[str, Mapping[str, Resource]],
    ) -> Changes:
        """What differs between two stacks, both of which are held. Looks only at layers that one of them lacks.

        Whoever follows a view must hear of it even if nothing does: the mappings are others.
        """
        found: Changes = {}
        differing = [one for one in (*old, *new) if one not in old or one not in new]
        for type_url in dict.fromkeys(one.type_url for one in differing):
            was, now = before[type_url], after[type_url]
            rows = [self._layers[one].resources for one in differing if one.type_url == type_url]
            names = dict.fromkeys(name for one in rows for name in one)
            changed: Moved = {name: was.get(name) for name in names if was.get(name) != now.get(name)}
            if changed:
                found[type_url] = changed
        return found

    def _enter(self, layer: Layer, group: _Group) -> None:
        held = self._layers.get(layer)
        if held is None:
            held = self._layers[layer] = _HeldLayer(layer)
            self._engine.observe(layer.rule, layer.key)
            self._relist(held, {})
        held.groups = joined(held.groups, group)

    def _leave(self, layer: Layer, group: _Group) -> None:
        held = self._layers[layer]
        held.groups = parted(held.groups, group)
        if not held.groups:
            del self._layers[layer]
            for part in held.members:
                self._drop(part, held)
            self.failures.pop((layer.rule, layer.key), None)
            self._engine.unobserve(layer.rule, layer.key)

    def _relist(self, held: _HeldLayer, moved: dict[_HeldLayer, Moved]) -> None:
        layer, old = held.layer, held.members
        try:
            new = self._engine.call(layer.rule, layer.key)
        except Failure as failure:
            self.failures[(layer.rule, layer.key)] = _failure(layer.rule, layer.key, failure)
            return
        self.failures.pop((layer.rule, layer.key), None)
        if new == old:
            return
        held.members = new
        names = moved.setdefault(held, {})
        before, after = _differing(old, new)
        gone: list[Resource] = []
        for part in before:
            if part not in after:
                resource = self._parts[part].resource
                self._drop(part, held)
                if resource is not None:
                    gone.append(resource)
        for part in after:
            if part not in before:
                self._place(held, None, self._hold(part, held).resource, names)
        # A name may move between parts.
        still = {one.name for part in new if (one := self._parts[part].resource) is not None} if gone else ()
        for resource in gone:
            if resource.name not in still:
                self._place(held, resource, None, names)

    def _hold(self, part: Part, layer: _HeldLayer) -> _HeldPart:
        held = self._parts.get(part)
        if held is None:
            held = self._parts[part] = _HeldPart()
            self._engine.observe(part.rule, part.key)
            held.resource = self._build(part, None)
        held.layers = joined(held.layers, layer)
        return held

    def _drop(self, part: Part, layer: _HeldLayer) -> None:
        held = self._parts[part]
        held.layers = parted(held.layers, layer)
        if not held.layers:
            del self._parts[part]
            self.failures.pop(part, None)
            self._engine.unobserve(part.rule, part.key)

    def _build(self, part: Part, last_good: Resource | None) -> Resource | None:
        try:
            made = self._engine.call(part.rule, part.key)
        except Failure as failure:
            self.failures[part] = _failure(part.rule, part.key, failure)
            return last_good
        self.failures.pop(part, None)
        return made

    def _rebuild(self, part: Part, moved: dict[_HeldLayer, Moved]) -> None:
        held = self._parts[part]
        old, held.resource = held.resource, self._build(part, held.resource)
        if old is held.resource or old == held.resource:
            return
        for layer in held.layers:
            self._place(layer, old, held.resource, moved.setdefault(layer, {}))

    @staticmethod
    def _place(layer: _HeldLayer, old: Resource | None, new: Resource | None, names: Moved) -> None:
        rows = layer.resources
        if old is not None and (new is None or new.name != old.name):
            names.setdefault(old.name, rows.drop(old.name))
        if new is not None and rows.get(new.name) != new:
            names.setdefault(new.name, rows.get(new.name))
            rows.put(new)


def _told(own: _Own, grouped: dict[_Group, Changes], moved: dict[_HeldLayer, Moved]) -> dict[View, Changes]:
    """What changed, by view. Groups in which the same layers changed are told by one and the same value."""
    touched: dict[_Group, int] = dict.fromkeys(grouped, 0)
    order = list(moved)
    for number, layer in enumerate(order):
        for group in layer.groups:
            touched[group] = touched.get(group, 0) | 1 << number
    same: dict[int, Changes] = {}
    told: dict[View, Changes] = {}
    for group, at in touched.items():
        changes = same.get(at)
        if changes is None:
            changed = [layer for number, layer in enumerate(order) if at >> number & 1]
            changes = same[at] = _joined({}, changed, moved)
        if group in grouped:
            changes = _merged(grouped[group], changes)
        # The same keys, so that no hash is computed anew.
        told.update(dict.fromkeys(group.views, changes))
    for view, changes in own.items():
        told[view] = _merged(changes, told.get(view, {}))
    return told


def _differing(old: tuple[Part, ...], new: tuple[Part, ...]) -> tuple[dict[Part, None], dict[Part, None]]:
    """Both lists without what they begin and end with in common: mostly one part of a thousand has come or gone."""
    shorter = min(len(old), len(new))
    head = next((at for at in range(shorter) if old[at] != new[at]), shorter)
    left = shorter - head
    tail = next((at for at in range(left) if old[-1 - at] != new[-1 - at]), left)
    return dict.fromkeys(old[head : len(old) - tail]), dict.fromkeys(new[head : len(new) - tail])


def _joined(first: Changes, changed: Iterable[_HeldLayer], moved: dict[_HeldLayer, Moved]) -> Changes:
    """The changes of several layers of a view; what was there before the first of them stands."""
    out = first
    for layer in changed:
        out = _merged(out, {layer.layer.type_url: moved[layer]})
    return out


def _merged(first: Changes, later: Changes) -> Changes:
    """Changes one after the other: what was there before the first of them stands."""
    out = dict(first)
    for type_url, names in later.items():
        before = out.get(type_url)
        out[type_url] = {**names, **before} if before else names
    return out


def _failure(made_by: Rule[Any, Any], key: object, failure: Failure) -> PartFailure:
    cause = failure.__cause__ or failure
    return PartFailure(made_by.name, repr(key), f"{type(cause).__name__}: {cause}")
