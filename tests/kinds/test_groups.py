"""ProxyConfig and WorkloadGroup: goldens, precedence, what members get, and exact problem paths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from lowering import check, engine, inputs, read

from fairlead.compiler.registry import registry
from fairlead.ir.mesh import Mesh
from fairlead.ir.meshconfig import read_mesh_config
from fairlead.ir.proxystart import ANNOTATION, PROXY_STARTS, StartLayers, effective, layers_of
from fairlead.model.group import entry_document, entry_name, owned_group
from fairlead.model.launch import ProxySettings, StatsInclusion
from fairlead.model.probe import Probe, TCPSocket


@pytest.mark.parametrize("path", inputs("proxyconfig", "workloadgroup"), ids=lambda path: path.stem)
def test_golden(path: Path) -> None:
    check(path)


def problems(kind: str, spec: dict[str, Any]) -> list[tuple[str, str]]:
    meta = {"name": "x", "namespace": "shop"}
    version = "v1beta1"
    document = {"apiVersion": f"networking.istio.io/{version}", "kind": kind, "metadata": meta, "spec": spec}
    return [(str(one.path), one.code) for one in registry().read(document)[1]]


FOUND: list[tuple[str, dict[str, Any], str, str]] = [
    ("ProxyConfig", {"concurrency": -1}, "spec.concurrency", "FL0001"),
    ("ProxyConfig", {"selector": {"matchLabels": {"": "x"}}}, "spec.selector.matchLabels", "FL0001"),
    ("ProxyConfig", {"environmentVariables": {"A=B": "x"}}, "spec.environmentVariables[A=B]", "FL3300"),
    ("ProxyConfig", {"environmentVariables": {"A": "\0"}}, "spec.environmentVariables.A", "FL3300"),
    ("ProxyConfig", {"image": {"imageType": "debug"}}, "spec.image", "FL0100"),
    ("ProxyConfig", {"threads": 1}, "spec.threads", "FL0003"),
    ("WorkloadGroup", {}, "spec.template", "FL0004"),
    ("WorkloadGroup", {"template": {"address": "10.0.0.1"}}, "spec.template.address", "FL0102"),
    ("WorkloadGroup", {"template": {"ports": {"http": 0}}}, "spec.template.ports.http", "FL0001"),
    ("WorkloadGroup", {"template": {"serviceAccount": "A b"}}, "spec.template.serviceAccount", "FL3302"),
    ("WorkloadGroup", {"template": {}, "metadata": {"labels": {"": "a"}}}, "spec.metadata.labels", "FL0001"),
    ("WorkloadGroup", {"template": {}, "probe": {}}, "spec.probe", "FL0004"),
    ("WorkloadGroup", {"template": {}, "probe": {"tcpSocket": {"port": 0}}}, "spec.probe.tcpSocket.port", "FL0001"),
    ("WorkloadGroup", {"template": {}, "probe": {"tcpSocket": {"port": "x"}}}, "spec.probe.tcpSocket.port", "FL0001"),
    (
        "WorkloadGroup",
        {"template": {}, "probe": {"tcpSocket": {"port": 1}, "periodSeconds": -1}},
        "spec.probe.periodSeconds",
        "FL0001",
    ),
    (
        "WorkloadGroup",
        {"template": {}, "probe": {"httpGet": {"port": 1, "scheme": "FTP"}}},
        "spec.probe.httpGet.scheme",
        "FL0001",
    ),
    ("WorkloadGroup", {"template": {}, "probe": {"exec": {"command": []}}}, "spec.probe.exec.command", "FL0004"),
]


@pytest.mark.parametrize(("kind", "spec", "path", "code"), FOUND, ids=[f"{one[0]} {one[2]}" for one in FOUND])
def test_findings_name_the_field(kind: str, spec: dict[str, Any], path: str, code: str) -> None:
    found = problems(kind, spec)
    assert any(one.startswith(path) and at == code for one, at in found), found


LEVELS = """
apiVersion: networking.istio.io/v1beta1
kind: ProxyConfig
metadata: {name: root, namespace: istio-system}
spec: {concurrency: 3, environmentVariables: {A: root, B: root, C: root, D: root, E: root}}
---
apiVersion: networking.istio.io/v1beta1
kind: ProxyConfig
metadata: {name: elsewhere, namespace: istio-system}
spec: {selector: {matchLabels: {app: web}}, concurrency: 9}
---
apiVersion: networking.istio.io/v1beta1
kind: ProxyConfig
metadata: {name: newer, namespace: shop, creationTimestamp: "2025-01-01T00:00:00Z"}
spec: {environmentVariables: {B: newer, C: newer}}
---
apiVersion: networking.istio.io/v1beta1
kind: ProxyConfig
metadata: {name: older, namespace: shop, creationTimestamp: "2024-01-01T00:00:00Z"}
spec: {environmentVariables: {C: older, D: older, E: older}}
---
apiVersion: networking.istio.io/v1beta1
kind: ProxyConfig
metadata: {name: web, namespace: shop}
spec: {selector: {matchLabels: {app: web}}, environmentVariables: {E: web}}
"""


def layers(namespace: str, **labels: str) -> StartLayers:
    starts = [one for _, one in engine(read(LEVELS)).items(PROXY_STARTS)]
    return layers_of(Mesh(proxy_concurrency=7, proxy_environment=(("Z", "mesh"),)), starts, namespace, labels)


def test_the_narrowest_wins_and_variables_merge_but_of_one_level_the_oldest_stands_alone() -> None:
    own = "proxyMetadata: {D: own, E: own}\nconcurrency: 0"
    found = effective(layers("shop", app="web"), {ANNOTATION: own})
    assert found.concurrency == 0
    said = {"A": "root", "B": "root", "C": "older", "D": "own", "E": "web", "Z": "mesh"}
    assert dict(found.environment) == said
    other = effective(layers("shop", app="db"), {})
    assert (other.concurrency, other.environment["E"]) == (3, "older")
    assert effective(layers("istio-system", app="web"), {}).concurrency == 9
    assert effective(layers_of(Mesh(), (), "shop", {}), {}) == effective(StartLayers(), {ANNOTATION: "not: [valid"})


def test_settings_of_the_start_come_field_by_field_from_the_narrowest() -> None:
    mesh = read_mesh_config(
        """
