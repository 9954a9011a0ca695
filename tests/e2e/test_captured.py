"""Transparent capture: an application in a network namespace of its own, which knows of no proxy. Needs root."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

import fairlead.agent.launcher
from fairlead.model.launch import Capture
from fairlead.node.capture.namespace import Namespaces
from tests.e2e.conftest import World
from tests.e2e.mesh import Workload, eventually
from tests.e2e.test_security import peer
from tests.e2e.test_services import entry, settings

pytestmark = pytest.mark.root

ASK = """
import http.client, json, socket, sys
def http_(host, port, path="/"):
    try:
        link = http.client.HTTPConnection(host, port, timeout=10)
        link.request("GET", path)
        answer = link.getresponse()
        answer.read()
        return answer.getheader("x-instance") or answer.status
    except (OSError, http.client.HTTPException) as error:
        return type(error).__name__
def tcp(host, port):
    try:
        with socket.create_connection((host, port), timeout=10) as stream:
            stream.sendall(b"hi there\\n")
            return stream.recv(100).decode().strip()
    except OSError as error:
        return type(error).__name__
print(json.dumps([{"http": http_, "tcp": tcp}[how](host, port) for how, host, port in json.loads(sys.argv[1])]))
"""


class Walled:
    """A workload in a namespace, and what its application finds when it calls."""

    def __init__(self, workload: Workload, netns: str) -> None:
        self.workload = workload
        self._netns = netns

    def ask(self, *calls: tuple[str, str, int]) -> list[object]:
        """Make calls (http or tcp, host, port) from inside."""
        launcher = [sys.executable, "-I", "-S", fairlead.agent.launcher.__file__, str(os.getpid()), self._netns]
        command = [*launcher, sys.executable, "-I", "-S", "-c", ASK, json.dumps(calls)]
        return json.loads(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout)


@pytest.fixture(scope="module")
def walled(world: World) -> Iterator[Walled]:
    mesh = world.mesh
    namespaces = Namespaces(mesh.directory, str(mesh.block.network))
    refused = asyncio.run(namespaces.refused())
    if refused:
        pytest.skip(f"no network namespaces here: {refused}")
    name = namespaces.name("app", "walled")
    asyncio.run(namespaces.create(name))
    path = namespaces.path(name)
    workload = mesh.add("walled", labels={"app": "walled"}, capture=Capture("netns", netns=path))
    # Its application has no proxy to dial, so that it cannot be asked for marks.
    del mesh.workloads["walled"]
    try:
        mesh.start(workload)
        yield Walled(workload, path)
    finally:
        workload.stop()
        mesh.plane.api.delete(workload.entry())
        asyncio.run(namespaces.remove(name))


def test_names_and_addresses_reach_services(walled: Walled, world: World) -> None:
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "echo", "namespace": "app"}}
    vip = world.mesh.plane.api.get(service)["spec"]["clusterIP"]
    found = walled.ask(("http", "echo", 18080), ("tcp", "echo.app", 19000), ("http", vip, 18080), ("tcp", vip, 19000))
    assert {str(one).partition(" ")[0] for one in found} <= {"echo-1", "echo-2"}, found
    seen = [one for app in world.apps.values() for one in app.seen if "headers" in one]
    assert all("sa/walled" in one["headers"]["x-forwarded-client-cert"] for one in seen)


def test_outbound_policy(walled: Walled, world: World) -> None:
    calls = (("http", world.legacy_address, 18080), ("tcp", world.legacy_address, 19000))
    assert walled.ask(*calls) == ["legacy", "legacy hi there"]
    with world.mesh.config(settings("outboundTrafficPolicy: {mode: REGISTRY_ONLY}")):
        refused = eventually(lambda: next(iter([x for x in [walled.ask(*calls)] if "legacy" not in str(x)]), None))
        assert refused[0] in (502, "ConnectionResetError", "RemoteDisconnected"), refused
        assert refused[1] in ("", "ConnectionResetError"), refused


def test_service_entry_without_resolution_goes_where_the_client_wanted(walled: Walled, world: World) -> None:
    text = f"""
  hosts: [anywhere.example]
  addresses: [{world.legacy_address}]
  ports: [{{number: 19000, name: tcp, protocol: TCP}}, {{number: 18080, name: http, protocol: HTTP}}]
  resolution: NONE
"""
    with world.mesh.config(settings("outboundTrafficPolicy: {mode: REGISTRY_ONLY}") + "---\n" + entry(text)):
        eventually(lambda: walled.ask(("tcp", world.legacy_address, 19000)) == ["legacy hi there"])


def test_headless_instances_by_name_and_address_through_mutual_tls(walled: Walled, world: World) -> None:
    text = """
apiVersion: v1
kind: Service
metadata: {name: headless, namespace: app}
spec:
  clusterIP: None
  selector: {app: echo}
  ports: [{name: tcp, port: 19000}, {name: http, port: 18080}]
"""
    with world.mesh.config(text + peer("default", "{mtls: {mode: STRICT}}")):
        eventually(lambda: walled.ask(("tcp", "headless", 19000))[0] in ("echo-1 hi there", "echo-2 hi there"))
        assert walled.ask(("tcp", world.echo2.address, 19000)) == ["echo-2 hi there"]
        assert walled.ask(("http", "headless", 18080))[0] in ("echo-1", "echo-2")


def test_names_without_addresses_get_some_that_tell_them_apart(walled: Walled, world: World) -> None:
    """Two hosts with TCP on one port: only the address that the name stands for says which one is meant."""
    text = "---\n".join(
        f"""
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}, namespace: app}}
spec:
  hosts: [{name}.example]
  ports: [{{number: 19000, name: tcp, protocol: TCP}}]
  resolution: {resolution}
  endpoints: [{{address: {address}}}]
"""
        for name, resolution, address in (
            ("one", "STATIC", world.legacy_address),
            ("two", "STATIC", world.echo2.address),
            ("three", "DNS", world.legacy_address),
            ("four", "DNS_ROUND_ROBIN", world.echo2.address),
        )
    )
    with world.mesh.config(text):
        calls = [("tcp", f"{name}.example", 19000) for name in ("one", "two", "three", "four")]
        wanted = ["legacy hi there", "echo-2 hi there"] * 2
        eventually(lambda: walled.ask(*calls) == wanted, "each name its own server")
