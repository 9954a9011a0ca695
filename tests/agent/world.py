"""A control plane small enough for a test, and agents as real processes with real Envoy."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from envoy.config.bootstrap.v3 import bootstrap_pb2  # noqa: F401 - registers what ParseDict needs in Any
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.extensions.filters.http.fault.v3 import fault_pb2  # noqa: F401
from envoy.extensions.filters.http.router.v3 import router_pb2  # noqa: F401
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2  # noqa: F401
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2  # noqa: F401
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2  # noqa: F401
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2  # noqa: F401
from envoy.service.discovery.v3 import discovery_pb2 as discovery
from google.protobuf import json_format
from google.protobuf.message import Message

from fairlead.agent import http, messages, relaystate
from fairlead.envoy.resource import CLUSTER, ENDPOINT, LISTENER, Resource
from fairlead.model.launch import AgentConfig
from tests.loopback import free_port

MESSAGES: dict[str, Any] = {
    CLUSTER: cluster_pb2.Cluster,
    LISTENER: listener_pb2.Listener,
    ENDPOINT: endpoint_pb2.ClusterLoadAssignment,
}
TOKEN = "join-me"
T = "type.googleapis.com/"


async def until(condition: Callable[[], Any | Awaitable[Any]], what: str, seconds: float = 30) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if asyncio.iscoroutine(value):
            value = await value
        if value:
            return value
        await asyncio.sleep(0.05)
    raise AssertionError(f"not in {seconds} s: {what}")


class Authority:
    """A root that signs whatever it is asked to."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test root")])
        now = datetime.datetime.now(datetime.UTC)
        self.root = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self.key, hashes.SHA256())
        )
        self.root_pem = self.root.public_bytes(serialization.Encoding.PEM)

    def sign(self, public: Any, names: list[x509.GeneralName], seconds: float) -> bytes:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self.root.subject)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now)
            .not_valid_after(now + datetime.timedelta(seconds=seconds))
            .add_extension(x509.SubjectAlternativeName(names), critical=True)
            .sign(self.key, hashes.SHA256())
            .public_bytes(serialization.Encoding.PEM)
        )

    def request(self, csr_pem: str, seconds: float) -> list[str]:
        csr = x509.load_pem_x509_csr(csr_pem.encode())
        assert csr.is_signature_valid
        names = list(csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
        return [self.sign(csr.public_key(), names, seconds).decode(), self.root_pem.decode()]


class ControlPlane:
    """Join and xDS ports; resources per proxy name; everything that arrived is recorded."""

    def __init__(self, authority: Authority, lifetime: float = 3600) -> None:
        self.authority = authority
        self.lifetime = lifetime
        self.xds_port = free_port()
        self.join_port = free_port()
        self.resources: dict[str, dict[str, dict[str, Resource]]] = {}
        self.table: dict[str, messages.Host] = {}
        self.health: list[tuple[str, str]] = []
        self.issued: list[str] = []
        self.sent: list[tuple[str, str]] = []
        self.nacks: list[str] = []
        self._changed: set[asyncio.Event] = set()
        self._servers: list[grpc.aio.Server] = []

    def put(self, proxy: str, type_url: str, *items: dict[str, Any] | Message) -> None:
        known = self.resources.setdefault(proxy, {}).setdefault(type_url, {})
        for item in items:
            message = json_format.ParseDict(item, MESSAGES[type_url]()) if isinstance(item, dict) else item
            name = getattr(message, "name", "") or getattr(message, "cluster_name", "")
            known[name] = Resource.of(type_url, name, message.SerializeToString(deterministic=True))
        for event in self._changed:
            event.set()

    async def __aenter__(self) -> ControlPlane:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        cert = self.authority.sign(key.public_key(), [x509.DNSName("fairlead-controlplane")], 3600)
        secret = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        for port, mutual in ((self.xds_port, True), (self.join_port, False)):
            credentials = grpc.ssl_server_credentials(
                [(secret, cert)], self.authority.root_pem if mutual else None, require_client_auth=mutual
            )
            server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
            create = grpc.unary_unary_rpc_method_handler(self._create_mutual if mutual else self._create_join)
            ca = grpc.method_handlers_generic_handler(
                "istio.v1.auth.IstioCertificateService", {"CreateCertificate": create}
            )
            stream = grpc.stream_stream_rpc_method_handler(self._stream)
            ads = grpc.method_handlers_generic_handler(
                "envoy.service.discovery.v3.AggregatedDiscoveryService", {"DeltaAggregatedResources": stream}
            )
            server.add_generic_rpc_handlers((ca, ads) if mutual else (ca,))
            server.add_secure_port(f"127.0.0.1:{port}", credentials)
            await server.start()
            self._servers.append(server)

    async def stop(self) -> None:
        for server in self._servers:
            await server.stop(0)
        self._servers.clear()

    async def _create_join(self, body: bytes, context: Any) -> bytes:
        if ("authorization", f"Bearer {TOKEN}") not in [tuple(item) for item in context.invocation_metadata()]:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "token unknown")
        return self._issue("token", body)

    async def _create_mutual(self, body: bytes, context: Any) -> bytes:
        assert context.auth_context()["x509_subject_alternative_name"]
        return self._issue("certificate", body)

    def _issue(self, how: str, body: bytes) -> bytes:
        self.issued.append(how)
        classes = messages._CLASSES
        request = classes["istio.v1.auth.IstioCertificateRequest"].FromString(body)
        chain = self.authority.request(request.csr, self.lifetime)
        return classes["istio.v1.auth.IstioCertificateResponse"](cert_chain=chain).SerializeToString()

    async def _stream(self, requests: AsyncIterator[bytes], _: Any) -> AsyncIterator[bytes]:
        event = asyncio.Event()
        self._changed.add(event)
        session = _Session(self)
        reading = asyncio.create_task(session.read(requests, event))
        try:
            while not reading.done():
                for response in session.push():
                    yield response
                await event.wait()
                event.clear()
        finally:
            reading.cancel()
            self._changed.discard(event)


