"""What live views have, kept up to date by what changed and nothing else."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import Any, cast

import msgspec

from fairlead.compiler.parts import TYPE_OF, Layer, Part, layers
from fairlead.envoy.resource import CLUSTER, ENDPOINT, LISTENER, NAME_TABLE, ROUTE, SECRET, Resource
from fairlead.inc import Engine, Failure, Rule
from fairlead.ir.view import View

TYPES = (CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET, NAME_TABLE)

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
        self.layers: dict[Layer, None] = {}


class _HeldLayer:
    """A layer that some view has: its parts, what they have made, and the views."""

    __slots__ = ("members", "resources", "views")

    def __init__(self) -> None:
        self.members: tuple[Part, ...] = ()
        self.resources: dict[str, Resource] = {}
        self.views: dict[View, None] = {}


class _Shown:
    """An open view: how often it was opened, its layers, and what it has."""

    __slots__ = ("catalog", "layers", "users")

    def __init__(self) -> None:
        self.users = 0
        self.layers: tuple[Layer, ...] = ()
        self.catalog: dict[str, Mapping[str, Resource]] = dict.fromkeys(TYPES, _NOTHING)


class _Stack(Mapping[str, Resource]):
    """Several layers as one mapping; of equal names the first layer's stands. Costs no copy of them."""

    __slots__ = ("_rows",)

    def __init__(self, rows: tuple[dict[str, Resource], ...]) -> None:
        self._rows = rows

    def __getitem__(self, name: str) -> Resource:
        for one in self._rows:
            found = one.get(name)
            if found is not None:
                return found
        raise KeyError(name)

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


Moved = dict[str, Resource | None]


