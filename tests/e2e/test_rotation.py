"""Rotating the root under load: no request fails, a proxy that lags holds it up, and each step can be undone."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.apps import App
from tests.e2e.mesh import Json, Mesh, Refused, Workload, environment, eventually, request

PORT = 18080
OBJECTS = """
apiVersion: v1
kind: Namespace
metadata: {name: istio-system}
---
apiVersion: v1
kind: Service
metadata: {name: echo, namespace: app}
spec: {selector: {app: echo}, ports: [{name: http, port: 18080}]}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: app}
spec: {mtls: {mode: STRICT}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: echo, namespace: app}
spec:
  host: echo
  # Each request on a connection of its own: every one of them shakes hands.
  trafficPolicy: {connectionPool: {http: {maxRequestsPerConnection: 1}}}
"""


class Load:
    """Requests without a pause, each judged."""

    def __init__(self, client: Workload) -> None:
        self._client = client
        self._end = threading.Event()
        self.good = 0
        self.bad: list[str] = []
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.is_set():
            try:
                answer = self._client.get(f"echo:{PORT}", timeout=10)
                if answer.status == 200 and "x-forwarded-client-cert" in answer.body["headers"]:
                    self.good += 1
                else:
                    self.bad.append(f"{answer.status} {answer.text[:200]}")
            except Exception as error:
                self.bad.append(repr(error))


class Shop:
    """A client and a server with sidecars."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        self.client = mesh.add("client", labels={"app": "client"})
        self.server = mesh.add("echo", labels={"app": "echo"}, ports={"http": PORT})
        self.gateway = mesh.add("gateway", namespace="edge", labels={"istio": "ingressgateway"}, proxy_type="router")
        self.app = App("echo", self.server.app).serve_http(PORT)

    def status(self) -> Json:
        return self.mesh.plane.api.request("GET", "/fairlead/v1/ca")

    def step(self, name: str, **flags: str) -> Json:
        query = "".join(f"&{key}={value}" for key, value in flags.items())
        found = self.mesh.plane.api.request("POST", f"/fairlead/v1/ca/rotation?step={name}{query}")
        self.mesh.plane.reconnect()
        return found

    def settled(self) -> None:
        eventually(lambda: not self.status()["lagging"], "every proxy is far enough", 30)

    def issuers(self) -> set[str]:
        """Who signed what the two Envoys show."""
        found: set[str] = set()
        for one in (self.client, self.server):
            chain = (one.directory / "identity.pem").read_bytes()
            found.add(issuer_of(chain))
        return found


def issuer_of(chain: bytes) -> str:
    from cryptography import x509

    leaf = x509.load_pem_x509_certificates(chain[chain.index(b"-----BEGIN CERT") :])[0]
    found = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    return (found or b"").hex()


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    with Mesh() as mesh:
        made = Shop(mesh)
        try:
            mesh.start(made.server, made.client, made.gateway)
            mesh.apply(OBJECTS)
            eventually(lambda: made.client.get(f"echo:{PORT}").status == 200, "the first answer")
            eventually(lambda: made.status()["proxies"] == 3, "all three report")
            yield made
        finally:
            made.app.close()


def test_undo_midway_and_a_proxy_that_lags(shop: Shop) -> None:
    before = shop.status()
    with Load(shop.client) as load:
        assert shop.step("start", dryRun="true")["after"] == "trusting"
        assert shop.status()["phase"] == "stable"
        server = shop.server.process
        assert server is not None
        # The agent stands still: its Envoy goes on, but nobody can say what it trusts.
        os.kill(server.popen.pid, signal.SIGSTOP)
        try:
            shop.step("start")
            eventually(lambda: [one["proxy"] for one in shop.status()["lagging"]] == ["echo.app"], "only it lags")
            with pytest.raises(Refused) as held:
                shop.step("next")
            assert held.value.code == 409
            assert "echo.app" in str(held.value)
            assert "FL2602" in str(held.value)
            # Killed, the control plane comes back in the same phase, and knows whom it waits for.
            shop.mesh.plane.stop(signal.SIGKILL)
            shop.mesh.plane.start()
            assert shop.status()["phase"] == "trusting"
            assert [one["proxy"] for one in shop.status()["lagging"] if one["proxy"] == "echo.app"]
        finally:
            os.kill(server.popen.pid, signal.SIGCONT)
        shop.settled()
        shop.step("next")
        shop.settled()
        assert shop.status()["phase"] == "issuing"
        assert shop.issuers() == {shop.status()["issuer"]["keyId"]} != {before["issuer"]["keyId"]}
        shop.step("undo")
        # Until the last certificate of the next root is replaced, that root must stay.
        eventually(lambda: shop.issuers() == {before["issuer"]["keyId"]}, "back to the former issuer")

        eventually(lambda: _stepped_back(shop), "the last step back")
        eventually(lambda: shop.status()["bundle"] == before["bundle"])
    assert load.bad == []
    assert load.good > 50


