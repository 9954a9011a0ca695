"""A real control plane on free ports, an administrator's client, and a proxy that speaks ADS over mutual TLS."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from bench.scale.link import Link, context
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.service.discovery.v3 import discovery_pb2

from fairlead.ca import istio_ca_pb2 as ca_pb
from fairlead.ca.service import METHOD as CREATE
from fairlead.cli.client import Answer, Client, read_kubeconfig
from fairlead.controlplane.plane import ControlPlane, Settings
from fairlead.controlplane.state import Endpoints, StateDirectory
from fairlead.envoy.resource import CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET
from fairlead.xds.messages import HEALTH
from fairlead.xds.server import SERVICE

NAME = "fairlead-controlplane"
Json = dict[str, Any]


async def until(condition: Callable[[], Any | Awaitable[Any]], what: str, seconds: float = 30) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if asyncio.iscoroutine(value):
            value = await value
        if value:
            return value
        await asyncio.sleep(0.02)
    raise AssertionError(f"not in {seconds} s: {what}")


class World:
    """A control plane that runs in this process and everything that tests do to it."""

    def __init__(self, directory: Path, settings: Settings) -> None:
        self.state = StateDirectory(directory)
        self.plane = ControlPlane(self.state, settings)
        self.found = Endpoints("", "", "")

    async def api(self, method: str, path: str, body: object = None, content_type: str = "application/json") -> Answer:
        """One request of the administrator. Raises Refused."""

        def ask() -> Answer:
            client = Client(read_kubeconfig(self.state.kubeconfig))
            try:
                return client.request(method, path, body, content_type=content_type)
            finally:
                client.close()

        return await asyncio.to_thread(ask)

    async def apply(self, *documents: Json) -> list[Json]:
        """Server-side apply."""
        out: list[Json] = []
        for one in documents:
            path = self.path(one)
            kind = "application/apply-patch+yaml"
            out.append((await self.api("PATCH", f"{path}?fieldManager=test&force=true", one, kind)).document)
        return out

    def path(self, one: Json) -> str:
        kind, _ = self.plane.model.kinds.identify(one)
        assert kind is not None
        group = f"/apis/{one['apiVersion']}" if "/" in one["apiVersion"] else f"/api/{one['apiVersion']}"
        where = f"/namespaces/{one['metadata'].get('namespace', 'default')}" if kind.namespaced else ""
        return f"{group}{where}/{kind.plural}/{one['metadata']['name']}"

    async def get(self, one: Json) -> Json:
        return (await self.api("GET", self.path(one))).document

    def condition(self, kind: str, name: str, wanted: str = "Programmed", namespace: str = "shop") -> Json:
        """A condition straight from the store; empty where there is none."""
        for group in ("networking.istio.io", "security.istio.io"):
            for one in self.plane.store.list(group, kind, namespace):
                if one["metadata"]["name"] == name:
                    listed = (one.get("status") or {}).get("conditions") or []
                    return next((at for at in listed if at["type"] == wanted), {})
        return {}

    async def join(self, account: str = "web", namespace: str = "shop", token: str = "") -> tuple[bytes, bytes]:
        """A key and its certificate chain, by a join token, as an agent gets them."""
        if not token:
            body = {
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenRequest",
                "spec": {"audiences": ["istio-ca"]},
            }
            path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
            token = (await self.api("POST", path, body)).document["status"]["token"]
        key = ec.generate_private_key(ec.SECP256R1())
        identity = x509.UniformResourceIdentifier(f"spiffe://cluster.local/ns/{namespace}/sa/{account}")
        csr = (
            x509.CertificateSigningRequestBuilder()
            .subject_name(x509.Name([]))
            .add_extension(x509.SubjectAlternativeName([identity]), critical=True)
            .sign(key, hashes.SHA256())
        )
        request = ca_pb.IstioCertificateRequest(csr=csr.public_bytes(serialization.Encoding.PEM).decode())
        answer = ca_pb.IstioCertificateResponse.FromString(
            await self._call(CREATE, request.SerializeToString(), ("authorization", f"Bearer {token}"))
        )
        secret = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return secret, "".join(answer.cert_chain[:-1]).encode()

    async def _call(self, method: str, body: bytes, *metadata: tuple[str, str]) -> bytes:
        """A unary call of the join port. Raises CallEnded."""
        answers = _Answers()
        link = Link(method, NAME, answers, metadata)
        host, _, port = self.found.join.rpartition(":")
        await link.connect(host, int(port), context(str(self.state.root_certificate)))
        link.send(body)
        link.finish()
        async with asyncio.timeout(30):
            status = await link.over
        if not answers.bodies:
            raise CallEnded(unquote(status))
        return answers.bodies[0]

    def connecting(self, name: str, pair: tuple[bytes, bytes], **metadata: Any) -> Proxy:
        """A proxy of namespace shop with this identity that has not connected yet."""
        with tempfile.NamedTemporaryFile() as identity:
            identity.write(b"\n".join(pair))
            identity.flush()
            tls = context(str(self.state.root_certificate), identity.name)
        return Proxy(self.found.xds, tls, name, {"NAMESPACE": "shop", **metadata})

    @contextlib.asynccontextmanager
    async def proxy(self, name: str, account: str = "web", **metadata: Any) -> AsyncIterator[Proxy]:
        """A connected proxy in namespace shop that has its first configuration."""
        made = self.connecting(name, await self.join(account), SERVICE_ACCOUNT=account, **metadata)
        await made.start()
        try:
            yield made
        finally:
            await made.stop()


class CallEnded(Exception):
    """A call was refused: the number of gRPC's status, and its message."""


