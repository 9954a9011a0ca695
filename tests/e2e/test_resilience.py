"""Localities, warm-up, retry budgets, tunnels and PROXY protocol: DestinationRules over endpoints of no mesh."""

from __future__ import annotations

import contextlib
import socketserver
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.e2e.apps import App
from tests.e2e.conftest import HTTP, World
from tests.e2e.mesh import Response, eventually
from tests.loopback import free_port

WHERE = f"placed.example:{HTTP}"
RAW = 19055
ENTRY = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: placed, namespace: app}
spec:
  hosts: [placed.example]
  resolution: STATIC
  ports: [{number: 18080, name: http, protocol: HTTP}]
  endpoints:
"""
RULE = """
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: placed, namespace: app}
spec:
  host: placed.example
  trafficPolicy:
"""


def entry(*endpoints: tuple[App, str]) -> str:
    """The host with these endpoints and localities."""
    return ENTRY + "\n".join(f"    - {{address: {app.address}, locality: {at}}}" for app, at in endpoints)


def shares(world: World, times: int) -> Counter[str]:
    """Who answers how many requests of a client in eu/a/1."""
    return Counter(world.client.get(WHERE, proxied=True).instance for _ in range(times))


def test_another_region_takes_over_and_gives_back(world: World) -> None:
    address = world.mesh.addresses().application
    near, same_region, far = App("near", address).serve_http(HTTP), world.apps["echo-1"], world.apps["echo-2"]
    policy = """
    outlierDetection: {consecutive5xxErrors: 1, interval: 200ms, baseEjectionTime: 1s, maxEjectionPercent: 100}
    loadBalancer: {localityLbSetting: {failover: [{from: eu, to: us}]}}
    connectionPool: {http: {maxRequestsPerConnection: 1}}  # an application that ends must not answer on old connections
"""
    try:
        with world.mesh.config(entry((near, "eu/a/1"), (same_region, "eu/b/1"), (far, "us/a/1")) + RULE + policy):
            assert shares(world, 20) == {"near": 20}
            near.close()
            eventually(lambda: shares(world, 5) == {"echo-1": 5}, "the same region takes over")
            same_region.status = 503
            eventually(lambda: shares(world, 5) == {"echo-2": 5}, "the other region takes over")
            same_region.status = 200
            near = App("near", address).serve_http(HTTP)
            eventually(lambda: shares(world, 5) == {"near": 5}, "the closest takes back")
    finally:
        near.close()


PEER = """
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: zoned-peer, namespace: app}
spec: {address: 192.0.2.7, locality: eu/b/1, labels: {service.istio.io/workload-name: zoned}}
"""


def test_calls_stay_in_the_zone_as_far_as_its_share_goes(world: World) -> None:
    mesh = world.mesh
    knowing = {"ISTIO_META_ENABLE_SELF_DISCOVERY": "true"}
    zoned = mesh.add("zoned", service_account="client", locality="eu/a/1", labels={"app": "zoned"}, proxy_env=knowing)
    policy = "    loadBalancer: {zoneAwareLbSetting: {minClusterSize: 1}}\n"
    servers = [(world.apps["echo-1"], "eu/a/1"), (world.apps["echo-2"], "eu/b/1"), (world.apps["legacy"], "us/a/1")]

    def found() -> Counter[str]:
        return Counter(zoned.get(WHERE, proxied=True).instance for _ in range(20))

    try:
        mesh.start(zoned)
        stored = zoned.entry()
        stored["spec"]["locality"] = "eu/a/1"
        mesh.plane.api.apply(stored)
        with mesh.config(entry(*servers) + RULE + policy):
            with mesh.config(PEER):
                # A half of the callers and a half of the servers are in each zone: nobody needs to leave it.
                eventually(lambda: found() == {"echo-1": 20}, "calls stay in the zone")
            # All callers are in a zone with half of the servers: the other half takes its share, the other region none.
            eventually(lambda: set(found()) == {"echo-1", "echo-2"}, "calls leave the zone")
            mesh.apply(RULE + policy.replace("minClusterSize: 1", "enabled: false"))
            eventually(lambda: set(found()) == {"echo-1", "echo-2", "legacy"}, "nobody minds zones")
    finally:
        zoned.stop()
        del mesh.workloads["zoned"]
        mesh.plane.api.delete(zoned.entry())


def test_priority_by_labels(world: World) -> None:
    one, two = world.apps["echo-1"].address, world.apps["echo-2"].address
    endpoints = f"""    - {{address: {one}, labels: {{app: other}}}}
    - {{address: {two}, labels: {{app: client}}}}"""
    policy = """
    outlierDetection: {consecutive5xxErrors: 5}
    loadBalancer: {localityLbSetting: {failoverPriority: [app]}}
