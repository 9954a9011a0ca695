"""Each fault shows in a real request, one command names the object and the field, and the fix ends it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.e2e.faults import saying
from tests.e2e.faults.case import BASE, FAULT, HERE, Answer, Fault, faults, offline
from tests.e2e.faults.keys import Keys
from tests.e2e.faults.shop import Shop, answers
from tests.e2e.mesh import Response, eventually


def _id(fault: Fault) -> str:
    return fault.name


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp("keys"))


def _sees(shop: Shop, fault: Fault, wanted: Answer | None) -> None:
    """Every instance is asked: a changed listener drains, and its last connections keep the old rules."""
    if fault.call is None or wanted is None:
        return
    call, got = fault.call, Response(0, {}, "")

    def seen() -> bool:
        nonlocal got
        for _ in range(4):
            got = shop.ask(call)
            if not answers(got, wanted):
                return False
        return True

    try:
        eventually(seen, seconds=15)
    except AssertionError:
        raise AssertionError(f"not {wanted}, but {got}") from None


@pytest.mark.parametrize("fault", [one for one in faults() if one.call is not None], ids=_id)
def test_a_request_shows_it_and_passes_after_the_fix(shop: Shop, fault: Fault) -> None:
    with shop.applied(fault.files) as before:
        _sees(shop, fault, fault.wrong)
        if fault.live:
            arguments = [*fault.arguments([]), "--state", str(shop.mesh.plane.state)]
            saying.check(fault, arguments)
        shop.repair(before, fault.fixed())
        _sees(shop, fault, fault.right)
        if fault.live:
            eventually(lambda: saying.silent(fault, arguments), "the finding is gone")


@pytest.mark.parametrize("fault", faults(), ids=_id)
def test_the_command_names_object_and_field_in_files(
    fault: Fault, keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(HERE / BASE, BASE)
    Path(FAULT).write_text(offline(fault.files, keys.made))
    saying.check(fault, fault.arguments([BASE, FAULT]))
    assert not fault.also or saying.mentioned(fault, fault.second([BASE, FAULT])), fault.also
    fixed = fault.fixed()
    Path(FAULT).write_text(offline(fixed, keys.made))
    assert saying.silent(fault, fault.arguments([BASE, FAULT] if fixed else [BASE]))
