"""Replays calls on real Envoy: the compiled listeners and routes as they are, but for where they stand and lead.

Redirected connections are told by the PROXY protocol where they were going, so that no redirection is needed: what
Envoy makes of an original destination is the same. Clusters lead to a port at which nobody is; the access log says
which one a call met, which filter chain, and which route. Certificates are made here.
"""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from envoy.config.accesslog.v3.accesslog_pb2 import AccessLog
from envoy.config.bootstrap.v3.bootstrap_pb2 import Bootstrap
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.base_pb2 import TransportSocket
from envoy.config.listener.v3.listener_components_pb2 import FilterChain
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.access_loggers.file.v3.file_pb2 import FileAccessLog
from envoy.extensions.filters.listener.proxy_protocol.v3.proxy_protocol_pb2 import ProxyProtocol
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)
from envoy.extensions.filters.network.tcp_proxy.v3.tcp_proxy_pb2 import TcpProxy
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import DownstreamTlsContext
from h2.config import H2Configuration
from h2.connection import H2Connection

from fairlead.compiler.publish import Catalog
from fairlead.envoy import names
from fairlead.envoy.pack import pack
from fairlead.envoy.resource import CLUSTER, LISTENER, ROUTE
from tests.conformance.simulator import ANYWHERE, Call

ENVOY = Path(sys.executable).parent / "envoy"
_ORIGINAL_DST = "envoy.filters.listener.original_dst"
_FIELDS = {
    "cluster": "%UPSTREAM_CLUSTER_RAW%",
    "chain": "%FILTER_CHAIN_NAME%",
    "route": "%ROUTE_NAME%",
    "code": "%RESPONSE_CODE%",
    "from": "%DOWNSTREAM_REMOTE_PORT%",
    "refused": "%DOWNSTREAM_TRANSPORT_FAILURE_REASON%",
}
_PATIENCE = 5.0


class Seen(msgspec.Struct, frozen=True):
    """What Envoy said that a call met; all empty where it got nowhere."""

    listener: str = ""
    chain: str = ""
    routes: str = ""
    route: str = ""
    cluster: str = ""
    code: int = 0
    refused: str = ""
    """Why TLS with the client failed."""


class Certificates(msgspec.Struct, frozen=True):
    """Files with a certificate that is its own authority, and its key."""

    certificate: Path
    key: Path


