"""What becomes of endpoints, and in how many events it is told."""

from __future__ import annotations

from typing import Any

import pytest

from fairlead.compiler.model import MeshModel
from fairlead.compiler.offline import load
from fairlead.compiler.roster import Move, Roster
from fairlead.model.ref import Ref
from fairlead.model.yaml import parse_documents

SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {ports: [{name: http, port: 80}], selector: {app: cart}}
"""
ENTRY = """
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: c1, namespace: shop}
spec: {address: 10.0.0.1, labels: {app: cart}, locality: eu/a}
"""
LISTED = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: db, namespace: shop}
spec:
  hosts: [db.example.com]
  addresses: [240.1.1.1]
  ports: [{number: 3306, name: tcp, protocol: TCP}]
  resolution: STATIC
  endpoints: [{address: 10.1.0.1, locality: eu/a}, {address: 10.1.0.2}]
"""
SICK = f'{ENTRY}status: {{conditions: [{{type: Healthy, status: "False"}}]}}\n'
CART, DB = "cart.shop.svc.cluster.local", "db.example.com"


def _loaded(model: MeshModel, *texts: str) -> None:
    assert not load(model, [one for text in texts for one in parse_documents(text.encode(), "mesh.yaml")])


def _short(move: Move) -> tuple[Any, ...]:
    return (move.sort, move.hosts, move.address, move.origin.name)


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ((SERVICE,), (ENTRY,), [("added", (CART,), "10.0.0.1", "c1")]),
        ((ENTRY,), (SERVICE,), [("added", (CART,), "10.0.0.1", "cart")]),
        ((SERVICE, ENTRY), (SICK,), [("unhealthy", (CART,), "10.0.0.1", "c1")]),
        ((SERVICE, SICK), (ENTRY,), [("healthy", (CART,), "10.0.0.1", "c1")]),
        ((SERVICE, ENTRY), (ENTRY.replace("eu/a", "eu/b"),), [("moved", (CART,), "10.0.0.1", "c1")]),
        ((SERVICE, ENTRY), (ENTRY.replace("10.0.0.1", "10.0.0.9"),), [("moved", (CART,), "10.0.0.9", "c1")]),
        ((SERVICE, ENTRY), (ENTRY.replace("app: cart", "app: web"),), [("removed", (CART,), "10.0.0.1", "c1")]),
        ((SERVICE, ENTRY), (SERVICE.replace("app: cart", "app: web"),), [("removed", (CART,), "10.0.0.1", "cart")]),
        ((SERVICE, ENTRY), (SERVICE.replace("port: 80", "port: 81"), ENTRY), []),
        ((ENTRY,), (SICK,), []),
        (
            (LISTED,),
            (LISTED.replace("10.1.0.1, locality: eu/a}, {address: 10.1.0.2", "10.1.0.2}, {address: 10.1.0.3"),),
            [("removed", (DB,), "10.1.0.1", "db"), ("added", (DB,), "10.1.0.3", "db")],
        ),
        ((LISTED,), (LISTED.replace("eu/a", "eu/b"),), [("moved", (DB,), "10.1.0.1", "db")]),
    ],
)
def test_each_endpoint_is_told_of_once(before: tuple[str, ...], after: tuple[str, ...], told: list[Any]) -> None:
    model = MeshModel()
    _loaded(model, *before)
    roster = Roster(model.engine)
    assert roster.moves() == []
    _loaded(model, *after)
    found = roster.moves()
    assert [_short(one) for one in found] == told
    for one in found:
        assert (one.before != one.after) == (one.sort == "moved")
    assert roster.moves() == []


def test_what_goes_with_its_host_or_by_itself_is_removed_and_a_supposition_is_not_told() -> None:
    model = MeshModel()
    _loaded(model, SERVICE, ENTRY, LISTED)
    roster = Roster(model.engine)
    service, entry, listed = (
        Ref("", "Service", "shop", "cart"),
        Ref("networking.istio.io", "WorkloadEntry", "shop", "c1"),
        Ref("networking.istio.io", "ServiceEntry", "shop", "db"),
    )
    with model.supposing((), [service, entry, listed]):
        pass
    assert roster.moves() == []
    model.apply((), [service])
    assert [_short(one) for one in roster.moves()] == [("removed", (CART,), "10.0.0.1", "cart")]
    model.apply((), [entry])
    assert roster.moves() == [], "it was nobody's any more"
    model.apply((), [listed])
    assert [_short(one) for one in roster.moves()] == [
        ("removed", (DB,), "10.1.0.1", "db"),
        ("removed", (DB,), "10.1.0.2", "db"),
    ]


def test_a_host_defined_again_loses_and_gets_its_endpoints() -> None:
    model = MeshModel()
    _loaded(model, SERVICE, ENTRY)
    roster = Roster(model.engine)
    model.apply((), [Ref("", "Service", "shop", "cart")])
    roster.moves()
    _loaded(model, SERVICE)
    assert [_short(one) for one in roster.moves()] == [("added", (CART,), "10.0.0.1", "cart")]
