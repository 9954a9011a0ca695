"""Real Envoy for route tests: judging a route configuration, and serving with it."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

from envoy.config.bootstrap.v3 import bootstrap_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.filters.http.cors.v3 import cors_pb2
from envoy.extensions.filters.http.fault.v3 import fault_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2
from tests.loopback import free_port

ENVOY = Path(sys.executable).parent / "envoy"


def bootstrap(config: route_pb2.RouteConfiguration, port: int, upstreams: Sequence[tuple[str, int]] = ()) -> bytes:
    """A static Envoy that serves `config` on a port, with clusters on loopback."""
    manager = hcm_pb2.HttpConnectionManager(stat_prefix="test", route_config=config)
    for name, filter_config in (
        ("envoy.filters.http.fault", fault_pb2.HTTPFault()),
        ("envoy.filters.http.cors", cors_pb2.Cors()),
        ("envoy.filters.http.router", router_pb2.Router()),
    ):
        manager.http_filters.add(name=name).typed_config.Pack(filter_config)
    out = bootstrap_pb2.Bootstrap()
    listener = out.static_resources.listeners.add(name="test")
    listener.address.socket_address.address = "127.0.0.1"
    listener.address.socket_address.port_value = port
    chain = listener.filter_chains.add()
    chain.filters.add(name="envoy.filters.network.http_connection_manager").typed_config.Pack(manager)
    for name, at in upstreams:
        cluster = out.static_resources.clusters.add(name=name)
        cluster.connect_timeout.seconds = 1
        cluster.load_assignment.cluster_name = name
        address = cluster.load_assignment.endpoints.add().lb_endpoints.add().endpoint.address.socket_address
        address.address, address.port_value = "127.0.0.1", at
    return out.SerializeToString()


def validate(config: route_pb2.RouteConfiguration, directory: Path) -> str:
    """What Envoy says against a route configuration; "" if it takes it."""
    path = directory / "bootstrap.pb"
    path.write_bytes(bootstrap(config, 0))
    done = subprocess.run(
        [ENVOY, "--mode", "validate", "-c", path, "-l", "warn"], capture_output=True, text=True, timeout=60, check=False
    )
    return "" if done.returncode == 0 else done.stderr or done.stdout


@contextmanager
def serving(
    config: route_pb2.RouteConfiguration, directory: Path, upstreams: Sequence[tuple[str, int]] = ()
) -> Iterator[int]:
    """The port of a running Envoy that serves `config`."""
    port = free_port()
    path = directory / "bootstrap.pb"
    path.write_bytes(bootstrap(config, port, upstreams))
    command = [ENVOY, "-c", path, "-l", "off", "--concurrency", "1", "--use-dynamic-base-id"]
    with (directory / "envoy.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        _await_port(process, port)
        yield port
    finally:
        process.kill()
        process.wait(timeout=20)


def ask(
    port: int, host: str, path: str = "/", method: str = "GET", headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], str]:
    """Status, headers and body of one request with a Host header."""
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path, headers={"Host": host, **(headers or {})})
        answer = connection.getresponse()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read().decode()
    finally:
        connection.close()


def _await_port(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        assert process.poll() is None, "Envoy ended"
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise AssertionError("Envoy does not listen")
