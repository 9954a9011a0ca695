"""The sample shop, run directly: no mesh, real processes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fairlead.compiler.registry import registry
from fairlead.model.yaml import parse_documents
from tests.loopback import network

SHOP = Path(__file__).resolve().parents[2] / "samples/shop"
SERVICES = ("web", "catalog", "reviews", "ratings", "orders", "ledger")
PORTS = {"orders": 9090, "ledger": 9000}
Json = dict[str, Any]


class Shop:
    def __init__(self) -> None:
        net = f"{network()}.0"
        self.hosts = {name: f"{net}.{at + 1}" for at, name in enumerate(SERVICES)}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, **env: str) -> None:
        given = {
            **{key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")},
            **{f"{one.upper()}_SERVICE_HOST": host for one, host in self.hosts.items()},
            **{f"{one.upper()}_SERVICE_PORT": str(PORTS.get(one, 9080)) for one in self.hosts},
            "HOST": self.hosts[name],
            "PORT": str(PORTS.get(name, 9080)),
            **env,
        }
        self.processes[name] = subprocess.Popen(
            [sys.executable, f"{name}.py"], cwd=SHOP, env=given, stdout=subprocess.DEVNULL
        )

    def wait(self) -> None:
        for name in self.processes:
            deadline = time.monotonic() + 20
            while True:
                with contextlib.suppress(OSError), socket.create_connection(self.where(name), timeout=1):
                    break
                assert self.processes[name].poll() is None and time.monotonic() < deadline, name
                time.sleep(0.05)

    def where(self, name: str) -> tuple[str, int]:
        return self.hosts[name], PORTS.get(name, 9080)

    def get(self, name: str, path: str, **headers: str) -> tuple[int, Json]:
        host, port = self.where(name)
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        request = urllib.request.Request(f"http://{host}:{port}{path}", headers=named)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def stop(self) -> None:
        for one in self.processes.values():
            one.terminate()
        for one in self.processes.values():
            try:
                one.wait(10)
            except subprocess.TimeoutExpired:
                one.kill()
                one.wait()


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    one = Shop()
    try:
        for name in SERVICES:
            one.start(name, **({"VERSION": "v2"} if name == "reviews" else {}))
        one.wait()
        yield one
    finally:
        one.stop()


def test_the_front_calls_everybody(shop: Shop) -> None:
    status, page = shop.get("web", "/product/2")
    assert status == 200
    assert page["catalog"]["item"]["name"] == "Brass fairlead"
    assert (page["reviews"]["stars"], page["reviews"]["colour"]) == (4, "black")


def test_orders_go_over_grpc_into_the_ledger(shop: Shop) -> None:
    status, page = shop.get("web", "/order?item=3")
    assert status == 200 and page["order"]["order"] == 1
    assert page["order"]["ledger"] == "OK 1 v1"
    assert shop.get("web", "/ledger?say=COUNT")[1]["ledger"] == "1"
    assert shop.get("web", "/orders")[1]["orders"]["orders"] == 1


def test_identity_and_users_are_told_and_passed_on(shop: Shop) -> None:
    xfcc = 'By=spiffe://x/b;Hash=ab;Subject="";URI=spiffe://cluster.local/ns/shop/sa/web'
    assert shop.get("ratings", "/ratings/1", x_forwarded_client_cert=xfcc)[1]["peer"].endswith("/sa/web")
    assert shop.get("ratings", "/ratings/1")[1]["peer"] == ""
    status, told = shop.get("web", "/call/catalog/items/1?delay=0.2", x_user="jason")
    assert status == 200 and told["status"] == 200 and told["seconds"] >= 0.2


def test_failures_are_counted_exactly(shop: Shop) -> None:
    statuses = [shop.get("catalog", "/items/1?fail=0.25")[0] for _ in range(20)]
    assert statuses.count(503) == 5
    assert shop.get("catalog", "/items/1?status=429")[0] == 429
    assert shop.get("ratings", "/fail?share=1&status=500")[0] == 200
    assert shop.get("reviews", "/reviews/1")[1]["ratings_status"] == 500
    shop.get("ratings", "/fail?share=0")
    shop.get("catalog", "/seen?reset=1")
    shop.get("catalog", "/items/1")
    assert shop.get("catalog", "/seen")[1]["seen"] == 1
    assert shop.get("catalog", "/nothing")[0] == 404
    assert shop.get("catalog", "/items/1?delay=soon")[0] == 400


def test_sigterm_lets_a_request_finish() -> None:
    one = Shop()
    one.start("catalog")
    try:
        one.wait()
        said: list[tuple[int, Json]] = []
        asking = threading.Thread(target=lambda: said.append(one.get("catalog", "/items/1?delay=0.8")))
        asking.start()
        deadline = time.monotonic() + 10
        while one.get("catalog", "/seen")[1]["seen"] == 0:
            assert time.monotonic() < deadline
        one.processes["catalog"].send_signal(signal.SIGTERM)
        asking.join(10)
        assert one.processes["catalog"].wait(10) == 0
        assert said[0][0] == 200
    finally:
        one.stop()


def documents() -> list[tuple[str, Any]]:
    files = sorted(SHOP.rglob("*.yaml"))
    return [(file.name, one) for file in files for one in parse_documents(file.read_bytes(), file.name)]


def test_every_sample_object_of_a_known_kind_is_valid() -> None:
    known = {(kind.group, kind.kind) for kind in registry().kinds}
    seen = 0
    for name, manifest in documents():
        group = manifest.data["apiVersion"].rpartition("/")[0]
        if (group, manifest.data["kind"]) not in known or name == "malformed.yaml":
            continue
        seen += 1
        obj, found = registry().read_manifest(manifest)
        assert obj is not None and not found, (name, found)
    assert seen >= 10


def test_services_select_the_processes() -> None:
    objects = [manifest.data for _, manifest in documents()]
    labels = [one["spec"]["labels"] for one in objects if one["kind"] == "Process"]
    accounts = {one["metadata"]["name"] for one in objects if one["kind"] == "ServiceAccount"}
    for one in objects:
        if one["kind"] == "Service":
            assert [item for item in labels if one["spec"]["selector"].items() <= item.items()]
        if one["kind"] == "Process":
            assert one["spec"]["serviceAccountName"] in accounts