class _Session:
    def __init__(self, plane: ControlPlane) -> None:
        self.plane = plane
        self.proxy = ""
        self.believed: dict[str, dict[str, str]] = {}
        self.names: dict[str, set[str]] = {}
        self.wildcard: set[str] = set()
        self.inflight: set[str] = set()
        self.nonce = 0

    async def read(self, requests: AsyncIterator[bytes], event: asyncio.Event) -> None:
        try:
            async for body in requests:
                self.receive(discovery.DeltaDiscoveryRequest.FromString(body))
                event.set()
        finally:
            event.set()

    def receive(self, request: discovery.DeltaDiscoveryRequest) -> None:
        if request.HasField("node"):
            self.proxy = request.node.id.split("~")[2].partition(".")[0]
        kind = request.type_url
        if kind == relaystate.HEALTH:
            self.plane.health.append((self.proxy, request.error_detail.message))
            return
        if kind not in self.names:
            self.names[kind] = set()
            self.believed[kind] = dict(request.initial_resource_versions)
            if not request.resource_names_subscribe:
                self.wildcard.add(kind)
        if request.response_nonce:
            self.inflight.discard(kind)
        if request.HasField("error_detail"):
            self.plane.nacks.append(request.error_detail.message)
        self.names[kind].update(request.resource_names_subscribe)
        self.names[kind].difference_update(request.resource_names_unsubscribe)

    def wanted(self, kind: str) -> dict[str, Resource]:
        if kind == relaystate.NAME_TABLE:
            body = messages.encode_name_table(self.plane.table)
            return {"table": Resource.of(kind, "table", body)} if self.plane.table else {}
        known = self.plane.resources.get(self.proxy, {}).get(kind, {})
        return known if kind in self.wildcard else {n: r for n, r in known.items() if n in self.names[kind]}

    def push(self) -> list[bytes]:
        made: list[bytes] = []
        for kind in self.names:
            if kind in self.inflight:
                continue
            wanted, believed = self.wanted(kind), self.believed[kind]
            new = [one for name, one in wanted.items() if believed.get(name) != one.version]
            gone = [name for name in believed if name not in wanted]
            if not new and not gone:
                continue
            self.believed[kind] = {name: one.version for name, one in wanted.items()}
            self.inflight.add(kind)
            self.nonce += 1
            response = discovery.DeltaDiscoveryResponse(type_url=kind, nonce=str(self.nonce), removed_resources=gone)
            for one in new:
                self.plane.sent.append((self.proxy, one.name))
                added = response.resources.add(name=one.name, version=one.version)
                added.resource.type_url, added.resource.value = kind, one.body
            made.append(response.SerializeToString())
        return made


