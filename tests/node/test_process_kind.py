"""Kind Process: decoding, validation, columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

import fairlead.kinds.process
from fairlead.compiler.registry import registry
from fairlead.kinds.process.columns import ready, restarts, state
from fairlead.kinds.process.spec import ON_DEMAND
from fairlead.model.yaml import parse_documents
from fairlead.node.launch import on_demand, template

DATA = Path(fairlead.kinds.process.__file__).parent / "testdata"


def document(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "fairlead.dev/v1alpha1",
        "kind": "Process",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"command": ["true"], **spec},
    }


def test_testdata_is_valid() -> None:
    manifests = parse_documents((DATA / "bookshop.in.yaml").read_bytes(), "bookshop.in.yaml")
    for manifest in manifests:
        obj, problems = registry().read(manifest.data)
        assert obj is not None and not problems


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"command": []}, "spec.command"),
        ({"proxy": "router"}, "spec.command"),
        ({"ports": [{"port": 0}]}, "spec.ports[0].port"),
        ({"ports": [{"port": 1, "name": "a"}, {"port": 2, "name": "a"}]}, "spec.ports[1].name"),
        ({"ports": [{"port": 15001}]}, "spec.ports[0].port"),
        ({"ports": [{"port": 80, "protocol": "htpp"}]}, "spec.ports[0].protocol"),
        ({"env": [{"name": "1A"}]}, "spec.env[0].name"),
        ({"capture": "netn"}, "spec.capture"),
        ({"replica": 2}, "spec.replica"),
        ({"workingDir": "shop"}, "spec.workingDir"),
        ({"readinessProbe": {}}, "spec.readinessProbe"),
        ({"readinessProbe": {"httpGet": {"port": "web"}}}, "spec.readinessProbe.httpGet.port"),
        ({"proxy": "none", "capture": "netns"}, "spec.capture"),
        ({"serviceAccountName": "A b"}, "spec.serviceAccountName"),
    ],
)
def test_refusals_name_the_field(spec: dict[str, Any], path: str) -> None:
    obj, problems = registry().read(document(**spec))
    assert obj is None
    assert path in [str(one.path) for one in problems]


@pytest.mark.parametrize(
    ("said", "spec", "codes"),
    [
        ("true", {}, []),
        ("yes", {}, ["FL3500"]),
        ("true", {"proxy": "router", "command": []}, ["FL3501"]),
    ],
)
def test_who_asks_for_clusters_is_true_or_false(said: str, spec: dict[str, Any], codes: list[str]) -> None:
    made = document(**spec)
    made["metadata"]["annotations"] = {ON_DEMAND: said}
    obj, problems = registry().read(made)
    assert [one.code for one in problems] == codes and (obj is None) == (codes == ["FL3500"])
    if obj is not None:
        bare = msgspec.structs.replace(obj, meta=msgspec.structs.replace(obj.meta, annotations={}))
        assert (on_demand(obj), on_demand(bare)) == ("true", "auto")
        assert template(obj) != template(bare), "replicas are replaced"


def test_columns() -> None:
    fresh = document(replicas=2)
    assert (ready(fresh), restarts(fresh), state(fresh)) == ("0/2", 0, "Pending")
    running = {
        **fresh,
        "status": {
            "readyReplicas": 1,
            "conditions": [{"type": "Available", "status": "False", "reason": "CrashLoopBackOff"}],
            "instances": [{"restarts": 3, "state": "Waiting"}, {"state": "Running"}],
        },
    }
    assert (ready(running), restarts(running), state(running)) == ("1/2", 3, "CrashLoopBackOff")