def self_signed(folder: Path) -> Certificates:
    """A certificate that clients and servers here show and trust."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "replay")])
    now = datetime.now(tz=UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    found = Certificates(folder / "cert.pem", folder / "key.pem")
    found.certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    clear = serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    found.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, clear))
    return found


class Replay:
    """An Envoy with the listeners of one proxy."""

    def __init__(self, log: Path, doors: Mapping[tuple[str, int], int], certificates: Certificates) -> None:
        self._log = log
        self._doors = doors
        self._certificates = certificates
        self._count = 20000

    def call(self, call: Call) -> Seen | None:
        """What a call meets; None if there is no listener for it."""
        door = self._door(call)
        if door is None:
            return None
        self._count += 1
        with socket.create_connection(("127.0.0.1", door), timeout=_PATIENCE) as raw:
            header = f"PROXY TCP4 10.250.0.1 {call.address} {self._count} {call.port}\r\n"
            raw.sendall(header.encode())
            with suppress(OSError):
                self._speak(raw, call)
        return self._said(self._count)

    def _door(self, call: Call) -> int | None:
        if call.mode == "inbound":
            return self._doors.get((names.VIRTUAL_INBOUND, 0))
        if call.mode == "outbound":
            return self._doors.get((names.VIRTUAL_OUTBOUND, 0))
        return self._doors.get((call.address, call.port)) or self._doors.get((ANYWHERE, call.port))

    def _speak(self, raw: socket.socket, call: Call) -> None:
        if call.tls == "plaintext":
            self._send(raw, call)
            return
        with self._secured(raw, call) as stream:
            self._send(stream, call)

    def _secured(self, raw: socket.socket, call: Call) -> ssl.SSLSocket:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if call.alpn:
            context.set_alpn_protocols([call.alpn])
        if call.tls == "mtls":
            context.load_cert_chain(self._certificates.certificate, self._certificates.key)
        made = context.wrap_socket(raw, server_hostname=call.sni or None, do_handshake_on_connect=False)
        try:
            made.do_handshake()
        except OSError:
            made.close()
            raise
        return made

    def _send(self, stream: socket.socket, call: Call) -> None:
        if call.protocol == "http":
            stream.sendall(f"GET {call.path} HTTP/1.1\r\nHost: {call.host}\r\nConnection: close\r\n\r\n".encode())
        elif call.protocol == "http2":
            stream.sendall(_http2(call))
        else:
            stream.sendall(b"\x01\x02 not any protocol that is known\n")
        stream.settimeout(1.0)
        while stream.recv(65536):
            if call.protocol == "http2":
                break

    def _said(self, number: int) -> Seen:
        """What the log says of the call; nothing if it stays silent for a moment after the connection has ended."""
        end = time.monotonic() + 0.6
        while time.monotonic() < end:
            for line in self._log.read_text().splitlines() if self._log.exists() else ():
                found: dict[str, Any] = json.loads(line)
                if found.get("from") == number:
                    known = {
                        name: found.get(name) or "" for name in ("listener", "chain", "routes", "route", "cluster")
                    }
                    return Seen(**known, code=found.get("code") or 0)
            time.sleep(0.02)
        return Seen()


@contextmanager
def replaying(catalog: Catalog, folder: Path, certificates: Certificates) -> Generator[Replay]:
    """An Envoy that serves a proxy's listeners, until the context ends."""
    log = folder / "access.log"
    made, doors = _bootstrap(catalog, log, certificates)
    path = folder / "bootstrap.pb"
    path.write_bytes(made.SerializeToString())
    errors = folder / "envoy.err"
    command = [ENVOY, "-c", path, "-l", "error", "--concurrency", "1", "--file-flush-interval-msec", "20"]
    with errors.open("wb") as said:
        envoy = subprocess.Popen([*command, "--use-dynamic-base-id"], stdout=said, stderr=said)
    try:
        for door in doors.values():
            _wait(envoy, door, errors)
        yield Replay(log, doors, certificates)
    finally:
        envoy.kill()
        envoy.wait()


def _wait(envoy: subprocess.Popen[bytes], door: int, errors: Path) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        assert envoy.poll() is None, errors.read_text()[-2000:]
        try:
            socket.create_connection(("127.0.0.1", door), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"nobody listens: {errors.read_text()[-2000:]}")


def _bootstrap(catalog: Catalog, log: Path, certificates: Certificates) -> tuple[Bootstrap, dict[tuple[str, int], int]]:
    made = Bootstrap()
    made.node.id = made.node.cluster = "replay"
    made.stats_config.use_all_default_tags.value = False
    routes = {name: RouteConfiguration.FromString(one.body) for name, one in catalog[ROUTE].items()}
    doors: dict[tuple[str, int], int] = {}
    named: set[str] = set()
    for one in catalog[LISTENER].values():
        listener = made.static_resources.listeners.add()
        listener.CopyFrom(Listener.FromString(one.body))
        _moved(listener, doors)
        del listener.access_log[:]
        chains = [*listener.filter_chains]
        if listener.HasField("default_filter_chain"):
            chains.append(listener.default_filter_chain)
        for chain in chains:
            _changed(chain, listener.name, routes, log, certificates)
            named.update(_led_to(chain))
    # Rules may lead to clusters that are not there: a call is then answered before the log could name them.
    for name in sorted({*catalog[CLUSTER], *named}):
        cluster = made.static_resources.clusters.add(name=name, type=Cluster.STATIC)
        cluster.connect_timeout.seconds = 1
        cluster.load_assignment.cluster_name = name
        at = cluster.load_assignment.endpoints.add().lb_endpoints.add().endpoint.address.socket_address
        at.address, at.port_value = "127.0.0.1", 1
    return made, doors


