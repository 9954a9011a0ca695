"""A real Envoy with compiled listeners, the certificates that its agent would serve, and something behind it."""

from __future__ import annotations

import contextlib
import http.server
import json
import socket
import socketserver
import ssl
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.base_pb2 import TransportSocket
from envoy.config.core.v3.config_source_pb2 import ConfigSource
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import DownstreamTlsContext, UpstreamTlsContext
from envoy.service.discovery.v3.discovery_pb2 import DiscoveryResponse
from google.protobuf.json_format import MessageToJson
from listener_facts import ENVOY, World, bootstrap, http_of, is_http
from tests.loopback import free_port

from fairlead.ca.authority import Authority, open_authority
from fairlead.ca.identity import Identity
from fairlead.compiler.parts import layers
from fairlead.envoy.pack import pack
from fairlead.envoy.resource import CLUSTER, ENDPOINT, LISTENER, ROUTE, Resource
from fairlead.ir.view import View


class Credentials:
    """An authority of a mesh and the certificates of one service account, as files and as secrets for Envoy."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.authority: Authority = open_authority(directory / "ca", "cluster.local", lambda: datetime.now(UTC))
        self.roots = directory / "roots.pem"
        self.roots.write_text(self.authority.root_pem)
        self.chain, self.key = self.identity("caller")
        roots = Secret(name="ROOTCA")
        roots.validation_context.trusted_ca.inline_string = self.authority.root_pem
        self._write(roots)
        chain, key = self.identity("server")
        for name in ("default", "kubernetes://cert"):
            own = Secret(name=name)
            own.tls_certificate.certificate_chain.inline_string = chain.read_text()
            own.tls_certificate.private_key.inline_string = key.read_text()
            self._write(own)

    def identity(self, account: str) -> tuple[Path, Path]:
        """Files of a certificate chain and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
        issued = self.authority.issue(
            request.public_bytes(serialization.Encoding.PEM), Identity("cluster.local", "default", account)
        )
        chain, private = self.directory / f"{account}.pem", self.directory / f"{account}.key"
        chain.write_text(issued.presented)
        private.touch(0o600)
        private.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return chain, private

    def _write(self, secret: Secret) -> None:
        answer = DiscoveryResponse(version_info="1", resources=[pack(secret)])
        self.path(secret.name).touch(0o600)
        self.path(secret.name).write_text(MessageToJson(answer))

    def path(self, secret: str) -> Path:
        return self.directory / f"{secret.replace('/', '_')}.json"

    def client(self, *alpn: str, certificate: bool = True) -> ssl.SSLContext:
        """What a mesh client is to TLS; identities are not checked here."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(self.roots)
        if alpn:
            context.set_alpn_protocols(list(alpn))
        if certificate:
            context.load_cert_chain(self.chain, self.key)
        return context

    def local(self, context: DownstreamTlsContext | UpstreamTlsContext) -> None:
        """Have Envoy read from files what its agent or control plane would serve."""
        common = context.common_tls_context
        wanted = [*common.tls_certificate_sds_secret_configs]
        if common.HasField("combined_validation_context"):
            wanted.append(common.combined_validation_context.validation_context_sds_secret_config)
        for one in wanted:
            source = ConfigSource(resource_api_version=2)
            source.path_config_source.path = str(self.path(one.name))
            one.sds_config.CopyFrom(source)


def local(
    listener: Listener, credentials: Credentials | None = None, routes: Mapping[str, RouteConfiguration] | None = None
) -> Listener:
    """The listener with secrets from files and routes inlined; nothing else is touched."""
    made = Listener()
    made.CopyFrom(listener)
    for chain in (*made.filter_chains, made.default_filter_chain):
        if chain.HasField("transport_socket") and credentials is not None:
            context = DownstreamTlsContext()
            assert chain.transport_socket.typed_config.Unpack(context)
            credentials.local(context)
            chain.transport_socket.typed_config.CopyFrom(pack(context))
        if chain.filters and is_http(chain) and routes:
            manager = http_of(chain)
            if manager.WhichOneof("route_specifier") == "rds":
                manager.route_config.CopyFrom(routes[manager.rds.route_config_name])
                chain.filters[-1].typed_config.CopyFrom(pack(manager))
    if not made.default_filter_chain.filters:
        made.ClearField("default_filter_chain")
    return made


def to_address(name: str, address: str, port: int, socket_: TransportSocket | None = None) -> Cluster:
    """A cluster with one endpoint."""
    made = Cluster(name=name, type=Cluster.STATIC)
    made.load_assignment.cluster_name = name
    endpoint = made.load_assignment.endpoints.add().lb_endpoints.add().endpoint
    endpoint.address.socket_address.address = address
    endpoint.address.socket_address.port_value = port
    if socket_ is not None:
        made.transport_socket.CopyFrom(socket_)
    return made


def all_to(name: str, cluster: str) -> RouteConfiguration:
    """Routes that send every request to one cluster."""
    made = RouteConfiguration(name=name)
    route = made.virtual_hosts.add(name="all", domains=["*"]).routes.add()
    route.match.prefix = "/"
    route.route.cluster = cluster
    return made


@contextlib.contextmanager
def envoy(listeners: Iterable[Listener], clusters: Iterable[Cluster], directory: Path) -> Iterator[int]:
    """Envoy with these listeners, until it is live; gives the port of its administration."""
    if not ENVOY.exists():
        pytest.skip(f"no Envoy at {ENVOY}")
    directory.mkdir(exist_ok=True)
    config = bootstrap(list(listeners), clusters)
    admin = free_port()
    config.admin.address.socket_address.address = "127.0.0.1"
    config.admin.address.socket_address.port_value = admin
    path, log = directory / "live.pb", directory / "envoy.log"
    path.write_bytes(config.SerializeToString())
    with log.open("wb") as output:
        process = subprocess.Popen(
            [ENVOY, "-c", path, "--disable-hot-restart", "--concurrency", "1", "-l", "warning"],
            stdout=output,
            stderr=output,
        )
    try:
        deadline = time.monotonic() + 30
        while True:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{admin}/ready", timeout=2) as answer:
                    if answer.status == 200:
                        break
            except OSError:
                time.sleep(0.05)
        yield admin
    finally:
        process.kill()
        process.wait()


class _Tell(http.server.BaseHTTPRequestHandler):
    """Answers with the request's headers as JSON, and introduces itself as somebody else."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = json.dumps({key.lower(): value for key, value in self.headers.items()}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.send_header("x-fairlead-peer", "forged")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class _Echo(socketserver.StreamRequestHandler):
    """Answers every line with itself, after a greeting if the server is asked for one."""

    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(b"echo " + line)


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


