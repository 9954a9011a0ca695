"""Getting and renewing the workload's certificate: a token starts the identity, the certificate keeps it."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import random
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol, cast

import grpc
import grpc.aio
import msgspec

from fairlead.agent import identity, messages
from fairlead.agent.backoff import Backoff
from fairlead.agent.identity import Identity
from fairlead.model.launch import AgentConfig

SERVER_NAME = "fairlead-controlplane"
ISSUER = f"https://{SERVER_NAME}"
"""Whom join tokens of the control plane name as their issuer."""
LIFETIME_SECONDS = 24 * 3600
CALL_TIMEOUT = 10.0
MAX_TOKEN_BYTES = 64 * 1024

UnaryCall = Callable[..., Awaitable[bytes]]

log = logging.getLogger("certificates")


class CertificateClient(Protocol):
    """Something that turns a signing request into certificates (PEM, leaf first, root last)."""

    async def sign(self, request: str, current: Identity | None) -> list[str]:
        """Show `current` if given, else the join token. Raises CertificateError."""
        ...


class CertificateError(Exception):
    """The authority could not be reached or refused; the text says which and what to do."""


def channel(address: str, roots: bytes, current: Identity | None) -> grpc.aio.Channel:
    """A TLS channel to the control plane, with our certificate if given."""
    credentials = grpc.ssl_channel_credentials(
        root_certificates=roots,
        private_key=current.key if current else None,
        certificate_chain=current.chain if current else None,
    )
    options: list[tuple[str, Any]] = [
        ("grpc.ssl_target_name_override", SERVER_NAME),
        ("grpc.default_authority", SERVER_NAME),
        ("grpc.max_receive_message_length", 256 * 1024 * 1024),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 2_000),
        ("grpc.enable_http_proxy", 0),
    ]
    return grpc.aio.secure_channel(address, credentials, options=options)


class GrpcCertificates:
    """`istio.v1.auth.IstioCertificateService` over gRPC."""

    def __init__(self, config: AgentConfig) -> None:
        self._config = config

    async def sign(self, request: str, current: Identity | None) -> list[str]:
        """See CertificateClient."""
        config = self._config
        address = config.xds_address if current else config.join_address
        token = "" if current else self._token()
        metadata = (("authorization", f"Bearer {token}"),) if token else None
        roots = current.roots if current else self._roots()
        async with channel(address, roots, current) as open_channel:
            call = cast("UnaryCall", open_channel.unary_unary(messages.CREATE_CERTIFICATE))
            body = messages.certificate_request(request, LIFETIME_SECONDS)
            try:
                answer = await call(body, timeout=CALL_TIMEOUT, metadata=metadata)
            except grpc.aio.AioRpcError as error:
                raise CertificateError(_explain(error, address, token, time.time())) from None
        return messages.certificate_chain(answer)

    def _token(self) -> str:
        path = self._config.token_file
        if not path:
            raise CertificateError("no certificate and no token_file: make a token with `fairlead token create`")
        try:
            with Path(path).open("rb") as file:
                return file.read(MAX_TOKEN_BYTES).decode().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise CertificateError(f"cannot read the join token {path}: {error}") from None

    def _roots(self) -> bytes:
        try:
            return Path(self._config.root_cert_file).read_bytes()
        except OSError as error:
            raise CertificateError(f"cannot read root_cert_file: {error}") from None


def _explain(error: grpc.aio.AioRpcError, address: str, token: str, now: float) -> str:
    detail = (error.details() or "no detail").splitlines()[0][:500]
    match error.code():
        case grpc.StatusCode.UNAUTHENTICATED | grpc.StatusCode.PERMISSION_DENIED:
            what = "join token" if token else "certificate"
            return f"{address} refused the {what}: {detail}{_hint(token, detail, now)}"
        case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.DEADLINE_EXCEEDED:
            return f"control plane {address} cannot be reached: {detail}"
        case code:
            return f"{address} answered {code.name}: {detail}"


def _hint(token: str, detail: str, now: float) -> str:
    """What the agent can add to a refusal: whose token it is, and whether this host's clock sees it as valid."""
    claims = _claims(token)
    issuer, ends = claims.get("iss"), claims.get("exp")
    if isinstance(ends, int | float) and "expired" in detail and now < ends:
        return "; by this host's clock it is valid: check the clocks of both hosts"
    if token and issuer in (None, ISSUER) and "fairlead token create" not in detail:
        return "; make a new one with `fairlead token create`"
    return ""


