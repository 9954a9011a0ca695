"""The certificate service over real TLS: with a join token, and renewal with a certificate."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import grpc.aio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fairlead.ca import istio_ca_pb2 as pb
from fairlead.ca.authority import Authority, open_authority
from fairlead.ca.identity import Identity
from fairlead.ca.rate import Rate
from fairlead.ca.service import (
    MAX_REQUEST_BYTES,
    METHOD,
    CertificateEvent,
    CertificateService,
    by_certificate,
    by_token,
)
from fairlead.ca.tokens import Tokens
from fairlead.xds.unary import UnaryServer

WHO = Identity("cluster.local", "shop", "cart")


class Seen:
    def __init__(self) -> None:
        self.events: list[CertificateEvent] = []

    def certificate(self, event: CertificateEvent) -> None:
        self.events.append(event)


def utc() -> datetime:
    return datetime.now(UTC)


def request() -> tuple[bytes, str]:
    key = ec.generate_private_key(ec.SECP256R1())
    csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return pem, csr.public_bytes(serialization.Encoding.PEM).decode()


async def create(channel: grpc.aio.Channel, csr: str, *, token: str | None = None, seconds: int = 0):
    call = channel.unary_unary(
        METHOD,
        request_serializer=pb.IstioCertificateRequest.SerializeToString,
        response_deserializer=pb.IstioCertificateResponse.FromString,
    )
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    return await call(pb.IstioCertificateRequest(csr=csr, validity_duration=seconds), metadata=metadata, timeout=10)


@asynccontextmanager
async def join_port(tmp_path: Path, admit=None):
    authority = open_authority(tmp_path / "ca", "cluster.local", utc)
    tokens = Tokens(tmp_path / "ca", "https://fairlead.cluster.local", utc)
    seen = Seen()
    service = CertificateService(lambda: authority, observer=seen, admit=admit)
    current = [authority.issue_server(["localhost"])]
    server = UnaryServer(
        "join",
        "127.0.0.1:0",
        lambda: (current[0].key, current[0].chain),
        [service.handler("token", by_token(tokens, "cluster.local"))],
        MAX_REQUEST_BYTES,
    )
    await server.start()
    try:
        yield authority, tokens, seen, server, current, service
    finally:
        await server.stop(0)


def channel(port: int, authority: Authority, key: bytes | None = None, chain: bytes | None = None):
    credentials = grpc.ssl_channel_credentials(authority.root_pem.encode(), key, chain)
    return grpc.aio.secure_channel(f"localhost:{port}", credentials)


def test_a_join_token_gets_a_certificate(tmp_path: Path) -> None:
    async def run() -> None:
        async with join_port(tmp_path) as (authority, tokens, seen, server, _, _):
            _, csr = request()
            async with channel(server.port, authority) as link:
                answer = await create(link, csr, token=tokens.service_account("shop", "cart"), seconds=3600)
            leaf = x509.load_pem_x509_certificate(answer.cert_chain[0].encode())
            names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            assert names.get_values_for_type(x509.UniformResourceIdentifier) == [str(WHO)]
            assert answer.cert_chain[-1] == authority.root_pem
            assert leaf.not_valid_after_utc - utc() < timedelta(hours=1)
            assert [(e.identity, e.method, bool(e.serial)) for e in seen.events] == [(WHO, "token", True)]

    asyncio.run(run())


def test_refusals_have_codes_and_reasons(tmp_path: Path) -> None:
    async def run() -> None:
        def admit(identity: Identity) -> str | None:
            return f"no service account {identity.service_account}" if identity.service_account == "gone" else None

        async with join_port(tmp_path, admit) as (authority, tokens, seen, server, _, _):
            _, csr = request()
            async with channel(server.port, authority) as link:
                cases = [
                    (csr, None, grpc.StatusCode.UNAUTHENTICATED, "no join token"),
                    (csr, "junk", grpc.StatusCode.UNAUTHENTICATED, "not a readable token"),
                    (
                        csr,
                        tokens.user("admin", timedelta(hours=1), audience="istio-ca"),
                        grpc.StatusCode.UNAUTHENTICATED,
                        "not bound to a service account",
                    ),
                    ("junk", tokens.service_account("a", "b"), grpc.StatusCode.INVALID_ARGUMENT, "not a PEM"),
                    (csr, tokens.service_account("a", "gone"), grpc.StatusCode.PERMISSION_DENIED, "no service"),
                ]
                for body, token, code, message in cases:
                    with pytest.raises(grpc.aio.AioRpcError, match=message) as caught:
                        await create(link, body, token=token)
                    assert caught.value.code() is code
            assert all(event.refused and not event.serial for event in seen.events)

    asyncio.run(run())


def test_renewal_with_the_certificate_itself(tmp_path: Path) -> None:
    async def run() -> None:
        async with join_port(tmp_path) as (authority, tokens, seen, server, current, service):
            key, csr = request()
            async with channel(server.port, authority) as link:
                first = await create(link, csr, token=tokens.service_account("shop", "cart"))
            # The renewal port demands client certificates: here a bare gRPC server in the place of the xDS server.
            renewal = grpc.aio.server()
            renewal.add_generic_rpc_handlers((service.handler("certificate", by_certificate("cluster.local")),))
            credentials = grpc.ssl_server_credentials(
                [(current[0].key, current[0].chain)], authority.root_pem.encode(), require_client_auth=True
            )
            port = renewal.add_secure_port("127.0.0.1:0", credentials)
            await renewal.start()
            try:
                _, again = request()
                async with channel(port, authority, key, "".join(first.cert_chain[:-1]).encode()) as link:
                    second = await create(link, again)
                assert second.cert_chain[0] != first.cert_chain[0]
                assert [(e.identity, e.method) for e in seen.events] == [(WHO, "token"), (WHO, "certificate")]
            finally:
                await renewal.stop(0)

    asyncio.run(run())


def test_a_renewed_server_certificate_is_used_without_a_restart(tmp_path: Path) -> None:
    async def run() -> None:
        async with join_port(tmp_path) as (authority, tokens, _, server, current, _):
            token = tokens.service_account("shop", "cart")
            _, csr = request()
            current[0] = authority.issue_server(["renamed.example"])
            options = (("grpc.ssl_target_name_override", "renamed.example"),)
            credentials = grpc.ssl_channel_credentials(authority.root_pem.encode())
            async with grpc.aio.secure_channel(f"localhost:{server.port}", credentials, options=options) as link:
                assert (await create(link, csr, token=token)).cert_chain

    asyncio.run(run())


def test_rate_lets_a_burst_through_and_then_a_stream() -> None:
    now = [0.0]
    rate = Rate(10, 3, lambda: now[0])
    assert [rate.take("a") for _ in range(4)] == [True, True, True, False]
    assert rate.take("b"), "each caller has its own"
    now[0] = 0.1
    assert [rate.take("a"), rate.take("a")] == [True, False]
