"""A Wasm module, and a small server that has it as plain files and as OCI images, with and without a login."""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
LOGIN = ("ann", "secret-word")


def module() -> bytes:
    """A Wasm module that adds `x-wasm: true` to requests: what a compiler for Proxy-Wasm would make of ten lines."""

    def listed(*items: bytes) -> bytes:
        return bytes([len(items)]) + b"".join(items)

    def sized(body: bytes) -> bytes:
        return bytes([len(body)]) + body

    def section(number: int, body: bytes) -> bytes:
        return bytes([number]) + sized(body)

    def function(parameters: int, results: int) -> bytes:
        return b"\x60" + sized(b"\x7f" * parameters) + sized(b"\x7f" * results)

    def code(body: bytes) -> bytes:
        return sized(b"\x00" + body + b"\x0b")

    def data(at: int, text: bytes) -> bytes:
        return b"\x00\x41" + bytes([at]) + b"\x0b" + sized(text)

    def exported(name: bytes, kind: int, number: int) -> bytes:
        return sized(name) + bytes([kind, number])

    add = b"\x41\x00\x41\x10\x41\x06\x41\x20\x41\x04\x10\x00\x1a\x41\x00"
    return b"".join(
        (
            b"\x00asm\x01\x00\x00\x00",
            section(1, listed(function(0, 0), function(1, 1), function(3, 1), function(5, 1))),
            section(2, listed(sized(b"env") + sized(b"proxy_add_header_map_value") + b"\x00\x03")),
            section(3, b"\x03\x00\x01\x02"),
            section(5, b"\x01\x00\x01"),
            section(
                7,
                listed(
                    exported(b"memory", 2, 0),
                    exported(b"proxy_abi_version_0_2_1", 0, 1),
                    exported(b"proxy_on_memory_allocate", 0, 2),
                    exported(b"proxy_on_request_headers", 0, 3),
                ),
            ),
            section(10, listed(code(b""), code(b"\x41\x80\x20"), code(add))),
            section(11, listed(data(16, b"x-wasm"), data(32, b"true"))),
        )
    )


def tarred(body: bytes, name: str = "./plugin.wasm") -> bytes:
    """A gzipped tar with one file."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.size = len(body)
        archive.addfile(info, io.BytesIO(body))
    return gzip.compress(out.getvalue())


def digest(body: bytes) -> str:
    return "sha256:" + hashlib.sha256(body).hexdigest()


def docker_config(host: str) -> str:
    return json.dumps({"auths": {host: {"auth": base64.b64encode(":".join(LOGIN).encode()).decode()}}})


class Registry:
    """Paths and what is there. `auth`: "" for anyone, else `basic` or `bearer`."""

    def __init__(self) -> None:
        self.answers: dict[str, bytes] = {}
        self.redirects: dict[str, str] = {}
        self.auth = ""
        self.asked: list[str] = []
        self.logins: list[tuple[str, str]] = []
        self.port = 0

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def put(self, name: str, layer: bytes, media_type: str, tag: str = "1", *, index: bool = False) -> str:
        """An image with one layer; gives the digest of what the tag names."""
        layers = [{"mediaType": media_type, "digest": digest(layer), "size": len(layer)}]
        body = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "layers": layers}).encode()
        self.answers[f"/v2/{name}/blobs/{digest(layer)}"] = layer
        self.answers[f"/v2/{name}/manifests/{digest(body)}"] = body
        if index:
            body = json.dumps({"manifests": [{"mediaType": MANIFEST, "digest": digest(body)}]}).encode()
            self.answers[f"/v2/{name}/manifests/{digest(body)}"] = body
        self.answers[f"/v2/{name}/manifests/{tag}"] = body
        return digest(body)

    def answer(self, path: str, authorization: str) -> tuple[int, dict[str, str], bytes]:
        path, _, query = path.partition("?")
        self.asked.append(path)
        self.logins.append((path, authorization))
        basic = "Basic " + base64.b64encode(":".join(LOGIN).encode()).decode()
        if path == "/token":
            allowed = authorization == basic and "scope=repository%3Aplugin%3Apull" in query.replace(":", "%3A")
            return (200, {}, b'{"token": "opened"}') if allowed else (401, {}, b"")
        wanted = {"": authorization, "basic": basic, "bearer": "Bearer opened"}[self.auth]
        if path.startswith("/v2/") and authorization != wanted:
            realm = f'Bearer realm="http://{self.host}/token",service="r",scope="repository:plugin:pull"'
            return 401, {"WWW-Authenticate": realm if self.auth == "bearer" else 'Basic realm="r"'}, b""
        if path in self.redirects:
            return 307, {"Location": self.redirects[path]}, b""
        return (200, {}, self.answers[path]) if path in self.answers else (404, {}, b"")


@contextlib.contextmanager
def registry(port: int = 0) -> Iterator[Registry]:
    """A running registry without TLS."""
    made = Registry()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            status, headers, body = made.answer(self.path, self.headers.get("Authorization", ""))
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Be quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    made.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