class Publisher:
    """Keeps a catalog for each live view.

    `refresh` looks only at the rule values that the engine names as possibly changed. Views share layers, and layers
    share parts: what a view costs is what it has for itself. Not thread-safe: it belongs to the engine's owner.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._shown: dict[View, _Shown] = {}
        self._layers: dict[Layer, _HeldLayer] = {}
        self._parts: dict[Part, _HeldPart] = {}
        self.failures: dict[tuple[Rule[Any, Any], Hashable], PartFailure] = {}

    @property
    def views(self) -> tuple[View, ...]:
        """The views that are open."""
        return tuple(self._shown)

    def sizes(self) -> dict[str, int]:
        """How many views, layers and parts there are, and the bytes of all resources."""
        held = [one.resource for one in self._parts.values() if one.resource is not None]
        # Parts may share one resource: it is there once.
        size = sum({id(one): len(one.body) for one in held}.values())
        return {"views": len(self._shown), "layers": len(self._layers), "parts": len(self._parts), "bytes": size}

    def catalog(self, view: View) -> Mapping[str, Mapping[str, Resource]]:
        """What an open view has now. The mappings are live: they change with `refresh`."""
        return self._shown[view].catalog

    def origins(self, view: View, type_url: str, name: str) -> list[Any]:
        """The keys of the input rows on which a resource of a view depends."""
        for layer in self._shown[view].layers if view in self._shown else ():
            if layer.type_url != type_url:
                continue
            for part in self._layers[layer].members:
                held = self._parts[part].resource
                if held is not None and held.name == name:
                    return [key for _table, key in self._engine.why(part.rule, part.key)]
        return []

    def open(self, view: View) -> None:
        """Begin to keep a view up to date (counted: close it as often)."""
        shown = self._shown.get(view)
        if shown is None:
            shown = self._shown[view] = _Shown()
            self._engine.observe(layers, view)
            self._restack(view, {})
        shown.users += 1

    def close(self, view: View) -> None:
        """Let a view go; what only it had is forgotten."""
        shown = self._shown[view]
        shown.users -= 1
        if shown.users:
            return
        del self._shown[view]
        for layer in shown.layers:
            self._leave(layer, view)
        self.failures.pop((layers, view), None)
        self._engine.unobserve(layers, view)

    def refresh(self) -> dict[View, Changes]:
        """Bring every open view up to date; what changed for whom. Views may share a value of what is returned."""
        own: dict[View, Changes] = {}
        moved: dict[Layer, Moved] = {}
        # From the outside in: a layer or part that has just come is up to date already.
        stale = self._engine.take_stale()
        for made_by, key in stale:
            if made_by is layers and key in self._shown:
                self._restack(cast("View", key), own)
        for made_by, key in stale:
            layer = Layer(TYPE_OF.get(made_by, ""), made_by, key)
            if layer in self._layers:
                self._relist(layer, moved)
        for made_by, key in stale:
            part = Part(made_by, key)
            if part in self._parts:
                self._rebuild(part, moved)
        return self._told(own, moved)

    def _told(self, own: dict[View, Changes], moved: dict[Layer, Moved]) -> dict[View, Changes]:
        """What changed, by view: views in which the same layers changed are told by one and the same value."""
        touched: dict[View, list[Layer]] = {}
        for layer, names in moved.items():
            for view in self._layers[layer].views if names and layer in self._layers else ():
                touched.setdefault(view, []).append(layer)
        same: dict[tuple[Layer, ...], Changes] = {}
        told: dict[View, Changes] = {}
        for view, found in touched.items():
            at = tuple(found)
            if view in own:
                told[view] = _joined(own[view], at, moved)
                continue
            if at not in same:
                same[at] = _joined({}, at, moved)
            told[view] = same[at]
        for view, changes in own.items():
            if view not in told:
                told[view] = changes
        return told

    def _restack(self, view: View, own: dict[View, Changes]) -> None:
        """Find out anew which layers a view has."""
        shown = self._shown[view]
        try:
            new = self._engine.call(layers, view)
        except Failure as failure:
            self.failures[(layers, view)] = _failure(layers, view, failure)
            return
        self.failures.pop((layers, view), None)
        if new == shown.layers:
            return
        before = {
            type_url: dict(shown.catalog[type_url])
            for type_url in {one.type_url for one in {*shown.layers} ^ {*new}}
            if shown.layers
        }
        if shown.layers:
            # Whoever follows this view must take its mappings anew, also where they hold the same.
            own.setdefault(view, {})
        old, shown.layers = shown.layers, new
        for layer in new:
            if layer not in old:
                self._enter(layer, view)
        for type_url in TYPES:
            rows = tuple(self._layers[one].resources for one in new if one.type_url == type_url)
            shown.catalog[type_url] = _NOTHING if not rows else rows[0] if len(rows) == 1 else _Stack(rows)
        for type_url, rows in before.items():
            now = shown.catalog[type_url]
            names: Moved = {name: rows.get(name) for name in {**rows, **now} if rows.get(name) != now.get(name)}
            if names:
                own.setdefault(view, {})[type_url] = names
        for layer in old:
            if layer not in new:
                self._leave(layer, view)

    def _enter(self, layer: Layer, view: View) -> None:
        held = self._layers.get(layer)
        if held is None:
            held = self._layers[layer] = _HeldLayer()
            self._engine.observe(layer.rule, layer.key)
            self._relist(layer, {})
        held.views[view] = None

    def _leave(self, layer: Layer, view: View) -> None:
        held = self._layers[layer]
        held.views.pop(view, None)
        if not held.views:
            del self._layers[layer]
            for part in held.members:
                self._drop(part, layer)
            self.failures.pop((layer.rule, layer.key), None)
            self._engine.unobserve(layer.rule, layer.key)

    def _relist(self, layer: Layer, moved: dict[Layer, Moved]) -> None:
        held = self._layers[layer]
        old = held.members
        try:
            new = self._engine.call(layer.rule, layer.key)
        except Failure as failure:
            self.failures[(layer.rule, layer.key)] = _failure(layer.rule, layer.key, failure)
            return
        self.failures.pop((layer.rule, layer.key), None)
        if new == old:
            return
        held.members = new
        names = moved.setdefault(layer, {})
        before, after = dict.fromkeys(old), dict.fromkeys(new)
        gone: list[Resource] = []
        for part in before:
            if part not in after:
                resource = self._parts[part].resource
                self._drop(part, layer)
                if resource is not None:
                    gone.append(resource)
        for part in after:
            if part not in before:
                self._place(held, None, self._hold(part, layer).resource, names)
        # A name may move between parts.
        still = {one.name for part in new if (one := self._parts[part].resource) is not None} if gone else ()
        for resource in gone:
            if resource.name not in still:
                self._place(held, resource, None, names)

    def _hold(self, part: Part, layer: Layer) -> _HeldPart:
        held = self._parts.get(part)
        if held is None:
            held = self._parts[part] = _HeldPart()
            self._engine.observe(part.rule, part.key)
            held.resource = self._build(part, None)
        held.layers[layer] = None
        return held

    def _drop(self, part: Part, layer: Layer) -> None:
        held = self._parts[part]
        held.layers.pop(layer, None)
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

    def _rebuild(self, part: Part, moved: dict[Layer, Moved]) -> None:
        held = self._parts[part]
        old, held.resource = held.resource, self._build(part, held.resource)
        if old is held.resource or old == held.resource:
            return
        for layer in held.layers:
            self._place(self._layers[layer], old, held.resource, moved.setdefault(layer, {}))

    @staticmethod
    def _place(layer: _HeldLayer, old: Resource | None, new: Resource | None, names: Moved) -> None:
        rows = layer.resources
        if old is not None and (new is None or new.name != old.name):
            names.setdefault(old.name, rows.pop(old.name, None))
        if new is not None and rows.get(new.name) != new:
            names.setdefault(new.name, rows.get(new.name))
            rows[new.name] = new


def _joined(first: Changes, changed: tuple[Layer, ...], moved: dict[Layer, Moved]) -> Changes:
    """The changes of several layers of a view; what was there before the first of them stands."""
    out: Changes = {type_url: dict(names) for type_url, names in first.items()}
    for layer in changed:
        names = out.get(layer.type_url)
        out[layer.type_url] = {**moved[layer], **names} if names is not None else moved[layer]
    return out


def _failure(made_by: Rule[Any, Any], key: object, failure: Failure) -> PartFailure:
    cause = failure.__cause__ or failure
    return PartFailure(made_by.name, repr(key), f"{type(cause).__name__}: {cause}")
