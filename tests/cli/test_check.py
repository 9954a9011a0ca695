"""`fairlead check` and `fairlead bug-report`: before a mesh, on one that is well, and on one that is not."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fairlead.cli import hostfacts
from fairlead.cli.client import Client, read_kubeconfig
from fairlead.model.yaml import parse_documents
from tests.loopback import free_port, network

from .running_mesh import ENTRY, NAMESPACE, SERVICE, Mesh, process, run, until

pytestmark = pytest.mark.e2e
Json = dict[str, Any]
_BLOCK = f"{network()}.0.0/16"
_PLANTED = (
    "s3cr3t-in-data",
    "s3cr3t-in-env",
    "s3cr3t-in-args",
    "s3cr3t-in-log",
    "s3cr3t-in-header",
    "czNjcjN0LWluLWRhdGE=",
)


def findings(done: Any) -> dict[str, Json]:
    return {f"{one['category']}/{one['name']}": one for one in json.loads(done.stdout)["findings"]}


def test_before_anything_runs(tmp_path: Path) -> None:
    ports = [f"--{name}-port={free_port()}" for name in ("api", "xds", "join")]
    done = run("check", "--pre", "--state", str(tmp_path), *ports)
    assert done.returncode == 0 and "√ Envoy: 1." in done.stdout and "is free" in done.stdout, done.stdout
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        done = run("check", "--pre", "--state", str(tmp_path), *ports[1:], f"--api-port={number}", "-o", "short")
    assert done.returncode == 1 and f"× api: 127.0.0.1:{number}" in done.stdout and "--api-port" in done.stdout
    assert "√" not in done.stdout and "1 fail" in done.stdout
    done = run("check", "--state", str(tmp_path / "none"))
    assert done.returncode == 1 and "× kubeconfig" in done.stdout


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    made = Mesh(tmp_path_factory.mktemp("mesh"))
    ports = ("--api-port", "0", "--xds-port", "0", "--join-port", "0", "--loopback", _BLOCK, "--no-gateway")
    with process(made.log, "up", "--state", str(made.state), *ports):
        until(lambda: b"kubectl --kubeconfig" in made.log.read_bytes(), "serving")
        made.apply(NAMESPACE, SERVICE, _PROCESS, _SECRET)
        until(lambda: made.status("cart-0") and made.synced("cart-0"), "a workload", 60)
        yield made


_PROCESS: Json = {
    "apiVersion": "fairlead.dev/v1alpha1",
    "kind": "Process",
    "metadata": {"name": "cart", "namespace": "shop"},
    "spec": {
        "labels": {"app": "cart"},
        "command": [
            "python3",
            "-c",
            "import http.server,os,sys; print('password=s3cr3t-in-log', 'Authorization: Bearer s3cr3t-in-header-42', "
            "flush=True); http.server.HTTPServer((os.environ['HOST'], int(os.environ['PORT'])), "
            "http.server.SimpleHTTPRequestHandler).serve_forever()",
            "s3cr3t-in-args",
        ],
        "env": [{"name": "PASSWORD", "value": "s3cr3t-in-env"}],
        "ports": [{"name": "http", "port": 9080}],
    },
}
_SECRET: Json = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "key", "namespace": "shop"},
    "stringData": {"password": "s3cr3t-in-data"},
}


def test_a_mesh_that_is_well_and_one_that_is_not(mesh: Mesh) -> None:
    done = mesh.run("check", "--loopback", _BLOCK, "--wait", "60s", "-o", "json")
    found = findings(done)
    assert done.returncode == 0, done.stdout
    for name in (
        "control plane/answers",
        "control plane/clock",
        "store/integrity",
        "certificates/root",
        "proxies/in sync",
        "processes/ready",
        "endpoints/reachable",
        "workloads here/agents run",
        "workloads here/certificates",
    ):
        assert found[name]["state"] == "pass", found[name]
    captured = json.loads(mesh.run("get", "process", "cart", "-n", "shop", "-o", "json").stdout)
    if captured["status"]["instances"][0].get("capture") == "netns":
        assert found["workloads here/capture rules"]["state"] == "pass", found["workloads here/capture rules"]
        assert found["workloads here/names inside"]["state"] == "pass", found["workloads here/names inside"]
        other = findings(mesh.run("check", "--loopback", "127.9.0.0/16", "-o", "json"))
        assert other["workloads here/capture rules"]["state"] == "fail"
    meta = {"name": "far-0", "namespace": "shop"}
    entry = {**ENTRY, "metadata": meta, "spec": {**ENTRY["spec"], "ports": {"http": free_port()}}}
    mesh.apply(entry, {**_PROCESS, "metadata": {"name": "sick", "namespace": "shop"}, "spec": _SICK})
    done = until(lambda: (at := mesh.run("check", "-o", "json")).returncode == 1 and at, "it says so")
    found = findings(done)
    assert found["endpoints/reachable"]["state"] == "warn" and "far-0.shop at" in found["endpoints/reachable"]["said"]
    assert "sick.shop 0/1" in found["processes/ready"]["said"] and found["processes/ready"]["hint"]
    mesh.run("delete", "process", "sick", "-n", "shop")


_SICK: Json = {"command": ["sh", "-c", "exit 3"]}


def test_a_report_has_all_of_it_and_no_secret(mesh: Mesh, tmp_path: Path) -> None:
    file = tmp_path / "report.tar.gz"
    until(lambda: "s3cr3t-in-log" in mesh.run("logs", "cart", "-n", "shop").stdout, "the log has it")
    done = mesh.run("bug-report", "-f", str(file))
    assert done.returncode == 0 and str(file) in done.stdout, done.stderr
    assert file.stat().st_mode & 0o077 == 0
    texts: dict[str, str] = {}
    with tarfile.open(file) as archive:
        for one in archive.getmembers():
            content = archive.extractfile(one)
            assert content is not None
            texts[one.name.removeprefix("fairlead/")] = content.read().decode()
    assert {"version.json", "check.json", "proxy-status.json", "timeline.json", "history.json", "errors.txt"} <= {
        *texts
    }
    assert "objects/processes.fairlead.dev.json" in texts and "proxies/shop/cart-0.json" in texts
    assert json.loads(texts["objects/secrets.core.json"])[0]["data"] == {"password": "(removed)"}
    assert "virtualInbound" in texts["proxies/shop/cart-0.json"]
    assert any(name.startswith("logs/shop/cart-0/") for name in texts)
    config = json.loads((mesh.state / "kubeconfig").read_text())
    planted = [*_PLANTED, config["users"][0]["user"]["token"], "PRIVATE KEY-----\n"]
    for key in mesh.state.rglob("*key*.pem"):
        planted.append(key.read_text().splitlines()[1])
    for name, text in texts.items():
        for secret in planted:
            assert secret not in text, (name, secret)


def hosts(mesh: Mesh, code: str, status: int = 1, *options: str) -> list[Json]:
    """Findings with a code of the analysis of the running mesh."""
    done = mesh.run("analyze", "--loopback", _BLOCK, "-o", "json", *options)
    assert done.returncode == status, done.stdout + done.stderr
    return [one for one in json.loads(done.stdout)["findings"] if one["code"] == code]


_GATEWAY = """
apiVersion: fairlead.dev/v1alpha1
kind: Process
metadata: {name: edge, namespace: shop}
spec: {proxy: router, labels: {app: edge}}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec:
  selector: {app: edge}
  servers: [{port: {number: PORT, name: http, protocol: HTTP}, hosts: ["*"]}]
