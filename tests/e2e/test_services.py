"""Where traffic may go: ServiceEntries, headless services, what is not in the mesh, and the mesh's own settings."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.apps import App
from tests.e2e.conftest import World
from tests.e2e.mesh import eventually, steadily
from tests.loopback import free_port


def entry(text: str) -> str:
    """A ServiceEntry called `outside`."""
    return f"""
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: outside, namespace: app}}
spec:
{text}
"""


def test_service_entry_static(world: World) -> None:
    text = f"""
  hosts: [outside.example]
  ports: [{{number: 18086, name: http, protocol: HTTP}}]
  resolution: STATIC
  endpoints:
    - {{address: {world.legacy_address}, ports: {{http: 18080}}}}
"""
    with world.mesh.config(entry(text)):
        found = world.client.get("outside.example:18086")
        assert found.instance == "legacy"
        # It has no identity: it is spoken to without TLS.
        assert "x-forwarded-client-cert" not in found.body["headers"]
        assert world.client.get("outside.example:18086", proxied=True).instance == "legacy"


def test_service_entry_dns(world: World) -> None:
    port = free_port()
    app = App("local", "127.0.0.1").serve_http(port)
    text = f"""
  hosts: [outside.example]
  ports: [{{number: 18086, name: http, protocol: HTTP}}]
  resolution: DNS
  endpoints: [{{address: localhost, ports: {{http: {port}}}}}]
"""
    try:
        with world.mesh.config(entry(text)):
            assert eventually(lambda: world.client.get("outside.example:18086").instance == "local")
    finally:
        app.close()


def test_service_entry_is_seen_where_it_is_exported(world: World) -> None:
    text = f"""
  hosts: [outside.example]
  exportTo: ["."]
  ports: [{{number: 18080, name: http, protocol: HTTP}}]
  resolution: STATIC
  endpoints: [{{address: {world.legacy_address}}}]
"""
    with world.mesh.config(entry(text)):
        assert world.client.get("outside.example:18080").instance == "legacy"
        assert world.outsider.get("outside.example:18080").instance != "legacy"


def test_service_entry_selects_workloads(world: World) -> None:
    text = """
  hosts: [selected.example]
  location: MESH_INTERNAL
  ports: [{number: 18080, name: http, protocol: HTTP}]
  resolution: STATIC
  workloadSelector: {labels: {app: echo, version: v2}}
"""
    with world.mesh.config(entry(text)):
        found = {world.client.get("selected.example:18080").instance for _ in range(6)}
        assert found == {"echo-2"}
        assert "x-forwarded-client-cert" in world.client.get("selected.example:18080").body["headers"]


def test_headless_service(world: World) -> None:
    text = """
apiVersion: v1
kind: Service
metadata: {name: headless, namespace: app}
spec:
  clusterIP: None
  selector: {app: echo}
  ports: [{name: http, port: 18080}]
"""
    with world.mesh.config(text):
        found = {world.client.get("headless:18080").instance for _ in range(10)}
        assert found == {"echo-1", "echo-2"}


def test_a_workload_without_a_sidecar_is_spoken_to_in_plaintext(world: World) -> None:
    text = f"""
apiVersion: v1
kind: Service
metadata: {{name: mixed, namespace: app}}
spec:
  selector: {{mixed: "yes"}}
  ports: [{{name: http, port: 18080}}]
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: legacy, namespace: app}}
spec: {{address: {world.legacy_address}, labels: {{mixed: "yes"}}}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: meshed, namespace: app}}
spec: {{address: {world.echo1.address}, labels: {{mixed: "yes"}}, serviceAccount: echo}}
"""
    with world.mesh.config(text):
        found = [world.client.get("mixed:18080") for _ in range(12)]
        secured = {one.instance: "x-forwarded-client-cert" in one.body["headers"] for one in found}
        assert secured == {"legacy": False, "echo-1": True}


def test_an_unhealthy_workload_gets_no_requests(world: World) -> None:
    ref = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "WorkloadEntry",
        "metadata": {"name": "echo-2", "namespace": "app"},
    }
    at = "/apis/networking.istio.io/v1/namespaces/app/workloadentries/echo-2/status"
    api = world.mesh.plane.api
    good = api.get(ref)["status"]

    def report(status: str) -> None:
        conditions = [{**one, "status": status} if one["type"] == "Healthy" else one for one in good["conditions"]]
        api.request("PATCH", at, {"status": {"conditions": conditions}}, "application/merge-patch+json")

    report("False")
    try:
        steadily(lambda: world.client.get("echo:18080").instance == "echo-1")
    finally:
        report("True")
    eventually(lambda: world.client.get("echo:18080").instance == "echo-2")


def settings(text: str) -> str:
    """The mesh's ConfigMap."""
    data = json.dumps({"mesh": text})
    return f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\ndata: {data}\n"


