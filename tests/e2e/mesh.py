"""A mesh of real processes for tests: control plane, agents, Envoys. Waits for conditions; leaves nothing behind."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import msgspec

from fairlead.compiler.registry import registry
from fairlead.model.launch import AgentConfig, AppPort, Capture
from fairlead.model.yaml import parse_documents
from fairlead.node.addresses import Addresses, Block
from fairlead.node.kubeconfig import read_kubeconfig
from tests.loopback import free_port, network

T = TypeVar("T")
Json = dict[str, Any]
PROXY_PORT = 15002
STATUS_PORT = 15020
BARRIER_PORT = 18079
LONG = 60.0
APPLY = "application/apply-patch+yaml"


def eventually(condition: Callable[[], T], what: str = "the condition", seconds: float = 30) -> T:
    """The first true value of the condition; while it raises OSError or AssertionError it is asked again."""
    end = time.monotonic() + seconds
    last: object = None
    while True:
        try:
            last = condition()
            if last:
                return last
        except (OSError, AssertionError, http.client.HTTPException) as error:
            last = error
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds:.0f} s: {what}; last: {last!r}")
        time.sleep(0.02)


def steadily(condition: Callable[[], bool], what: str = "the condition", times: int = 8) -> None:
    """Until the condition holds so often in a row that every instance has been asked.

    A changed listener drains: connections that are open keep the old rules for a moment, as in Istio.
    """
    eventually(lambda: all(condition() for _ in range(times)), what)


def environment() -> dict[str, str]:
    """For our processes: the source that is tested, and no proxies of the host."""
    kept = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    return {**kept, "PYTHONPATH": os.pathsep.join(sys.path), "FAIRLEAD_DEBUG": "1"}


class Refused(Exception):
    """The API said no."""

    def __init__(self, code: int, status: Json) -> None:
        super().__init__(f"HTTP {code}: {status.get('message')}")
        self.code, self.status = code, status


class Response(msgspec.Struct, frozen=True):
    """An HTTP answer; `body` is JSON where an application gave it."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def body(self) -> Json:
        return json.loads(self.text)

    @property
    def instance(self) -> str:
        """Which application answered."""
        return self.headers.get("x-instance", "")


def request(
    address: str,
    port: int,
    path: str = "/",
    *,
    host: str = "",
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    tls: ssl.SSLContext | None = None,
    sni: str = "",
    body: bytes | None = None,
    timeout: float = 20,
) -> Response:
    """One HTTP request on a connection of its own. Raises OSError or HTTPException where there is no answer."""
    link = http.client.HTTPConnection(address, port, timeout=timeout)
    link.sock = socket.create_connection((address, port), timeout=timeout)
    try:
        if tls is not None:
            link.sock = tls.wrap_socket(link.sock, server_hostname=sni or host)
        sent = {"Host": host or f"{address}:{port}", **(headers or {})}
        link.request(method, path, body, sent)
        answer = link.getresponse()
        found = {key.lower(): value for key, value in answer.getheaders()}
        return Response(answer.status, found, answer.read().decode("utf-8", "replace"))
    finally:
        link.close()


def lines(address: str, port: int, text: str, *, tls: ssl.SSLContext | None = None, sni: str = "") -> str:
    """Send a line over TCP and read one; "" where the peer closed, whatever way it chose."""
    try:
        with contextlib.ExitStack() as stack:
            stream: socket.socket = stack.enter_context(socket.create_connection((address, port), timeout=10))
            if tls is not None:
                stream = stack.enter_context(tls.wrap_socket(stream, server_hostname=sni))
            stream.sendall(text.encode() + b"\n")
            return stream.recv(65536).decode().strip()
    except (ConnectionError, ssl.SSLError):
        return ""


class Process:
    """A child with a log file."""

    def __init__(self, command: list[str], log: Path) -> None:
        self.log = log
        with log.open("ab") as output:
            self.popen = subprocess.Popen(command, stdout=output, stderr=output, env=environment())

    def stop(self, number: signal.Signals = signal.SIGTERM, seconds: float = 20) -> int:
        """End it; SIGKILL after `seconds`."""
        if self.popen.poll() is None:
            self.popen.send_signal(number)
        try:
            return self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            return self.popen.wait(10)

    def resumed(self) -> bool:
        """Whether it runs; if it stood still, it goes on."""
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGCONT)
        return self.popen.poll() is None

    def check(self) -> None:
        """Raises AssertionError with the log if it has ended."""
        if self.popen.poll() is not None:
            raise RuntimeError(f"ended with {self.popen.returncode}:\n{self.log.read_text()[-4000:]}")