class AgentProcess:
    """`fairlead agent` as a process."""

    def __init__(self, config: AgentConfig, directory: Path) -> None:
        self.config = config
        self.directory = Path(config.directory)
        self.path = directory / f"{config.name}.json"
        self.path.write_bytes(msgspec.json.encode(config))
        self.log = directory / f"{config.name}.log"
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                "from fairlead.cli.agent import agent; agent(prog_name='fairlead agent')",
                "--config",
                str(self.path),
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def rss(self) -> float:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) / 1024
        return 0.0

    async def get(self, target: str, method: str = "GET") -> http.Response:
        return await http.fetch(http.unix(str(self.directory / "agent.sock")), target, method=method)

    async def status(self) -> dict[str, Any]:
        return json.loads((await self.get("/status")).body)

    async def ready(self) -> bool:
        assert self.process is not None
        assert self.process.returncode is None, self.log.read_text()
        try:
            return (await self.get("/healthz/ready")).status == 200
        except http.HTTPFailure:
            return False

    async def stop(self, number: signal.Signals = signal.SIGTERM, seconds: float = 30) -> int:
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(number)
        return await self.wait(seconds)

    async def wait(self, seconds: float = 30) -> int:
        assert self.process is not None
        async with asyncio.timeout(seconds):
            return await self.process.wait()


@contextlib.asynccontextmanager
async def running(*agents: AgentProcess) -> AsyncIterator[None]:
    try:
        for agent in agents:
            await agent.start()
        for agent in agents:
            await until(agent.ready, f"{agent.config.name} ready\n{agent.log}")
        yield
    except BaseException:
        for agent in agents:
            if not agent.log.exists():
                continue
            sys.stderr.write(f"--- {agent.config.name}\n{agent.log.read_text()}\n")
        raise
    finally:
        for agent in agents:
            if agent.process is not None and agent.process.returncode is None:
                agent.process.kill()
                await agent.process.wait()


def config(plane: ControlPlane, directory: Path, name: str, **more: Any) -> AgentConfig:
    root = directory / "root.pem"
    root.write_bytes(plane.authority.root_pem)
    token = directory / "token"
    token.write_text(TOKEN)
    settings: dict[str, Any] = {
        "name": name,
        "namespace": "shop",
        "service_account": name,
        "directory": str(directory / name),
        "xds_address": f"127.0.0.1:{plane.xds_port}",
        "join_address": f"127.0.0.1:{plane.join_port}",
        "root_cert_file": str(root),
        "token_file": str(token),
        "status_port": 0,
        "drain_seconds": 5,
    }
    return AgentConfig(**{**settings, **more})


def cluster(name: str, port: int, **more: Any) -> dict[str, Any]:
    address = {"socketAddress": {"address": "127.0.0.1", "portValue": port}}
    return {
        "name": name,
        "altStatName": f"{name};",
        "type": "STATIC",
        "connectTimeout": "1s",
        "loadAssignment": {
            "clusterName": name,
            "endpoints": [{"lbEndpoints": [{"endpoint": {"address": address}}]}],
        },
        **more,
    }


def http_listener(name: str, port: int, target: str, direction: str, **hcm: Any) -> dict[str, Any]:
    filters = hcm.pop("http_filters", [])
    router = {
        "name": "envoy.filters.http.router",
        "typedConfig": {"@type": f"{T}envoy.extensions.filters.http.router.v3.Router"},
    }
    chain = hcm.pop("chain", {})
    manager = {
        "@type": f"{T}envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "statPrefix": direction.lower(),
        "routeConfig": {
            "virtualHosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": target, "timeout": "0s"}}],
                }
            ]
        },
        "httpFilters": [*filters, router],
        **hcm,
    }
    return {
        "name": name,
        "trafficDirection": direction,
        "address": {"socketAddress": {"address": "127.0.0.1", "portValue": port}},
        "filterChains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typedConfig": manager}], **chain}
        ],
    }


def tls(side: str) -> dict[str, Any]:
    source = {
        "apiConfigSource": {
            "apiType": "GRPC",
            "transportApiVersion": "V3",
            "setNodeOnFirstMessageOnly": True,
            "grpcServices": [{"envoyGrpc": {"clusterName": "sds-grpc"}}],
        },
        "initialFetchTimeout": "0s",
        "resourceApiVersion": "V3",
    }
    context: dict[str, Any] = {
        "@type": f"{T}envoy.extensions.transport_sockets.tls.v3.{side}TlsContext",
        "commonTlsContext": {
            "tlsCertificateSdsSecretConfigs": [{"name": "default", "sdsConfig": source}],
            "validationContextSdsSecretConfig": {"name": "ROOTCA", "sdsConfig": source},
        },
    }
    if side == "Downstream":
        context["requireClientCertificate"] = True
    return {"name": "envoy.transport_sockets.tls", "typedConfig": context}


def opener(port: int) -> http.Opener:
    return lambda: asyncio.open_connection("127.0.0.1", port)
