"""Secrets for Envoy over the Unix socket: the workload's certificate (`default`), the trust bundle (`ROOTCA`), files.

Only this path carries the workload's key; it never travels with configuration. Nor do keys in files of the host.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Any

import grpc
from envoy.extensions.transport_sockets.tls.v3 import common_pb2, secret_pb2
from envoy.extensions.transport_sockets.tls.v3.tls_spiffe_validator_config_pb2 import SPIFFECertValidatorConfig
from envoy.service.discovery.v3 import discovery_pb2 as discovery

from fairlead.agent import secretfiles
from fairlead.agent.identity import Identity
from fairlead.envoy.names import FILES
from fairlead.envoy.resource import SECRET
from fairlead.model.report import anchors_id

WORKLOAD = "default"
ROOTS = "ROOTCA"
SERVICE = "envoy.service.secret.v3.SecretDiscoveryService"

log = logging.getLogger("sds")


def secrets(
    identity: Identity, roots_beside: bytes = b"", anchors: Mapping[str, str] | None = None, own: str = ""
) -> dict[str, discovery.Resource]:
    """Both secrets as resources, versioned by content; `roots_beside` are trusted beside the identity's own roots.

    `anchors` are further roots by trust domain (see `fairlead.model.report`), `own` is the workload's trust domain.
    """
    pair = secret_pb2.Secret(name=WORKLOAD)
    pair.tls_certificate.certificate_chain.inline_bytes = identity.chain
    pair.tls_certificate.private_key.inline_bytes = identity.key
    roots = secret_pb2.Secret(name=ROOTS)
    found = dict(anchors or {})
    everybody = roots_beside + found.pop("", "").encode()
    trusted = identity.roots + everybody
    if found:
        # A domain without roots of its own is the mesh's, or an alias of it.
        domains = {one: pem.encode() + everybody if pem else trusted for one, pem in found.items()}
        domains[own] = trusted + found.get(own, "").encode()
        _by_domain(roots.validation_context, domains)
    else:
        roots.validation_context.trusted_ca.inline_bytes = trusted
    return {one.name: secretfiles.resource(one) for one in (pair, roots)}


def _by_domain(context: common_pb2.CertificateValidationContext, domains: Mapping[str, bytes]) -> None:
    """Have Envoy ask the roots of a peer's own trust domain; a peer of no known one is refused."""
    config = SPIFFECertValidatorConfig()
    for name, pem in sorted(domains.items()):
        made = config.trust_domains.add(name=name)
        made.trust_bundle.inline_bytes = pem
    context.custom_validator_config.name = "envoy.tls.cert_validator.spiffe"
    context.custom_validator_config.typed_config.Pack(config, deterministic=True)


class _Stream:
    """A stream of Envoy: what it asks and, as None, that the secrets changed; and which answer is acknowledged.

    `own`: it is about the workload's own identity, not about files. `refusal` is what Envoy says against the last one.
    """

    __slots__ = ("acknowledged", "own", "queue", "refusal", "sent")

    def __init__(self) -> None:
        self.queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.sent = 0
        self.acknowledged = 0
        self.own = True
        self.refusal = ""

    def answered(self, nonce: str, refusal: str) -> None:
        self.refusal = refusal if nonce else self.refusal
        if nonce and not refusal:
            self.acknowledged = int(nonce)

    def asks(self, names: Iterable[str]) -> None:
        self.own = not {WORKLOAD, ROOTS}.isdisjoint(names)

    def next(self) -> str:
        self.sent += 1
        return str(self.sent)


