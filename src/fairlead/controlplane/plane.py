"""The control plane: store, API, compiler, xDS and CA in one process, on one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from fairlead.apiserver.admission import Admission
from fairlead.apiserver.auth import User
from fairlead.apiserver.reviews import Token
from fairlead.apiserver.server import ApiServer
from fairlead.ca.authority import Authority, RequestRefused, ServerCertificate, Supplied
from fairlead.ca.files import write_atomic
from fairlead.ca.oidc import ForeignTokens, JoinIssuer
from fairlead.ca.rotation import Rotation
from fairlead.ca.service import MAX_REQUEST_BYTES, CertificateEvent, CertificateService, by_certificate, by_token
from fairlead.ca.tokens import API_AUDIENCE, JOIN_AUDIENCE, MAX_TTL, TokenRefused, Tokens
from fairlead.compiler.model import MeshModel
from fairlead.compiler.registry import registry
from fairlead.controlplane import memory
from fairlead.controlplane.advising import Advising
from fairlead.controlplane.agentroutes import agent_routes
from fairlead.controlplane.allocation import Allocation
from fairlead.controlplane.analysisroutes import Analyses, analysis_routes
from fairlead.controlplane.aside import Aside
from fairlead.controlplane.authorityroutes import authority_routes, domain_findings, forecast
from fairlead.controlplane.bundles import Bundles
from fairlead.controlplane.checkroutes import check_routes
from fairlead.controlplane.chronicle import Chronicle
from fairlead.controlplane.delivery import Delivery
from fairlead.controlplane.describing import Descriptions
from fairlead.controlplane.effectroutes import Effects
from fairlead.controlplane.endpointnews import EndpointNews
from fairlead.controlplane.environment import Environment
from fairlead.controlplane.explainroutes import Explanations
from fairlead.controlplane.feed import Feed
from fairlead.controlplane.fetching import KeyFetcher
from fairlead.controlplane.fleet import Fleet
from fairlead.controlplane.gatewaynames import GatewayNames
from fairlead.controlplane.historyroutes import History
from fairlead.controlplane.ingressstatus import IngressStatus
from fairlead.controlplane.issuers import IssuerKeys
from fairlead.controlplane.jwks import REFRESH, KeyKeeper
from fairlead.controlplane.learning import Learning
from fairlead.controlplane.names import Names
from fairlead.controlplane.operations import operations
from fairlead.controlplane.places import Places
from fairlead.controlplane.profiling import Profiler
from fairlead.controlplane.proxies import Proxies
from fairlead.controlplane.refusals import Refusals
from fairlead.controlplane.startroutes import start_routes
from fairlead.controlplane.state import Endpoints, StateDirectory
from fairlead.controlplane.strictness import Strictness
from fairlead.controlplane.traffic import TrafficLedger
from fairlead.controlplane.trafficroutes import traffic_routes
from fairlead.controlplane.whyroutes import Walks, why_routes
from fairlead.ir.mesh import MESH_KEY, MESHES, Mesh
from fairlead.store.retention import Retention
from fairlead.store.store import Store
from fairlead.store.timeline import Bounds, Timeline
from fairlead.store.transaction import timestamp
from fairlead.xds import wire
from fairlead.xds.server import Server
from fairlead.xds.unary import UnaryServer

_log = logging.getLogger(__name__)
SERVER_NAMES = ("fairlead-controlplane", "istiod.istio-system.svc", "localhost", "127.0.0.1")
_ADMIN_TTL = timedelta(days=365)
_STORM = 50
_TIDY_SECONDS = 5
_GIVEN_BACK = 12
"""Once in so many times, which is a minute: it takes a few milliseconds at most."""


def _now() -> datetime:
    return datetime.now(UTC)


class Settings(msgspec.Struct, frozen=True):
    """What `fairlead serve` is told. Ports of 0 are chosen freely; `names` are further names of the server.

    `certificate_ttl` is the life of the servers' own certificate, which is renewed at half of it. `jwks_blocked` are
    networks from which keys of token issuers are never fetched, `jwks_ca` is a file of authorities that are trusted for
    that beside the system's, `jwks_refresh` is the time between two fetches (seconds). `join_issuers` are trusted for
    tokens to join with; proxies of `trust_domain_aliases` go on while the trust domain is migrated. `history` and
    `timeline` say how much of the past is kept.
    """

    host: str = "127.0.0.1"
    api_port: int = 16443
    xds_port: int = 15012
    join_port: int = 15013
    trust_domain: str = "cluster.local"
    service_range: str = "10.96.0.0/16"
    names: tuple[str, ...] = ()
    supplied: Supplied | None = None
    certificate_ttl: timedelta = timedelta(days=30)
    jwks_blocked: tuple[str, ...] = ()
    jwks_ca: Path | None = None
    jwks_refresh: float = REFRESH
    join_issuers: tuple[JoinIssuer, ...] = ()
    trust_domain_aliases: tuple[str, ...] = ()
    history: Retention = Retention()
    timeline: Bounds = Bounds()


class _ServerCertificates:
    """The servers' certificate, renewed at half of its life; asked from gRPC threads before each handshake."""

    def __init__(self, authority: Callable[[], Authority], names: tuple[str, ...], lifetime: timedelta) -> None:
        self._authority = authority
        self._names = names
        self._lifetime = lifetime
        self._lock = threading.Lock()
        self.renew_at = 0.0
        self._current: ServerCertificate | None = None

    def current(self) -> ServerCertificate:
        with self._lock:
            if self._current is None or time.time() >= self.renew_at:
                self._current = self._authority().issue_server(self._names, self._lifetime)
                left = (self._current.not_after - datetime.now(UTC)).total_seconds()
                self.renew_at = time.time() + left / 2
            return self._current

    def pair(self) -> tuple[bytes, bytes]:
        made = self.current()
        return made.key, made.chain

    def with_roots(self) -> tuple[bytes, bytes, bytes]:
        return (*self.pair(), self._authority().root_pem.encode())


