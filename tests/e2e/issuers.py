"""Token issuers and authorizers inside the test process."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from envoy.config.core.v3 import base_pb2
from envoy.service.auth.v3 import external_auth_pb2, external_auth_pb2_grpc
from envoy.type.v3 import http_status_pb2
from jwt.algorithms import ECAlgorithm, RSAAlgorithm


class Issuer:
    """An issuer of tokens with a key of its own."""

    def __init__(self, name: str, *, curve: bool = False) -> None:
        self.name = name
        self.algorithm = "ES256" if curve else "RS256"
        self.renew()

    def renew(self) -> None:
        """Take another key."""
        self.kid = f"{self.name}-{time.monotonic_ns()}"
        if self.algorithm == "ES256":
            self._key: Any = ec.generate_private_key(ec.SECP256R1())
            shown = ECAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
        else:
            self._key = rsa.generate_private_key(65537, 2048)
            shown = RSAAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
        self.jwks = {"keys": [{**shown, "kid": self.kid, "alg": self.algorithm, "use": "sig"}]}

    def token(self, subject: str = "alice", *, lasts: int = 600, **claims: Any) -> str:
        """A signed token; `lasts` in seconds may be negative."""
        body = {"iss": self.name, "sub": subject, "exp": int(time.time()) + lasts, **claims}
        return jwt.encode(body, self._key, self.algorithm, {"kid": self.kid})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        sent = self.rfile.read(length)
        status, headers, body = self.server.respond(self, sent)
        self.send_response(status)
        for name, value in {**headers, "content-length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = answer  # noqa: N815 (http.server's names)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(address: str, respond: Any, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """An HTTP server, with TLS if wanted; `respond(handler, body)` gives status, headers and body. Yields its port."""
    server = ThreadingHTTPServer((address, 0), _Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    server.daemon_threads = True
    server.respond = respond
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def key_server(issuer: Issuer, address: str) -> Iterator[str]:
    """Where the issuer's keys are; the issuer's own description is beside them. Yields the base URL."""
    base = ""

    def respond(handler: Any, _: bytes) -> tuple[int, dict[str, str], bytes]:
        if handler.path == "/keys":
            return 200, {"content-type": "application/json"}, json.dumps(issuer.jwks).encode()
        if handler.path == "/.well-known/openid-configuration":
            return 200, {}, json.dumps({"issuer": base, "jwks_uri": f"{base}/keys"}).encode()
        return 404, {}, b""

    with serving(address, respond) as port:
        base = f"http://{address}:{port}"
        yield base


class HttpAuthorizer:
    """Lets through what has `x-allow: yes`, and remembers what it saw."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    def respond(self, handler: Any, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """The answer to one question."""
        headers = {name.lower(): value for name, value in handler.headers.items()}
        self.seen.append({"path": handler.path, "headers": headers, "body": body.decode()})
        if headers.get("x-allow") == "yes":
            return 200, {"x-user": "checked", "x-ok": "1"}, b""
        return 403, {"x-why": "not allowed", "x-hidden": "1"}, b"the authorizer says no"


class GrpcAuthorizer(external_auth_pb2_grpc.AuthorizationServicer):
    """The same by Envoy's protocol; connections are let through while `connections` says so."""

    def __init__(self) -> None:
        self.seen: list[external_auth_pb2.CheckRequest] = []
        self.connections = True

    def Check(self, request: Any, context: Any) -> Any:
        self.seen.append(request)
        http = request.attributes.request.http
        allowed = http.headers.get("x-allow") == "yes" if http.method else self.connections
        answer = external_auth_pb2.CheckResponse()
        if allowed:
            answer.ok_response.headers.append(
                base_pb2.HeaderValueOption(header=base_pb2.HeaderValue(key="x-user", value="checked"))
            )
        else:
            answer.status.code = grpc.StatusCode.PERMISSION_DENIED.value[0]
            answer.denied_response.status.CopyFrom(http_status_pb2.HttpStatus(code=401))
            answer.denied_response.body = "the authorizer says no"
        return answer


@contextmanager
def grpc_serving(address: str, authorizer: GrpcAuthorizer) -> Iterator[int]:
    """A gRPC server with the authorizer. Yields its port."""
    server = grpc.server(ThreadPoolExecutor(4))
    external_auth_pb2_grpc.add_AuthorizationServicer_to_server(authorizer, server)
    port = server.add_insecure_port(f"{address}:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(0).wait()