def test_outbound_policy_by_http_proxy(world: World) -> None:
    unknown = f"{world.legacy_address}:18080"
    with world.mesh.config(settings("outboundTrafficPolicy: {mode: REGISTRY_ONLY}")):
        assert eventually(lambda: world.client.get(unknown, proxied=True).status == 502)
        assert world.client.get("echo:18080", proxied=True).status == 200
        assert world.client.get("echo:18080", host="nobody.example").status == 502


def test_requests_to_unknown_names_may_go_by_tls(world: World) -> None:
    """The proxy begins TLS with whoever the name leads to, and verifies that it is the one of that name."""
    port, certificates = free_port(), world.certificates
    app = App("far", "127.0.0.1").serve_tls(port, certificates.server("one.localhost"))
    policy = "outboundTrafficPolicy: {{mode: ALLOW_ANY_DYNAMIC_DNS, tls: {{mode: SIMPLE, {}}}}}"

    def asked(name: str) -> tuple[int, str]:
        found = world.client.get(f"{name}:{port}", proxied=True)
        return found.status, found.instance if found.status == 200 else ""

    try:
        with world.mesh.config(settings(policy.format(f"caCertificates: {certificates.root_file}"))):
            assert eventually(lambda: asked("one.localhost") == (200, "far"))
            assert asked("two.localhost") == (503, ""), "its certificate is for another name"
        with world.mesh.config(settings(policy.format("insecureSkipVerify: true"))):
            assert eventually(lambda: asked("two.localhost") == (200, "far"))
    finally:
        app.close()


@pytest.fixture
def log() -> Iterator[Path]:
    """A file that Envoys may write."""
    with tempfile.TemporaryDirectory(prefix="fl-log-") as directory:
        yield Path(directory) / "access.log"


def test_access_log_in_the_format_that_is_wanted(world: World, log: Path) -> None:
    wanted = f'accessLogFile: {log}\naccessLogFormat: "%REQ(X-MARK)% %RESPONSE_CODE% %UPSTREAM_CLUSTER_RAW%\\n"'
    with world.mesh.config(settings(wanted)):

        def logged(text: str) -> bool:
            fill(world)
            return any(one.endswith(text) for one in log.read_text().splitlines())

        assert eventually(lambda: logged(" 200 outbound|18080||echo.app.svc.cluster.local"))
        assert eventually(lambda: logged(" 200 inbound|18080||"))


def test_access_log_as_json(world: World, log: Path) -> None:
    with world.mesh.config(settings(f"accessLogFile: {log}\naccessLogEncoding: JSON")):

        def written() -> list[dict[str, object]]:
            fill(world)
            lines = [json.loads(one) for one in log.read_text().splitlines() if one.endswith("}")]
            return [one for one in lines if str(one["path"]).startswith("/?filling")]

        found = eventually(written)[0]
        assert (found["response_code"], found["method"]) == (200, "GET")


def fill(world: World) -> None:
    """Enough requests that Envoy writes its log now: it does so every 64 kB, or every 10 s."""
    big = "x" * 12000
    for _ in range(6):
        assert world.client.get("echo:18080", f"/?filling={big}", headers={"x-mark": big}).status == 200
