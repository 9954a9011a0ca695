"""The secret service over a real Unix socket, in both protocols."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2
from envoy.service.discovery.v3 import discovery_pb2 as discovery

from fairlead.agent import identity
from fairlead.agent.identity import Identity, IdentityError
from fairlead.agent.sds import SERVICE, SecretServer, file_secret
from fairlead.envoy.names import SYSTEM_ROOT
from tests.agent.world import Authority

NAME = "spiffe://cluster.local/ns/shop/sa/web"


def issue(authority: Authority) -> Identity:
    key = identity.new_key()
    chain = authority.request(identity.signing_request(key, NAME), 3600)
    return identity.accept(key, NAME, chain, b"")


async def with_stream(path: Path, method: str, work: Callable[[SecretServer, Any], Any]) -> None:
    secrets = SecretServer()
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((secrets.handler(),))
    server.add_insecure_port(f"unix:{path}/sds.sock")
    await server.start()
    async with grpc.aio.insecure_channel(f"unix:{path}/sds.sock") as channel, asyncio.timeout(10):
        call: Any = channel.stream_stream(f"/{SERVICE}/{method}")
        await work(secrets, call())
    await server.stop(0)


def test_state_of_the_world_pushes_rotations(tmp_path: Path) -> None:
    async def work(secrets: SecretServer, stream: Any) -> None:
        authority = Authority()
        await stream.write(discovery.DiscoveryRequest(resource_names=["default"]).SerializeToString())
        for _ in range(2):
            held = issue(authority)
            secrets.update(held)
            response = discovery.DiscoveryResponse.FromString(await stream.read())
            secret = secret_pb2.Secret.FromString(response.resources[0].value)
            assert secret.tls_certificate.private_key.inline_bytes == held.key
            answer = discovery.DiscoveryRequest(
                resource_names=["default"], version_info=response.version_info, response_nonce=response.nonce
            )
            await stream.write(answer.SerializeToString())

    asyncio.run(with_stream(tmp_path, "StreamSecrets", work))


def test_delta_sends_what_changed(tmp_path: Path) -> None:
    async def work(secrets: SecretServer, stream: Any) -> None:
        authority = Authority()
        secrets.update(issue(authority))
        request = discovery.DeltaDiscoveryRequest(resource_names_subscribe=["default", "ROOTCA", "unknown"])
        await stream.write(request.SerializeToString())
        first = discovery.DeltaDiscoveryResponse.FromString(await stream.read())
        assert [one.name for one in first.resources] == ["ROOTCA", "default"]
        await stream.write(discovery.DeltaDiscoveryRequest(response_nonce=first.nonce).SerializeToString())
        secrets.update(issue(authority))
        second = discovery.DeltaDiscoveryResponse.FromString(await stream.read())
        assert [one.name for one in second.resources] == ["default"], "the roots are the same"

    asyncio.run(with_stream(tmp_path, "DeltaSecrets", work))


def test_identity_is_kept_and_checked(tmp_path: Path) -> None:
    authority = Authority()
    held = issue(authority)
    identity.save(tmp_path, held)
    assert (tmp_path / identity.IDENTITY_FILE).stat().st_mode & 0o777 == 0o600
    assert identity.load(tmp_path, NAME) == held
    assert identity.load(tmp_path, NAME + "x") is None, "another identity's certificate is not used"
    assert held.chain.count(b"BEGIN CERT") == 1, "the root is trusted, not shown"
    (tmp_path / identity.IDENTITY_FILE).write_bytes(b"damaged")
    assert identity.load(tmp_path, NAME) is None

    key = identity.new_key()
    for wanted, chain, why in (
        (NAME + "x", authority.request(identity.signing_request(key, NAME), 60), "not for"),
        (NAME, authority.request(identity.signing_request(identity.new_key(), NAME), 60), "another key"),
        (NAME, ["nonsense"], "not a PEM"),
        (NAME, [], "no certificate"),
    ):
        with pytest.raises(IdentityError, match=why):
            identity.accept(key, wanted, chain, b"")


def test_the_authorities_of_the_host_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    roots = tmp_path / "roots.pem"
    roots.write_text("x")
    monkeypatch.setenv("SSL_CERT_FILE", str(roots))
    found = file_secret(SYSTEM_ROOT)
    assert found is not None
    secret = secret_pb2.Secret.FromString(found.resource.value)
    assert (secret.name, secret.validation_context.trusted_ca.filename) == ("file-root:system", str(roots))
