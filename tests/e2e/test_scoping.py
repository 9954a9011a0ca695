"""What proxies see and who decides: Sidecars, delegates, HTTPRoutes, and addresses for hosts without any."""

from __future__ import annotations

from tests.e2e.conftest import World
from tests.e2e.mesh import eventually

ECHO = "echo:18080"
UNSERVED = 503
"""What the service `second` answers: it has no instance."""


def test_a_sidecar_hides_hosts_and_says_what_happens_to_them(world: World) -> None:
    text = """
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: narrow, namespace: app}
spec:
  workloadSelector: {labels: {app: client}}
  egress: [{hosts: [./echo.app.svc.cluster.local, "*/barrier.test"]}]
  outboundTrafficPolicy: {mode: REGISTRY_ONLY}
"""
    assert world.client.get("second.app:18080", proxied=True).status == UNSERVED
    with world.mesh.config(text):
        assert world.client.get(ECHO).status == 200
        assert eventually(lambda: world.client.get("second.app:18080", proxied=True).status == 502, "no way to second")
        clusters = world.client.admin("/clusters")
        assert "outbound|18080||echo.app" in clusters
        assert "outbound|18080||second.app" not in clusters
        # Others are not limited.
        assert world.outsider.get("second.app:18080", proxied=True).status == UNSERVED
    assert eventually(lambda: world.client.get("second.app:18080", proxied=True).status == UNSERVED, "second again")


def test_calls_to_hosts_that_are_not_seen_go_to_the_egress_proxy(world: World) -> None:
    text = """
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: narrow, namespace: app}
spec:
  workloadSelector: {labels: {app: client}}
  egress: [{hosts: [./second.app.svc.cluster.local, "*/barrier.test"]}]
  outboundTrafficPolicy:
    mode: ALLOW_ANY
    egressProxy: {host: echo.app.svc.cluster.local, port: {number: 18080}}
"""
    with world.mesh.config(text):
        found = eventually(lambda: world.client.get("nobody.example:80", proxied=True), "the egress proxy's answer")
        assert found.instance in ("echo-1", "echo-2")


def test_ingress_leads_to_another_port_of_the_application(world: World) -> None:
    text = """
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: served, namespace: app}
spec:
  workloadSelector: {labels: {app: echo}}
  inboundConnectionPool: {tcp: {maxConnections: 50}}
  ingress:
  - {port: {number: 18080, protocol: HTTP, name: http}, defaultEndpoint: "127.0.0.1:18081"}
"""
    with world.mesh.config(text):
        assert world.client.get(ECHO).status == 200
        clusters = world.echo1.admin("/config_dump?resource=dynamic_active_clusters")
        assert "inbound|18080||" in clusters
        assert "inbound|19000||" not in clusters


def test_a_delegate_decides_for_its_part(world: World) -> None:
    text = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: root, namespace: app}
spec:
  hosts: [echo]
  http:
  - match: [{uri: {prefix: /team}}]
    delegate: {name: team, namespace: other}
    headers: {response: {set: {x-root: "yes"}}}
  - route: [{destination: {host: second}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: team, namespace: other}
spec:
  http:
  - match: [{uri: {prefix: /elsewhere}}]
    directResponse: {status: 500}
  - match: [{uri: {exact: /team/tea}}]
    directResponse: {status: 418}
  - route: [{destination: {host: echo.app.svc.cluster.local, subset: v1}}]
"""
    with world.mesh.config(text):
        assert world.client.get(ECHO, "/team/tea").status == 418
        found = world.client.get(ECHO, "/team/a")
        assert (found.instance, found.headers.get("x-root")) == ("echo-1", "yes")
        assert world.client.get(ECHO, "/elsewhere").status == UNSERVED


def test_http_routes_of_producers_and_consumers(world: World) -> None:
    producer = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: echo, namespace: app}
spec:
  parentRefs: [{group: "", kind: Service, name: echo, port: 18080}]
  rules:
  - backendRefs: [{name: second, port: 18080}]
  - matches: [{path: {type: PathPrefix, value: /own}}]
    filters:
    - {type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}}
    - {type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-route, value: own}]}}
    backendRefs: [{name: echo, port: 18080}]
  - matches: [{path: {type: Exact, value: /nobody}}]
"""
    consumer = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: mine, namespace: other}
spec:
  parentRefs: [{group: "", kind: Service, name: echo, namespace: app}]
  rules: [{backendRefs: [{name: echo, namespace: app, port: 18080}]}]
"""
    with world.mesh.config(producer):
        assert world.client.get(ECHO).status == UNSERVED
        own = world.client.get(ECHO, "/own/x")
        assert own.instance.startswith("echo")
        assert (own.body["path"], own.headers["x-route"]) == ("/x", "own")
        assert world.client.get(ECHO, "/ownership").status == UNSERVED
        assert world.client.get(ECHO, "/nobody").status == 500
        with world.mesh.config(consumer):
            assert world.outsider.get(ECHO, host="echo.app:18080").instance.startswith("echo")
            assert world.client.get(ECHO).status == UNSERVED


def test_an_entry_without_addresses_keeps_the_one_that_it_was_given(world: World) -> None:
    text = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: bank, namespace: app}
spec:
  hosts: [bank.example]
  ports: [{number: 9443, name: tcp, protocol: TCP}]
  resolution: STATIC
  endpoints: [{address: 127.0.0.1}]
"""
    with world.mesh.config(text) as [entry]:
        given = world.mesh.plane.api.get(entry)["status"]["addresses"]
        assert [one["host"] for one in given] == ["bank.example", "bank.example"]
        assert given[0]["value"].startswith("240.240.")
        assert given[1]["value"].startswith("2001:2::")
        again = world.mesh.plane.api.apply({**entry, "spec": {**entry["spec"], "location": "MESH_INTERNAL"}})
        assert again["status"]["addresses"] == given
