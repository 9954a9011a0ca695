"""istio-analyze: which (code, object) findings one analyzer gives for a set of files, as a multiset."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import pytest
import yaml

from fairlead.analyze.analysis import Analysis, reference
from fairlead.model.manifest import Manifest
from fairlead.model.yaml import parse_documents
from tests.conformance.suites import DIRECTORY, Case, parameters

SUITE = "istio-analyze"


def documents(case: Case) -> list[Manifest]:
    """The documents of a case, those that every case has among them, and its mesh settings as Istio stores them."""
    files = DIRECTORY / SUITE / "inputs"
    out: list[Manifest] = []
    for name in (*case["inputFiles"], "default-resources.yaml"):
        out.extend(parse_documents((files / name).read_bytes(), name))
    if case.get("meshConfigFile"):
        meta = {"name": "istio", "namespace": "istio-system"}
        data = {"mesh": (files / case["meshConfigFile"]).read_text()}
        out.append(Manifest({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}))
    if case.get("meshNetworksFile"):
        meta = {"name": "meshnetworks", "namespace": "istio-system"}
        spec = yaml.safe_load((files / case["meshNetworksFile"]).read_text())
        out.append(Manifest({"apiVersion": "mesh.istio.io/v1", "kind": "MeshNetworks", "metadata": meta, "spec": spec}))
    return out


@pytest.mark.suite(SUITE)
@pytest.mark.parametrize("case", parameters(SUITE, SUITE, lambda suite: suite["cases"]))
def test_findings(case: Any) -> None:
    if "clusters" in case:
        pytest.skip("one mesh of Fairlead has one store of objects")
    analysis = Analysis(time.time(), only=[case["analyzer"]["name"]])
    # Objects that name no namespace are kept apart from those of `default`, as Istio's tests do.
    given = {reference(one.data, namespace=""): one.data for one in documents(case)}
    analysis.apply(given)
    found = Counter((one.finding.code, f"{one.finding.object}") for one in analysis.found())
    wanted = Counter((one["code"], one["resource"]) for one in case["expected"])
    assert found == wanted, [str(one.finding) for one in analysis.found()]
