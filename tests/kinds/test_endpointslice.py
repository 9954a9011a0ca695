"""EndpointSlice: instances of a Service beside those that its selector finds."""

from __future__ import annotations

from pathlib import Path

import pytest
from lowering import check, inputs

from fairlead.compiler import offline
from fairlead.compiler.endpoints import EndpointsKey, endpoints_of
from fairlead.compiler.model import MeshModel
from fairlead.compiler.nametable import TableKey, name_table
from fairlead.compiler.registry import registry
from fairlead.envoy.nds_pb2 import NameTable
from fairlead.ir.host import HostKey
from fairlead.kinds.endpointslice import KIND
from fairlead.model.diagnostic import Severity
from fairlead.model.yaml import parse_documents

DB = HostKey("db.shop.svc.cluster.local", "shop")
SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {SPECports: [{name: tcp, port: 5432}, {name: http, port: 80, targetPort: web}]}
"""
SLICE = """
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: NAME, namespace: shop, labels: {kubernetes.io/service-name: db}}
addressType: IPv4
endpoints: [{addresses: ADDRESSES}]
ports: PORTS
"""
WORKLOAD = """
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: w, namespace: shop}
spec: {address: 10.0.0.7, labels: {app: db, security.istio.io/tlsMode: istio}, ports: {web: 8080}}
"""


@pytest.mark.parametrize("path", inputs("endpointslice"), ids=lambda path: path.stem)
def test_golden(path: Path) -> None:
    check(path)


def listed(name: str, addresses: str, ports: str = "[{name: tcp, port: 5433}]", more: str = "") -> str:
    return SLICE.replace("NAME", name).replace("ADDRESSES", f"{addresses}{more}").replace("PORTS", ports)


def of(model: MeshModel, port: int) -> list[tuple[str, int, bool]]:
    return [(one.address, one.port, one.mtls) for one in model.engine.call(endpoints_of, EndpointsKey(DB, port))]


def loaded(*texts: str, spec: str = "") -> MeshModel:
    model = MeshModel()
    found = offline.load(model, parse_documents("---".join((SERVICE.replace("SPEC", spec), *texts))))
    assert [str(one) for one in found if one.severity is Severity.ERROR] == []
    return model


def test_instances_of_a_service_without_a_selector() -> None:
    made = loaded(
        listed("a", "[10.0.0.7, 10.0.0.8]"), listed("b", "[10.0.0.9]", "[{name: tcp}, {name: http, port: 1}]")
    )
    assert of(made, 5432) == [("10.0.0.7", 5433, False), ("10.0.0.8", 5433, False), ("10.0.0.9", 5432, False)]
    assert of(made, 80) == [("10.0.0.9", 1, False)], "only a slice with a port of that name"


def test_a_workload_that_the_selector_finds_counts_once() -> None:
    made = loaded(WORKLOAD, listed("a", "[10.0.0.7, 10.0.0.8]"), spec="selector: {app: db}, ")
    assert of(made, 5432) == [("10.0.0.7", 5432, True), ("10.0.0.8", 5433, False)]


def test_who_is_not_ready_and_other_services() -> None:
    unready = listed("a", "[10.0.0.7]", more=", conditions: {ready: false}")
    assert of(loaded(unready), 5432) == []
    assert of(loaded(unready, spec="publishNotReadyAddresses: true, "), 5432) == [("10.0.0.7", 5433, False)]
    assert of(loaded(listed("a", "[10.0.0.7]").replace("name: db}", "name: other}")), 5432) == []
    names = listed("a", "[db.example]").replace("IPv4", "FQDN")
    assert of(loaded(names), 5432) == []


@pytest.mark.parametrize(
    ("change", "codes"),
    [
        (("IPv4", "IPv6"), ["FL0001"]),
        (("addressType: IPv4", ""), []),
        (("[10.0.0.7]", "[]"), ["FL0004"]),
        (("[10.0.0.7]", "[x]"), ["FL0001"]),
        (("port: 5433", "port: 70000"), ["FL0001"]),
        (("port: 5433}", "port: 1}, {name: tcp}"), ["FL0001"]),
        (("name: tcp", "name: T_P"), ["FL0001"]),
        (("{kubernetes.io/service-name: db}", "{}"), ["FL0102"]),
        (("IPv4", "FQDN"), ["FL0100"]),
    ],
)
def test_validation(change: tuple[str, str], codes: list[str]) -> None:
    (document,) = parse_documents(listed("a", "[10.0.0.7]").replace(*change))
    _, found = registry().read(document.data)
    assert [one.code for one in found] == codes


def test_columns() -> None:
    (document,) = parse_documents(listed("a", "[10.0.0.7, 10.0.0.8]"))
    assert [one.value(document.data) for one in KIND.columns][:3] == ["IPv4", "5433", "10.0.0.7,10.0.0.8"]
    assert [one.value({}) for one in KIND.columns] == [None, "<unset>", "<unset>", None]


def test_instances_and_wildcards_have_names() -> None:
    wild = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: wild, namespace: shop}
spec: {hosts: ["*.example.com"], addresses: [240.0.0.9], resolution: STATIC, ports: [{number: 80, name: http}]}
"""
    listed = (
        "[{addresses: [10.0.0.7], hostname: db-0}, {addresses: [10.0.0.8], hostname: db-1, conditions: {ready: false}}]"
    )
    text = SLICE.replace("[{addresses: ADDRESSES}]", listed).replace("PORTS", "[{name: tcp, port: 5432}]")
    model = MeshModel()
    documents = "---".join((SERVICE.replace("SPEC", "clusterIP: None, "), text.replace("NAME", "one"), wild))
    assert not offline.load(model, parse_documents(documents))
    table = NameTable.FromString(model.engine.call(name_table, TableKey("", "shop")).body).table
    assert {name: list(one.ips) for name, one in table.items()} == {
        DB.hostname: ["10.0.0.7"],
        f"db-0.{DB.hostname}": ["10.0.0.7"],
        "*.example.com": ["240.0.0.9"],
    }
    assert table[f"db-0.{DB.hostname}"].shortname == "db-0.db"
