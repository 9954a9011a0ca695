"""Every example of the documentation works: it is valid, and compiles to what sidecars and gateways take."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import fairlead.kinds
from fairlead.compiler.model import MeshModel
from fairlead.compiler.offline import load
from fairlead.compiler.registry import registry
from fairlead.ir.view import View
from fairlead.model.diagnostic import Severity
from fairlead.model.launch import Capture
from fairlead.model.yaml import parse_documents

PAGES = sorted(Path(fairlead.kinds.__path__[0]).glob("*/explain.md"))
BLOCK = re.compile(r"^```yaml\n(.*?)^```", re.MULTILINE | re.DOTALL)
VIEWS = (
    View("sidecar", "shop", (("app", "reviews"),), addresses=("127.66.0.9",), capture=Capture("redirect")),
    View("router", "shop", (("istio", "ingressgateway"),), addresses=("127.66.0.8",), capture=Capture("none")),
)


def blocks(page: Path) -> list[str]:
    return BLOCK.findall(page.read_text())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_each_example_is_valid_and_compiles(page: Path) -> None:
    found = blocks(page)
    kinds = {str(one.data.get("kind")).lower() for text in found for one in parse_documents(text)}
    assert page.parent.name in kinds | ({"meshconfig"} if "configmap" in kinds else set()), "no example of the kind"
    for text in found:
        model = MeshModel()
        told = load(model, parse_documents(text, page.name), "shop")
        assert not [str(one) for one in told if one.severity is Severity.ERROR]
        for view in VIEWS:
            with model.opened(view) as catalog:
                assert catalog
                assert not [str(one) for one in model.diagnostics() if one.code == "FL0000"]


def test_each_kind_has_a_page() -> None:
    assert {page.parent.name for page in PAGES} == {one.kind.lower() for one in registry().kinds}
