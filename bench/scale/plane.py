"""The control plane under measurement: `fairlead serve` in a process of its own, and its API."""

from __future__ import annotations

import json
import os
import re
import signal
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from bench.scale.mesh import Json
from fairlead.ca.authority import open_authority
from fairlead.cli.client import Access, Client, Refused, read_kubeconfig
from fairlead.compiler.registry import registry
from fairlead.model.identity import Identity
from fairlead.store.store import Store

_BATCH = 2000
_PROGRAM = "from fairlead.cli.main import main; main()"


def _now() -> datetime:
    return datetime.now(UTC)


def load(state: Path, documents: Iterable[Json]) -> int:
    """Fill the store, while no control plane runs on it; the number of objects."""
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    kinds = registry()
    store = Store(state / "store.db")
    count = 0
    batch: list[Json] = []

    def commit() -> None:
        with store.transaction(author="bench", message="load") as made:
            for one in batch:
                found, problems = kinds.read(one)
                if found is None:
                    raise SystemExit(f"a document of the benchmark is not valid: {problems}")
                made.create(found.ref, one)
        batch.clear()

    for one in documents:
        batch.append(one)
        count += 1
        if len(batch) >= _BATCH:
            commit()
    commit()
    store.close()
    return count


def certificates(state: Path, identities: Iterable[tuple[str, str]], path: Path) -> None:
    """Issue a certificate for each (namespace, service account) from the control plane's own authority."""
    authority = open_authority(state / "ca", "cluster.local", _now)
    made: dict[str, list[str]] = {}
    for namespace, account in sorted(set(identities)):
        key = ec.generate_private_key(ec.SECP256R1())
        csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
        issued = authority.issue(
            csr.public_bytes(serialization.Encoding.PEM), Identity("cluster.local", namespace, account)
        )
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        made[f"{namespace}/{account}"] = [private.decode(), issued.presented]
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(made, file)


class Plane:
    """A running control plane."""

    def __init__(self, state: Path, program: str = _PROGRAM) -> None:
        """`program` is the Python that runs the command line, where it is to be measured from inside."""
        self.state = state
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None
        self._clients: dict[int, Client] = {}
        """By thread: each has a connection of its own."""
        self._ports: list[str] = ["--api-port", "0", "--xds-port", "0", "--join-port", "0"]
        self.log = state / "serve.log"

    def start(self, timeout: float = 120) -> float:
        """Start it and wait until it listens; the seconds that took."""
        begun = time.monotonic()
        found = self.state / "endpoints.json"
        found.unlink(missing_ok=True)
        command = [sys.executable, "-c", self._program, "serve", "--state", str(self.state), *self._ports]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        while not found.exists():
            if self._process.poll() is not None or time.monotonic() - begun > timeout:
                raise SystemExit(f"the control plane did not start; its log is {self.log}")
            time.sleep(0.01)
        listening = json.loads(found.read_text())
        # A restart must be found by the fleet where it was before.
        self._ports = [
            *("--api-port", listening["api"].rpartition(":")[2]),
            *("--xds-port", listening["xds"].rpartition(":")[2]),
            *("--join-port", listening["join"].rpartition(":")[2]),
        ]
        self.target: str = listening["xds"]
        self._access: Access = read_kubeconfig(self.state / "kubeconfig")
        return time.monotonic() - begun

    def stop(self, how: int = signal.SIGTERM) -> None:
        """End it, and wait for that."""
        for one in self._clients.values():
            one.close()
        self._clients.clear()
        if self._process is not None:
            self._process.send_signal(how)
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._process is not None
        return self._process.pid

    def memory(self) -> dict[str, int]:
        """Resident bytes now and at most."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = {name: int(re.search(rf"{name}:\s+(\d+)", status)[1]) * 1024 for name in ("VmRSS", "VmHWM")}  # type: ignore[index]
        return {"resident": found["VmRSS"], "peak": found["VmHWM"]}

    def cpu(self) -> float:
        """Seconds of processor time that it has used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def send(self, method: str, path: str, body: Any = None, content_type: str = "application/json") -> Any:
        """One API request, on the calling thread's own connection."""
        thread = threading.get_ident()
        if thread not in self._clients:
            self._clients[thread] = Client(self._access)
        return self._clients[thread].request(method, path, body, content_type=content_type).document

    def apply(self, document: Json) -> Json:
        """Create an object, or replace its spec."""
        path = _path(document)
        meta = document["metadata"]
        try:
            return self.send("POST", path, document)
        except Refused as refused:
            if refused.code != 409:
                raise
        change = {key: value for key, value in document.items() if key == "spec"}
        change["metadata"] = {key: value for key, value in meta.items() if key in ("labels", "annotations")}
        return self.patch(document, change)

    def patch(self, document: Json, change: Json, subresource: str = "") -> Json:
        """Merge a change into an object."""
        path = f"{_path(document)}/{document['metadata']['name']}" + (f"/{subresource}" if subresource else "")
        return self.send("PATCH", path, change, "application/merge-patch+json")

    def delete(self, document: Json) -> None:
        """Remove an object."""
        self.send("DELETE", f"{_path(document)}/{document['metadata']['name']}")

    def metrics(self) -> dict[str, float]:
        """The control plane's own metrics, by name with labels; empty where it has none."""
        access = self._access
        url = f"https://{access.host}:{access.port}/metrics"
        asked = urllib.request.Request(url, headers={"Authorization": f"Bearer {access.token}"})
        try:
            with urllib.request.urlopen(asked, context=ssl.create_default_context(cadata=access.ca)) as answer:
                text = answer.read().decode()
        except urllib.error.HTTPError:
            return {}
        found: dict[str, float] = {}
        for line in text.splitlines():
            if line and not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                found[name] = float(value)
        return found


def _path(document: Json) -> str:
    kind = registry().identify(document)[0]
    assert kind is not None
    version = document["apiVersion"]
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    namespace = document["metadata"].get("namespace")
    return f"{root}/namespaces/{namespace}/{kind.plural}" if namespace else f"{root}/{kind.plural}"