enablePrometheusMerge: false
defaultConfig:
  drainDuration: 20s
  extraStatTags: [one]
  proxyStatsMatcher: {inclusionPrefixes: [http.]}
  statusPort: 15020
"""
    ).mesh
    assert mesh is not None
    layers = layers_of(mesh, (), "shop", {})
    assert msgspec.json.decode(msgspec.json.encode(layers), type=StartLayers) == layers
    found = effective(layers, {ANNOTATION: "extraStatTags: [two]\nterminationDrainDuration: 3s"}).settings
    assert found == ProxySettings(
        drain_seconds=20,
        termination_seconds=3,
        extra_stat_tags=("two",),
        stats=StatsInclusion(("http.",)),
        merge_metrics=False,
    )


def test_a_process_is_told_what_its_annotation_says_wrong() -> None:
    def found(text: str) -> list[tuple[str, str]]:
        meta = {"name": "web", "namespace": "shop", "annotations": {"proxy.istio.io/config": text}}
        document = {"apiVersion": "fairlead.dev/v1alpha1", "kind": "Process", "metadata": meta}
        return [(one.code, one.message) for one in registry().read({**document, "spec": {"command": ["true"]}})[1]]

    assert found("concurrency: 2\nproxyMetadata: {A: b}") == []
    assert found("drainDuration: 5s\nproxyStatsMatcher: {inclusionPrefixes: [http.]}") == []
    assert found("configPath: /x") == [("FL0100", "configPath has no effect")]
    assert found("gatewayTopology: {numTrustedProxies: 2}\ntracing: {sampling: 5}") == []
    assert found("proxyHeaders: {attemptCount: {disabled: true}}") == []
    assert found("drainDuration: 0s")[0][1] == "drainDuration: 0s is not between 1 s and 86400 s"
    assert found("concurency: 2")[0][0] == "FL0003"
    assert found("concurrency: -2")
    assert found("{")[0][0] == "FL3300"


def test_the_entry_of_a_member() -> None:
    path = inputs("workloadgroup")[0]
    reviews = read(path.read_text())[0]
    made = entry_document("reviews", "u1", "shop", reviews.spec, "10.0.0.7", probed=True)
    assert made["metadata"]["name"] == entry_name("reviews", "10.0.0.7", "vms") == "reviews-10.0.0.7-vms"
    assert entry_name("reviews", "fd00::7") == "reviews-fd00--7"
    assert owned_group(made) == "reviews" and owned_group({"metadata": {}}) == ""
    obj, found = registry().read(made)
    assert obj is not None and not found
    spec = obj.spec
    assert (spec.network, spec.locality, spec.weight, spec.ports) == ("vms", "eu/a/1", 2, {"http": 9080})
    assert spec.labels["version"] == "v1" and obj.meta.labels["tier"] == "back"
    assert obj.meta.annotations["team"] == "books"
    assert obj.meta.owner_references[0].uid == "u1"


def test_nought_is_the_default_of_kubernetes() -> None:
    spec = {"template": {}, "probe": {"tcpSocket": {"port": 1}, "timeoutSeconds": 0, "periodSeconds": 0}}
    meta = {"name": "x", "namespace": "shop"}
    obj, _ = registry().read(
        {"apiVersion": "networking.istio.io/v1", "kind": "WorkloadGroup", "metadata": meta, "spec": spec}
    )
    assert obj is not None
    assert obj.spec.readiness() == Probe(tcp_socket=TCPSocket(1), timeout_seconds=1, period_seconds=10)
