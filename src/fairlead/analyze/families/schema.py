"""Admission's findings under Istio's codes, by kind; on request only, since admission says them already."""

from __future__ import annotations

from collections.abc import Iterator

from fairlead.analyze.analyzer import Analyzer
from fairlead.analyze.document import Document
from fairlead.analyze.finding import Said
from fairlead.compiler.registry import registry
from fairlead.inc import Reader
from fairlead.model.diagnostic import Problem, Severity
from fairlead.model.findings import NO_EFFECT, UNUSED

_CODES = ("IST0106", "IST0130", "IST0131", "IST0133")


def validation(_: Reader, one: Document) -> Iterator[Said]:
    """What admission says of an object."""
    problems = registry().read(one.data, one.ref.namespace or "default")[1]
    for problem in problems:
        # What Istio acts on and Fairlead does not yet is a warning that Istio does not have.
        if problem.code != NO_EFFECT:
            yield Said(_code(problem), problem.message, problem.path, problem.remedy)


def _code(problem: Problem) -> str:
    if problem.severity is Severity.ERROR:
        return "IST0106"
    if problem.code == UNUSED:
        return "IST0131" if "match" in problem.path else "IST0130"
    return "IST0133"


ANALYZERS = tuple(
    Analyzer(f"schema.ValidationAnalyzer.{kind.kind}", _CODES, ((kind.group, kind.kind),), validation, standard=False)
    for kind in registry().kinds
)
