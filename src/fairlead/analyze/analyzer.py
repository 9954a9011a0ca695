"""What an analyzer is, and which there are: every module of `families` exports `ANALYZERS`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from importlib import import_module
from pkgutil import iter_modules

import msgspec

from fairlead.analyze.document import Document, Sort
from fairlead.analyze.finding import Said
from fairlead.inc import Reader


class Analyzer(msgspec.Struct, frozen=True, eq=False):
    """Looks at the documents of some kinds, one at a time, and at what they read of others.

    `name` is Istio's where it is one of Istio's; `sorts` the kinds whose documents it looks at, empty for all.
    `applies` says of a document by itself whether it is worth a look. One that is not `standard` runs only when it
    is asked for by name.
    """

    name: str
    codes: tuple[str, ...]
    sorts: tuple[Sort, ...]
    run: Callable[[Reader, Document], Iterable[Said]]
    standard: bool = True
    applies: Callable[[Document], bool] | None = None


@lru_cache(maxsize=1)
def analyzers() -> tuple[Analyzer, ...]:
    """All analyzers, in the order of their names."""
    import fairlead.analyze.families as families

    found: list[Analyzer] = []
    for module in iter_modules(families.__path__):
        found.extend(import_module(f"{families.__name__}.{module.name}").ANALYZERS)
    return tuple(sorted(found, key=lambda one: one.name))
