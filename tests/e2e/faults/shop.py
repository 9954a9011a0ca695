"""The shop of `shop.yaml` as running processes: what a fault's request really gets."""

from __future__ import annotations

import contextlib
import http.client
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from tests.e2e.apps import App
from tests.e2e.faults.case import BASE, HERE, Answer, Call, documents, filled
from tests.e2e.faults.keys import Keys
from tests.e2e.mesh import Json, Mesh, Response, request
from tests.loopback import free_port

HTTP, TCP = 9080, 9000
NOTHING = Response(0, {}, "")


class Shop:
    """The mesh, its applications, and two outside of it: at address LEGACY of files, and at LOCALPORT of localhost."""

    def __init__(self, mesh: Mesh, directory: Path) -> None:
        self.mesh = mesh
        self.keys = Keys(directory)
        ports = {"http": HTTP, "tcp": TCP}
        self.apps: dict[str, App] = {}
        for name, namespace in (("web", "shop"), ("reviews-v1", "shop"), ("reviews-v2", "shop"), ("audit", "office")):
            app, _, version = name.partition("-")
            labels = {"app": app, **({"version": version} if version else {})}
            made = mesh.add(
                name,
                namespace=namespace,
                service_account=app,
                workload_name=name,
                labels=labels,
                ports=ports if version else {"http": HTTP},
            )
            if version:
                self.apps[name] = App(name, made.app).serve_http(HTTP).serve_tcp(TCP)
        mesh.add("gateway", namespace="edge", labels={"istio": "ingressgateway"}, proxy_type="router")
        self.legacy = mesh.addresses().application
        self.apps["legacy"] = App("legacy", self.legacy).serve_http(HTTP)
        self._local_port = free_port()
        self.apps["local"] = App("local", "127.0.0.1").serve_http(self._local_port)

    def start(self) -> None:
        """Start everything; returns when it serves."""
        self.mesh.plane.api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "app"}})
        self.mesh.start(*self.mesh.workloads.values())
        # No node is there to start the Processes: they tell `analyze` what a node's would, the agents run already.
        self.mesh.apply(yaml.safe_dump_all(self.base()))

    @staticmethod
    def base() -> list[Json]:
        """The objects of `shop.yaml`."""
        return list(documents((HERE / BASE).read_text()))

    def close(self) -> None:
        """End the applications."""
        for one in self.apps.values():
            one.close()

    def read(self, text: str) -> list[Json]:
        """The documents of a fault's file, for this mesh."""
        text = text.replace("LEGACY", self.legacy).replace("LOCALPORT", str(self._local_port))
        found = list(documents(filled(text, self.keys.made)))
        for one in found:
            if one["kind"] == "Gateway":
                for server in one["spec"]["servers"]:
                    server.setdefault("bind", self.mesh.workloads["gateway"].address)
        return found

    @contextlib.contextmanager
    def applied(self, text: str) -> Iterator[list[Json]]:
        """A file's objects are there inside of the block, and every proxy has them."""
        found = self.read(text)
        try:
            for one in found:
                self.mesh.plane.api.apply(one)
            self.mesh.barrier()
            yield found
        finally:
            for one in reversed(found):
                self.mesh.plane.api.delete(one)

    def repair(self, before: list[Json], text: str) -> None:
        """Apply the corrected file; what it has no more is deleted. What is new is added to `before`."""
        wanted = self.read(text) if text else []
        names = [_name(one) for one in wanted]
        for one in before:
            if _name(one) not in names:
                self.mesh.plane.api.delete(one)
        for one in wanted:
            self.mesh.plane.api.apply(one)
            if _name(one) not in map(_name, before):
                before.append(one)
        self.mesh.barrier()

    def ask(self, call: Call) -> Response:
        """What the caller gets; status 0 and the error's text where the connection is refused or cut."""
        try:
            return self._ask(call)
        except (OSError, http.client.HTTPException) as error:
            return Response(0, {}, str(error))

    def _ask(self, call: Call) -> Response:
        url = urlsplit(call.to)
        assert url.hostname
        port = url.port or 80
        headers = dict(call.headers)
        if call.claims is not None:
            claims = {name: value for name, value in call.claims.items() if name != "iss"}
            headers["authorization"] = f"Bearer {self.keys.issuer.token(**_subject(claims))}"
        path = (url.path or "/") + (f"?{url.query}" if url.query else "")
        more: Any = {"method": call.method, "headers": headers}
        who = call.caller.partition(":")[0]
        if who == "internet":
            tls: ssl.SSLContext | None = self.keys.certificates.client() if url.scheme == "https" else None
            at = self.mesh.workloads["gateway"].address
            return request(at, port, path, host=headers.pop("host", url.hostname), tls=tls, sni=call.sni, **more)
        if who == "plaintext":
            at = self.mesh.workloads["reviews-v1"].address
            return request(at, port, path, host=f"{url.hostname}:{port}", **more)
        client = self.mesh.workloads[who.partition(".")[0]]
        if url.scheme == "tcp":
            said = client.line(port)
            return Response(200 if said else 0, {}, said)
        return client.get(f"{url.hostname}:{port}", path, proxied=not call.direct, **more)


def _subject(claims: Json) -> Json:
    return {"subject" if name == "sub" else name: value for name, value in claims.items()}


def _name(document: Json) -> tuple[str, str, str]:
    meta = document["metadata"]
    return document["kind"], meta.get("namespace", ""), meta["name"]


def answers(got: Response, wanted: Answer) -> bool:
    """Whether an answer is the one that a fault tells of."""
    if got.status != wanted.status or wanted.says not in got.text:
        return False
    if wanted.instance and got.instance != wanted.instance:
        return False
    if wanted.path and got.body["path"] != wanted.path:
        return False
    return all(got.headers.get(name) == value for name, value in wanted.headers.items())
