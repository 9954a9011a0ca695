"""Service, ServiceEntry and WorkloadEntry: goldens, exact problem paths, allocation."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from lowering import check, engine, inputs, read

from fairlead.compiler import offline
from fairlead.compiler.endpoints import EndpointsKey, endpoints_of, identities_of
from fairlead.compiler.model import MeshModel
from fairlead.compiler.registry import registry
from fairlead.envoy.resource import CLUSTER
from fairlead.ir.host import HOSTS, HostKey
from fairlead.ir.protocol import Protocol
from fairlead.ir.view import View
from fairlead.kinds.service.allocate import allocate
from fairlead.kinds.serviceentry.allocate import addresses as claims
from fairlead.kinds.serviceentry.allocate import allocate as give
from fairlead.model.launch import Capture
from fairlead.model.manifest import Manifest
from fairlead.model.yaml import parse_documents


@pytest.mark.parametrize(
    "path", inputs("service", "serviceentry", "workloadentry", "meshconfig"), ids=lambda path: path.stem
)
def test_golden(path: Path) -> None:
    check(path)


def document(name: str = "reviews", **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "shop"}, "spec": spec}


def test_a_service_gets_the_same_address_again() -> None:
    first, found = allocate(document(), set())
    assert found == []
    again, _ = allocate(document(), {"10.96.3.3"})
    assert first["spec"] == again["spec"]
    assert first["spec"]["clusterIPs"] == [first["spec"]["clusterIP"]]
    assert first["spec"]["ipFamilies"] == ["IPv4"]
    obj, _ = registry().read({**first, "spec": {**first["spec"], "ports": [{"port": 80}]}})
    assert obj is not None


def test_taken_addresses_are_passed_over_until_none_is_free() -> None:
    used: set[str] = set()
    for count in range(6):
        got, found = allocate(document(f"s{count}"), used, "10.0.0.0/29")
        assert found == []
        used.add(got["spec"]["clusterIP"])
    assert used == {f"10.0.0.{last}" for last in range(1, 7)}
    same, found = allocate(document("more"), used, "10.0.0.0/29")
    assert same == document("more")
    assert [(str(one.path), one.code) for one in found] == [("spec.clusterIP", "FL0102")]


def test_a_host_is_given_an_address_of_each_family_and_keeps_the_one_it_has() -> None:
    spec = {"hosts": ["a.example"], "resolution": "DNS", "ports": [{"number": 80, "name": "http"}]}
    meta = {"name": "a", "namespace": "shop"}
    entry: dict[str, Any] = {"kind": "ServiceEntry", "metadata": meta, "spec": spec}
    held = {"addresses": [{"value": "240.240.1.2", "host": "a.example"}]}
    kept, found = give({**entry, "status": held}, set())
    assert found == []
    assert [one["value"] for one in kept["status"]["addresses"]] == ["240.240.1.2", "2001:2::102"]
    assert give(kept, set())[0] == kept
    # Only the first is claimed: the other one follows from it.
    assert claims(kept) == ("240.240.1.2", "shop/a.example=240.240.1.2")
    given, _ = give(entry, {"240.240.1.2"})
    first, second = (ip_address(one["value"]) for one in given["status"]["addresses"])
    assert int(first) - int(ip_address("240.240.0.0")) == int(second) - int(ip_address("2001:2::"))


@pytest.mark.parametrize(
    ("asked", "message"),
    [("10.0.0.9", "not in the range"), ("10.0.0.2", "belongs to another"), ("x", "not an IP address")],
)
def test_an_address_that_is_asked_for_must_be_free(asked: str, message: str) -> None:
    _, found = allocate(document(clusterIP=asked), {"10.0.0.2"}, "10.0.0.0/29")
    assert [str(one.path) for one in found] == ["spec.clusterIP"]
    assert message in found[0].message


def test_headless_and_external_services_get_no_address() -> None:
    headless, found = allocate(document(clusterIP="None"), set())
    assert (headless["spec"]["clusterIPs"], found) == (["None"], [])
    external = document(type="ExternalName", externalName="a.b")
    assert allocate(external, set()) == (external, [])


def test_ipv6_range() -> None:
    got, found = allocate(document(), set(), "fd00:10::/112")
    assert found == []
    assert got["spec"]["clusterIP"].startswith("fd00:10::")
    assert got["spec"]["ipFamilies"] == ["IPv6"]


def test_defaults_are_kubernetes_own() -> None:
    default = registry().named("svc")[0].default
    assert default is not None
    filled = default(document(ports=[{"port": 80}]))["spec"]
    assert filled == {
        "type": "ClusterIP",
        "sessionAffinity": "None",
        "internalTrafficPolicy": "Cluster",
        "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
    }
    assert default(document(**filled))["spec"] == filled


ENTRY = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}, namespace: shop}}
spec:
  hosts: [api.example.com]
  resolution: {resolution}
  ports: [{{name: http, number: {port}, protocol: HTTP}}]
  endpoints: [{{address: {address}}}]
"""


