"""Wasm modules by URL in a running mesh: fetched, refused, recovered, and there after a restart without anyone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.apps import App
from tests.e2e.conftest import World
from tests.e2e.mesh import Workload, eventually
from tests.e2e.test_control import condition
from tests.wasm.registry import LOGIN, Registry, docker_config, module, registry, tarred

PLUGGED = "plugged:18080"
SHA = hashlib.sha256(module()).hexdigest()
SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: plugged, namespace: app}
spec: {selector: {app: plugged}, ports: [{name: http, port: 18080}]}
"""
PLUGIN = """
apiVersion: extensions.istio.io/v1alpha1
kind: WasmPlugin
metadata: {name: plugin, namespace: app}
spec: {selector: {matchLabels: {app: plugged}}, match: [{mode: SERVER}], url: "%s", %s}
"""
SECRET = """
apiVersion: v1
kind: Secret
metadata: {name: login, namespace: app}
type: kubernetes.io/dockerconfigjson
stringData: {.dockerconfigjson: '%s'}
---
"""


@pytest.fixture
def server() -> Iterator[Registry]:
    with registry() as made:
        yield made


@pytest.fixture
def plugged(world: World, server: Registry, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workload]:
    """A workload whose agent may use the registry, although that has no TLS."""
    monkeypatch.setenv("WASM_INSECURE_REGISTRIES", f"other.test,{server.host}")
    labels = {"app": "plugged"}
    made = world.mesh.add("plugged-1", service_account="plugged", labels=labels, ports={"http": 18080})
    app = App("plugged-1", made.app).serve_http(18080)
    try:
        world.mesh.start(made)
        with world.mesh.config(SERVICE):
            eventually(lambda: world.client.get(PLUGGED).status == 200, "the workload")
            yield made
    finally:
        made.stop()
        app.close()
        del world.mesh.workloads["plugged-1"]
        world.mesh.plane.api.delete(made.entry())


def test_modules_by_url(world: World, plugged: Workload, server: Registry, tmp_path: Path) -> None:
    mesh = world.mesh

    def runs() -> bool:
        answer = world.client.get(PLUGGED)
        return answer.status == 200 and answer.body["headers"].get("x-wasm") == "true"

    def said(status: str, words: str) -> bool:
        found = condition(mesh, plugin, "Programmed")
        return found.get("status") == status and words in found.get("message", "")

    # Fails closed while the checksum is wrong, and says so; with the right one it runs.
    server.answers["/m.wasm"] = module()
    url = f"http://{server.host}/m.wasm"
    with mesh.config(PLUGIN % (url, f"sha256: '{'0' * 64}'")) as (plugin,):
        eventually(lambda: world.client.get(PLUGGED).status == 403, "that nothing gets through")
        eventually(lambda: said("False", f"is {SHA}, not {'0' * 64}"), "the reason")
        mesh.apply(PLUGIN % (url, f"sha256: '{SHA}'"))
        eventually(runs, "the module over HTTP")
        eventually(lambda: said("True", ""), "the condition")

    # A file of the host is checked, too.
    file = tmp_path / "m.wasm"
    file.write_bytes(module())
    with mesh.config(PLUGIN % (f"file://{file}", f"sha256: '{'1' * 64}'")) as (plugin,):
        eventually(lambda: said("False", f"the file is {SHA}, not {'1' * 64}"), "the reason")
        assert world.client.get(PLUGGED).status == 403
        mesh.apply(PLUGIN % (f"file://{file}", f"sha256: '{SHA}'"))
        eventually(runs, "the module of the file")

    # From a registry with a login; it is not there at first, and then everything becomes good by itself.
    server.auth = "bearer"
    more = "imagePullSecret: login, imagePullPolicy: Always, failStrategy: FAIL_OPEN"
    documents = SECRET % docker_config(server.host) + PLUGIN % (f"oci://{server.host}/plugin:1", more)
    with mesh.config(documents) as (_, plugin):
        eventually(lambda: said("False", "answered 404"), "the reason")
        assert world.client.get(PLUGGED).status == 200
        server.put("plugin", tarred(module()), "application/vnd.oci.image.layer.v1.tar+gzip")
        eventually(runs, "the module of the registry")
        eventually(lambda: said("True", ""), "the condition")
        # What Envoy runs, and what operators are shown, has no credentials.
        shown = plugged.admin("/config_dump?include_eds")
        assert "plugin" in shown
        for secret in (LOGIN[1], "PULL_SECRET", "dockerconfig", docker_config(server.host)[-20:-5]):
            assert secret not in shown

        # Everyone away: Envoy and the agent start anew with what is on disk.
        asked = len(server.asked)
        server.answers.clear()
        mesh.plane.stop()
        try:
            plugged.stop()
            plugged.start()
            eventually(plugged.ready, "the restart without a control plane")
            eventually(runs, "the module from the cache")
            assert len(server.asked) == asked
        finally:
            mesh.plane.start()
        eventually(lambda: len(mesh.proxies()) == len(mesh.workloads), "all proxies are back", 60)
        mesh.barrier()
