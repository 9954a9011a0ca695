"""The scoreboard of the conformance suites, printed after the run."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.conformance.suites import expected_failures

_SUITES: dict[str, str] = {}
_SCORES: dict[str, Counter[str]] = {}
_CASES: dict[str, set[str]] = {}


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "suite(name): the conformance suite whose cases the test runs")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        mark = item.get_closest_marker("suite")
        if mark is not None:
            _SUITES[item.nodeid] = mark.args[0]
            _CASES.setdefault(mark.args[0], set()).add(item.nodeid.partition("[")[2][:-1])


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    suite = _SUITES.get(report.nodeid)
    if suite is None or (report.when != "call" and report.outcome == "passed"):
        return
    expected = hasattr(report, "wasxfail") and report.outcome == "skipped"
    _SCORES.setdefault(suite, Counter())["expected" if expected else report.outcome] += 1


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not _SCORES:
        return
    terminalreporter.section("conformance")
    for suite in sorted(_SCORES):
        terminalreporter.line(_line(suite, _SCORES[suite]))


def _line(suite: str, score: Counter[str]) -> str:
    total = score["passed"] + score["expected"] + score["failed"]
    notes = [
        f"{score[outcome]} {said}"
        for outcome, said in (("expected", "expected failures"), ("failed", "unexpected"), ("skipped", "skipped"))
        if score[outcome]
    ]
    gone = set(expected_failures().get(suite, {})) - _CASES[suite]
    if gone and total == len(_CASES[suite]) and total > 1:
        notes.append(f"{len(gone)} listed cases are not in this suite")
    return f"{suite} {score['passed']}/{total}" + (f" ({', '.join(notes)})" if notes else "")