class Api:
    """The REST API as its administrator; sends documents as they are."""

    def __init__(self, kubeconfig: Path) -> None:
        self._access = read_kubeconfig(kubeconfig)
        self._link: http.client.HTTPSConnection | None = None

    def request(self, method: str, path: str, body: object = None, content_type: str = "application/json") -> Any:
        """The answer's document. Raises Refused for HTTP 4xx and 5xx."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self._access.token}", "Content-Type": content_type}
        for attempt in range(2):
            if self._link is None:
                host, _, port = self._access.server.removeprefix("https://").rpartition(":")
                context = ssl.create_default_context(cadata=self._access.ca.decode())
                self._link = http.client.HTTPSConnection(host, int(port), context=context, timeout=20)
            try:
                self._link.request(method, path, data, headers)
                answer = self._link.getresponse()
                raw = answer.read()
                break
            except (OSError, http.client.HTTPException):
                self.close()
                if attempt:
                    raise
        found = json.loads(raw) if raw else {}
        if answer.status >= 400:
            raise Refused(answer.status, found)
        return found

    def close(self) -> None:
        """Close the kept connection."""
        if self._link is not None:
            self._link.close()
            self._link = None

    def apply(self, document: Json) -> Json:
        """Server-side apply."""
        query = "?fieldManager=e2e&force=true"
        return self.request("PATCH", path_of(document) + query, document, APPLY)

    def delete(self, document: Json) -> None:
        """Delete what a document names; what is gone is gone."""
        try:
            self.request("DELETE", path_of(document))
        except Refused as refused:
            if refused.code != 404:
                raise

    def get(self, document: Json) -> Json:
        """What is stored under a document's name."""
        return self.request("GET", path_of(document))


def path_of(document: Json) -> str:
    """The REST path of a document."""
    kind, _ = registry().identify(document)
    assert kind is not None, document
    meta = document["metadata"]
    base = f"/apis/{document['apiVersion']}" if kind.group else f"/api/{document['apiVersion']}"
    space = f"/namespaces/{meta.get('namespace') or 'default'}" if kind.namespaced else ""
    return f"{base}{space}/{kind.plural}/{meta['name']}"


def documents(text: str) -> list[Json]:
    """The documents of a text; `app` is the namespace of those that name none."""
    found = [one.data for one in parse_documents(text, "")]
    for one in found:
        kind, _ = registry().identify(one)
        if kind is not None and kind.namespaced:
            one["metadata"].setdefault("namespace", "app")
    return found


class ControlPlane:
    """`fairlead serve` as a process; survives being killed."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.directory = directory
        self.options = options
        self.state = directory / "state"
        self.log = directory / "serve.log"
        self.process: Process | None = None
        self._ports = tuple(str(free_port()) for _ in range(3))

    def start(self) -> None:
        """Start, or start again on the same ports."""
        found = self.state / "endpoints.json"
        if found.exists():
            known = json.loads(found.read_text())
            self._ports = tuple(known[name].rpartition(":")[2] for name in ("api", "xds", "join"))
            found.unlink()
        api, xds, join = self._ports
        command = [sys.executable, "-m", "fairlead.cli.main", "serve", "--state", str(self.state), "-v"]
        command += ["--api-port", api, "--xds-port", xds, "--join-port", join, *self.options]
        self.process = Process(command, self.log)

        def listening() -> bool:
            assert self.process is not None
            self.process.check()
            return found.exists()

        eventually(listening, "the control plane listens", LONG)
        self.endpoints: Json = json.loads(found.read_text())
        self.api = Api(self.state / "kubeconfig")

    def reconnect(self) -> None:
        """Talk to the API with what the kubeconfig says now."""
        self.api.close()
        self.api = Api(self.state / "kubeconfig")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it."""
        if self.process is not None:
            if hasattr(self, "api"):
                self.api.close()
            self.process.stop(number)


