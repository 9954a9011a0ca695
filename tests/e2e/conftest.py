"""One mesh for all: two clients, two servers of one service, a gateway, and an application outside of it."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.apps import App, Certificates
from tests.e2e.mesh import Mesh, Workload

HTTP, HTTP2ND, TCP, AUTO, TLS = 18080, 18081, 19000, 17000, 19443
SERVICES = """
apiVersion: v1
kind: Namespace
metadata: {name: istio-system}
---
apiVersion: v1
kind: Service
metadata: {name: echo, namespace: app}
spec:
  selector: {app: echo}
  ports:
    - {name: http, port: 18080}
    - {name: http-second, port: 18081}
    - {name: tcp, port: 19000}
    - {name: auto, port: 17000}
    - {name: tls, port: 19443}
---
apiVersion: v1
kind: Service
metadata: {name: second, namespace: app}
spec:
  selector: {app: second}
  ports: [{name: http, port: 18080}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: echo, namespace: app}
spec:
  host: echo
  subsets:
    - {name: v1, labels: {version: v1}}
    - {name: v2, labels: {version: v2}}
"""


class World:
    """The mesh with its actors by name."""

    def __init__(self, mesh: Mesh, certificates: Certificates) -> None:
        self.mesh = mesh
        self.certificates = certificates
        self.apps: dict[str, App] = {}
        ports = {"http": HTTP, "http-second": HTTP2ND, "tcp": TCP, "auto": AUTO, "tls": TLS}
        self.client = mesh.add("client", labels={"app": "client", "tier": "front"}, locality="eu/a/1")
        self.outsider = mesh.add("outsider", namespace="other", labels={"app": "outsider"})
        self.echo1 = mesh.add("echo-1", service_account="echo", labels={"app": "echo", "version": "v1"}, ports=ports)
        self.echo2 = mesh.add("echo-2", service_account="echo", labels={"app": "echo", "version": "v2"}, ports=ports)
        self.gateway = mesh.add("gateway", namespace="edge", labels={"istio": "ingressgateway"}, proxy_type="router")
        for one in (self.echo1, self.echo2):
            self.apps[one.name] = self._serve(one.name, one.app)
        # Outside of the mesh: an address of its own, no sidecar, no identity.
        self.legacy_address = mesh.addresses().application
        self.apps["legacy"] = self._serve("legacy", self.legacy_address)

    def _serve(self, name: str, address: str) -> App:
        app = App(name, address).serve_http(HTTP, HTTP2ND, AUTO).serve_tcp(TCP)
        context = self.certificates.server("one.example", "two.example", "legacy.example")
        return app.serve_tls(TLS, context)

    def workloads(self) -> tuple[Workload, ...]:
        """All that have an agent."""
        return (self.echo1, self.echo2, self.client, self.outsider, self.gateway)

    def close(self) -> None:
        """End the applications."""
        for app in self.apps.values():
            app.close()


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The mesh of this session, ready to serve."""
    certificates = Certificates(tmp_path_factory.mktemp("edge"))
    with Mesh() as mesh:
        made = World(mesh, certificates)
        try:
            mesh.start(*made.workloads())
            mesh.apply(SERVICES)
            yield made
        finally:
            made.close()


_FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember which tests fail."""
    report = yield
    item.stash[_FAILED] = report.failed or item.stash.get(_FAILED, False)
    return report


@pytest.fixture(autouse=True)
def behave(request: pytest.FixtureRequest) -> Iterator[None]:
    """Applications forget what a test told them; what a failed test left in a shared mesh is put right."""
    shared = [request.getfixturevalue(name) for name in ("world", "shop") if name in request.fixturenames]
    meshes: list[Mesh] = list({id(one.mesh): one.mesh for one in shared if hasattr(one, "mesh")}.values())
    marks = [one.mark() for one in meshes]
    yield
    for one in shared:
        if isinstance(one, World):
            for app in one.apps.values():
                app.reset()
                app.healthy = True
    if request.node.stash.get(_FAILED, False):
        for mesh, mark in zip(meshes, marks, strict=True):
            mesh.restore(mark)


def pytest_collection_modifyitems(items: list[Any]) -> None:
    """Everything here is end to end."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.e2e)
