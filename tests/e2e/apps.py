"""Applications inside the test process: they know what they were asked, and can be told to misbehave."""

from __future__ import annotations

import base64
import contextlib
import datetime
import hashlib
import json
import socketserver
import ssl
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa


class App:
    """One instance of an application: HTTP, TCP and TLS ports at one address, and what they have seen."""

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self.address = address
        self.seen: list[dict[str, Any]] = []
        self.status = 200
        self.delay = 0.0
        self.healthy = True
        self._stack = contextlib.ExitStack()

    def serve_http(self, *ports: int) -> App:
        """Answer HTTP: a description of the request, with the status and delay that is wanted."""
        for port in ports:
            self._start(port, _Http)
        return self

    def serve_tcp(self, *ports: int) -> App:
        """Answer every line with the instance's name and the line."""
        for port in ports:
            self._start(port, _Lines)
        return self

    def serve_raw(self, *ports: int) -> App:
        """Answer every line with `raw ` and its bytes, whatever they are."""
        for port in ports:
            self._start(port, _Raw)
        return self

    def serve_greeting(self, *ports: int) -> App:
        """Speak first, as MySQL does: a greeting, then an echo of every line."""
        for port in ports:
            self._start(port, _Greeting)
        return self

    def serve_tls(self, port: int, context: ssl.SSLContext) -> App:
        """Answer HTTP over the application's own TLS."""
        self._start(port, _Http, context)
        return self

    def reset(self) -> None:
        """Behave, and forget."""
        self.seen.clear()
        self.status, self.delay = 200, 0.0

    def close(self) -> None:
        """Stop all ports."""
        self._stack.close()

    def _start(self, port: int, handler: type[Any], context: ssl.SSLContext | None = None) -> None:
        server = _Server((self.address, port), handler, bind_and_activate=False)
        server.app, server.context = self, context
        server.allow_reuse_address = True
        try:
            server.server_bind()
            server.server_activate()
        except BaseException:
            server.server_close()
            raise
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        thread.start()
        self._stack.callback(thread.join)
        self._stack.callback(server.server_close)
        self._stack.callback(server.shutdown)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 128
    app: App
    context: ssl.SSLContext | None = None

    def finish_request(self, request: Any, client_address: Any) -> None:
        with contextlib.suppress(OSError):
            if self.context is None:
                super().finish_request(request, client_address)
                return
            with self.context.wrap_socket(request, server_side=True) as secure:
                super().finish_request(secure, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that goes away is its own affair."""


class _Http(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body are two writes: without this the second waits for the acknowledgement of the first, 40 ms.
    disable_nagle_algorithm = True

    def answer(self) -> None:
        app: App = self.server.app
        length = int(self.headers.get("content-length") or 0)
        sent = self.rfile.read(length)
        path = urlsplit(self.path)
        query = dict(parse_qsl(path.query))
        if self.headers.get("upgrade", "").lower() == "websocket":
            return self._switch(app)
        if path.path == "/healthz":
            return self._send(200 if app.healthy else 503, {"instance": app.name})
        record = {
            "instance": app.name,
            "method": self.command,
            "path": self.path,
            "headers": {key.lower(): value for key, value in self.headers.items()},
            "port": self.server.server_address[1],
            "body": sent.decode("latin-1"),
        }
        app.seen.append(record)
        time.sleep(float(query.get("delay", app.delay)))
        return self._send(int(query.get("status", app.status)), record)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = do_OPTIONS = answer  # noqa: N815 (http.server's names)

    def _switch(self, app: App) -> None:
        """Become a WebSocket, and send back whatever frames come (they are not looked into)."""
        key = self.headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(key.encode(), usedforsecurity=False).digest()).decode()
        self.send_response(101)
        for name, value in (("upgrade", "websocket"), ("connection", "Upgrade"), ("sec-websocket-accept", accept)):
            self.send_header(name, value)
        self.send_header("x-instance", app.name)
        self.end_headers()
        self.close_connection = True
        while data := self.connection.recv(4096):
            self.connection.sendall(data)

    def _send(self, status: int, record: dict[str, Any]) -> None:
        body = json.dumps(record).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.send_header("x-instance", self.server.app.name)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class _Lines(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        app: App = self.server.app
        for line in self.rfile:
            app.seen.append({"instance": app.name, "line": line.decode().strip()})
            self.wfile.write(f"{app.name} {line.decode()}".encode())


class _Raw(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(b"raw " + line)


class _Greeting(_Lines):
    def handle(self) -> None:
        self.wfile.write(f"welcome to {self.server.app.name}\n".encode())
        super().handle()


_SIGNS = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
"""For signatures: Envoy takes an identity of SPIFFE only from certificates that say so."""


def _named(name: str) -> x509.GeneralName:
    return x509.UniformResourceIdentifier(name) if "://" in name else x509.DNSName(name)


class Certificates:
    """A private authority for applications and gateways; it has nothing to do with the mesh's."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "edge root")])
        now = datetime.datetime.now(datetime.UTC)
        root = (
            x509.CertificateBuilder()
            .subject_name(self._name)
            .issuer_name(self._name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.root = root.public_bytes(serialization.Encoding.PEM).decode()
        self.root_file = directory / "edge-root.pem"
        self.root_file.write_text(self.root)

    def issue(self, *names: str, rsa_key: bool = False, ends: datetime.datetime | None = None) -> tuple[str, str]:
        """Certificate and key (PEM) for DNS names or URIs, for a day or for the 30 days before `ends`."""
        key = rsa.generate_private_key(65537, 2048) if rsa_key else ec.generate_private_key(ec.SECP256R1())
        now = datetime.datetime.now(datetime.UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, names[0])]))
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(ends - datetime.timedelta(days=30) if ends else now - datetime.timedelta(minutes=5))
            .not_valid_after(ends or now + datetime.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([_named(one) for one in names]), critical=False)
            .add_extension(_SIGNS, critical=True)
            .sign(self._key, hashes.SHA256())
        )
        secret = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return made.public_bytes(serialization.Encoding.PEM).decode(), secret.decode()

    def revoke(self, *certificates: Path) -> str:
        """A revocation list (PEM) with these certificates."""
        now = datetime.datetime.now(datetime.UTC)
        made = x509.CertificateRevocationListBuilder().issuer_name(self._name)
        made = made.last_update(now - datetime.timedelta(minutes=5)).next_update(now + datetime.timedelta(days=1))
        for path in certificates:
            serial = x509.load_pem_x509_certificate(path.read_bytes()).serial_number
            revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()
            made = made.add_revoked_certificate(revoked)
        return made.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()

    def files(self, *names: str, rsa_key: bool = False) -> tuple[Path, Path]:
        """The same as files."""
        cert, key = self.issue(*names, rsa_key=rsa_key)
        stem = f"{names[0]}{'-rsa' if rsa_key else ''}"
        paths = self.directory / f"{stem}.pem", self.directory / f"{stem}.key"
        paths[1].touch(0o600)
        for path, text in zip(paths, (cert, key), strict=True):
            path.write_text(text)
        return paths

    def server(self, *names: str) -> ssl.SSLContext:
        """What an application that speaks TLS itself serves with."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.files(*names))
        return context

    def client(self, identity: str = "") -> ssl.SSLContext:
        """A client that trusts this authority, with a certificate if an identity is given."""
        context = ssl.create_default_context(cafile=str(self.root_file))
        if identity:
            context.load_cert_chain(*self.files(identity))
        return context


@contextlib.contextmanager
def behaving(*apps: App) -> Iterator[None]:
    """Whatever the applications are told to do inside ends with the block."""
    for app in apps:
        app.reset()
    try:
        yield
    finally:
        for app in apps:
            app.reset()
