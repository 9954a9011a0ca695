"""A fault of a running mesh as data. Its commands are run while the mesh has it; what they say is kept in `said`."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import msgspec
import yaml

from tests.e2e.faults.case import Answer, Call, Named

HERE = Path(__file__).parent
SAID = HERE / "said"


class Running(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One fault. What makes it is the function of its name in `causes`, which `happens` tells.

    The first of `commands` must name object and field, and must not any more after the fix. `files` is applied, then
    `edit`; `repair` are commands that mend it (else the cause ends by itself). {NAMES} in commands are the cause's.
    With `stays` the files are right, and stay after the fix. `root`: only root can have it.
    """

    title: str
    symptom: str
    seen: str
    happens: str
    commands: tuple[str, ...]
    names: Named
    cause: str
    fix: str
    files: str = ""
    edit: str = ""
    repair: tuple[str, ...] = ()
    call: Call | None = None
    wrong: Answer | None = None
    right: Answer | None = None
    status: int | None = None
    stays: bool = False
    root: bool = False
    name: str = ""

    @property
    def said(self) -> Path:
        """What its commands said, as it stands in the page."""
        return SAID / f"{self.name}.txt"

    @property
    def command(self) -> str:
        """The command that names the culprit."""
        return self.commands[0]


@cache
def faults() -> tuple[Running, ...]:
    """All of them, by name. Raises ValidationError."""
    return tuple(
        msgspec.structs.replace(msgspec.convert(yaml.safe_load(path.read_text()), Running), name=path.stem)
        for path in sorted(HERE.glob("*.yaml"))
    )
