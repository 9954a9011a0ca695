"""Codes: each that is raised anywhere is described once, Istio's as Istio has them, and the pages are current."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from fairlead.analyze.analyzer import analyzers
from fairlead.analyze.codes import CODES
from tests.conformance.suites import load

ROOT = Path(__file__).resolve().parents[2]
_CODE = re.compile(r"\b(?:FL|IST)[0-9]{4}\b")


def test_every_code_that_the_product_says_is_described() -> None:
    said: dict[str, str] = {}
    for path in (ROOT / "src").rglob("*"):
        if path.suffix in (".py", ".md") and "codes" not in path.parts:
            for code in _CODE.findall(path.read_text()):
                said.setdefault(code, str(path.relative_to(ROOT)))
    missing = {code: place for code, place in said.items() if code not in CODES}
    assert not missing, "describe these in fairlead/analyze/codes"


def test_what_analyzers_say_is_among_their_codes() -> None:
    for one in analyzers():
        assert one.codes, one.name
        for code in one.codes:
            assert code in CODES, one.name
            assert not CODES[code].absent and (not one.standard or not CODES[code].instead), one.name


def test_every_described_code_can_be_raised() -> None:
    raised = {code for one in analyzers() for code in one.codes if one.standard or not CODES[code].instead}
    for one in CODES.values():
        if one.code.startswith("IST") and one.code != "IST0001":
            assert (one.code in raised) != bool(one.absent or one.instead), one.code


def test_istio_codes_have_istio_names_and_severities() -> None:
    suite = load("istio-analyze")
    if suite is None:
        pytest.skip("no conformance cases here")
    theirs = {one["code"]: (one["name"], one["level"]) for one in suite["messages"]}
    ours = {one.code: (one.title, str(one.severity)) for one in CODES.values() if one.code.startswith("IST")}
    assert ours == theirs


def test_pages_are_current() -> None:
    found = subprocess.run(
        [sys.executable, "tools/codedocs.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stdout
