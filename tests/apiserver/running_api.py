"""A running API server on a free port, with a test kind of several versions."""

from __future__ import annotations

import asyncio
import http.client
import json
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from msgspec import Meta

from fairlead.apiserver import ADMIN_GROUP, Action, Admission, ApiServer, Token, Unallocatable, User
from fairlead.compiler.registry import Registry, registry
from fairlead.ir.kind import Column, Kind
from fairlead.model.diagnostic import Problem, Severity
from fairlead.model.object import Object, Spec
from fairlead.model.path import SPEC
from fairlead.store import Store

ADMIN = "admin-token"
READER = "reader-token"


class Port(Spec, frozen=True):
    """A port of a route."""

    number: int
    protocol: str = "TCP"
    name: str = ""


class Match(Spec, frozen=True):
    """What a route matches."""

    prefix: str = ""
    exact: str | None = None


class RouteSpec(Spec, frozen=True):
    """Where requests go."""

    hosts: Annotated[tuple[str, ...], Meta(description="Host names that the route is for.")]
    match: tuple[Match, ...] = ()
    ports: Annotated[
        tuple[Port, ...],
        Meta(
            extra_json_schema={
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["number", "protocol"],
                "x-kubernetes-patch-merge-key": "number",
                "x-kubernetes-patch-strategy": "merge",
            }
        ),
    ] = ()
    weight: Annotated[int, Meta(ge=0, le=100)] = 100
    address: str = ""
    target: int | str | None = None


def _validate(obj: Object[RouteSpec]) -> Iterator[Problem]:
    if not obj.spec.hosts:
        yield Problem(SPEC / "hosts", "must name a host", remedy="Add a host.", reason="FieldValueRequired")
    if obj.spec.weight == 0:
        yield Problem(SPEC / "weight", 'weight "0" sends nothing', severity=Severity.WARNING, remedy="Remove it.")


ROUTE = Kind(
    group="mesh.example.dev",
    versions=("v1", "v1beta1"),
    kind="TestRoute",
    plural="testroutes",
    singular="testroute",
    short_names=("tr",),
    categories=("mesh-all",),
    spec=RouteSpec,
    doc="A route of the tests.",
    columns=(
        Column("Hosts", lambda one: ",".join(one["spec"].get("hosts", ()))),
        Column("Weight", lambda one: one["spec"].get("weight", 100), "integer", priority=1),
    ),
    validate=_validate,
)


class Tokens:
    """Two users."""

    def authenticate(self, token: str) -> User | None:
        return {ADMIN: User("admin", (ADMIN_GROUP,)), READER: User("reader", ("readers",))}.get(token)


def authorize(user: User, action: Action) -> bool:
    return user.name == "reader" and action.verb in ("get", "list", "watch") and action.resource != "secrets"


def allocate(document: dict[str, Any], store: Store) -> dict[str, Any]:
    if document["kind"] != "TestRoute":
        return document
    meta = document["metadata"]
    if document["spec"].get("address") == "taken":
        raise Unallocatable(Problem(SPEC / "address", "the address is taken", remedy="Leave it out."))
    before = store.get(ROUTE.ref(meta["namespace"], meta["name"]))
    address = document["spec"].get("address") or (before["spec"]["address"] if before else f"10.0.0.{store.revision}")
    return {**document, "spec": {**document["spec"], "address": address}}


def certificate(directory: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = directory / "cert.pem", directory / "key.pem"
    cert_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    key_file.chmod(0o600)
    return cert_file, key_file


class Running:
    """The server in a thread of its own, and a small client."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.cert_file, key_file = certificate(directory)
        self.store = Store(directory / "store.db")
        self.registry = Registry((*registry().kinds, ROUTE))
        self.admission = Admission(self.store, self.registry, allocate=allocate)
        self.server = ApiServer(
            self.admission,
            Tokens(),
            cert_file=self.cert_file,
            key_file=key_file,
            authorize=authorize,
            token_issuer=lambda namespace, name, audiences, seconds: Token(
                f"token-of-{namespace}-{name}-{seconds}", "2030-01-01T00:00:00Z"
            ),
        )
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._run(self.server.start())
        self.kubeconfig = directory / "kubeconfig"
        self._write_kubeconfig()

    def _run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    def _write_kubeconfig(self) -> None:
        cluster = {"server": self.server.url, "certificate-authority": str(self.cert_file)}
        self.kubeconfig.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [{"name": "test", "cluster": cluster}],
                    "users": [{"name": "admin", "user": {"token": ADMIN}}],
                    "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
                    "current-context": "test",
                }
            )
        )

    def stop(self) -> None:
        self._run(self.server.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(20)
        self._loop.close()
        self.store.close()

    def open(self, timeout: float = 20) -> http.client.HTTPSConnection:
        context = ssl.create_default_context(cafile=str(self.cert_file))
        return http.client.HTTPSConnection("127.0.0.1", self.server.port, context=context, timeout=timeout)

    def raw(
        self, method: str, path: str, body: object = None, token: str = ADMIN, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers (lower case) and body; header names are given with underscores."""
        link = self.open()
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if token:
            sent["Authorization"] = f"Bearer {token}"
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        if data is not None:
            sent.setdefault("Content-Type", "application/json")
        link.request(method, path, data, sent)
        answer = link.getresponse()
        out = (answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
        link.close()
        return out

    def call(self, method: str, path: str, body: object = None, token: str = ADMIN, **headers: str) -> Any:
        """(status, document)"""
        code, _, raw = self.raw(method, path, body, token, **headers)
        return code, json.loads(raw) if raw else None


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Running]:
    made = Running(tmp_path)
    yield made
    made.stop()
