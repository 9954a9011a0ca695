"""The yardstick: Envoys by hand. An application that answers at once, and a minimal pair that speaks mutual TLS."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.e2e.apps import Certificates, free_port
from tests.e2e.mesh import eventually, request

from fairlead.agent.proxy import find_envoy

Json = dict[str, Any]
_TYPE = "type.googleapis.com/envoy.extensions"


def _socket(address: str, port: int) -> Json:
    return {"socket_address": {"address": address, "port_value": port}}


def _listener(address: str, port: int, route: Json, tls: Json | None = None) -> Json:
    router = {"name": "router", "typed_config": {"@type": f"{_TYPE}.filters.http.router.v3.Router"}}
    manager = {
        "@type": f"{_TYPE}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [router],
    }
    chain: Json = {"filters": [{"name": "http", "typed_config": manager}]}
    if tls is not None:
        chain["transport_socket"] = {"name": "tls", "typed_config": tls}
    return {"name": f"l{port}", "address": _socket(address, port), "filter_chains": [chain]}


def _cluster(address: str, port: int, tls: Json | None = None) -> Json:
    endpoint = {"endpoint": {"address": _socket(address, port)}}
    made: Json = {
        "name": "next",
        "type": "STATIC",
        "load_assignment": {"cluster_name": "next", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
    if tls is not None:
        made["transport_socket"] = {"name": "tls", "typed_config": tls}
    return made


_NEXT: Json = {"match": {"prefix": "/"}, "route": {"cluster": "next"}}
_ANSWER: Json = {
    "match": {"prefix": "/"},
    "direct_response": {"status": 200, "body": {"inline_string": "x" * 64}},
}


def _context(side: str, files: tuple[Path, Path], root: Path, *, server: bool) -> Json:
    cert, key = files
    common = {
        "tls_certificates": [{"certificate_chain": {"filename": str(cert)}, "private_key": {"filename": str(key)}}],
        "validation_context": {"trusted_ca": {"filename": str(root)}},
    }
    made: Json = {
        "@type": f"{_TYPE}.transport_sockets.tls.v3.{side}TlsContext",
        "common_tls_context": common,
    }
    return {**made, "require_client_certificate": True} if server else made


@contextlib.contextmanager
def _envoy(directory: Path, name: str, listener: Json, clusters: list[Json]) -> Iterator[int]:
    admin = free_port()
    config = {
        "admin": {"address": _socket("127.0.0.1", admin)},
        "static_resources": {"listeners": [listener], "clusters": clusters},
    }
    path, log = directory / f"{name}.json", directory / f"{name}.log"
    path.write_text(json.dumps(config))
    command = [find_envoy(""), "-c", str(path), "--disable-hot-restart", "--concurrency", "1", "-l", "warning"]
    with log.open("wb") as output:
        # A session of its own, as agents give their Envoys: the scheduler may share the processor by sessions.
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
    try:
        eventually(lambda: request("127.0.0.1", admin, "/ready").status == 200, f"{name}: {log}")
        yield process.pid
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def application(directory: Path, address: str, port: int) -> Iterator[None]:
    """An Envoy that answers every request with 64 bytes: no server in Python could keep up."""
    with _envoy(directory, f"app-{address}", _listener(address, port, _ANSWER), []):
        yield


@contextlib.contextmanager
def pair(directory: Path, address: str, port: int) -> Iterator[tuple[str, int, list[int]]]:
    """Two Envoys before the application at an address; gives where to call, and their process ids."""
    made = Certificates(directory)
    client, server = made.files("client.bench"), made.files("server.bench")
    inner, outer = free_port(), free_port()
    tls = _context("Downstream", server, made.root_file, server=True)
    upstream = _context("Upstream", client, made.root_file, server=False)
    with (
        _envoy(directory, "server", _listener("127.0.0.1", inner, _NEXT, tls), [_cluster(address, port)]) as one,
        _envoy(
            directory, "client", _listener("127.0.0.1", outer, _NEXT), [_cluster("127.0.0.1", inner, upstream)]
        ) as two,
    ):
        yield "127.0.0.1", outer, [one, two]
