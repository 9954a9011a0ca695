"""The workloads, services and addresses of the mesh in which everything is tried.

All addresses are of the loopback, virtual ones too, so that nothing that is tried leaves the host: an address at which
nobody listens refuses at once. The second byte is each run's own, so that runs do not meet.
"""

from __future__ import annotations

from typing import Any

import msgspec

from fairlead.ir.view import View, pairs
from fairlead.model.launch import Capture

Json = dict[str, Any]

WRITTEN = "127.77."
"""How addresses begin in what is written; a run puts its own beginning there."""

TLS_MODE = "security.istio.io/tlsMode"
APP_PORTS = (7000, 28080, 8081, 8082, 8443, 9000)
"""Where the applications listen: HTTP of both versions in TLS or without, or raw bytes, whichever comes."""
HTTP_PORT, TLS_PORT, PASS_PORT, TCP_PORT = 18080, 18443, 18444, 19000
"""Where the gateway listens, if it is told to."""


class Workload(msgspec.Struct, frozen=True):
    """An instance: `at` is its last two address bytes; `proxied` whether it has a sidecar or is a gateway."""

    name: str
    namespace: str
    at: str
    labels: tuple[tuple[str, str], ...]
    account: str = "default"
    kind: str = "server"
    application: str = ""
    ports: tuple[tuple[str, int], ...] = ()

    @property
    def address(self) -> str:
        """Where peers reach it."""
        return WRITTEN + self.at

    @property
    def behind(self) -> str:
        """Where its application listens."""
        return WRITTEN + (self.application or self.at)

    @property
    def proxied(self) -> bool:
        """Whether it has a proxy of its own."""
        return self.kind != "plain"

    def view(self, prefix: str = WRITTEN) -> View:
        """What the control plane would know of its proxy."""
        outbound = f"8.{self.at.partition('.')[2]}"
        if self.kind == "gateway":
            capture = Capture("none")
        elif self.kind in ("client", "redirected"):
            capture = Capture("redirect")
        else:
            capture = Capture("explicit", app_address=prefix + self.application, outbound_address=prefix + outbound)
        return View(
            type="router" if self.kind == "gateway" else "sidecar",
            namespace=self.namespace,
            labels=pairs(dict(self.labels)),
            service_account=self.account,
            addresses=(prefix + self.at,),
            workload_name=self.name,
            capture=capture,
            locality=PLACES[0] if self.kind != "server" else "",
        )


SHOPPER = Workload("shopper", "one", "1.1", (("app", "shopper"),), "shopper", "client")
BATCH = Workload("batch", "two", "1.2", (("app", "batch"), ("tier", "front")), "batch", "client")
TOOL = Workload("tool", "two", "1.9", (("app", "tool"),), "tool", "explicit", "4.9")
"""A client that uses its proxy as HTTP proxy."""
DOOR = Workload("door", "istio-system", "2.1", (("istio", "ingressgateway"),), "door", "gateway")


def _server(name: str, namespace: str, number: int, version: str) -> Workload:
    labels = (("app", name), ("version", version), ("tier", "back"))
    return Workload(f"{name}-{version}", namespace, f"3.{number}", labels, name, "server", f"4.{number}")


SERVERS = (
    _server("web", "one", 1, "v1"),
    _server("web", "one", 2, "v2"),
    _server("api", "two", 3, "v1"),
    _server("api", "two", 4, "v2"),
)
OLD = Workload("old", "two", "3.9", (("app", "old"),), "old", "plain")
BOX = Workload("box", "two", "3.8", (("app", "box"),), "box", "redirected")
"""A server whose host redirects connections to its proxy; called from outside only, as no client can be redirected."""
CAPTURED = (SHOPPER, BATCH)
CLIENTS = (*CAPTURED, TOOL)
PROXIED = (*CLIENTS, DOOR, *SERVERS, BOX)
OUTSIDE = ("5.1", "5.2", "5.3")
"""Servers outside of the mesh."""
BACKENDS = (*(one.application for one in SERVERS), OLD.at, BOX.at, *OUTSIDE)
"""Everything that answers, by the last two bytes of its address."""

