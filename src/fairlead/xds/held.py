"""What a client holds and what it asked for, told as the difference from the catalog.

A proxy in sync holds exactly what the catalog has, and a mesh has thousands of such proxies: a dictionary of everything
in each session would cost more than all else together. So once a session has caught up, it keeps only exceptions to
"as in the catalog". The catalog's mappings change in place; whoever changes them tells every session what was there
before (`Changed`), and the exceptions are how it remembers that its client still has the old.

Must not: copy a catalog that it follows, or look at all of its names after a change.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from fairlead.envoy.resource import Resource

Named = Mapping[str, Resource]
Before = Mapping[str, Resource | None]
"""Changed names with what was there before."""

_NO_NAMES: dict[str, bool] = {}
"""Of all who asked for no name: nothing is ever put into it."""
FEW = 16
"""Below so many names an own dictionary is as small."""


class Held:
    """The resources that a client holds, by name: a dictionary, or a catalog with exceptions (None: not held)."""

    __slots__ = ("_base", "_rows")

    def __init__(self) -> None:
        self._base: Named | None = None
        self._rows: dict[str, Resource | None] = {}

    @property
    def follows(self) -> bool:
        """Whether only differences from the catalog are kept."""
        return self._base is not None

    @property
    def level(self) -> bool:
        """Whether there is no exception from a catalog that is followed."""
        return self._base is None or not self._rows

    @property
    def exceptions(self) -> int:
        """How many names are kept one by one."""
        return len(self._rows)

    def get(self, name: str) -> Resource | None:
        """What the client has under this name."""
        if self._base is None or name in self._rows:
            return self._rows.get(name)
        return self._base.get(name)

    def __contains__(self, name: str) -> bool:
        return self.get(name) is not None

    def __iter__(self) -> Iterator[str]:
        if self._base is not None:
            yield from (name for name in self._base if name not in self._rows)
        yield from (name for name, held in self._rows.items() if held is not None)

    def __len__(self) -> int:
        if self._base is None:
            return len(self._rows)
        rows = self._rows
        return len(self._base) + sum((held is not None) - (name in self._base) for name, held in rows.items())

    def __bool__(self) -> bool:
        return next(iter(self), None) is not None

    def put(self, name: str, resource: Resource) -> None:
        """The client has this now."""
        if self._base is not None and self._base.get(name) == resource:
            self._rows.pop(name, None)
        else:
            self._rows[name] = resource

    def drop(self, name: str) -> None:
        """The client has nothing of this name."""
        if self._base is not None and name in self._base:
            self._rows[name] = None
        else:
            self._rows.pop(name, None)

    def items(self) -> Iterator[tuple[str, Resource]]:
        """Everything that is held."""
        for name in self:
            held = self.get(name)
            if held is not None:
                yield name, held

    def replace(self, rows: Mapping[str, Resource]) -> None:
        """The client has exactly this."""
        self._base = None
        self._rows = dict(rows)

    def detach(self) -> None:
        """Follow no catalog any more: it will change without a word."""
        if self._base is not None:
            self.replace(dict(self.items()))

    def follow(self, catalog: Named, few: int = FEW) -> None:
        """Keep only differences from now on, if that is less."""
        if self._base is not None or len(self._rows) <= few:
            return
        rows = {name: held for name, held in self._rows.items() if catalog.get(name) != held}
        rows.update((name, None) for name in catalog if name not in self._rows)
        if len(rows) * 4 <= len(self._rows):
            self._base, self._rows = catalog, rows

    def follow_but(self, catalog: Named, exceptions: dict[str, Resource | None]) -> None:
        """The client has what the catalog has, but for these."""
        self._base, self._rows = catalog, exceptions

    def rebase(self, catalog: Named) -> None:
        """The catalog is another mapping of the same."""
        if self._base is not None:
            self._base = catalog

    def share(self, exceptions: dict[str, Resource | None]) -> None:
        """Where a catalog is followed, these are the exceptions. They are those of others too, until `part`."""
        if self._base is not None:
            self._rows = exceptions

    def part(self) -> None:
        """From now on the exceptions are its own."""
        if self._base is not None:
            self._rows = dict(self._rows)

    def moved(self, catalog: Named, before: Before) -> None:
        """The catalog has changed (and is perhaps another mapping now): the client still has what was there before."""
        if self._base is None:
            return
        self._base = catalog
        for name, was in before.items():
            held = self._rows.get(name, was)
            if held == catalog.get(name):
                self._rows.pop(name, None)
            else:
                self._rows[name] = held


class Wanted:
    """The names that a client asked for. Either a set, or all names of a catalog with exceptions."""

    __slots__ = ("_base", "_rows")

    def __init__(self) -> None:
        self._base: Named | None = None
        self._rows = _NO_NAMES

    def __contains__(self, name: str) -> bool:
        asked = self._rows.get(name)
        return asked if asked is not None else self._base is not None and name in self._base

    def __iter__(self) -> Iterator[str]:
        if self._base is not None:
            yield from (name for name in self._base if name not in self._rows)
        yield from (name for name, asked in self._rows.items() if asked)

    def __len__(self) -> int:
        if self._base is None:
            return len(self._rows)
        return len(self._base) + sum(asked - (name in self._base) for name, asked in self._rows.items())

    def __bool__(self) -> bool:
        return bool(self._rows) or bool(self._base)

    @property
    def follows(self) -> bool:
        """Whether only differences from the catalog are kept."""
        return self._base is not None

    @property
    def nothing(self) -> bool:
        """Whether it asks for no name, and has not to be asked about any."""
        return self._base is None and not self._rows

    def apart(self, names: Mapping[str, object]) -> bool:
        """Whether none of these names is an exception."""
        return not self._rows or self._rows.keys().isdisjoint(names)

    def rebase(self, catalog: Named) -> None:
        """The catalog is another mapping of the same."""
        if self._base is not None:
            self._base = catalog

    def add(self, name: str) -> None:
        """It asks for this."""
        self._set(name, True)

    def discard(self, name: str) -> None:
        """It no longer asks for this."""
        self._set(name, False)

    def update(self, names: Iterable[str]) -> None:
        """It asks for these too."""
        for name in names:
            self._set(name, True)

    def _set(self, name: str, asked: bool) -> None:
        if (self._base is not None and name in self._base) == asked:
            self._rows.pop(name, None)
            return
        if self._rows is _NO_NAMES:
            self._rows = {}
        self._rows[name] = asked

    def follow(self, catalog: Named, few: int = FEW) -> None:
        """Keep only differences from now on, if that is less."""
        if self._base is not None or len(self._rows) <= few:
            return
        rows = {name: True for name in self._rows if name not in catalog}
        rows.update((name, False) for name in catalog if name not in self._rows)
        if len(rows) * 4 <= len(self._rows):
            self._base, self._rows = catalog, rows

    def follow_but(self, catalog: Named, exceptions: dict[str, bool]) -> None:
        """It asks for what the catalog has, but for these, and for those that are true."""
        self._base, self._rows = catalog, exceptions

    def moved(self, catalog: Named, before: Before) -> None:
        """The catalog has changed: what the client asked for has not."""
        if self._base is None:
            return
        self._base = catalog
        for name, was in before.items():
            asked = self._rows.get(name)
            if asked is None and was is not None and name in catalog:
                # Most changes, for each of thousands of sessions: what it asked for has changed, and is still there.
                continue
            self._set(name, was is not None if asked is None else asked)