def test_entries_of_one_host_are_joined_and_keep_their_own_endpoints() -> None:
    model = MeshModel()
    texts = [
        ENTRY.format(name="a", port=80, address="10.0.0.1", resolution="STATIC"),
        ENTRY.format(name="b", port=8080, address="10.0.0.2", resolution="STATIC"),
        ENTRY.format(name="c", port=80, address="c.example.com", resolution="DNS"),
    ]
    offline.load(model, parse_documents("---".join(texts)))
    key = HostKey("api.example.com", "shop")
    host = model.engine.get(HOSTS, key)
    assert host is not None
    assert [port.number for port in host.ports] == [80, 8080]
    got = {
        port: [one.address for one in model.engine.call(endpoints_of, EndpointsKey(key, port))] for port in (80, 8080)
    }
    assert got == {80: ["10.0.0.1"], 8080: ["10.0.0.2"]}
    [said] = model.diagnostics()
    assert (said.code, said.origin.ref.name) == ("FL0009", "c")


def test_one_number_for_udp_and_tcp() -> None:
    ports = "[{name: dns, port: 53, protocol: UDP}, {name: dns-tcp, port: 53, protocol: TCP}]"
    spec = f"{{clusterIP: 10.0.0.1, ports: {ports}}}"
    found = read(f"apiVersion: v1\nkind: Service\nmetadata: {{name: dns}}\nspec: {spec}")
    (host,) = (one for _, one in engine(found).items(HOSTS))
    assert [(one.name, one.protocol) for one in host.ports] == [("dns-tcp", Protocol.TCP)]
    model = MeshModel()
    model.apply(found)
    view = View("sidecar", "default", addresses=("10.0.0.2",), capture=Capture("redirect"))
    assert "outbound|53||dns.default.svc.cluster.local" in model.compile(view)[CLUSTER]


def networking(kind: str, name: str, spec: dict[str, Any], **meta: Any) -> dict[str, Any]:
    named = {"name": name, "namespace": "shop", **meta}
    return {"apiVersion": "networking.istio.io/v1", "kind": kind, "metadata": named, "spec": spec}


