"""An application that uses its sidecar as an HTTP proxy: what the mesh knows, what it does not, and tunnels to both."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from listener_facts import World, endpoint, host, mesh, sidecar
from live_envoy import application, ask, compiled, envoy
from tests.loopback import free_port, network

from fairlead.ir.host import Resolution
from fairlead.ir.protocol import Protocol
from fairlead.model.launch import Capture

pytestmark = pytest.mark.e2e

NET = network()
W, A, O = f"{NET}.0.88", f"{NET}.64.88", f"{NET}.128.88"  # noqa: E741 - the workload, application and outbound addresses
ELSEWHERE = f"{NET}.192.1"
PROXY = 15002
WEB, DB = "web.default.svc.cluster.local", "db.default.svc.cluster.local"


@contextlib.contextmanager
def proxied(tmp_path: Path, policy: str) -> Iterator[dict[str, int]]:
    """A sidecar whose application calls through HTTP_PROXY, two services, and two servers that no host stands for."""
    ports = {"web": free_port(O), "db": free_port(O), "out": free_port(ELSEWHERE), "raw": free_port(ELSEWHERE)}
    known = free_port(ELSEWHERE)
    ports["none"] = known
    with contextlib.ExitStack() as stack:
        for name, address, speaks_http in (
            ("web", A, True),
            ("db", A, False),
            ("out", ELSEWHERE, True),
            ("raw", ELSEWHERE, False),
            ("none", ELSEWHERE, True),
        ):
            stack.enter_context(application(address, ports[name], http_=speaks_http))
        world = World(
            host(WEB, (ports["web"], Protocol.HTTP)),
            endpoint(WEB, A),
            host(DB, (ports["db"], Protocol.TCP)),
            endpoint(DB, A),
            host(
                ELSEWHERE,
                (known, Protocol.HTTP),
                resolution=Resolution.PASSTHROUGH,
                kubernetes=False,
                external=True,
            ),
            mesh(outbound_policy=policy, auto_mtls=False),
        )
        view = sidecar(Capture("explicit", app_address=A, outbound_address=O), addresses=(W,))
        listeners, clusters = compiled(world, view)
        names = {one.name for one in clusters}
        assert "InboundPassthroughCluster" not in names
        assert f"{O}_{known}" not in {one.name for one in listeners}, "only clients know where such a host is"
        listeners = [one for one in listeners if one.name != "virtualInbound"]
        stack.enter_context(envoy(listeners, clusters, tmp_path))
        yield ports


def through(url: str, authority: str) -> tuple[int, dict[str, str]]:
    """The status of a request for an absolute URL, and the headers that the application saw."""
    text = f"GET {url} HTTP/1.1\r\nhost: {authority}\r\nx-fairlead-peer: forged\r\nconnection: close\r\n\r\n"
    answer = ask(O, PROXY, text.encode(), whole=True)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"x-fairlead-peer" not in head
    status = int(head.split(b" ", 2)[1])
    return status, json.loads(body) if status == 200 else {}


def tunnel(authority: str, text: bytes) -> tuple[int, bytes]:
    """The status of CONNECT, and what comes back through the tunnel."""
    with socket.create_connection((O, PROXY), timeout=10) as stream:
        stream.sendall(f"CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\n\r\n".encode())
        head = b""
        while b"\r\n\r\n" not in head:
            head += stream.recv(4096)
        status = int(head.split(b" ", 2)[1])
        if status != 200:
            return status, b""
        stream.sendall(text)
        return status, stream.recv(65536)


def test_everything_is_reachable_where_the_mesh_allows_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIRLEAD_PEER", "me")
    with proxied(tmp_path, "ALLOW_ANY") as ports:
        out, raw, none = (f"{ELSEWHERE}:{ports[name]}" for name in ("out", "raw", "none"))
        status, seen = through(f"http://web:{ports['web']}/", f"web:{ports['web']}")
        assert status == 200
        assert seen["x-fairlead-peer"] == "me", "the workload introduces itself inside the mesh"
        for authority in (out, none):
            status, seen = through(f"http://{authority}/", authority)
            assert status == 200, authority
            assert "x-fairlead-peer" not in seen, "nobody outside learns who calls"
        status, _ = through(f"http://localhost:{ports['out']}/", f"localhost:{ports['out']}")
        assert status == 503, "names are resolved: nothing listens there"
        assert tunnel(f"db:{ports['db']}", b"hello\n") == (200, b"echo hello\n")
        assert tunnel(f"{DB}:{ports['db']}", b"hello\n") == (200, b"echo hello\n")
        assert tunnel(raw, b"hello\n") == (200, b"echo hello\n")
        request = f"GET / HTTP/1.1\r\nhost: web:{ports['web']}\r\nconnection: close\r\n\r\n".encode()
        status, answer = tunnel(f"web:{ports['web']}", request)
        assert status == 200
        assert answer.startswith(b"HTTP/1.1 200"), "HTTP inside a tunnel is routed like any other"
        assert b"server: envoy" in answer
        status, answer = tunnel(none, f"GET / HTTP/1.1\r\nhost: {none}\r\nconnection: close\r\n\r\n".encode())
        assert status == 200
        assert answer.startswith(b"HTTP/1.1 200")


def test_unknown_hosts_are_refused_where_the_mesh_says_so(tmp_path: Path) -> None:
    with proxied(tmp_path, "REGISTRY_ONLY") as ports:
        out, raw, none = (f"{ELSEWHERE}:{ports[name]}" for name in ("out", "raw", "none"))
        assert through(f"http://{out}/", out)[0] == 502
        assert tunnel(raw, b"hello\n")[0] == 502
        assert through(f"http://{none}/", none)[0] == 200
        assert tunnel(f"db:{ports['db']}", b"hello\n") == (200, b"echo hello\n")