"""
_FLUSH = """
import sys
from pyroute2 import netns
from pyroute2.nftables.main import NFTables
netns.setns(sys.argv[1])
with NFTables() as nft:
    nft.table("del", name="fairlead")
"""


def test_analysis_of_a_running_mesh_has_what_is_wrong_with_hosts(mesh: Mesh, tmp_path: Path) -> None:
    meta = {"name": "far-0", "namespace": "shop"}
    mesh.run("delete", "workloadentry", "far-0", "-n", "shop")
    assert until(lambda: mesh.run("analyze", "--loopback", _BLOCK).returncode == 0, "all is well again", 60)

    mesh.apply({**ENTRY, "metadata": meta, "spec": {**ENTRY["spec"], "ports": {"http": free_port()}}})
    (far,) = hosts(mesh, "FL3740", 0)
    assert (far["kind"], far["name"], far["field"]) == ("WorkloadEntry", "far-0", "spec.ports")
    assert hosts(mesh, "FL3740", 0, "--suppress", "FL3740=WorkloadEntry shop/far-*") == []
    annotated = {**meta, "annotations": {"galley.istio.io/analyze-suppress": "FL3740"}}
    mesh.apply({**ENTRY, "metadata": annotated, "spec": {**ENTRY["spec"], "ports": {"http": free_port()}}})
    assert hosts(mesh, "FL3740", 0) == []
    mesh.run("delete", "workloadentry", "far-0", "-n", "shop")

    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        number = taken.getsockname()[1]
        mesh.apply(*(one.data for one in parse_documents(_GATEWAY.replace("PORT", str(number)))))
        (one,) = until(lambda: hosts(mesh, "FL3730"), "a port that is taken", 60)
        assert f"edge-0.shop cannot listen at 0.0.0.0:{number}" in one["message"], one
        assert (one["kind"], one["name"], one["field"]) == ("Gateway", "edge", "spec.servers[0].port.number")
        found = findings(mesh.run("check", "--loopback", _BLOCK, "-o", "json"))
        assert found["proxies/listen"]["state"] == "fail" and f":{number}" in found["proxies/listen"]["said"]
    mesh.run("delete", "gateway", "edge", "-n", "shop")
    mesh.run("delete", "process", "edge", "-n", "shop")

    identity = mesh.state / "node" / "shop" / "cart-0" / "identity.pem"
    kept = identity.read_bytes()
    for ends, code in ((-60, "FL3735"), (7200, "FL3737")):
        identity.write_bytes(_stranger(ends))
        (one,) = until(lambda code=code: hosts(mesh, code), code)
        assert (one["kind"], one["name"]) == ("Process", "cart")
    identity.write_bytes(kept)

    client = Client(read_kubeconfig(mesh.state / "kubeconfig"))
    try:
        ahead = hostfacts.findings(client, mesh.state, _BLOCK, lambda: time.time() + 120)
    finally:
        client.close()
    assert [(one.kind, "120 s ahead of" in one.message) for one in ahead if one.code == "FL3734"] == [("Node", True)]

    status = json.loads(mesh.run("get", "process", "cart", "-n", "shop", "-o", "json").stdout)["status"]
    if status["instances"][0].get("capture") == "netns":
        record = json.loads((mesh.state / "node" / "shop" / "cart-0" / "replica.json").read_bytes())
        subprocess.run([sys.executable, "-c", _FLUSH, record["netns"]], check=True, timeout=30)
        (one,) = hosts(mesh, "FL3738")
        assert (one["kind"], one["name"]) == ("Process", "cart")


def _stranger(ends: float) -> bytes:
    """A key, and a certificate that nobody of the mesh has signed and that holds for so many seconds more."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "stranger")])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    made = (
        made.serial_number(1).not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(seconds=ends))
    )
    form = serialization.PrivateFormat.PKCS8
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, form, serialization.NoEncryption())
    return private + made.sign(key, hashes.SHA256()).public_bytes(pem)