class _Authenticator:
    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    def authenticate(self, token: str) -> User | None:
        """A user's token, or a service account's that is meant for the API."""
        try:
            claims = self._tokens.verify(token, API_AUDIENCE)
        except TokenRefused:
            return None
        return User(claims.subject, (*claims.groups, "system:authenticated"))


class _Certificates:
    """Logs and records what the CA does."""

    def __init__(self, chronicle: Chronicle) -> None:
        self._chronicle = chronicle

    def certificate(self, event: CertificateEvent) -> None:
        """A certificate was issued or refused."""
        self._chronicle.certificate(event)
        if event.refused:
            _log.warning("certificate for %s at %s refused: %s", event.identity or "?", event.peer, event.refused)
        else:
            _log.info("certificate %s issued to %s until %s", event.serial, event.identity, event.not_after)


class ControlPlane:
    """Everything that `fairlead serve` runs. `start` returns when all ports listen."""

    def __init__(self, state: StateDirectory, settings: Settings) -> None:
        self.state = state
        self.settings = settings
        self.store = Store(state.store, retention=settings.history, synced=False)
        self.model = MeshModel(registry())
        self.feed = Feed(self.store, self.model)
        self.places = Places(self.store)
        self.rotation = Rotation(state.ca, settings.trust_domain, _now, settings.supplied)
        if self.rotation.ignored:
            _log.warning("%s is not taken over: a rotation has replaced it", self.rotation.ignored)
        self.tokens = Tokens(state.ca, f"https://{SERVER_NAMES[0]}", _now)
        self.delivery = Delivery(self.feed)
        self.proxies = Proxies(self.store, self.model, self.delivery)
        self.chronicle = Chronicle(
            Timeline(state.timeline, bounds=settings.timeline), lambda: self.feed.revision, time.monotonic
        )
        self.chronicle.connected = self.proxies.known
        self.proxies.follower = self.chronicle
        self.delivery.noted = self.chronicle.delivery
        self.feed.listen(self.proxies.passed)
        self.feed.listen(self.proxies.programmed.passed)
        self.xds: Server | None = None
        self.profiler = Profiler()
        self.fetcher = KeyFetcher(settings.jwks_blocked, settings.jwks_ca)
        self.keys = KeyKeeper(self.feed, self.store, self.fetcher.fetch, state.keys, settings.jwks_refresh)
        self.gateway_names = GatewayNames(self.feed)
        self.ingresses = IngressStatus(self.store, self.feed, lambda: (one.view for one in self.proxies.known()))
        self.traffic = TrafficLedger(state.traffic, self.proxies.caller)
        self.learning = Learning(self.feed, self.delivery, self.traffic)
        self.proxies.asked = self.learning.asked
        self.fleet = Fleet(state.ca / "fleet.json", lambda: self.authority, self.proxies.nodes, self.traffic)
        self.fleet.ended = self.proxies.enrolment.ended
        self.plaintext = self.fleet.plaintext
        self.bundles = Bundles(self.feed, self.fetcher.bundle, self.fleet.trust, state.bundles)
        self.issuer_keys = IssuerKeys(settings.join_issuers, self.fetcher.fetch, settings.jwks_refresh)
        self._certificates: _ServerCertificates | None = None
        self._running: list[Callable[[], Any]] = []
        self._renew_now = asyncio.Event()

    @property
    def authority(self) -> Authority:
        """Who signs now."""
        return self.rotation.authority

    async def start(self) -> Endpoints:
        """Load the state and listen. Raises ServerError or OSError with a message for people."""
        settings = self.settings
        service = CertificateService(lambda: self.authority, observer=_Certificates(self.chronicle))
        names = (*SERVER_NAMES, settings.host, *settings.names)
        certificates = _ServerCertificates(lambda: self.authority, names, settings.certificate_ttl)
        self._certificates = certificates
        self.issuer_keys.start()
        foreign = ForeignTokens(settings.join_issuers, self.issuer_keys.keys, self.issuer_keys.missing, _now)
        api = self._api(certificates)
        bound = _bracketed(settings.host)
        xds = self.xds = Server(
            f"{bound}:{settings.xds_port}",
            self.delivery,
            self.proxies,
            certificates.with_roots,
            settings.trust_domain,
            handlers=[
                service.handler("certificate", by_certificate(settings.trust_domain, settings.trust_domain_aliases)),
                self.fleet.handler(),
            ],
            aliases=settings.trust_domain_aliases,
        )
        self.feed.spent = lambda: xds.pushing.spent
        self.feed.listen(lambda made: xds.pushing.follows(len(made.commits)))
        join = UnaryServer(
            "join",
            f"{bound}:{settings.join_port}",
            certificates.pair,
            [service.handler("token", by_token(self.tokens, settings.trust_domain, foreign=foreign))],
            MAX_REQUEST_BYTES,
        )
        memory.loading()
        self.feed.start()
        self.learning.start()
        endpoints = EndpointNews(self.model.engine, self.chronicle.timeline.number)
        self.feed.listen(endpoints.passed)
        self.chronicle.endpoints = endpoints.tell
        self.chronicle.start()
        self._running.append(self.chronicle.stop)
        memory.loaded()
        self._running += [self.profiler.stop, self.feed.stop, self.fetcher.close, self.keys.stop]
        self._running += [self.traffic.stop, self.fleet.stop, self.issuer_keys.stop]
        self.gateway_names.start()
        Environment(self.feed, os.environ).start()
        self.ingresses.start()
        self.bundles.start()
        self._running += [self.gateway_names.stop, self.ingresses.stop, self.bundles.stop]
        await self.keys.start()
        self.proxies.programmed.start()
        self.proxies.enrolment.start()
        for server in (xds, join, api):
            await server.start()
            self._running.append(server.stop)
        # Stopped first: that proxies are cut off by a control plane that ends says nothing of their configuration.
        self._running += [self.proxies.enrolment.stop, self.proxies.programmed.stop]
        reached = _reached(settings.host)
        found = Endpoints(f"https://{reached}:{api.port}", f"{reached}:{xds.port}", f"{reached}:{join.port}")
        self._write(found)
        for task in (self._renew(certificates, api, found), self._tidy(xds)):
            running = asyncio.create_task(task)
            self._running.append(lambda running=running: _ended(running))
        return found

    async def _tidy(self, xds: Server) -> None:
        """See to what proxies leave behind that come and go: where gateways are, the memory that a storm took."""
        storms = memory.Storms(_STORM)
        for number in itertools.count(1):
            await asyncio.sleep(_TIDY_SECONDS)
            self.ingresses.changed()  # gateways may have come or gone
            admission = xds.admission
            if storms.over(admission.admitted, len(xds.live), admission.waiting):
                memory.grown()
            if not storms.going_on:
                # What many say or are sent alike they do within seconds; later it is of use to nobody.
                wire.forget()
                xds.encoder.forget()
            if number % _GIVEN_BACK == 0:
                # Changes leave holes in the heap, which it fills again elsewhere first.
                memory.give_back()

    def _findings(self) -> list[str]:
        mesh = self.model.engine.get(MESHES, MESH_KEY) or Mesh()
        domains = domain_findings(self.settings.trust_domain, mesh)
        running = (self.proxies.enrolment, self.fleet, self.gateway_names, self.bundles)
        return [*forecast(self)[1], *domains, *(said for one in running for said in one.findings())]

    @property
    def server_ends(self) -> datetime | None:
        """When the servers' certificate ends."""
        return self._certificates.current().not_after if self._certificates is not None else None

    def trust_changed(self) -> None:
        """The authority is in another phase: tell proxies, renew the servers' certificate and the kubeconfig."""
        self.chronicle.note("rotation", f"the authority is in phase {self.rotation.phase}", self.authority.issuer_id)
        self.renew()
        self.fleet.changed()

    def renew(self) -> None:
        """Have the servers' certificate and the kubeconfig's token renewed now."""
        self._renew_now.set()

    async def _renew(self, certificates: _ServerCertificates, api: ApiServer, found: Endpoints) -> None:
        """Give the API its new certificate at half of the old one's life, and the kubeconfig a fresh token.

        The gRPC ports ask for theirs at every handshake.
        """
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(certificates.renew_at - time.time(), 1)):
                    await self._renew_now.wait()
                    certificates.renew_at = 0.0
            self._renew_now.clear()
            try:
                self._write_certificate(certificates)
                api.reload_certificate()
                self._write(found)
            except (OSError, RequestRefused) as error:
                _log.error("the API's certificate cannot be renewed, and will be tried again: %s", error)
                await asyncio.sleep(60)

    def _write_certificate(self, certificates: _ServerCertificates) -> tuple[Path, Path]:
        key, chain = certificates.pair()
        key_file, cert_file = self.state.ca / "api-key.pem", self.state.ca / "api-cert.pem"
        write_atomic(key_file, key)
        write_atomic(cert_file, chain)
        return key_file, cert_file

    def _api(self, certificates: _ServerCertificates) -> ApiServer:
        allocation = Allocation(self.store, self.model.kinds, self.settings.service_range)
        places = self.places
        aside = Aside(self.feed.flush)
        walks = Walks(self.store, self.feed, self.delivery, self.proxies, allocation.allocate, aside, places.place)
        strictness = Strictness(self.model, self.proxies, self.plaintext)
        advising = Advising(self.model, strictness)
        admission = Admission(self.store, self.model.kinds, allocate=allocation.allocate, advise=advising.advise)
        key_file, cert_file = self._write_certificate(certificates)
        effects = Effects(self.store, self.feed, self.delivery, self.proxies, aside, self.fleet)
        return ApiServer(
            admission,
            _Authenticator(self.tokens),
            cert_file=cert_file,
            key_file=key_file,
            host=self.settings.host,
            port=self.settings.api_port,
            token_issuer=self._issue,
            routes=[
                *operations(
                    self.proxies, self.feed, self.delivery, lambda: self.xds, self.profiler, self._findings, aside
                ),
                *authority_routes(self, aside),
                *start_routes(self.model),
                *why_routes(walks),
                *analysis_routes(Analyses(self.store, self.feed, walks, time.time)),
                *traffic_routes(self.proxies, self.fleet, self.traffic, aside),
                *Explanations(self.store, self.feed, self.delivery, self.proxies, aside, places).routes(),
                *places.routes(),
                *agent_routes(self.fleet),
                *Refusals(self.feed, self.proxies, aside, places).routes(),
                *Names(self.store, self.model, self.proxies).routes(),
                *check_routes(self.store, self.state.store, self.feed, self._findings),
                *effects.routes(),
                *Descriptions(self.store, self.feed, self.proxies, aside, self.places, self.fleet).routes(),
                *History(self.store, effects, admission, aside, self.chronicle.timeline, places.of).routes(),
            ],
        )

    async def stop(self) -> None:
        """Stop listening; proxies keep what they have."""
        while self._running:
            done = self._running.pop()()
            if asyncio.iscoroutine(done):
                await done
        self.chronicle.timeline.close()
        self.tokens.registry.close()
        self.store.close()

    def _write(self, found: Endpoints) -> None:
        token = self.tokens.user("fairlead:admin", _ADMIN_TTL)
        self.state.write_kubeconfig(found.api, self.authority.root_pem, token)
        self.state.write_endpoints(found)

    def _issue(self, namespace: str, name: str, audiences: tuple[str, ...], seconds: int) -> Token:
        """A token for a ServiceAccount (TokenRequest): by default one that joins the mesh."""
        ttl = min(timedelta(seconds=seconds), MAX_TTL)
        value = self.tokens.service_account(namespace, name, ttl, audiences[0] if audiences else JOIN_AUDIENCE)
        return Token(value, timestamp((datetime.now(UTC) + ttl).timestamp()))


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _reached(host: str) -> str:
    """Where something on this host reaches a server that listens on `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}.get(host, _bracketed(host))  # noqa: S104 - names it only
