"""Secrets for Envoy over the Unix socket: the workload's certificate (`default`) and the trust bundle (`ROOTCA`).

Only this path carries the workload's key; it never travels with configuration.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from collections.abc import AsyncIterator, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

import grpc
from envoy.extensions.transport_sockets.tls.v3 import common_pb2, secret_pb2
from envoy.extensions.transport_sockets.tls.v3.tls_spiffe_validator_config_pb2 import SPIFFECertValidatorConfig
from envoy.service.discovery.v3 import discovery_pb2 as discovery

from fairlead.agent.identity import Identity
from fairlead.envoy.names import FILE_CERTIFICATE, FILE_ROOT, SYSTEM_ROOT
from fairlead.envoy.resource import SECRET
from fairlead.model.report import anchors_id

WORKLOAD = "default"
ROOTS = "ROOTCA"
SERVICE = "envoy.service.secret.v3.SecretDiscoveryService"

_SYSTEM_ROOTS = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
"""Where Debian, Red Hat, SUSE and Alpine have it."""

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
    return {one.name: _resource(one) for one in (pair, roots)}


def _by_domain(context: common_pb2.CertificateValidationContext, domains: Mapping[str, bytes]) -> None:
    """Have Envoy ask the roots of a peer's own trust domain; a peer of no known one is refused."""
    config = SPIFFECertValidatorConfig()
    for name, pem in sorted(domains.items()):
        made = config.trust_domains.add(name=name)
        made.trust_bundle.inline_bytes = pem
    context.custom_validator_config.name = "envoy.tls.cert_validator.spiffe"
    context.custom_validator_config.typed_config.Pack(config, deterministic=True)


def system_roots() -> Path | None:
    """The file of authorities that this host trusts, None if it has none: `SSL_CERT_FILE`, or where systems put it."""
    given = os.environ.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().openssl_cafile
    return next((path for path in map(Path, (given, *_SYSTEM_ROOTS)) if path.is_file()), None)


def file_secret(name: str) -> discovery.Resource | None:
    """The secret that a name such as `file-cert:CERT~KEY` or `file-root:CA` asks for, None if it is no such name.

    It only says where the files are: Envoy reads them, and reads them again when they are replaced.
    """
    secret = secret_pb2.Secret(name=name)
    if name.startswith(FILE_CERTIFICATE):
        certificate, tilde, key = name.removeprefix(FILE_CERTIFICATE).partition("~")
        if not (certificate and tilde and key):
            return None
        secret.tls_certificate.certificate_chain.filename = certificate
        secret.tls_certificate.private_key.filename = key
    elif name == SYSTEM_ROOT:
        roots = system_roots()
        if roots is None:
            log.error("no certificates of authorities were found on this host: install ca-certificates")
            return None
        secret.validation_context.trusted_ca.filename = str(roots)
    elif name.startswith(FILE_ROOT) and name != FILE_ROOT:
        secret.validation_context.trusted_ca.filename = name.removeprefix(FILE_ROOT)
    else:
        return None
    return _resource(secret)


def _resource(secret: secret_pb2.Secret) -> discovery.Resource:
    body = secret.SerializeToString(deterministic=True)
    resource = discovery.Resource(name=secret.name, version=blake2b(body, digest_size=8).hexdigest())
    resource.resource.type_url, resource.resource.value = SECRET, body
    return resource


class _Stream:
    """A stream of Envoy: what it asks and, as None, that the secrets changed; and which answer is acknowledged."""

    __slots__ = ("acknowledged", "queue", "sent")

    def __init__(self) -> None:
        self.queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.sent = 0
        self.acknowledged = 0

    def answered(self, nonce: str, refused: bool) -> None:
        if nonce and not refused:
            self.acknowledged = int(nonce)

    def next(self) -> str:
        self.sent += 1
        return str(self.sent)


class SecretServer:
    """The secret discovery service; `update` pushes a new identity to every open stream.

    `roots` are certificates (PEM) of which peers may come from, beside the mesh's own; no control plane may. `own` is
    the workload's trust domain, `anchors` are further roots by trust domain.
    """

    def __init__(self, roots: bytes = b"", own: str = "", anchors: Mapping[str, str] | None = None) -> None:
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
        """Whether Envoy has acknowledged everything."""
        return all(one.queue.empty() and one.sent == one.acknowledged for one in self._streams)

    def update(self, identity: Identity) -> None:
        """Use a new identity."""
        self._identity = identity
        self._secrets = secrets(identity, self._roots, self._anchors, self._own)
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

    def _secret(self, name: str) -> discovery.Resource | None:
        return self._secrets.get(name) or file_secret(name)

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
        refused = request.HasField("error_detail")
        if refused:
            self.refusal = request.error_detail.message[:300]
            log.error("Envoy refused a secret: %s", self.refusal)
        stream.answered(request.response_nonce, refused)

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
            new = [
                one for one in map(self._secret, sorted(names)) if one is not None and has.get(one.name) != one.version
            ]
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
            found = [one for one in map(self._secret, names) if one is not None]
            version = "-".join(one.version for one in found)
            if found and version != sent:
                sent = version
                yield discovery.DiscoveryResponse(
                    type_url=SECRET,
                    version_info=version,
                    nonce=stream.next(),
                    resources=[one.resource for one in found],
                ).SerializeToString()
