"""How the whole suite is divided among workers that run side by side (pytest-xdist).

Tests that share something costly stay together, in the order of their file; what takes longest begins first, so that
the workers end at about the same time. Nothing else depends on which tests run where, or after which.
"""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest
from xdist.scheduler import LoadScopeScheduling

_E2E = PurePosixPath("tests/e2e")
_WORLD = "the mesh that tests/e2e shares"
_OWN_MESH = ("test_demo", "test_joining", "test_killed", "test_rotation")
"""End to end, but in a mesh of their own."""
_ALONE = ("tests/e2e/test_demo.py",)
"""Long tests that share nothing."""
_LONGEST = (
    _WORLD,
    "tests/e2e/test_demo.py",
    "tests/differential",
    "tests/cli/test_check.py",
    "tests/e2e/faults",
    "tests/e2e",
    "tests/agent",
    "tests/cli",
)
"""What begins first: groups, or where they stand."""


def group(test: str) -> str:
    """What a test, named as pytest names it, stays together with."""
    file = test.partition("::")[0]
    path = PurePosixPath(file)
    if file in _ALONE:
        return test
    if path.parent == _E2E and path.stem not in _OWN_MESH:
        return _WORLD
    return str(path.parent) if path.is_relative_to(_E2E / "faults") else file


def rank(name: str) -> int:
    """The place of a group in the queue."""
    found = (at for at, one in enumerate(_LONGEST) if name == one or name.startswith((f"{one}/", f"{one}::")))
    return next(found, len(_LONGEST))


class SideBySide(LoadScopeScheduling):
    """Gives whole groups to workers, the longest first."""

    def _split_scope(self, nodeid: str) -> str:
        return group(nodeid)


def ordered(items: list[pytest.Item]) -> None:
    """Put the tests in the order in which groups begin; within a group nothing changes."""
    items.sort(key=lambda item: rank(group(item.nodeid)))
