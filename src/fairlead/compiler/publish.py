"""What live views have, kept up to date by what changed and nothing else."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import msgspec

from fairlead.compiler.parts import Part, PartsKey, parts
from fairlead.envoy.resource import CLUSTER, ENDPOINT, LISTENER, NAME_TABLE, ROUTE, SECRET, Resource
from fairlead.inc import Engine, Failure, Rule
from fairlead.ir.view import View

TYPES = (CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET, NAME_TABLE)

Catalog = dict[str, dict[str, Resource]]
"""Resources by type URL and name."""
Changes = dict[str, dict[str, Resource | None]]
"""Names of resources that came, changed or went, by type URL, each with what was there before."""


class PartFailure(msgspec.Struct, frozen=True):
    """A part whose rule raised: its last good resource stays in place."""

    rule: str
    key: str
    error: str


class _Held:
    """A part that some view has: its last good resource, and which views have it."""

    __slots__ = ("resource", "views")

    def __init__(self) -> None:
        self.resource: Resource | None = None
        self.views: dict[View, None] = {}


class Publisher:
    """Keeps a catalog for each live view.

    `refresh` looks only at the rule values that the engine names as possibly changed; views share parts. Not
    thread-safe: it belongs to the engine's owner.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._catalogs: dict[View, Catalog] = {}
        self._users: dict[View, int] = {}
        self._members: dict[PartsKey, tuple[Part, ...]] = {}
        self._held: dict[Part, _Held] = {}
        self.failures: dict[tuple[Rule[Any, Any], Hashable], PartFailure] = {}

    @property
    def views(self) -> tuple[View, ...]:
        """The views that are open."""
        return tuple(self._catalogs)

    def catalog(self, view: View) -> Mapping[str, Mapping[str, Resource]]:
        """What an open view has now."""
        return self._catalogs[view]

    def origins(self, view: View, type_url: str, name: str) -> list[Any]:
        """The keys of the input rows on which a resource of a view depends."""
        for part in self._members.get(PartsKey(type_url, view), ()):
            held = self._held[part].resource
            if held is not None and held.name == name:
                return [key for _table, key in self._engine.why(part.rule, part.key)]
        return []

    def open(self, view: View) -> None:
        """Begin to keep a view up to date (counted: close it as often)."""
        self._users[view] = self._users.get(view, 0) + 1
        if view in self._catalogs:
            return
        self._catalogs[view] = {type_url: {} for type_url in TYPES}
        for type_url in TYPES:
            key = PartsKey(type_url, view)
            self._engine.observe(parts, key)
            self._members[key] = ()
            self._relist(key, {})

    def close(self, view: View) -> None:
        """Let a view go; what only it had is forgotten."""
        self._users[view] -= 1
        if self._users[view]:
            return
        del self._users[view]
        del self._catalogs[view]
        for type_url in TYPES:
            key = PartsKey(type_url, view)
            for part in self._members.pop(key):
                self._drop(part, view)
            self._engine.unobserve(parts, key)

    def refresh(self) -> dict[View, Changes]:
        """Bring every open view up to date; what changed for whom."""
        changed: dict[View, Changes] = {}
        # Lists first: a part that has just come must be known before its own staleness is looked at.
        stale = self._engine.take_stale()
        for made_by, key in stale:
            if made_by is parts and isinstance(key, PartsKey) and key.view in self._catalogs:
                self._relist(key, changed)
        for made_by, key in stale:
            if made_by is not parts:
                self._rebuild(Part(made_by, key), changed)
        return changed

    def _relist(self, key: PartsKey, changed: dict[View, Changes]) -> None:
        old = self._members[key]
        try:
            new = self._engine.call(parts, key)
        except Failure as failure:
            self.failures[(parts, key)] = _failure(parts, key, failure)
            return
        self.failures.pop((parts, key), None)
        if new == old:
            return
        self._members[key] = new
        before, after = dict.fromkeys(old), dict.fromkeys(new)
        for part in after:
            if part not in before:
                held = self._hold(part)
                held.views[key.view] = None
                self._place(key.view, key.type_url, None, held.resource, changed)
        for part in before:
            if part not in after:
                resource = self._held[part].resource
                self._drop(part, key.view)
                if resource is not None and not self._still_there(key, resource.name):
                    self._place(key.view, key.type_url, resource, None, changed)

    def _still_there(self, key: PartsKey, name: str) -> bool:
        """Whether another part of the view makes a resource of this name (a name may move between parts)."""
        for part in self._members[key]:
            held = self._held.get(part)
            if held is not None and held.resource is not None and held.resource.name == name:
                return True
        return False

    def _hold(self, part: Part) -> _Held:
        held = self._held.get(part)
        if held is None:
            held = self._held[part] = _Held()
            self._engine.observe(part.rule, part.key)
            held.resource = self._build(part, None)
        return held

    def _drop(self, part: Part, view: View) -> None:
        held = self._held[part]
        held.views.pop(view, None)
        if not held.views:
            del self._held[part]
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

    def _rebuild(self, part: Part, changed: dict[View, Changes]) -> None:
        held = self._held.get(part)
        if held is None:
            return
        old, held.resource = held.resource, self._build(part, held.resource)
        if old == held.resource:
            return
        some = held.resource or old
        if some is None:
            return
        for view in held.views:
            self._place(view, some.type_url, old, held.resource, changed)

    def _place(
        self, view: View, type_url: str, old: Resource | None, new: Resource | None, changed: dict[View, Changes]
    ) -> None:
        if old is None and new is None:
            return
        names = changed.setdefault(view, {}).setdefault(type_url, {})
        catalog = self._catalogs[view][type_url]
        if old is not None and (new is None or new.name != old.name):
            names.setdefault(old.name, catalog.pop(old.name, None))
        if new is not None:
            if catalog.get(new.name) == new:
                return
            names.setdefault(new.name, catalog.get(new.name))
            catalog[new.name] = new


def _failure(made_by: Rule[Any, Any], key: object, failure: Failure) -> PartFailure:
    cause = failure.__cause__ or failure
    return PartFailure(made_by.name, repr(key), f"{type(cause).__name__}: {cause}")