SERVICES: dict[str, tuple[str, str, dict[str, str], tuple[tuple[str, int, int], ...]]] = {
    # name: namespace, last bytes of the virtual address, selector, (port name, port, target)
    "web": (
        "one",
        "6.1",
        {"app": "web"},
        (("http", 80, 28080), ("tcp-raw", 9000, 9000), ("any", 7000, 7000), ("tls-own", 8443, 8443)),
    ),
    "api": ("two", "6.2", {"app": "api"}, (("http", 80, 28080), ("http2", 8081, 8081), ("grpc", 8082, 8082))),
    "old": ("two", "6.3", {"app": "old"}, (("http", 80, 28080), ("tcp-raw", 9000, 9000))),
    "back": ("one", "6.4", {"tier": "back"}, (("http", 28080, 28080), ("tcp-raw", 9001, 9000))),
    "none": ("two", "6.5", {"app": "nobody"}, (("http", 80, 28080),)),
}
OUTSIDE_HOST, WILD_HOST, TCP_HOST, TLS_HOST = "outside.example", "*.wild.example", "raw.example", "secure.example"
GUARD_HOST = "guard.example"
"""Where authorizers are asked, in the meshes that have some."""
PLACES = ("east/a/1", "east/a/2", "east/b/1", "west/a/1")
"""Localities; every client is at the first one."""
STICKY = "x-sticky"
"""The header that decides about instances; no route changes it."""
DENIED = "/.denied"
"""What applications answer with 403: authorizers are asked there that deny everything."""


def fqdn(name: str) -> str:
    """The host of a service."""
    return f"{name}.{SERVICES[name][0]}.svc.cluster.local"


def document(api: str, kind: str, name: str, namespace: str, spec: Json, **meta: Any) -> Json:
    """An object as users write it."""
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name, "namespace": namespace, **meta}, "spec": spec}


def base() -> list[Json]:
    """The objects that every mesh here has."""
    made: list[Json] = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in ("one", "two", "istio-system")
    ]
    boxed = {"box": ("two", "6.8", {"app": "box"}, (("http", 80, 28080), ("tcp-raw", 9000, 9000), ("any", 7000, 7000)))}
    for name, (namespace, at, selector, ports) in {**SERVICES, **boxed}.items():
        made.append(
            document(
                "v1",
                "Service",
                name,
                namespace,
                {
                    "clusterIP": WRITTEN + at,
                    "selector": selector,
                    "ports": [{"name": one, "port": port, "targetPort": target} for one, port, target in ports],
                },
            )
        )
    for one in (*SERVERS, OLD, *CLIENTS):
        labels = dict(one.labels)
        if one.proxied:
            labels[TLS_MODE] = "istio"
        spec: Json = {"address": one.address, "labels": labels}
        if one.proxied:
            # One that is told, and nothing else, makes clients of a mesh take an instance for one with a sidecar.
            spec["serviceAccount"] = one.account
        made.append(document("networking.istio.io/v1", "WorkloadEntry", one.name, one.namespace, spec, labels=labels))
    made.append(
        _entry(
            "outside",
            [OUTSIDE_HOST],
            [{"name": "http", "number": 80, "protocol": "HTTP", "targetPort": 28080}],
            resolution="STATIC",
            addresses=[WRITTEN + "6.9"],
            endpoints=[{"address": WRITTEN + "5.1"}],
        )
    )
    made.append(
        _entry(
            "secure",
            [TLS_HOST],
            [{"name": "http", "number": 80, "protocol": "HTTP", "targetPort": 28080}],
            resolution="STATIC",
            addresses=[WRITTEN + "6.11"],
            endpoints=[{"address": WRITTEN + "5.1"}],
        )
    )
    made.append(_entry("wild", [WILD_HOST], [{"name": "http", "number": 28080, "protocol": "HTTP"}], resolution="NONE"))
    made.append(
        _entry(
            "raw",
            [TCP_HOST],
            [{"name": "tcp", "number": 9000, "protocol": "TCP"}],
            resolution="STATIC",
            addresses=[WRITTEN + "6.10"],
            endpoints=[{"address": WRITTEN + "5.3"}],
        )
    )
    return made


def _entry(name: str, hosts: list[str], ports: list[Json], **more: Any) -> Json:
    spec = {"hosts": hosts, "ports": ports, "location": "MESH_EXTERNAL", **more}
    return document("networking.istio.io/v1", "ServiceEntry", name, "one", spec)
