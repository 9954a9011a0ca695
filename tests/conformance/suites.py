"""Finds the suites and what is expected to fail in them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

Case = dict[str, Any]

ROOT = Path(__file__).resolve().parents[2]
DIRECTORY = Path(os.environ.get("FAIRLEAD_CONFORMANCE_DIR") or ROOT.parent / "shared" / "conformance")
LIST = Path(__file__).with_name("expected-failures.yaml")


@cache
def load(name: str) -> Case | None:
    """The suite of a folder, None if it is not there."""
    path = DIRECTORY / name / "suite.json"
    return json.loads(path.read_text()) if path.is_file() else None


@cache
def expected_failures() -> dict[str, dict[str, str]]:
    """Reasons by case id, by suite."""
    return {suite: one or {} for suite, one in yaml.safe_load(LIST.read_text()).items()}


def parameters(suite: str, name: str, select: Callable[[Case], Iterable[Case]]) -> list[Any]:
    """pytest parameters for the cases that `select` takes out of a folder's suite.

    `suite` is the suite's name on the scoreboard and in the list of expected failures.
    """
    found = load(name)
    if found is None:
        missing = pytest.mark.skip(reason=f"no conformance cases at {DIRECTORY / name}")
        return [pytest.param(None, id="absent", marks=missing)]
    reasons = expected_failures().get(suite, {})
    return [
        pytest.param(
            one,
            id=one["id"],
            marks=[pytest.mark.xfail(reason=reasons[one["id"]], strict=True)] if one["id"] in reasons else [],
        )
        for one in select(found)
    ]
