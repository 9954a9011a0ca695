"""`serviceEntryVisibility` of MeshConfig: who sees what ServiceEntries declare, whatever their exportTo."""

from __future__ import annotations

import pytest
from tests.compiler.test_meshsettings import SCENE, SIDECAR, mesh_of

from fairlead.compiler.model import MeshModel
from fairlead.compiler.offline import load
from fairlead.envoy.resource import CLUSTER
from fairlead.ir.view import View
from fairlead.model.yaml import parse_documents

DECLARED = """
{apiVersion: v1, kind: Namespace, metadata: {name: team, labels: {kind: team}}}
---
{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: all, namespace: team},
 spec: {hosts: [all.test], resolution: DNS, ports: [{number: 80, name: http, protocol: HTTP}]}}
---
{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: there, namespace: team},
 spec: {hosts: [there.test], exportTo: [shop], resolution: DNS, ports: [{number: 80, name: http, protocol: HTTP}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: plain, namespace: team}, spec: {ports: [{name: http, port: 80}]}}
---
{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: root, namespace: istio-system},
 spec: {hosts: [root.test], resolution: DNS, ports: [{number: 80, name: http, protocol: HTTP}]}}
"""
PLAIN, TEAM = "plain.team.svc.cluster.local", View("sidecar", "team", addresses=("10.1.0.8",))
BY_ROOT = "{visibility: PUBLIC, matchingRules: [{namespaceSelector: {matchLabels: {%s: istio-system}}}]}"
ALL = "{visibility: NONE}"
CEILINGS: list[tuple[str, set[str], set[str]]] = [
    ("{defaultVisibility: NAMESPACE}", {"all.test", "there.test", "root.test"}, {"all.test", "root.test"}),
    ("{applyToSidecars: true}", {"all.test", "there.test", "root.test"}, {"all.test", "root.test"}),
    ("{applyToSidecars: true, defaultVisibility: NAMESPACE}", set(), {"all.test"}),
    ("{applyToSidecars: true, defaultVisibility: NONE}", set(), set()),
    ("{applyToSidecars: true, defaultVisibility: NAMESPACE, policies: [" + BY_ROOT + "]}", {"root.test"},
     {"all.test", "root.test"}),
    ("{applyToSidecars: true, policies: [" + BY_ROOT + ", " + ALL + "]}", {"root.test"}, {"root.test"}),
    ("{applyToSidecars: true, policies: [" + ALL + ", " + BY_ROOT + "]}", set(), set()),
    ("{applyToSidecars: true, policies: [{visibility: NONE, matchingRules: [{}]}]}",
     {"all.test", "there.test", "root.test"}, {"all.test", "root.test"}),
    ("{applyToSidecars: true, policies: [{visibility: NONE, matchingRules: [{namespaceSelector: {matchLabels: {kind: "
     "team}}}, {namespaceSelector: {matchExpressions: [{key: kind, operator: DoesNotExist}]}}]}]}",
     {"all.test", "there.test", "root.test"}, {"all.test", "root.test"}),
]  # fmt: skip


def _declared(model: MeshModel, view: View) -> set[str]:
    return {name.split("|")[3] for name in model.compile(view)[CLUSTER] if name.endswith((".test", PLAIN))}


@pytest.mark.parametrize(("said", "shop", "team"), CEILINGS, ids=[one[0] for one in CEILINGS])
def test_declared_hosts_are_seen_no_farther_than_the_mesh_lets_them(said: str, shop: set[str], team: set[str]) -> None:
    """Services are seen as ever; what an entry says itself can only be less than what the mesh says."""
    text = said.replace("%s", "kubernetes.io/metadata.name")
    head = (
        "apiVersion: mesh.istio.io/v1alpha1\nkind: MeshConfig\nmetadata: {name: istio}\nspec: {serviceEntryVisibility: "
    )
    model = MeshModel()
    documents = [one for part in (SCENE, DECLARED, head + text + "}") for one in parse_documents(part, "scene")]
    found = load(model, documents)
    warned = "applyToSidecars" not in text or "matchingRules: [{}]" in text
    assert [one.code for one in found if "serviceEntryVisibility" in str(one.origin.path)] == ["FL0100"] * warned
    assert (_declared(model, SIDECAR) - {PLAIN}, _declared(model, TEAM) - {PLAIN}) == (shop, team)
    assert PLAIN in _declared(model, SIDECAR)


def test_a_label_of_a_namespace_shows_what_its_entries_declare() -> None:
    policy = "{visibility: PUBLIC, matchingRules: [{namespaceSelector: {matchLabels: {open: 'yes'}}}]}"
    said = f"{{applyToSidecars: true, defaultVisibility: NAMESPACE, policies: [{policy}]}}"
    model = mesh_of(f"{{serviceEntryVisibility: {said}, defaultServiceExportTo: [shop, istio-system]}}", DECLARED)
    assert (_declared(model, SIDECAR), _declared(model, TEAM)) == ({PLAIN}, set())
    labelled = "{apiVersion: v1, kind: Namespace, metadata: {name: team, labels: {open: 'yes'}}}"
    load(model, parse_documents(labelled, "change"))
    assert _declared(model, SIDECAR) == {PLAIN, "all.test", "there.test"}
