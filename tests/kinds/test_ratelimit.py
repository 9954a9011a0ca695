"""RateLimit: goldens, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from lowering import check, inputs

from fairlead.compiler.registry import registry
from fairlead.model.diagnostic import Severity
from fairlead.model.yaml import parse_documents

HEAD = "apiVersion: fairlead.dev/v1alpha1\nkind: RateLimit\nmetadata: {name: a}\nspec: "
LIMIT = "name: a, requests: 1, unit: SECOND"


@pytest.mark.parametrize("path", inputs("ratelimit"), ids=lambda path: path.stem)
def test_golden(path: Path) -> None:
    check(path)


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ("{}", "spec.limits"),
        (f"{{limits: [{{{LIMIT}}}, {{{LIMIT}}}]}}", "spec.limits[1].name"),
        ("{limits: [{name: a, requests: 0, unit: SECOND}]}", "spec.limits[0].requests"),
        ("{limits: [{name: a, requests: 1, unit: WEEK}]}", "spec.limits[0].unit"),
        (f"{{limits: [{{{LIMIT}, per: [{{}}]}}]}}", "spec.limits[0].per[0]"),
        (f"{{limits: [{{{LIMIT}, per: [{{header: a, query: b}}]}}]}}", "spec.limits[0].per[0]"),
        (f"{{limits: [{{{LIMIT}, per: [{{header: 'a b'}}]}}]}}", "spec.limits[0].per[0].header"),
        (f"{{limits: [{{{LIMIT}, when: {{paths: ['/a*b']}}}}]}}", "spec.limits[0].when.paths[0]"),
        (f"{{limits: [{{{LIMIT}, when: {{methods: [get]}}}}]}}", "spec.limits[0].when.methods[0]"),
        ("{global: {host: a.b, port: 1, domain: d, descriptors: []}}", "spec.global.descriptors"),
        (
            "{global: {host: a.b, port: 1, domain: d, timeout: soon, descriptors: [{name: a}]}}",
            "spec.global.timeout",
        ),
        ("{global: {host: a, port: 1, domain: d, descriptors: [{name: a}]}}", "spec.global.host"),
    ],
)
def test_refused(spec: str, field: str) -> None:
    manifest = next(iter(parse_documents(HEAD + spec, "")))
    _, found = registry().read(manifest.data)
    assert field in [str(one.path) for one in found if one.severity is Severity.ERROR]