class _Answers:
    """What a unary call is answered."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    def received(self, body: bytes) -> None:
        self.bodies.append(body)


class Proxy:
    """A delta ADS client that takes clusters and listeners, and of the rest what it is told to."""

    def __init__(self, address: str, tls: ssl.SSLContext, name: str, metadata: Json) -> None:
        self._address = address
        self._tls = tls
        # Not gRPC's own: questions fork this process, which its threads do not survive.
        self._link = Link(f"/{SERVICE}/DeltaAggregatedResources", NAME, self)
        self.node_id = f"{metadata.pop('TYPE', 'sidecar')}~10.9.9.9~{name}.shop~shop.svc.cluster.local"
        self.metadata = metadata
        self.have: dict[str, dict[str, bytes]] = {CLUSTER: {}, ENDPOINT: {}, LISTENER: {}, ROUTE: {}, SECRET: {}}
        self.responses: list[tuple[str, list[str], list[str]]] = []
        self.versions: list[int] = []
        self.bytes = 0
        self.refuse: dict[str, str] = {}
        self.mute = False
        self.muted: list[Any] = []

    @property
    def error(self) -> str:
        """What the stream has ended with: the number of gRPC's status, and its message; "" while it goes on."""
        return unquote(self._link.over.result()) if self._link.over.done() else ""

    async def start(self) -> None:
        host, _, port = self._address.rpartition(":")
        await self._link.connect(host, int(port), self._tls)
        for type_url in (CLUSTER, LISTENER):
            request = discovery_pb2.DeltaDiscoveryRequest(type_url=type_url)
            request.node.id = self.node_id
            request.node.metadata.update(self.metadata)
            self._link.send(request.SerializeToString())
        await until(lambda: self.have[LISTENER] or self._link.over.done(), "a first configuration")

    async def stop(self) -> None:
        self._link.close()
        await self._link.over

    async def subscribe(self, type_url: str, *names: str) -> None:
        request = discovery_pb2.DeltaDiscoveryRequest(type_url=type_url, resource_names_subscribe=list(names))
        self._link.send(request.SerializeToString())

    async def healthy(self, healthy: bool, message: str = "") -> None:
        request = discovery_pb2.DeltaDiscoveryRequest(type_url=HEALTH)
        if not healthy:
            request.error_detail.code, request.error_detail.message = 500, message
        self._link.send(request.SerializeToString())

    def endpoints(self, cluster: str) -> list[str]:
        body = self.have[ENDPOINT].get(cluster)
        if body is None:
            return []
        groups = ClusterLoadAssignment.FromString(body).endpoints
        return [one.endpoint.address.socket_address.address for group in groups for one in group.lb_endpoints]

    async def answer_all(self) -> None:
        self.mute = False
        waiting, self.muted = self.muted, []
        for response in waiting:
            self._answer(response)

    def received(self, body: bytes) -> None:
        response = discovery_pb2.DeltaDiscoveryResponse.FromString(body)
        names = [one.name for one in response.resources]
        self.responses.append((response.type_url, names, list(response.removed_resources)))
        self.versions.append(int(response.system_version_info or 0))
        self.bytes += response.ByteSize()
        if self.mute:
            self.muted.append(response)
        else:
            self._answer(response)

    def _answer(self, response: Any) -> None:
        request = discovery_pb2.DeltaDiscoveryRequest(type_url=response.type_url, response_nonce=response.nonce)
        bad = [self.refuse[one.name] for one in response.resources if one.name in self.refuse]
        if bad:
            request.error_detail.code, request.error_detail.message = 13, bad[0]
        else:
            rows = self.have[response.type_url]
            rows.update({one.name: one.resource.value for one in response.resources})
            for name in response.removed_resources:
                rows.pop(name, None)
        self._link.send(request.SerializeToString())


@contextlib.asynccontextmanager
async def world(directory: Path, **settings: Any) -> AsyncIterator[World]:
    made = World(directory, Settings(**{"api_port": 0, "xds_port": 0, "join_port": 0, **settings}))
    try:
        made.found = await made.plane.start()
        yield made
    finally:
        await made.plane.stop()


def obj(kind: str, name: str, namespace: str = "shop", version: str = "", **body: Any) -> Json:
    groups = {
        "VirtualService": "networking.istio.io/v1",
        "DestinationRule": "networking.istio.io/v1",
        "Gateway": "networking.istio.io/v1",
        "WorkloadEntry": "networking.istio.io/v1",
        "ServiceEntry": "networking.istio.io/v1",
        "PeerAuthentication": "security.istio.io/v1",
    }
    meta: Json = {"name": name}
    if kind != "Namespace":
        meta["namespace"] = namespace
    return {"apiVersion": version or groups.get(kind, "v1"), "kind": kind, "metadata": meta, **body}


def service(name: str, **spec: Any) -> Json:
    ports = [{"port": 9080, "name": "http", "targetPort": 9080}]
    return obj("Service", name, spec={"selector": {"app": name}, "ports": ports, **spec})


def entry(name: str, app: str, address: str, account: str = "web") -> Json:
    spec = {"address": address, "labels": {"app": app}, "serviceAccount": account, "ports": {"http": 9080}}
    return obj("WorkloadEntry", name, spec=spec)


def routes(name: str, prefix: str = "/", host: str = "cart") -> Json:
    rule = {"match": [{"uri": {"prefix": prefix}}], "route": [{"destination": {"host": host}}]}
    return obj("VirtualService", name, spec={"hosts": [host], "http": [rule]})


BASICS = (
    obj("Namespace", "shop"),
    obj("ServiceAccount", "web"),
    obj("ServiceAccount", "cart"),
)