"""
    with world.mesh.config(ENTRY + endpoints + RULE + policy):
        assert shares(world, 10) == {"echo-2": 10}


def test_distribution_by_percent(world: World) -> None:
    policy = """
    loadBalancer:
      localityLbSetting:
        distribute:
          - {from: us/*, to: {us/*: 100}}
          - {from: eu/a/*, to: {eu/*: 80, us/*: 20}}
"""
    one, two, three = (world.apps[name] for name in ("echo-1", "echo-2", "legacy"))
    with world.mesh.config(entry((one, "eu/a/1"), (two, "us/a/1"), (three, "asia/a/1")) + RULE + policy):
        found = shares(world, 200)
    # Six standard deviations around what was asked for.
    assert set(found) == {"echo-1", "echo-2"}
    assert 126 <= found["echo-1"] <= 194


def test_a_new_endpoint_warms_up(world: World) -> None:
    window = 6.0
    policy = "    loadBalancer: {simple: ROUND_ROBIN, warmup: {duration: 6s, minimumPercent: 10}}\n"
    old, new = (world.apps["echo-1"], "eu/a/1"), (world.apps["echo-2"], "eu/a/1")
    with world.mesh.config(entry(old) + RULE + policy):
        known = time.monotonic()
        eventually(lambda: time.monotonic() - known > window, "the first endpoint is no longer new")
        world.mesh.apply(entry(old, new))
        first = shares(world, 40)
        assert 0 < first["echo-2"] <= 15, first
        eventually(lambda: shares(world, 20)["echo-2"] >= 9, "the second endpoint has its full share")


@pytest.mark.parametrize("interval", ["0s", "100ms"])
def test_a_budget_limits_retries(world: World, interval: str) -> None:
    policy = f"    retryBudget: {{percent: 1, minRetryConcurrency: 1, budgetInterval: {interval}}}\n"
    retries = """
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: placed, namespace: app}
spec:
  hosts: [placed.example]
  http: [{retries: {attempts: 3, retryOn: 5xx}, route: [{destination: {host: placed.example}}]}]
"""
    app = world.apps["echo-1"]
    with world.mesh.config(entry((app, "eu/a/1")) + RULE + policy + retries), ThreadPoolExecutor(8) as pool:
        app.status = 503
        found = list(pool.map(lambda _: world.client.get(WHERE, "/?delay=0.2", proxied=True).status, range(8)))
        assert found == [503] * 8
    # Without the budget it would be four times eight.
    assert 8 < len(app.seen) < 20


def test_names_are_looked_up_as_clients_ask(world: World) -> None:
    port = free_port()
    entry = f"""
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: anywhere, namespace: app}}
spec:
  hosts: ["*.localhost"]
  resolution: DYNAMIC_DNS
  ports: [{{number: {port}, name: http, protocol: HTTP}}]
"""
    app = App("looked-up", "127.0.0.1").serve_http(port)
    try:
        with world.mesh.config(entry):
            for name in ("one.localhost", "two.localhost"):
                found = world.client.get(f"{name}:{port}", proxied=True)
                assert (found.status, found.instance) == (200, "looked-up")
            assert f"outbound|{port}||*.localhost::127.0.0.1:{port}::" in world.client.admin("/clusters")
    finally:
        app.close()


def test_tls_to_names_that_are_looked_up_is_for_the_name(world: World) -> None:
    """What the proxy verifies is the name that the client has asked for, without the port."""
    port, certificates = free_port(), world.certificates
    app = App("looked-up", "127.0.0.1").serve_tls(port, certificates.server("one.localhost"))
    text = f"""
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: anywhere, namespace: app}}
spec:
  hosts: ["*.localhost"]
  resolution: DYNAMIC_DNS
  location: MESH_EXTERNAL
  ports: [{{number: {port}, name: http, protocol: HTTP}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: anywhere, namespace: app}}
spec:
  host: "*.localhost"
  trafficPolicy: {{tls: {{mode: SIMPLE, caCertificates: {certificates.root_file}}}}}
"""
    try:
        with world.mesh.config(text):

            def ask(name: str) -> Response:
                return world.client.get(f"{name}.localhost:{port}", proxied=True)

            # Who asks first may find the name not looked up yet.
            eventually(lambda: ask("one").status == 200, "the name is looked up")
            assert ask("one").instance == "looked-up"
            assert ask("two").status == 503
            # Not because nobody answers.
            assert ask("one").status == 200
    finally:
        app.close()


class _Raw(socketserver.StreamRequestHandler):
    """Answers CONNECT as a proxy that is its own destination; tells the first line that it got to every later one."""

    def handle(self) -> None:
        first = self.rfile.readline().decode().strip()
        if first.startswith("CONNECT"):
            while self.rfile.readline().strip():
                pass
            self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
            self.wfile.flush()
        for line in self.rfile:
            self.wfile.write(f"{first} | {line.decode()}".encode())


@contextlib.contextmanager
def raw(world: World) -> Iterator[tuple[str, int]]:
    address = world.mesh.addresses().application
    with socketserver.ThreadingTCPServer((address, free_port(address)), _Raw) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1})
        thread.start()
        try:
            yield server.server_address  # type: ignore[misc]
        finally:
            server.shutdown()
            thread.join()


def test_tunnels_and_proxy_protocol(world: World) -> None:
    entry = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: raw, namespace: app}
spec:
  hosts: [raw.example]
  resolution: STATIC
  ports: [{number: PORT, name: tcp, protocol: TCP, targetPort: TARGET}]
  endpoints: [{address: ADDRESS}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: raw, namespace: app}
spec:
  host: raw.example
  trafficPolicy:
"""
    with raw(world) as (address, port):
        said = entry.replace("PORT", str(RAW)).replace("TARGET", str(port)).replace("ADDRESS", address)
        with world.mesh.config(said + "    tunnel: {protocol: CONNECT, targetHost: db.example, targetPort: 5432}\n"):
            found = eventually(lambda: world.client.line(RAW), "an answer through the tunnel")
            assert found == "CONNECT db.example:5432 HTTP/1.1 | hello"
        with world.mesh.config(said + "    proxyProtocol: {version: V1}\n"):
            found = eventually(lambda: world.client.line(RAW), "an answer")
            assert found.startswith("PROXY TCP4 127.")
            assert found.endswith("| hello")
