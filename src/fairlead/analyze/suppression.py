"""Findings that people have decided to live with: by annotation, by option, by file; and which of them hide nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

import msgspec

from fairlead.analyze.finding import Finding
from fairlead.analyze.shape import pairs
from fairlead.model.decode import decode
from fairlead.model.diagnostic import Position, Severity
from fairlead.model.manifest import Json, Manifest
from fairlead.model.object import Spec
from fairlead.model.path import FieldPath
from fairlead.model.ref import Ref

ANNOTATION = "galley.istio.io/analyze-suppress"
"""Istio's annotation: codes by comma, or `*`, for the object that has it."""
UNUSED_CODE = "FL3790"
WRONG_CODE = "FL3791"
_CODE = re.compile(r"^(\*|(IST|FL)[0-9]{4})$")


class Suppression(msgspec.Struct, frozen=True):
    """Hides findings whose code and object match.

    `code` is a code or `*`; `object` is `KIND NAME.NAMESPACE` as Istio writes it or `KIND NAMESPACE/NAME`, with `*`
    for any text; `file` is a pattern of file names, empty for all. `source` says where it stands.
    """

    code: str
    object: str = "*"
    file: str = ""
    reason: str = ""
    source: str = ""
    position: Position | None = None
    ref: Ref | None = None

    def hides(self, finding: Finding) -> bool:
        """Whether the finding is one of those that it is about."""
        if self.code not in ("*", finding.code):
            return False
        if self.ref is not None:
            return self.ref == Ref(finding.group, finding.kind, finding.namespace, finding.name)
        if self.file and not fnmatchcase(finding.file, self.file):
            return False
        named = f"{finding.name}.{finding.namespace}" if finding.namespace else finding.name
        return any(fnmatchcase(text, self.object) for text in (finding.object, f"{finding.kind} {named}", finding.kind))


class _Entry(Spec, frozen=True):
    """One suppression of a file."""

    code: str
    object: str = "*"
    file: str = ""
    reason: str = ""


class _File(Spec, frozen=True):
    """A file of suppressions."""

    suppress: tuple[_Entry, ...] = ()


def of_option(text: str) -> Suppression:
    """`CODE` or `CODE=OBJECT`. Raises ValueError."""
    code, equals, about = text.partition("=")
    if not _CODE.match(code) or (equals and not about):
        raise ValueError(f"{text!r} is not CODE=OBJECT, such as IST0118=Service *.shop")
    return Suppression(code, about or "*", source=f"--suppress {text}")


def of_file(manifest: Manifest) -> tuple[list[Suppression], list[str]]:
    """The suppressions of a file, and what is wrong with it, a line each."""
    found, problems = decode(_File, manifest.data)
    wrong = [f"{manifest.position(one.path) or manifest.file}: {one.path}: {one.message}" for one in problems]
    if found is None:
        return [], wrong
    out: list[Suppression] = []
    for at, one in enumerate(found.suppress):
        place = manifest.position(FieldPath(("suppress", at)))
        if not _CODE.match(one.code):
            wrong.append(f"{place or manifest.file}: suppress[{at}].code: {one.code!r} is no code")
        out.append(Suppression(one.code, one.object, one.file, one.reason, str(place or manifest.file), place))
    return out, wrong


def of_objects(documents: Mapping[Ref, Json]) -> list[Suppression]:
    """What the annotations of objects say."""
    out: list[Suppression] = []
    for ref, data in documents.items():
        said = pairs(data, "metadata", "annotations").get(ANNOTATION, "") if "metadata" in data else ""
        for code in (part.strip() for part in said.split(",")):
            if code:
                out.append(Suppression(code, source=f"annotation of {ref}", ref=ref))
    return out


def suppress(findings: Iterable[Finding], asked: Iterable[Suppression]) -> tuple[list[Finding], int]:
    """The findings that are left, with one for each suppression that hides nothing; and how many were hidden."""
    asked = tuple(asked)
    used: set[int] = set()
    left: list[Finding] = []
    hidden = 0
    for finding in findings:
        by = [at for at, one in enumerate(asked) if one.hides(finding)]
        used.update(by)
        if by:
            hidden += 1
        else:
            left.append(finding)
    left.extend(_unused(one) for at, one in enumerate(asked) if at not in used)
    return left, hidden


def _unused(one: Suppression) -> Finding:
    about = "" if one.object == "*" else f" about {one.object}"
    at, ref = one.position, one.ref
    return Finding(
        Severity.INFO,
        UNUSED_CODE,
        f"nothing is suppressed here: there is no finding {one.code}{about} ({one.source})",
        "Remove it.",
        at.file if at else "",
        at.line if at else 0,
        at.column if at else 0,
        *((ref.group, ref.kind, ref.namespace, ref.name) if ref else ("", "", "", "")),
    )