class SecretServer:
    """The secret discovery service; `update` pushes a new identity to every open stream.

    `roots` are certificates (PEM) of which peers may come from, beside the mesh's own; no control plane may. `own` is
    the workload's trust domain, `anchors` are further roots by trust domain. `base` is the directory in which Envoy
    runs, where paths begin that are not absolute.
    """

    def __init__(
        self, roots: bytes = b"", own: str = "", anchors: Mapping[str, str] | None = None, base: Path = Path()
    ) -> None:
        self._base = base
        self._roots = roots
        self._own = own
        self._anchors = dict(anchors or {})
        self._identity: Identity | None = None
        self._secrets: dict[str, discovery.Resource] = {}
        self._streams: set[_Stream] = set()
        self.refusal = ""
        """What Envoy said of the last secret that it refused."""

    @property
    def settled(self) -> bool:
        """Whether Envoy has acknowledged all of the workload's identity."""
        return all(one.queue.empty() and one.sent == one.acknowledged for one in self._streams if one.own)

    @property
    def refused_files(self) -> list[str]:
        """What Envoy says of files that it does not take, although nothing was found wrong with them."""
        return sorted({one.refusal for one in self._streams if one.refusal and not one.own})

    def update(self, identity: Identity) -> None:
        """Use a new identity."""
        self._identity = identity
        self._secrets = secrets(identity, self._roots, self._anchors, self._own)
        self.changed()

    def changed(self) -> None:
        """Files may have been replaced: Envoy gets what is new."""
        for stream in self._streams:
            stream.queue.put_nowait(None)

    @property
    def anchors_id(self) -> str:
        """The id of the further roots that are in use."""
        return anchors_id(self._anchors)

    def trust(self, anchors: Mapping[str, str]) -> None:
        """Use these further roots, by trust domain, and no others."""
        self._anchors = dict(anchors)
        if self._identity is not None:
            self.update(self._identity)

    async def _found(self, names: Iterable[str]) -> list[discovery.Resource]:
        found: list[discovery.Resource] = []
        for name in names:
            one = self._secrets.get(name)
            if one is None and name.startswith(FILES):
                one = await asyncio.to_thread(self._of_files, name)
            if one is not None:
                found.append(one)
        return found

    def _of_files(self, name: str) -> discovery.Resource | None:
        try:
            return secretfiles.secret(name, self._base)
        except secretfiles.FileProblem as error:
            # What Envoy has it keeps. (`fairlead.agent.filewatch` says when this changes.)
            log.debug("%s: %s", name, error)
            return None

    def handler(self) -> grpc.GenericRpcHandler:
        """For a grpc.aio server."""
        methods: dict[str, Any] = {
            "DeltaSecrets": grpc.stream_stream_rpc_method_handler(self._delta),
            "StreamSecrets": grpc.stream_stream_rpc_method_handler(self._whole),
        }
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    async def _events(self, requests: AsyncIterator[bytes], stream: _Stream) -> AsyncIterator[bytes | None]:
        """Requests as they come, and None whenever the secrets changed."""
        queue = stream.queue

        async def pump() -> None:
            async for body in requests:
                await queue.put(body)

        pumping = asyncio.create_task(pump())
        pumping.add_done_callback(lambda _: queue.put_nowait(b""))
        self._streams.add(stream)
        try:
            while not (pumping.done() and queue.empty()):
                event = await queue.get()
                if event != b"":
                    yield event
        finally:
            self._streams.discard(stream)
            pumping.cancel()

    def _answered(self, stream: _Stream, request: discovery.DeltaDiscoveryRequest | discovery.DiscoveryRequest) -> None:
        refusal = (request.error_detail.message[:300] or "refused") if request.HasField("error_detail") else ""
        if refusal:
            self.refusal = refusal
            log.error("Envoy refused a secret: %s", refusal)
        stream.answered(request.response_nonce, refusal)

    async def _delta(self, requests: AsyncIterator[bytes], _: object) -> AsyncIterator[bytes]:
        names: set[str] = set()
        has: dict[str, str] = {}
        stream = _Stream()
        async for event in self._events(requests, stream):
            if event is not None:
                request = discovery.DeltaDiscoveryRequest.FromString(event)
                self._answered(stream, request)
                has.update(request.initial_resource_versions)
                for name in request.resource_names_subscribe:
                    names.add(name)
                    if not request.initial_resource_versions:
                        has.pop(name, None)
                names.difference_update(request.resource_names_unsubscribe)
                stream.asks(names)
            new = [one for one in await self._found(sorted(names)) if has.get(one.name) != one.version]
            if new:
                has.update({one.name: one.version for one in new})
                yield discovery.DeltaDiscoveryResponse(
                    type_url=SECRET, nonce=stream.next(), resources=new
                ).SerializeToString()

    async def _whole(self, requests: AsyncIterator[bytes], _: object) -> AsyncIterator[bytes]:
        names: tuple[str, ...] = ()
        sent = ""
        stream = _Stream()
        async for event in self._events(requests, stream):
            if event is not None:
                request = discovery.DiscoveryRequest.FromString(event)
                self._answered(stream, request)
                if set(request.resource_names) != set(names):
                    names, sent = tuple(request.resource_names), ""
                    stream.asks(names)
            found = await self._found(names)
            version = "-".join(one.version for one in found)
            if found and version != sent:
                sent = version
                yield discovery.DiscoveryResponse(
                    type_url=SECRET,
                    version_info=version,
                    nonce=stream.next(),
                    resources=[one.resource for one in found],
                ).SerializeToString()