class Workload:
    """An agent with its Envoy; where its application binds, where peers dial, where the application calls out."""

    def __init__(self, mesh: Mesh, name: str, addresses: Addresses, **settings: Any) -> None:
        self.mesh = mesh
        self.name = name
        self.address, self.app, self.out = addresses.workload, addresses.application, addresses.outbound
        self.directory = mesh.directory / name
        ends = mesh.plane.endpoints
        router = settings.get("proxy_type") == "router"
        capture = Capture("none") if router else Capture("explicit", app_address=self.app, outbound_address=self.out)
        given: Json = {
            "namespace": "app",
            "service_account": name,
            "entry": "" if router else name,
            "capture": capture,
            "drain_seconds": 2,
            "status_port": STATUS_PORT,
            **settings,
        }
        self.config = AgentConfig(
            name=name,
            directory=str(self.directory),
            xds_address=ends["xds"],
            join_address=ends["join"],
            root_cert_file=str(mesh.plane.state / "ca" / "root-cert.pem"),
            token_file=str(self.directory / "token"),
            address=self.address,
            **given,
        )
        self.process: Process | None = None

    @property
    def namespace(self) -> str:
        return self.config.namespace

    def start(self) -> None:
        """Start the agent; `ready` says when it serves."""
        self.directory.mkdir(exist_ok=True, mode=0o700)
        config = self.directory / "agent.json"
        config.write_bytes(msgspec.json.encode(self.config))
        command = [sys.executable, "-m", "fairlead.cli.main", "agent", "--config", str(config)]
        self.process = Process(command, self.directory / "agent.log")

    def join(self) -> None:
        """Fetch a join token for it."""
        self.directory.mkdir(exist_ok=True, mode=0o700)
        at = f"/api/v1/namespaces/{self.namespace}/serviceaccounts/{self.config.service_account}/token"
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": ["istio-ca"]}}
        token = self.directory / "token"
        token.touch(0o600)
        token.write_text(self.mesh.plane.api.request("POST", at, body)["status"]["token"])

    def entry(self) -> Json:
        """Its WorkloadEntry, as a node would write it."""
        return {
            "apiVersion": "networking.istio.io/v1",
            "kind": "WorkloadEntry",
            "metadata": {
                "name": self.name,
                "namespace": self.namespace,
                "labels": self.config.labels,
                "annotations": {"proxy.istio.io/health-checks-enabled": "true"},
            },
            "spec": {
                "address": self.address,
                "labels": self.config.labels,
                "serviceAccount": self.config.service_account,
                "ports": {one.name: one.port for one in self.config.ports},
            },
        }

    def ready(self) -> bool:
        """Whether the agent says so."""
        assert self.process is not None
        self.process.check()
        return request(self.address, STATUS_PORT, "/healthz/ready", timeout=2).status == 200

    def status(self) -> Json:
        """The agent's own account."""
        return json.loads(self.admin("/status"))

    def admin(self, target: str, method: str = "GET") -> str:
        """Ask the agent or, through it, Envoy."""
        link = http.client.HTTPConnection("agent", timeout=20)
        link.sock = socket.socket(socket.AF_UNIX)
        link.sock.settimeout(20)
        link.sock.connect(_short(self.directory / "agent.sock"))
        try:
            link.request(method, target)
            return link.getresponse().read().decode()
        finally:
            link.close()

    def stat(self, name: str) -> int:
        """One of Envoy's own counters or gauges; 0 where it does not exist yet."""
        for line in self.admin("/stats?usedonly").splitlines():
            found, _, value = line.partition(": ")
            if found == name:
                return int(value)
        return 0

    def get(self, where: str, path: str = "/", *, proxied: bool = False, **more: Any) -> Response:
        """An HTTP request of its application to `host:port`: to the port bound at its side or by the HTTP proxy."""
        host, _, number = where.partition(":")
        port = int(number or 18080)
        if proxied:
            return request(self.out, PROXY_PORT, f"http://{where}{path}", host=where, **more)
        headers = more.pop("host", host if "." in host else f"{host}:{port}")
        return request(self.out, port, path, host=headers, **more)

    def line(self, port: int, text: str = "hello", **more: Any) -> str:
        """One line over TCP to a port bound at its side."""
        return lines(self.out, port, text, **more)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End the agent; its Envoy goes with it."""
        if self.process is not None:
            self.process.stop(number)


def _short(path: Path) -> str:
    """A path that fits into sun_path."""
    return os.path.relpath(path) if len(os.fsencode(path)) > 100 else str(path)


class Mark(msgspec.Struct, frozen=True):
    """A moment of a mesh: the last revision of its objects, and which workloads there were."""

    revision: int
    workloads: frozenset[str]


class Mesh:
    """A control plane and its workloads."""

    def __init__(self, *options: str) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="fl-e2e-"))
        self.block = Block(f"{network()}.0.0/16")
        self._number = 0
        self.plane = ControlPlane(self.directory, *options)
        self.workloads: dict[str, Workload] = {}
        self._marks = 0

    def __enter__(self) -> Mesh:
        try:
            self.plane.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End everything that was started here."""
        for workload in self.workloads.values():
            if workload.process is not None and workload.process.popen.poll() is None:
                workload.process.popen.send_signal(signal.SIGINT)
                workload.process.popen.send_signal(signal.SIGINT)
        for workload in self.workloads.values():
            workload.stop(signal.SIGINT)
        self.plane.stop()
        if not os.environ.get("FAIRLEAD_TEST_KEEP"):
            shutil.rmtree(self.directory, ignore_errors=True)

    def addresses(self) -> Addresses:
        """Addresses nobody else of this run has."""
        self._number += 1
        return self.block.addresses(self._number % (self.block.size - 1) + 1)

    def add(self, name: str, **settings: Any) -> Workload:
        """A workload that is not started yet."""
        ports = settings.pop("ports", {})
        settings["ports"] = tuple(AppPort(number, key) for key, number in ports.items())
        made = self.workloads[name] = Workload(self, name, self.addresses(), **settings)
        return made

    def start(self, *workloads: Workload) -> None:
        """Give them accounts, tokens and entries; start them together; wait until all are ready."""
        for one in workloads:
            account = {"name": one.config.service_account, "namespace": one.namespace}
            self.plane.api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": one.namespace}})
            self.plane.api.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account})
            one.join()
            if one.config.entry:
                self.plane.api.apply(one.entry())
            one.start()
        for one in workloads:
            eventually(one.ready, f"{one.name} is ready, see {one.directory}", LONG)

    def apply(self, text: str) -> list[Json]:
        """Apply the documents of a text and let every proxy have them."""
        found = self.documents(text)
        for one in found:
            self.plane.api.apply(one)
        self.barrier()
        return found

    def documents(self, text: str) -> list[Json]:
        """The documents of a text, in which GATEWAY stands for the gateway's address (it must not take all)."""
        return documents(text.replace("GATEWAY", self.workloads["gateway"].address))

    @contextlib.contextmanager
    def config(self, text: str) -> Iterator[list[Json]]:
        """Documents that are there inside the block only."""
        found = self.documents(text)
        try:
            self.apply(text)
            yield found
        finally:
            for one in reversed(found):
                self.plane.api.delete(one)

    def barrier(self) -> None:
        """Until every proxy that runs has what was written before.

        A mark is written last; what the proxies answer to it is part of the routes, which they get after all else.
        """
        self._marks += 1
        mark = f"mark-{self._marks}"
        for one in self.documents(_BARRIER.replace("MARK", mark)):
            self.plane.api.apply(one)
        for workload in self.workloads.values():
            if workload.process is None or workload.process.popen.poll() is not None:
                continue
            at = workload.address if workload.config.proxy_type == "router" else workload.out

            def passed(at: str = at) -> bool:
                return request(at, BARRIER_PORT, host="barrier.test", timeout=5).text == mark

            try:
                eventually(passed, f"{workload.name} has {mark}", LONG)
            except AssertionError as error:
                known, log = self.proxies().get(workload.name), workload.process.log
                raise AssertionError(f"{error}; {known}; {log.read_text()[-2000:]}") from None

    def mark(self) -> Mark:
        """How it stands now, for `restore`."""
        listed = self.plane.api.request("GET", "/api/v1/namespaces?limit=1")
        return Mark(int(listed["metadata"]["resourceVersion"]), frozenset(self.workloads))

    def restore(self, mark: Mark) -> None:
        """Put right what a failed test left: workloads, objects, pushes that are held, processes that end or stand."""
        for name in set(self.workloads) - mark.workloads:
            self.workloads.pop(name).stop(signal.SIGKILL)
        assert self.plane.process is not None
        if not self.plane.process.resumed():
            self.plane.start()
        stopped = [one for one in self.workloads.values() if one.process is not None and not one.process.resumed()]
        self.plane.api.request("POST", "/fairlead/v1/rollback?force=true", {"to": mark.revision})
        self.start(*stopped)
        try:
            self.barrier()
        except AssertionError:
            # Much went at once, which is not sent before somebody says so.
            self.plane.api.request("POST", "/fairlead/v1/release")
            self.barrier()

    def proxies(self) -> dict[str, Json]:
        """What the control plane says of the proxies, by name."""
        found = self.plane.api.request("GET", "/fairlead/v1/proxies")
        return {one["name"]: one for one in found["proxies"]}


_BARRIER = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: barrier, namespace: app}
spec:
  hosts: [barrier.test]
  ports: [{number: 18079, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 127.0.0.1}]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: barrier, namespace: edge}
spec:
  selector: {istio: ingressgateway}
  servers:
    - {port: {number: 18079, name: http, protocol: HTTP}, bind: GATEWAY, hosts: [barrier.test]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: barrier, namespace: app}
spec:
  hosts: [barrier.test]
  gateways: [mesh, edge/barrier]
  http:
    - directResponse: {status: 200, body: {string: MARK}}
"""
