"""What a Sidecar lets its proxies call: the situations of Istio's tests of sidecar scopes, told by clusters."""

from __future__ import annotations

from typing import Any

import pytest
from tests.compiler.test_precedence import compiled, networking

from fairlead.envoy.resource import CLUSTER, ENDPOINT
from fairlead.ir.view import View
from fairlead.model.launch import Capture

Json = dict[str, Any]
CLIENT = View("sidecar", "me", (("app", "client"),), addresses=("10.1.1.1",), capture=Capture("redirect"))


def entry(name: str, namespace: str, host: str, *ports: int, created: int = 0, **spec: Any) -> Json:
    listed = [{"number": one, "name": f"http-{one}", "protocol": "HTTP"} for one in ports]
    made = {"hosts": [host], "ports": listed, "resolution": "STATIC", "endpoints": [{"address": "9.9.9.9"}], **spec}
    return networking("ServiceEntry", name, made, namespace, created)


def sidecar(*egress: tuple[int, str] | str, protocol: str = "HTTP") -> Json:
    said: list[Json] = []
    for one in egress:
        port, hosts = one if isinstance(one, tuple) else (0, one)
        bound: Json = {"bind": "127.0.0.1"} if protocol == "HTTP_PROXY" else {}
        at: Json = {"port": {"number": port, "protocol": protocol, "name": f"p{port}"}, **bound} if port else {}
        said.append({"hosts": hosts.split(), **at})
    return networking("Sidecar", "default", {"egress": said}, "me")


def to(host: str, port: int = 0) -> Json:
    return {"host": host, **({"port": {"number": port}} if port else {})}


def rules(*http: Json, **more: Any) -> Json:
    said = {"hosts": ["virtual.foo"], **({"http": list(http)} if http else {}), **more}
    return networking("VirtualService", "virtual", said, "foo")


def route(*hosts: Json, **more: Any) -> Json:
    return {"route": [{"destination": one} for one in hosts], **more}


TWO = [entry("foo", "ns1", "foo.x", 7000, 7443), entry("baz", "ns3", "baz.x", 7000, 7443)]
MANY = [*TWO, entry("bar", "ns2", "bar.x", 7442, 7443), entry("prime", "ns3", "prime.x", 7442)]
RULED = "foo/virtual.foo"
LIMIT = {"name": "all", "per": [{"attribute": "ADDRESS"}]}
SNI = {"match": [{"sniHosts": ["virtual.foo"]}]}


