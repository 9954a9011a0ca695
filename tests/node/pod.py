"""A network namespace in the place of a pod, and one for the rest of the world, with a real Envoy. Needs root."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from envoy.config.bootstrap.v3.bootstrap_pb2 import Bootstrap

from fairlead.agent.proxy import find_envoy
from fairlead.compiler.publish import Catalog
from fairlead.envoy.messages import parse
from fairlead.envoy.resource import CLUSTER, LISTENER

PROXY_GROUP = 1337
_FILTERS = "type.googleapis.com/envoy.extensions.filters"
SERVER = """
import http.server, socket, sys
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = f"{sys.argv[1]} saw {self.client_address[0]}".encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
class S(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6 if ":" in sys.argv[3] else socket.AF_INET
S((sys.argv[3], int(sys.argv[2])), H).serve_forever()
"""
ASK = """
import http.client, json, sys
link = http.client.HTTPConnection(sys.argv[1], int(sys.argv[2]), timeout=5)
link.request("GET", "/")
answer = link.getresponse()
if answer.status != 200:
    sys.exit("not yet")
served = answer.getheader("server") == "envoy" and "proxied"
through = answer.getheader("x-through") or served or (answer.getheader("x-envoy-upstream-service-time") and "envoy")
print(json.dumps([answer.read().decode(), through]))
"""


def _listener(name: str, port: int, cluster: str) -> dict[str, Any]:
    manager: dict[str, Any] = {
        "@type": f"{_FILTERS}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
            }
        ],
        "route_config": {
            "response_headers_to_add": [
                {"header": {"key": "x-through", "value": name}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
            ],
            "virtual_hosts": [
                {"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": cluster}}]}
            ],
        },
    }
    return {
        "name": name,
        "address": {"socket_address": {"address": "0.0.0.0", "port_value": port}},
        "listener_filters": [
            {
                "name": "envoy.filters.listener.original_dst",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.listener.original_dst.v3.OriginalDst"
                },
            }
        ],
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }


def _cluster(name: str, source: str = "") -> dict[str, Any]:
    made: dict[str, Any] = {"name": name, "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED"}
    if source:
        made["upstream_bind_config"] = {"source_address": {"address": source, "port_value": 0}}
    return made


_PLACES = {4: ("10.231.7.2", "10.231.7.1", 24), 6: ("fd00:231:7::2", "fd00:231:7::1", 64)}


class Pod:
    """A namespace with a veth to another one that stands for the rest of the world."""

    def __init__(self, directory: Path, *families: int) -> None:
        """With an address of each family (4 if none is named); the first is `address`, and `outside` the world's."""
        tag = secrets.token_hex(3)
        self.name, self.world = f"fl-pod-{tag}", f"fl-world-{tag}"
        places = [_PLACES[family] for family in families or (4,)]
        self.addresses = [own for own, _, _ in places]
        self.address, self.outside, _ = places[0]
        self._directory = directory
        self._running: list[subprocess.Popen[bytes]] = []
        for one in (self.name, self.world):
            ip("netns", "add", one)
            ip("-n", one, "link", "set", "lo", "up")
        ip("-n", self.name, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", self.world)
        for one in (self.name, self.world):
            ip("-n", one, "link", "set", "eth0", "up")
        for own, outside, prefix in places:
            # Nobody else is on this wire: an address need not wait to be known as the only one.
            duplicates = ("nodad",) if ":" in own else ()
            ip("-n", self.name, "addr", "add", f"{own}/{prefix}", "dev", "eth0", *duplicates)
            ip("-n", self.world, "addr", "add", f"{outside}/{prefix}", "dev", "eth0", *duplicates)
            ip("-n", self.name, "route", "add", "default", "via", outside)

    def start(self, where: str, *command: str, group: int | None = None) -> None:
        """Start a process in a namespace; it ends with the pod."""
        full = ("ip", "netns", "exec", where, *command)
        self._running.append(subprocess.Popen(full, stderr=subprocess.DEVNULL, group=group))

    def serve(self, where: str, name: str, port: int, *addresses: str) -> None:
        """An application that says who it is and whom it saw, at these addresses (any of IPv4 if none is named)."""
        for address in addresses or ("0.0.0.0",):
            self.start(where, sys.executable, "-c", SERVER, name, str(port), address)

    def envoy(self, compiled: Catalog | None = None) -> None:
        """With listeners and clusters that show which way a request went; what comes in as it is compiled, if given."""
        clusters = [_cluster("app", "127.0.0.6"), _cluster("out")]
        listeners = [_listener("outbound", 15001, "out")]
        if compiled is None:
            listeners.append(_listener("inbound", 15006, "app"))
        made = Bootstrap.FromString(
            parse(Bootstrap, {"static_resources": {"listeners": listeners, "clusters": clusters}})
        )
        if compiled is not None:
            made.static_resources.listeners.add().ParseFromString(compiled[LISTENER]["virtualInbound"].body)
            for name, one in compiled[CLUSTER].items():
                if name.startswith(("inbound", "Inbound")):
                    made.static_resources.clusters.add().ParseFromString(one.body)
        self.run(made)

    def run(self, made: Bootstrap) -> None:
        """Start Envoy in the namespace."""
        # Not as JSON: Envoy knows fields that the messages here lack.
        file = self._directory / "envoy.pb"
        file.write_bytes(made.SerializeToString())
        options = ("-c", str(file), "--concurrency", "1", "--disable-hot-restart", "-l", "error")
        self.start(self.name, find_envoy(""), *options, group=PROXY_GROUP)

    def ask(self, where: str, address: str, port: int, through: str = "") -> tuple[str, str | None]:
        """The answer and what it came through; asked again until there is one (that came `through` that)."""
        end = time.monotonic() + 20
        while True:
            command = ("ip", "netns", "exec", where, sys.executable, "-c", ASK, address, str(port))
            done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
            if done.returncode == 0:
                text, passed = json.loads(done.stdout)
                if through in ("", passed):
                    return text, passed
            assert time.monotonic() < end, done.stderr or done.stdout
            time.sleep(0.1)

    def close(self) -> None:
        for one in self._running:
            one.kill()
            one.wait()
        for name in (self.name, self.world):
            subprocess.run(("ip", "netns", "del", name), check=False, capture_output=True)


def ip(*arguments: str) -> None:
    """Run `ip`. Raises RuntimeError with what it says."""
    done = subprocess.run(("ip", *arguments), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
