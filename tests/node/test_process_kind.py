"""Kind Process: decoding, validation, columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import fairlead.kinds.process
from fairlead.compiler.registry import registry
from fairlead.kinds.process.columns import ready, restarts, state
from fairlead.model.yaml import parse_documents

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