@contextlib.contextmanager
def standing_still(shop: Shop) -> Iterator[None]:
    """The server's agent stops, so that nobody can say what its Envoy trusts; the Envoy goes on."""
    server = shop.server.process
    assert server is not None
    os.kill(server.popen.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.popen.pid, signal.SIGCONT)


def test_a_step_back_waits_only_for_those_that_it_would_cut_off(shop: Shop) -> None:
    eventually(lambda: not shop.status()["strangers"], "all trust the root that there is")
    before = shop.status()
    with Load(shop.client) as load:
        with standing_still(shop):
            shop.step("start")
            eventually(lambda: [one["proxy"] for one in shop.status()["lagging"]] == ["echo.app"], "only it lags")
            # It has never heard of the next root, which nobody has a certificate of.
            assert shop.step("undo")["after"] == "stable"
        eventually(lambda: not shop.status()["strangers"], "all trust the root that there is")
        for phase in ("start", "next", "next"):
            shop.settled()
            shop.step(phase)
        shop.settled()
        assert shop.status()["phase"] == "removing"
        with standing_still(shop):
            assert shop.step("undo")["after"] == "issuing"
            # It trusts the next root alone: certificates of the former one would be strange to it.
            with pytest.raises(Refused, match=r"echo\.app: it has not taken the trust bundle"):
                shop.step("undo")
        shop.settled()
        assert shop.step("undo")["after"] == "trusting"
        eventually(lambda: shop.issuers() == {before["issuer"]["keyId"]}, "back to the former issuer")
        eventually(lambda: _stepped_back(shop), "the last step back")
        eventually(lambda: shop.status()["bundle"] == before["bundle"])
    assert load.bad == []


def _stepped_back(shop: Shop) -> bool:
    """Whether the rotation is undone, now that another step back was tried."""
    try:
        return shop.step("undo")["after"] == "stable"
    except Refused:
        return False


def test_a_whole_rotation_loses_no_request(shop: Shop) -> None:
    before = shop.status()
    with Load(shop.client) as load:
        began = time.monotonic()
        command = [
            sys.executable,
            "-m",
            "fairlead.cli.main",
            "ca",
            "rotate",
            "run",
            "--state",
            str(shop.mesh.plane.state),
        ]
        done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120, check=False)
        took = time.monotonic() - began
        shop.mesh.plane.reconnect()
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("->") == 4
        # New connections of all sorts, with nothing but the new root.
        count = load.good
        eventually(lambda: load.good > count + 20)
    assert load.bad == []
    after = shop.status()
    assert after["phase"] == "stable"
    assert after["issuer"]["keyId"] != before["issuer"]["keyId"]
    assert after["bundle"] != before["bundle"]
    assert [one["role"] for one in after["certificates"]] == ["root"]
    assert shop.issuers() == {after["issuer"]["keyId"]}
    logging.getLogger(__name__).warning("rotation: %.1f s, %d requests, none failed", took, load.good)


def test_restarted_agents_and_newcomers_trust_the_new_root_only(shop: Shop) -> None:
    agent: Any = shop.server.process
    agent.stop(signal.SIGTERM)
    shop.server.start()
    eventually(shop.server.ready, "the restarted agent", 60)
    eventually(lambda: shop.client.get(f"echo:{PORT}").status == 200, "calls after a restart")
    roots = (shop.server.directory / "roots.pem").read_text()
    assert roots.count("BEGIN CERTIFICATE") == 1
    assert roots.strip() == (shop.mesh.plane.state / "ca" / "root-cert.pem").read_text().strip()
    assert request(shop.server.address, 15020, "/healthz/ready").status == 200
