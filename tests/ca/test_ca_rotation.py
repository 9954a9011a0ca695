"""Rotation as files: each step, its undo, and what is left after a kill at any write."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fairlead.ca import rotation as module
from fairlead.ca.authority import AuthorityError, Supplied, open_authority
from fairlead.ca.rotation import Rotation, RotationRefused, endings
from fairlead.model.report import bundle_id

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def now() -> datetime:
    return NOW


def opened(path: Path, supplied: Supplied | None = None) -> Rotation:
    return Rotation(path / "ca", "cluster.local", now, supplied)


def published(path: Path) -> str:
    return bundle_id((path / "ca" / "root-cert.pem").read_bytes())


def test_a_rotation_goes_through_and_comes_back(tmp_path: Path) -> None:
    made = opened(tmp_path)
    old = (made.authority.issuer_id, bundle_id(made.authority.root_pem))
    assert made.start() == "trusting"
    target = made.target
    assert target is not None
    both = bundle_id(made.authority.root_pem)
    assert (made.authority.issuer_id, len(made.authority.roots)) == (old[0], 2)
    assert made.advance() == "issuing"
    assert (made.authority.issuer_id, bundle_id(made.authority.root_pem)) == (target.issuer_id, both)
    assert made.advance() == "removing"
    assert len(made.authority.roots) == 1
    # Back all the way.
    assert [made.undo(), made.undo(), made.undo()] == ["issuing", "trusting", "stable"]
    assert (made.authority.issuer_id, bundle_id(made.authority.root_pem)) == old
    assert published(tmp_path) == old[1]
    # And through.
    made.start()
    following = made.target
    assert following is not None
    assert following.issuer_id != target.issuer_id
    assert [made.advance() for _ in range(3)] == ["issuing", "removing", "stable"]
    assert made.authority.issuer_id == following.issuer_id
    assert published(tmp_path) == bundle_id(made.authority.root_pem) != old[1]
    assert not (tmp_path / "ca" / "next").exists()
    assert opened(tmp_path).authority.issuer_id == following.issuer_id


def test_steps_that_make_no_sense(tmp_path: Path) -> None:
    made = opened(tmp_path)
    with pytest.raises(RotationRefused, match="nothing to undo"):
        made.undo()
    with pytest.raises(RotationRefused, match="no rotation is under way"):
        made.advance()
    made.start()
    with pytest.raises(RotationRefused, match="under way"):
        made.start()


def test_an_intermediate_of_an_offline_root_is_taken_over(tmp_path: Path) -> None:
    made = opened(tmp_path)
    other = open_authority(tmp_path / "other", "corp.example", now)
    files = tmp_path / "other"
    supplied = Supplied(files / "ca-cert.pem", files / "ca-key.pem", files / "root-cert.pem")
    made.start(supplied)
    made.advance()
    assert made.authority.issuer_id == other.issuer_id
    # While it is under way, files of the command line are refused; afterwards, those that were replaced are left alone.
    with pytest.raises(AuthorityError, match="finish or undo"):
        opened(tmp_path, supplied)
    made.advance()
    made.advance()
    made.start()
    for _ in range(3):
        made.advance()
    again = opened(tmp_path, supplied)
    assert again.ignored == str(supplied.cert)
    assert again.authority.issuer_id == made.authority.issuer_id


def test_the_same_key_is_no_rotation(tmp_path: Path) -> None:
    made = opened(tmp_path)
    files = tmp_path / "ca"
    with pytest.raises(RotationRefused, match="nothing to rotate"):
        made.start(Supplied(files / "ca-cert.pem", files / "ca-key.pem", files / "root-cert.pem"))
    assert made.phase == "stable"


class Killed(Exception):
    """Stands for kill -9."""


STEPS: tuple[tuple[str, Callable[[Rotation], object]], ...] = (
    ("stable", lambda one: one.start()),
    ("trusting", lambda one: one.advance()),
    ("issuing", lambda one: one.advance()),
    ("removing", lambda one: one.advance()),
    ("trusting", lambda one: one.undo()),
    ("issuing", lambda one: one.undo()),
    ("removing", lambda one: one.undo()),
)


@pytest.mark.parametrize("at", range(len(STEPS)))
def test_killed_at_any_write_it_is_before_or_after_the_step(
    tmp_path: Path, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    phase, step = STEPS[at]
    ready = opened(tmp_path / "ready")
    if phase != "stable":
        ready.start()
    while ready.phase != phase:
        ready.advance()
    before = (ready.phase, ready.authority.issuer_id, bundle_id(ready.authority.root_pem))
    keep = module.write_atomic
    for survived in range(12):
        directory = tmp_path / f"killed-{survived}"
        shutil.copytree(tmp_path / "ready", directory)
        made = opened(directory)
        left = [survived]

        def write(path: Path, content: bytes, left: list[int] = left) -> None:
            if not left[0]:
                raise Killed
            left[0] -= 1
            keep(path, content)

        monkeypatch.setattr(module, "write_atomic", write)
        try:
            step(made)
            done = True
        except Killed:
            done = False
        monkeypatch.setattr(module, "write_atomic", keep)
        found = opened(directory)
        state = (found.phase, found.authority.issuer_id, bundle_id(found.authority.root_pem))
        assert published(directory) == state[2]
        if done:
            assert state == (made.phase, made.authority.issuer_id, bundle_id(made.authority.root_pem))
            return
        # A next authority that was being made is made anew: only what counts is compared.
        assert state == before or found.phase != phase
        found.authority.issue_server(["localhost"])
    raise AssertionError("the step never ended")


def test_endings_say_what_ends_first(tmp_path: Path) -> None:
    made = opened(tmp_path)
    found = endings(made.authority, NOW + timedelta(days=3600))
    assert [one.role for one in found] == ["root"]
    assert 0 < found[0].left < 0.03
