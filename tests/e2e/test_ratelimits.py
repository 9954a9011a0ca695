"""Global limits in a running mesh: a server of Envoy's rate limit protocol decides, is away, comes back."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
from envoy.service.ratelimit.v3 import rls_pb2, rls_pb2_grpc

from tests.e2e.conftest import World
from tests.e2e.mesh import eventually, request, steadily
from tests.loopback import free_port

ECHO = "echo:18080"
EDGE = 18066
SERVER = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: limits, namespace: app}}
spec:
  hosts: [limits.example]
  location: MESH_EXTERNAL
  ports: [{{number: 8081, name: grpc, protocol: GRPC}}]
  resolution: STATIC
  endpoints: [{{address: {address}, ports: {{grpc: {port}}}}}]
"""
LIMITS = """
---
apiVersion: fairlead.dev/v1alpha1
kind: RateLimit
metadata: {name: shared, namespace: app}
spec:
  selector: {matchLabels: {app: echo}}
  MORE
  global:
    host: limits.example
    port: 8081
    domain: shop
    timeout: 5s
    failureMode: MODE
    descriptors:
    - {name: caller, when: {paths: ["/counted*"]}, per: [{attribute: PRINCIPAL}]}
    - {name: write, when: {methods: [POST], paths: ["/api/*"]}, per: [{header: x-user}, {attribute: METHOD}]}
"""
AT_THE_EDGE = """
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: limited, namespace: edge}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 18066, name: http, protocol: HTTP}, bind: GATEWAY, hosts: [limited.test]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: limited, namespace: app}
spec:
  hosts: [limited.test]
  gateways: [edge/limited]
  http: [{route: [{destination: {host: echo, port: {number: 18080}}}]}]
---
apiVersion: fairlead.dev/v1alpha1
kind: RateLimit
metadata: {name: edge, namespace: edge}
spec:
  selector: {matchLabels: {istio: ingressgateway}}
  global: {host: limits.example, port: 8081, domain: edge, descriptors: [{name: address, per: [{attribute: ADDRESS}]}]}
"""
Descriptor = tuple[str, tuple[tuple[str, str], ...]]


class Limiter(rls_pb2_grpc.RateLimitServiceServicer):
    """Lets so many requests of each descriptor through as `most` says of its first entry, and counts them."""

    def __init__(self, **most: int) -> None:
        self.most = most
        self.counted: Counter[Descriptor] = Counter()
        self._lock = threading.Lock()

    def ShouldRateLimit(self, request: Any, context: Any) -> Any:
        over = rls_pb2.RateLimitResponse.OVER_LIMIT
        answer = rls_pb2.RateLimitResponse(overall_code=rls_pb2.RateLimitResponse.OK)
        for one in request.descriptors:
            key = request.domain, tuple((entry.key, entry.value) for entry in one.entries)
            with self._lock:
                self.counted[key] += 1
                left = self.most.get(one.entries[0].value, 1000) - self.counted[key]
            status = answer.statuses.add(code=over if left < 0 else rls_pb2.RateLimitResponse.OK)
            status.current_limit.requests_per_unit = self.most.get(one.entries[0].value, 1000)
            status.current_limit.unit = rls_pb2.RateLimitResponse.RateLimit.HOUR
            status.limit_remaining = max(left, 0)
            answer.overall_code = max(answer.overall_code, status.code)
        return answer


@contextmanager
def serving(limiter: Limiter, address: str, port: int) -> Iterator[None]:
    """The server, for as long as the block."""
    server = grpc.server(ThreadPoolExecutor(4))
    rls_pb2_grpc.add_RateLimitServiceServicer_to_server(limiter, server)
    assert server.add_insecure_port(f"{address}:{port}") == port
    server.start()
    try:
        yield
    finally:
        server.stop(0).wait()


def limits(mode: str, more: str = "") -> str:
    return LIMITS.replace("MODE", mode).replace("  MORE\n", more)


def test_a_server_counts_for_all_and_may_be_away(world: World) -> None:
    mesh, address, port = world.mesh, world.legacy_address, free_port(world.legacy_address)

    def counted(path: str = "/counted", **more: Any) -> int:
        return world.client.get(ECHO, path, **more).status

    limiter = Limiter(caller=4, write=1)
    with mesh.config(SERVER.format(address=address, port=port)), mesh.config(limits("DENY")):
        with serving(limiter, address, port):
            # Two instances, one count. Callers are told apart by their certificates.
            eventually(lambda: counted("/counted?warm") in (200, 429) and limiter.counted, "the server is asked")
            caller = ("shop", (("limit", "caller"), ("principal", "spiffe://cluster.local/ns/app/sa/client")))
            eventually(lambda: counted() == 429 and limiter.counted[caller] >= 5, "the limit of the caller")
            over = world.client.get(ECHO, "/counted")
            assert over.headers["x-ratelimit-limit"].startswith("4, 4;w=3600") and "x-instance" not in over.headers
            other = world.outsider.get("echo.app.svc.cluster.local:18080", "/counted")
            assert (other.status, other.headers["x-ratelimit-remaining"]) == (200, "3")
            # Routes and what requests say: only what a limit is for is counted at all.
            for user, statuses in (("ann", [200, 429]), ("bob", [200])):
                said = {"x-user": user}
                assert [counted("/api/x", method="POST", headers=said) for _ in statuses] == statuses
            assert counted("/api/x", headers={"x-user": "ann"}) == counted("/api/x", method="POST") == 200
            write = ("shop", (("limit", "write"), ("header.x-user", "ann"), ("method", "POST")))
            assert limiter.counted[write] == 2
            # Counted only, and another status.
            with mesh.config(limits("DENY", "  shadow: true\n")):
                steadily(lambda: counted() == 200)
            mesh.apply(limits("DENY", "  status: 503\n"))
            steadily(lambda: counted() == 503)
            mesh.apply(limits("DENY"))
        # The server is away.
        steadily(lambda: counted() == 500)
        assert counted("/free") == 200
        mesh.apply(limits("ALLOW"))
        steadily(lambda: counted() == 200)
        limiter.most["caller"] = 0
        with serving(limiter, address, port):
            eventually(lambda: counted() == 429, "the server is asked again", 40)
            with mesh.config(AT_THE_EDGE):
                limiter.most["address"] = 2
                at = world.gateway.address
                eventually(lambda: request(at, EDGE, host="limited.test").status == 429, "the limit at the edge")
                ((_, entries),) = [one for one in limiter.counted if one[0] == "edge"]
                assert [key for key, _ in entries] == ["limit", "remote_address"]