def _claims(token: str) -> dict[str, Any]:
    """What a token says; nothing is verified, and nothing of it is trusted."""
    part = token.split(".")[1] if token.count(".") == 2 else ""
    try:
        found: object = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


class Certificates:
    """Holds the current identity, keeps it valid, and tells listeners of every new one."""

    def __init__(
        self, config: AgentConfig, client: CertificateClient, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._config = config
        self._client = client
        self._clock = clock
        self.directory = Path(config.directory)
        self._wanted = identity.spiffe_id(config)
        self._listeners: list[Callable[[Identity], None]] = []
        self._ready = asyncio.Event()
        self._bundle = b""
        self._soon = asyncio.Event()
        self._renew_within = 0.0
        self.current: Identity | None = None
        self.problem = ""
        self.failed: Callable[[], None] = lambda: None
        """Called when no new certificate could be had; `problem` says why."""

    def on_change(self, listener: Callable[[Identity], None]) -> None:
        """Call `listener` with every new identity."""
        self._listeners.append(listener)

    async def ready(self) -> Identity:
        """Wait for the first identity that is valid."""
        await self._ready.wait()
        assert self.current is not None
        return self.current

    def renew(self, within: float) -> None:
        """Renew at a random time within so many seconds, whatever is left of the certificate."""
        self._renew_within = within
        self._soon.set()

    async def trust(self, bundle: bytes) -> None:
        """Trust these roots (PEM) and no others from now on. Raises OSError or IdentityError."""
        await asyncio.to_thread(identity.save_bundle, self.directory, bundle)
        self._bundle = bundle
        if self.current is not None:
            fresh = msgspec.structs.replace(self.current, roots=bundle)
            await asyncio.to_thread(identity.save, self.directory, fresh)
            self._use(fresh)

    async def run(self) -> None:
        """Load, fetch and renew until cancelled."""
        self._bundle = await asyncio.to_thread(identity.load_bundle, self.directory)
        kept = await asyncio.to_thread(identity.load, self.directory, self._wanted)
        if kept is not None and kept.valid(self._clock()):
            log.info("using the certificate on disk, valid for another %d s", kept.not_after - self._clock())
            self._use(kept)
        backoff = Backoff(0.5, 60)
        while True:
            await self._wait()
            try:
                fresh = await self._fetch()
            except (CertificateError, identity.IdentityError, OSError) as error:
                self.problem = str(error)
                self.failed()
                delay = backoff.next()
                log.warning("no new certificate: %s; next try in %.1f s", error, delay)
                await asyncio.sleep(delay)
                continue
            self.problem = ""
            backoff.reset()
            self._use(fresh)
            log.info("new certificate for %s, valid for %d s", self._wanted, fresh.not_after - self._clock())

    async def _wait(self) -> None:
        """Until half of the lifetime has passed, give or take a tenth of it, so that a fleet does not renew at once."""
        if self.current is None:
            return
        life = self.current.not_after - self.current.not_before
        due = self.current.not_before + life * (0.5 + random.uniform(-0.1, 0.1))  # noqa: S311 (spread, not a secret)
        while (left := due - self._clock()) > 0:  # in steps: a suspended host's clock jumps
            try:
                async with asyncio.timeout(min(left, 60)):
                    await self._soon.wait()
            except TimeoutError:
                continue
            self._soon.clear()
            due = min(due, self._clock() + random.uniform(0, self._renew_within))  # noqa: S311

    async def _fetch(self) -> Identity:
        key = identity.new_key()
        request = identity.signing_request(key, self._wanted)
        current = self.current if self.current and self.current.valid(self._clock()) else None
        answer = await self._client.sign(request, current)
        trusted = await asyncio.to_thread(self._trusted)
        fresh = identity.accept(key, self._wanted, answer, trusted)
        await asyncio.to_thread(identity.save, self.directory, fresh)
        return fresh

    def _trusted(self) -> bytes:
        if self._bundle:
            return self._bundle
        path = Path(self._config.root_cert_file)
        return path.read_bytes() if path.exists() else b""

    def _use(self, fresh: Identity) -> None:
        self.current = fresh
        self._ready.set()
        for listener in self._listeners:
            listener(fresh)