@contextlib.contextmanager
def application(address: str, port: int, *, http_: bool) -> Iterator[None]:
    """An application: HTTP that tells what it got, or TCP that echoes lines."""
    with _Server((address, port), _Tell if http_ else _Echo) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


def ask(
    address: str,
    port: int,
    text: bytes,
    tls: ssl.SSLContext | None = None,
    server_name: str | None = None,
    *,
    whole: bool = False,
) -> bytes:
    """Send and read once (`whole`: to the end); empty if the peer closed or refused, whatever way it chose."""
    try:
        with contextlib.ExitStack() as stack:
            stream = stack.enter_context(socket.create_connection((address, port), timeout=10))
            if tls is not None:
                stream = stack.enter_context(tls.wrap_socket(stream, server_hostname=server_name))
            stream.sendall(text)
            found = stream.recv(65536)
            while whole and (more := stream.recv(65536)):
                found += more
            return found
    except (ConnectionError, ssl.SSLError):
        return b""


def get(address: str, port: int, tls: ssl.SSLContext | None = None) -> dict[str, str] | None:
    """The headers that the application saw of an HTTP request, or None if it was not reached."""
    answer = ask(address, port, b"GET / HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n", tls, whole=True)
    head, _, body = answer.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        return None
    return json.loads(body)


def compiled(world: World, view: View) -> tuple[list[Listener], list[Cluster]]:
    """All listeners and clusters of a view with their routes and endpoints put in, so that Envoy needs no server."""
    found: dict[str, list[Resource]] = {}
    for kind in (LISTENER, ROUTE, CLUSTER, ENDPOINT):
        lists = [one for one in world.engine.call(layers, view) if one.type_url == kind]
        parts = [part for one in lists for part in world.engine.call(one.rule, one.key)]
        made = [world.engine.call(one.rule, one.key) for one in parts]
        found[kind] = [one for one in made if one is not None]
    assert not world.engine.failures()
    routes = {one.name: RouteConfiguration.FromString(one.body) for one in found[ROUTE]}
    endpoints = {one.name: ClusterLoadAssignment.FromString(one.body) for one in found[ENDPOINT]}
    clusters = [Cluster.FromString(one.body) for one in found[CLUSTER]]
    for one in clusters:
        if one.type == Cluster.EDS:
            one.type = Cluster.STATIC
            one.ClearField("eds_cluster_config")
            one.load_assignment.CopyFrom(endpoints[one.name])
    return [local(Listener.FromString(one.body), routes=routes) for one in found[LISTENER]], clusters
