"""Faults of a mesh that runs: one command names the object and the field, what it says is in its page, the fix ends it.

`pytest --update-golden` writes what the commands say; then `python tools/troubledocs.py` makes the pages.
"""

from __future__ import annotations

import os

import pytest

from tests.e2e.faults.case import Answer
from tests.e2e.faults.running import causes
from tests.e2e.faults.running.case import SAID, Running, faults
from tests.e2e.faults.running.live import Live
from tests.e2e.faults.shop import Shop, answers
from tests.e2e.mesh import eventually


@pytest.fixture(scope="module")
def live(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Live:
    made = Live(shop, tmp_path_factory.mktemp("live"))
    made.pretend()
    return made


SETTLED = 8
"""So often in a row a command says the same before that is written down: conditions of objects come a moment later."""


def _id(fault: Running) -> str:
    return fault.name


def _sees(live: Live, fault: Running, wanted: Answer | None) -> None:
    call = fault.call
    if call is not None and wanted is not None:
        eventually(lambda: all(answers(live.shop.ask(call), wanted) for _ in range(4)), f"{wanted}")


@pytest.mark.parametrize("fault", faults(), ids=_id)
def test_a_command_names_it_and_the_fix_ends_it(
    live: Live, fault: Running, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    if fault.root and os.geteuid():
        pytest.skip("only root can have this fault")
    monkeypatch.chdir(live.directory)
    updating = request.config.getoption("--update-golden")
    page = fault.said.read_text() if fault.said.exists() else ""
    said: list[str] = []

    def named(command: str) -> bool:
        found = live.run(command)
        text = live.same(found.output)
        wanted = (fault.names.text, fault.names.field, fault.names.code)
        assert any(all(part in line for part in wanted) for line in text.splitlines()), text
        assert fault.status is None or found.exit_code == fault.status, (found.exit_code, text)
        return True

    def kept(command: str) -> bool:
        shown = live.says(command, live.run(command))
        if not updating:
            assert shown in page, f"{shown}\n\nis not in:\n{page}"
        said.append(shown)
        return not updating or said[-SETTLED:].count(shown) == SETTLED

    try:
        with causes.of(fault)(live, fault):
            _sees(live, fault, fault.wrong)
            eventually(lambda: named(fault.command), "the command names it")
            for command in fault.commands:
                eventually(lambda command=command: kept(command), command)
            for command in fault.repair:
                kept(command)
            if fault.repair:
                _sees(live, fault, fault.right)
        if not (fault.repair or fault.stays):
            live.clean()
        if not fault.repair:
            _sees(live, fault, fault.right)
        eventually(lambda: _silent(live, fault), "the command names it no more")
    finally:
        live.clean()
    if updating:
        last = {one.partition("\n")[0]: one for one in said}
        SAID.mkdir(exist_ok=True)
        fault.said.write_text("\n\n".join(last.values()) + "\n")


def _silent(live: Live, fault: Running) -> bool:
    """Whether the finding is gone; what happened stays in the history."""
    if fault.command.startswith(("changed", "history", "blame", "apply")):
        return True
    lines = live.run(fault.command).output.splitlines()
    return not any(fault.names.text in line and fault.names.field in line for line in lines)
