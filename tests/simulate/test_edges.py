"""What comes to gateways in other ways: over QUIC, by the PROXY protocol, with certificates of clients."""

from __future__ import annotations

from typing import Any

import pytest

from fairlead.simulate.arrival import NobodyError
from fairlead.simulate.mesh import Mesh
from tests.simulate.meshes import call, failing, mesh
from tests.simulate.test_walk import GATEWAY


def settings(spec: str) -> str:
    return f"\n---\napiVersion: mesh.istio.io/v1alpha1\nkind: MeshConfig\nmetadata: {{name: istio}}\nspec: {spec}\n"


HTTP3 = settings("{fairlead: {http3: true}}")
PROXIED = settings("{defaultConfig: {gatewayTopology: {proxyProtocol: {}}}}")


def test_http3_goes_over_the_quic_listener_to_the_same_routes() -> None:
    where = mesh(GATEWAY, HTTP3)
    asked = {"tls": True, "protocol": "http3"}
    found = call(where, "shop.example", 443, "internet", path="/reviews/1", **asked)
    assert found.verdict.reached
    assert found.verdict.listener == "udp_0.0.0.0_443"
    assert call(where, "shop.example", 443, "internet", path="/none", **asked).verdict.details == "route_not_found"
    assert call(where, "other.example", 443, "internet", **asked).verdict.details == "filter_chain_not_found"
    assert call(where, "shop.example", 80, "internet", **asked).verdict.details == "connection_refused"
    assert call(mesh(GATEWAY), "shop.example", 443, "internet", **asked).verdict.details == "connection_refused"
    with pytest.raises(NobodyError, match="sidecars take TCP only"):
        call(where, protocol="http3", tls=True)


def test_the_proxy_protocol_is_a_doubt_and_the_walk_goes_on() -> None:
    found = call(mesh(GATEWAY, PROXIED), "shop.example", 443, "internet", tls=True, path="/reviews/1")
    assert found.verdict.reached
    (doubt,) = found.verdict.undecided
    assert "PROXY protocol" in doubt


@pytest.mark.parametrize(
    ("asked", "status", "details"),
    [
        ({"path": "/reviews%2f1"}, 307, "path_normalization_failed"),
        ({"path": "/reviews%2f1", "protocol": "grpc"}, 200, "path_normalization_failed"),
        ({"headers": (("x_a", "1"),)}, 400, "http1.unexpected_underscore"),
        ({"headers": (("x_a", "1"),), "protocol": "http2"}, 0, "http2.unexpected_underscore"),
        ({"path": "/reviews//1"}, 200, ""),
    ],
)
def test_what_gateways_at_the_edge_do_not_take(asked: dict[str, Any], status: int, details: str) -> None:
    where = mesh(GATEWAY, settings("{defaultConfig: {connectionSettings: {profile: EDGE}}}"))
    found = call(where, "shop.example", 443, "internet", tls=True, **{"path": "/reviews/1", **asked})
    assert (found.verdict.status, found.verdict.details) == (status, details or found.verdict.details)
    assert found.verdict.reached == (not details)


@pytest.mark.parametrize(
    ("mode", "certificate", "why"),
    [
        ("SIMPLE", "", ""),
        ("SIMPLE", "invalid", ""),
        ("MUTUAL", "valid", ""),
        ("MUTUAL", "", "shows no certificate"),
        ("MUTUAL", "invalid", "of no authority that the port takes"),
        ("OPTIONAL_MUTUAL", "", ""),
        ("OPTIONAL_MUTUAL", "valid", ""),
        ("OPTIONAL_MUTUAL", "invalid", "of no authority that the port takes"),
    ],
)
def test_certificates_of_clients(mode: str, certificate: str, why: str) -> None:
    where: Mesh = mesh(GATEWAY.replace("mode: SIMPLE", f"mode: {mode}"))
    found = call(where, "shop.example", 443, "internet", tls=True, path="/reviews/1", certificate=certificate)
    assert found.verdict.reached == (not why)
    if why:
        assert why in failing(found).said
        assert found.verdict.details == "tls_handshake"


IPV6 = """
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: six, namespace: shop}
spec: {address: "fd00::6", labels: {app: six}, serviceAccount: six}
---
apiVersion: v1
kind: Service
metadata: {name: six, namespace: shop}
spec: {selector: {app: six}, clusterIP: "fd09::6", ports: [{name: http, port: 80, targetPort: 9080}]}
"""


@pytest.mark.parametrize(("caller", "listener"), [("six", "::_80"), ("web", "virtualOutbound")])
def test_a_listener_at_any_address_takes_calls_of_its_family_only(caller: str, listener: str) -> None:
    found = call(mesh(IPV6), "six", 80, caller, address="fd09::6")
    assert found.verdict.listener == listener
    # Past its proxy nobody answers at the service's own address.
    assert bool(found.verdict.undecided) == (caller == "web")


def test_a_caller_dials_an_address_of_its_own_family() -> None:
    where = mesh(IPV6.replace('clusterIP: "fd09::6"', 'clusterIP: 10.9.0.6, clusterIPs: [10.9.0.6, "fd09::6"]'))
    for caller, address in (("six", "fd09::6"), ("web", "10.9.0.6")):
        found = call(where, "six", 80, caller)
        assert address in found.steps[0].said or address in found.steps[0].met
