"""What a check finds: it passed, or what is wrong and what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Literal

import msgspec

from fairlead.analyze.finding import Finding as Said
from fairlead.model.diagnostic import Severity

State = Literal["pass", "warn", "fail", "skip"]


class Finding(msgspec.Struct, frozen=True):
    """One line. `said` is what was found, `hint` what to do where that is not well."""

    category: str
    name: str
    state: State
    said: str = ""
    hint: str = ""


class Category:
    """Makes findings of one category."""

    def __init__(self, name: str) -> None:
        self.name = name

    def well(self, name: str, said: str = "") -> Finding:
        """It is as it should be."""
        return Finding(self.name, name, "pass", said)

    def warn(self, name: str, said: str, hint: str) -> Finding:
        """It works, but not as well or not for long."""
        return Finding(self.name, name, "warn", said, hint)

    def fail(self, name: str, said: str, hint: str) -> Finding:
        """It does not work."""
        return Finding(self.name, name, "fail", said, hint)

    def judged(self, name: str, found: Iterable[Said], codes: Iterable[str], well: str) -> Finding:
        """One line of what was found under these codes: it is as bad as the worst of it."""
        wanted = tuple(codes)
        said = [one for one in found if one.code in wanted]
        if not said:
            return self.well(name, well)
        worst = min(said, key=lambda one: one.severity is not Severity.ERROR)
        make = self.fail if worst.severity is Severity.ERROR else self.warn
        return make(name, named(map(_line, said)), f"{worst.remedy} [{worst.code}]")

    def skip(self, name: str, said: str) -> Finding:
        """It could not be looked at, or does not apply here."""
        return Finding(self.name, name, "skip", said)


def guarded(category: str, checks: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """The findings of checks; one that itself fails is a finding and hides no other category."""
    try:
        yield from checks()
    except (OSError, ValueError, KeyError) as error:
        said = f"{type(error).__name__}: {error}"
        yield Finding(category, "the check itself", "fail", said, "Report it with `fairlead bug-report` [FL3910].")


def _line(one: Said) -> str:
    """What was found, and of whose field."""
    return f"{one.message} ({one.object} {one.field})" if one.field else one.message


def named(names: Iterable[str], most: int = 3) -> str:
    """`a, b, c and 4 more`."""
    listed = list(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more
