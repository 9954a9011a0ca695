"""A mesh of real Envoys: given documents it runs them, given calls it tells how they ended."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fairlead.ca.authority import Authority, open_authority
from fairlead.ca.identity import Identity as Spiffe
from fairlead.compiler import offline
from fairlead.compiler.model import MeshModel
from fairlead.compiler.publish import Catalog
from fairlead.model.diagnostic import Severity
from fairlead.model.manifest import Manifest
from tests.differential import tokens
from tests.differential.calls import Call, planned
from tests.differential.logs import Line, Logs
from tests.differential.proxies import Fleet
from tests.differential.standing import Identity, Standing, backends
from tests.differential.topology import (
    APP_PORTS,
    BACKENDS,
    BOX,
    CAPTURED,
    PROXIED,
    SERVERS,
    WRITTEN,
    Json,
    Workload,
)
from tests.differential.wire import Answer, call
from tests.loopback import network

_DOOR = 15001
_AT_ONCE = 64
_SETTLE = 1.5
"""Seconds after which a line that has not come will not come: Envoy keeps some connections for a second."""


class Seen(msgspec.Struct, frozen=True):
    """How a call ended: what its client got, and the lines of the first proxy and of the called one (None: none)."""

    answer: Answer
    first: Line | None = None
    second: Line | None = None
    second_proxy: str = ""


class InvalidError(Exception):
    """Documents that admission would refuse."""


def compiled(documents: Sequence[Json], prefix: str = WRITTEN) -> tuple[MeshModel, dict[str, Catalog]]:
    """The model of the documents, and what each proxy gets. Raises InvalidError."""
    model = MeshModel()
    found = offline.load(model, [Manifest(_placed(one, prefix)) for one in documents])
    wrong = [str(one) for one in found if one.severity is Severity.ERROR]
    if wrong:
        raise InvalidError("; ".join(wrong))
    catalogs: dict[str, Catalog] = {}
    for one in PROXIED:
        view = one.view(prefix)
        model.publisher.open(view)
        catalogs[one.name] = {kind: dict(held) for kind, held in model.publisher.catalog(view).items()}
    assert not model.engine.failures(), model.engine.failures()
    return model, catalogs


def _placed(document: Json, prefix: str) -> Json:
    text = msgspec.json.encode(document).replace(WRITTEN.encode(), prefix.encode())
    return msgspec.json.decode(text)


class Reality:
    """The proxies and applications. An asynchronous context: they run as long as it does."""

    def __init__(self, folder: Path) -> None:
        self.prefix = f"{network()}."
        self._folder = folder
        self.logs = Logs()
        sources = {one.name: self.prefix + one.at for one in PROXIED}
        self._fleet = Fleet(folder, sources, self.logs.said)
        self._standing: dict[str, Standing] = {}
        self._generation = 0
        self._tls = _clients(folder)
        self._count = 0

    async def __aenter__(self) -> Reality:
        authority = open_authority(self._folder / "ca", "cluster.local", lambda: datetime.now(UTC))
        for one in PROXIED:
            self._standing[one.name] = Standing(one, self.prefix, _identity(authority, one), _DOOR)
        await self._fleet.__aenter__()
        await self._fleet.static("applications", backends(self.prefix, BACKENDS, APP_PORTS))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._fleet.__aexit__()

    async def run(self, documents: Sequence[Json]) -> MeshModel:
        """Have the proxies run a mesh. Raises InvalidError and RefusedError."""
        model, catalogs = compiled(documents, self.prefix)
        self._generation += 1
        stamp = str(self._generation)
        given = {name: self._standing[name].of(catalog, stamp) for name, catalog in catalogs.items()}
        pushed = (self._fleet.proxies[name].give(*content) for name, content in given.items())
        outcomes = await asyncio.gather(*pushed, return_exceptions=True)
        ended = self._fleet.ended()
        assert not ended, f"Envoy has ended: {ended}"
        for one in outcomes:
            if isinstance(one, BaseException):
                raise one
        return model

    async def ask(self, calls: Sequence[Call], settle: float = _SETTLE) -> list[Seen]:
        """Make the calls, many at once. A log line that has not come after `settle` seconds is not waited for."""
        self.logs.forget()
        start = self._count
        self._count = (start + len(calls)) % 50000
        if self._count < start:
            start = 0
            self._count = len(calls)
        doors = {one.name: _DOOR for one in (*CAPTURED, BOX)}
        limit = asyncio.Semaphore(_AT_ONCE)

        async def one(number: int, asked: Call) -> Answer:
            async with limit:
                return await call(
                    planned(asked, number, self.prefix, doors),
                    self._tls[asked.request.protocol, asked.request.certificate],
                )

        answers = await asyncio.gather(*(one(start + at, asked) for at, asked in enumerate(calls)))
        return await self._told(list(zip(range(start, start + len(calls)), calls, answers, strict=True)), settle)

    async def _told(self, made: list[tuple[int, Call, Answer]], settle: float) -> list[Seen]:
        """Wait until the logs have said of every call what they will say."""
        end = asyncio.get_running_loop().time() + settle
        found = {number: self._seen(number, asked, answer) for number, asked, answer in made}
        while True:
            waiting = [one for one in made if not complete(found[one[0]])]
            if not waiting or asyncio.get_running_loop().time() > end:
                return [found[number] for number, _, _ in made]
            before = self.logs.count
            self.logs.came.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self.logs.came.wait(), 0.05)
            if self.logs.count != before:
                end = asyncio.get_running_loop().time() + settle
            for number, asked, answer in waiting:
                found[number] = self._seen(number, asked, answer)

    def _seen(self, number: int, asked: Call, answer: Answer) -> Seen:
        caller, pair = asked.caller, str(number)
        if caller.kind == "plaintext":
            server = next((one for one in (*SERVERS, BOX) if one.address == asked.request.host), None)
            if server is None:
                return Seen(answer)
            port = 2000 + number if server is BOX else answer.port
            return Seen(answer, _best(self.logs.of(server.name, pair, port)))
        first_proxy = caller.name if caller.kind == "workload" else "door"
        told = caller.name in {one.name for one in CAPTURED}
        port = 2000 + number if told else answer.port
        first = _best(self.logs.of(first_proxy, pair, port))
        if first is None or not first.endpoint:
            return Seen(answer, first)
        at = first.endpoint.rpartition(":")[0].removeprefix(self.prefix)
        called = next((one for one in SERVERS if one.at == at), None)
        if called is None:
            return Seen(answer, first)
        second = _best(self.logs.served(called.name, pair, first.local or ""))
        return Seen(answer, first, second, called.name)


def complete(seen: Seen) -> bool:
    """Whether nothing more is to come."""
    first = seen.first
    if first is None:
        return seen.answer.error.startswith("connect: ")
    if first.kind == "listener":
        # Nothing else logs a connection for which there is no filter chain, or with which TLS failed.
        return bool(first.refused) or first.details == "filter_chain_not_found"
    if not seen.second_proxy or seen.second is None:
        return not seen.second_proxy
    return seen.second.kind != "listener" or seen.second.details == "filter_chain_not_found"


def _clients(folder: Path) -> dict[tuple[str, str], ssl.SSLContext]:
    """The clients' TLS, by what they speak in it and which certificate they show."""
    pairs = {"valid": tokens.server_certificate(), "invalid": tokens.other_certificate()}
    files: dict[str, Path | None] = {"": None}
    for name, (certificate, key) in pairs.items():
        path = folder / f"{name}.pem"
        path.touch(0o600)
        path.write_text(certificate + key)
        files[name] = path
    spoken = {"http": ("http/1.1",), "http2": ("h2",), "grpc": ("h2",), "tcp": ()}
    return {(kind, name): _client(path, *alpn) for kind, alpn in spoken.items() for name, path in files.items()}


def _client(shown: Path | None, *alpn: str) -> ssl.SSLContext:
    """TLS of applications and of clients outside; who the server is, is not what is tried."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    if shown is not None:
        made.load_cert_chain(shown)
    if alpn:
        made.set_alpn_protocols(list(alpn))
    return made


def _best(lines: list[Line]) -> Line | None:
    """The line that says most: that of a request, else of a connection; the first of retries."""
    for kind in ("http", "tcp", "listener"):
        for one in lines:
            if one.kind == kind:
                return one
    return None


def _identity(authority: Authority, of: Workload) -> Identity:
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    issued = authority.issue(
        request.public_bytes(serialization.Encoding.PEM), Spiffe("cluster.local", of.namespace, of.account)
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Identity(issued.presented, private.decode(), authority.root_pem)