def _led_to(chain: FilterChain) -> set[str]:
    """The clusters to which a filter chain leads."""
    found: set[str] = set()
    for one in chain.filters:
        if one.typed_config.Is(TcpProxy.DESCRIPTOR):
            proxy = TcpProxy.FromString(one.typed_config.value)
            found.update([proxy.cluster] if proxy.cluster else [each.name for each in proxy.weighted_clusters.clusters])
        elif one.typed_config.Is(HttpConnectionManager.DESCRIPTOR):
            manager = HttpConnectionManager.FromString(one.typed_config.value)
            for host in manager.route_config.virtual_hosts:
                for route in host.routes:
                    found.update(each.name for each in route.route.weighted_clusters.clusters)
                    found.update([route.route.cluster] if route.route.cluster else [])
    return found


def _moved(listener: Listener, doors: dict[tuple[str, int], int]) -> None:
    """Give what is bound a free port of the loopback, and have clients say what they wanted to reach."""
    del listener.additional_addresses[:]
    kept = [one for one in listener.listener_filters if one.name != _ORIGINAL_DST]
    del listener.listener_filters[:]
    if listener.HasField("bind_to_port") and not listener.bind_to_port.value:
        listener.listener_filters.extend(kept)
        return
    where = listener.address.socket_address
    virtual = listener.name in (names.VIRTUAL_INBOUND, names.VIRTUAL_OUTBOUND)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    doors[(listener.name, 0) if virtual else (where.address, where.port_value)] = port
    where.address, where.port_value, where.network_namespace_filepath = "127.0.0.1", port, ""
    told = listener.listener_filters.add(name="envoy.filters.listener.proxy_protocol")
    told.typed_config.CopyFrom(pack(ProxyProtocol()))
    listener.listener_filters.extend(kept)


def _changed(
    chain: FilterChain,
    listener: str,
    routes: Mapping[str, RouteConfiguration],
    log: Path,
    certificates: Certificates,
) -> None:
    for one in chain.filters:
        if one.typed_config.Is(HttpConnectionManager.DESCRIPTOR):
            manager = HttpConnectionManager.FromString(one.typed_config.value)
            named = manager.rds.route_config_name
            if named:
                manager.route_config.CopyFrom(routes.get(named, RouteConfiguration(name=named)))
            manager.ClearField("tracing")
            del manager.access_log[:]
            manager.access_log.append(_logging(log, listener, named))
            one.typed_config.CopyFrom(pack(manager))
        elif one.typed_config.Is(TcpProxy.DESCRIPTOR):
            proxy = TcpProxy.FromString(one.typed_config.value)
            del proxy.access_log[:]
            proxy.ClearField("access_log_options")
            proxy.access_log.append(_logging(log, listener, ""))
            one.typed_config.CopyFrom(pack(proxy))
    if chain.HasField("transport_socket"):
        before = DownstreamTlsContext.FromString(chain.transport_socket.typed_config.value)
        chain.transport_socket.CopyFrom(_tls(before, certificates))


def _tls(before: DownstreamTlsContext, certificates: Certificates) -> TransportSocket:
    """The same demands, with the certificate that is at hand."""
    made = DownstreamTlsContext(require_client_certificate=before.require_client_certificate)
    made.common_tls_context.alpn_protocols.extend(before.common_tls_context.alpn_protocols)
    own = made.common_tls_context.tls_certificates.add()
    own.certificate_chain.filename = str(certificates.certificate)
    own.private_key.filename = str(certificates.key)
    if before.require_client_certificate.value:
        made.common_tls_context.validation_context.trusted_ca.filename = str(certificates.certificate)
    return TransportSocket(name="envoy.transport_sockets.tls", typed_config=pack(made))


def _logging(log: Path, listener: str, routes: str) -> AccessLog:
    said = FileAccessLog(path=str(log))
    said.log_format.json_format.update({**_FIELDS, "listener": listener, "routes": routes})
    return AccessLog(name="envoy.access_loggers.file", typed_config=pack(said))


def _http2(call: Call) -> bytes:
    connection = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
    connection.initiate_connection()
    scheme = "http" if call.tls == "plaintext" else "https"
    headers = [(":method", "GET"), (":path", call.path), (":authority", call.host), (":scheme", scheme)]
    connection.send_headers(connection.get_next_available_stream_id(), headers, end_stream=True)
    return connection.data_to_send()