@pytest.mark.parametrize(
    ("documents", "wanted"),
    [
        pytest.param(
            [entry("bar", "foo", "bar.x", 8000, 7000), sidecar((8000, "foo/*"))], "8000 bar", id="other-ports-trimmed"
        ),
        pytest.param(
            [entry("bar", "foo", "bar.x", 8000, 7000, 9000), sidecar((8000, "foo/*"), (7000, "foo/*"))],
            "7000 bar, 8000 bar",
            id="ports-of-listeners-add-up",
        ),
        pytest.param(
            [entry("bar", "foo", "bar.x", 8000, 7000), sidecar((8000, "foo/*"), "*/*")],
            "7000 bar, 8000 bar",
            id="a-listener-for-the-rest-imports-all",
        ),
        pytest.param(
            [*MANY, sidecar((7443, "*/*"), (7442, "ns2/*"))],
            "7442 bar, 7443 bar, 7443 baz, 7443 foo",
            id="a-port-from-one-namespace",
        ),
        pytest.param(
            [*MANY, sidecar((3128, "*/*"), protocol="HTTP_PROXY")],
            "7000 baz, 7000 foo, 7442 bar, 7442 prime, 7443 bar, 7443 baz, 7443 foo",
            id="a-proxy-for-any-port",
        ),
        pytest.param(
            [*MANY, rules(route(to("baz.x"), mirror=to("foo.x"))), sidecar((3128, RULED), protocol="HTTP_PROXY")],
            "7000 baz, 7000 foo, 7443 baz, 7443 foo",
            id="destinations-without-a-port",
        ),
        pytest.param(
            [*TWO, rules(route(to("baz.x", 7000), mirror=to("foo.x", 7000))), sidecar(RULED)],
            "7000 baz, 7000 foo",
            id="destinations-with-a-port",
        ),
        pytest.param(
            [*TWO, rules(route(to("baz.x", 7000)), route(to("baz.x"))), sidecar(RULED)],
            "7000 baz, 7443 baz",
            id="destinations-with-a-port-and-without",
        ),
        pytest.param(
            [*TWO, rules(route(to("baz.x", 80))), sidecar(RULED)], "", id="destinations-with-a-port-that-is-not-there"
        ),
        pytest.param([*TWO, rules(tcp=[route(to("baz.x", 7000))]), sidecar(RULED)], "7000 baz", id="tcp"),
        pytest.param([*TWO, rules(tls=[route(to("baz.x", 7000), **SNI)]), sidecar(RULED)], "7000 baz", id="tls"),
        pytest.param(
            [*TWO, rules(route(to("foo.x", 7000))), sidecar((7443, f"{RULED} ns1/*"))],
            "7000 foo, 7443 foo",
            id="a-port-of-a-listener-and-one-of-a-rule",
        ),
        pytest.param(
            [
                *MANY,
                rules(
                    route(to("foo.x"), match=[{"sourceNamespace": "other"}]),
                    route(to("bar.x"), match=[{"sourceNamespace": "other"}, {"sourceNamespace": "me"}]),
                    route(to("baz.x")),
                ),
                sidecar(RULED),
            ],
            "7000 baz, 7442 bar, 7443 bar, 7443 baz",
            id="rules-for-clients-of-other-namespaces",
        ),
        pytest.param(
            [
                entry("one", "ns1", "foo.x", 7443),
                entry("two", "ns2", "foo.x", 8000),
                rules(route(to("foo.x"))),
                sidecar(f"{RULED} ns2/foo.x"),
            ],
            "8000 foo",
            id="what-is-imported-before-what-is-led-to",
        ),
        pytest.param(
            [
                entry("one", "ns1", "foo.x", 7443),
                entry("two", "me", "foo.x", 8000, created=5),
                rules(route(to("foo.x"))),
                sidecar(RULED),
            ],
            "8000 foo",
            id="the-own-namespace-first",
        ),
        pytest.param(
            [
                entry("one", "ns1", "foo.x", 7443, exportTo=["."]),
                entry("two", "ns2", "foo.x", 8000, created=5),
                rules(route(to("foo.x"))),
                sidecar(RULED),
            ],
            "8000 foo",
            id="what-is-shown",
        ),
        pytest.param(
            # Istio takes the first namespace by name here; the oldest counts wherever else several claim a name.
            [
                entry("one", "ns1", "foo.x", 7443, created=5),
                entry("two", "ns2", "foo.x", 8000),
                rules(route(to("foo.x"))),
                sidecar(RULED),
            ],
            "8000 foo",
            id="else-the-oldest",
        ),
    ],
)
def test_ports_that_clients_may_call(documents: list[Json], wanted: str) -> None:
    made = compiled(*documents, view=CLIENT)
    for kind in (CLUSTER, ENDPOINT):
        found = sorted(name.split("|") for name in made[kind] if name.startswith("outbound|"))
        assert ", ".join(f"{port} {host.removesuffix('.x')}" for _, port, _, host in found) == wanted


def test_what_proxies_call_by_themselves_is_there_whatever_a_sidecar_says() -> None:
    settings = """
extensionProviders:
  - name: opa
    envoyExtAuthzGrpc: {service: foo.x, port: 7443}
"""
    mesh: Json = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio", "namespace": "istio-system"}}
    limits: Json = {
        "apiVersion": "fairlead.dev/v1alpha1",
        "kind": "RateLimit",
        "metadata": {"name": "limits", "namespace": "me"},
        "spec": {"global": {"host": "baz.x", "port": 7443, "domain": "d", "descriptors": [LIMIT]}},
    }
    made = compiled(*TWO, {**mesh, "data": {"mesh": settings}}, limits, sidecar((7000, "ns1/*")), view=CLIENT)
    found = {name for name in made[CLUSTER] if name.endswith(".x")}
    assert found == {f"outbound|{port}||{host}.x" for port in (7000, 7443) for host in ("foo", "baz")}
