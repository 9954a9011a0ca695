"""Sidecars that get clusters when they need them: the first call waits for its cluster, and is answered."""

from __future__ import annotations

from tests.e2e.conftest import World
from tests.e2e.mesh import Workload, eventually

MANY = 8
"""Few enough that the control plane never holds the push in which they all go."""
ECHO = "echo.app.svc.cluster.local"
UNSERVED = 503


def _services() -> str:
    one = """
apiVersion: v1
kind: Service
metadata: {{name: many-{0}, namespace: app}}
spec:
  selector: {{app: {1}}}
  ports: [{{name: http, port: 18080}}]
"""
    copied = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: copied, namespace: app}
spec:
  hosts: [many-2]
  http: [{route: [{destination: {host: many-2}}], mirror: {host: many-3}}]
"""
    return "---".join([*(one.format(number, "nobody" if number else "echo") for number in range(MANY)), copied])


def _clusters(workload: Workload) -> set[str]:
    names = {line.partition("::")[0] for line in workload.admin("/clusters").splitlines()}
    return {name for name in names if name.startswith("outbound|")}


def _cluster(name: str, port: int = 18080) -> str:
    return f"outbound|{port}||{name}.app.svc.cluster.local"


def _hosts(clusters: set[str]) -> set[str]:
    return {one.split("|")[3] for one in clusters}


def _known(world: World) -> set[str]:
    found = world.mesh.plane.api.request("GET", "/fairlead/v1/traffic?workload=asking.asking")
    return {one["host"] for calls in found["calls"] for one in calls["services"]}


def test_the_first_call_to_a_host_brings_its_cluster(world: World) -> None:
    mesh = world.mesh
    asking = mesh.add("asking", namespace="asking", labels={"app": "asking"}, on_demand="true")
    mesh.start(asking)
    try:
        with mesh.config(_services()):
            # What bytes may go to stands: TCP, TLS and what is detected; and so does what requests are copied to.
            seen = _clusters(asking)
            assert {_cluster("echo", 19000), _cluster("echo", 19443), _cluster("echo", 17000)} <= seen
            assert _cluster("many-3") in seen
            assert not {_cluster("echo"), _cluster("many-1"), _cluster("many-2")} & seen
            others = {one for one in _clusters(world.outsider) if "|many-" in one}
            assert len(others) == MANY, "nothing changes for those who have not asked for it"
            # The first call is answered, and brings nothing else.
            assert asking.get("echo.app:18080").status == 200
            assert _hosts(_clusters(asking) - seen) == {ECHO}
            # A body is kept meanwhile, and goes on.
            assert asking.get("many-0.app:18080", method="POST", body=b"x" * 2_000_000, proxied=True).status == 200
            assert asking.get("many-1.app:18080").status == UNSERVED and _cluster("many-1") in _clusters(asking)
            called = {ECHO, "many-0.app.svc.cluster.local", "many-1.app.svc.cluster.local"}
            assert _known(world) == called
            # The control plane remembers what was asked for, and so does the proxy.
            mesh.plane.stop()
            mesh.plane.start()
            eventually(lambda: "asking" in str(mesh.proxies()), "the proxy is back")
            assert _known(world) == called
            mesh.barrier()
            assert _hosts(_clusters(asking) - seen) == called
            assert asking.get("echo.app:18080").status == 200
            assert asking.get("many-2.app:18080").status == UNSERVED and _cluster("many-2") in _clusters(asking)
    finally:
        asking.stop()