def test_workloads_with_names_for_addresses_are_for_hosts_that_are_looked_up() -> None:
    labels = {"app": "w"}
    model = MeshModel()
    ports = [{"number": 80, "name": "http", "protocol": "HTTP"}]
    common = {"location": "MESH_INTERNAL", "ports": ports, "workloadSelector": {"labels": labels}}
    documents = [
        networking("WorkloadEntry", "named", {"address": "vm.example.com"}, labels=labels),
        networking(
            "WorkloadEntry", "placed", {"address": "10.0.0.3", "labels": {"istio-locality": "r.z.s"}}, labels=labels
        ),
        networking("ServiceEntry", "static", {"hosts": ["static.test"], "resolution": "STATIC", **common}),
        networking("ServiceEntry", "dns", {"hosts": ["dns.test"], "resolution": "DNS", **common}),
        document("web", clusterIP="10.96.1.1", selector=labels, ports=[{"name": "http", "port": 80}]),
    ]
    assert offline.load(model, [Manifest(one) for one in documents]) == []
    found = {
        name: [
            (one.address, one.locality)
            for one in model.engine.call(endpoints_of, EndpointsKey(HostKey(name, "shop"), 80))
        ]
        for name in ("static.test", "dns.test", "web.shop.svc.cluster.local")
    }
    placed, named = ("10.0.0.3", "r/z/s"), ("vm.example.com", "")
    # Envoy refuses all endpoints that it gets with a name among them.
    assert found == {"static.test": [placed], "dns.test": [named, placed], "web.shop.svc.cluster.local": [placed]}
    with model.opened(View("sidecar", "shop", ())):
        assert {str(one.origin.ref.name) for one in model.diagnostics() if one.code == "FL0313"} == {"named"}


def test_the_target_port_of_a_host_that_is_dialled_by_address_and_its_closeness() -> None:
    entry = networking(
        "ServiceEntry",
        "far",
        {"hosts": ["far.test"], "ports": [{"number": 80, "name": "http", "protocol": "HTTP", "targetPort": 8080}]},
        annotations={"networking.istio.io/traffic-distribution": "PreferClose"},
    )
    model = MeshModel()
    assert offline.load(model, [Manifest(entry)]) == []
    body = model.compile(View("sidecar", "shop", ()))[CLUSTER]["outbound|80||far.test"].body
    assert Cluster.FromString(body).original_dst_lb_config.upstream_port_override.value == 8080
    [(_, host)] = model.engine.items(HOSTS)
    assert host.locality is not None and host.locality.forced


def test_accounts_that_annotations_name_may_stand_behind_a_service() -> None:
    text = """
apiVersion: v1
kind: Service
metadata:
  name: web
  namespace: shop
  annotations:
    alpha.istio.io/kubernetes-serviceaccounts: old, older
    alpha.istio.io/canonical-serviceaccounts: "vm@example.org"
spec: {clusterIP: 10.9.0.1, selector: {app: web}, ports: [{name: http, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: web-0, namespace: shop}
spec: {address: 10.0.0.9, labels: {app: web, security.istio.io/tlsMode: istio}, serviceAccount: new}
"""
    model = MeshModel()
    assert not offline.load(model, parse_documents(text))
    found = model.engine.call(identities_of, HostKey("web.shop.svc.cluster.local", "shop"))
    accounts = [f"spiffe://cluster.local/ns/shop/sa/{one}" for one in ("new", "old", "older")]
    assert found == (*accounts, "vm@example.org")


@pytest.mark.parametrize(
    ("kind", "field", "name", "value", "code"),
    [
        ("Namespace", "labels", "istio.io/dataplane-mode", "ambient", "FL0100"),
        ("Namespace", "labels", "istio.io/dataplane-mode", "none", ""),
        ("Namespace", "annotations", "topology.istio.io/controlPlaneClusters", "one", "FL0100"),
        ("Service", "labels", "istio.io/use-waypoint", "waypoint", "FL0100"),
        ("Service", "annotations", "traffic.istio.io/nodeSelector", "{}", "FL0100"),
        ("Service", "annotations", "networking.istio.io/traffic-distribution", "PreferClose", ""),
    ],
)
def test_what_means_something_elsewhere_only_is_named(kind: str, field: str, name: str, value: str, code: str) -> None:
    meta = {"name": "shop", "namespace": "shop" if kind == "Service" else "", field: {name: value}}
    spec = {"spec": {"ports": [{"port": 80}]}} if kind == "Service" else {}
    _, problems = registry().read({"apiVersion": "v1", "kind": kind, "metadata": meta, **spec})
    assert [(str(one.path), one.code) for one in problems] == ([(f"metadata.{field}[{name}]", code)] if code else [])
