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
from fairlead.agent.sds import SERVICE, SecretServer
from fairlead.envoy.names import file_certificate
from tests.agent.world import Authority, until

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


def test_files_are_sent_as_they_are_and_anew_when_they_are_replaced(tmp_path: Path) -> None:
    held = issue(Authority())
    files = [tmp_path / "c.pem", tmp_path / "k.pem"]

    def put(chain: bytes, key: bytes) -> None:
        files[0].write_bytes(chain)
        files[1].write_bytes(key)

    async def work(secrets: SecretServer, stream: Any) -> None:
        put(held.chain, held.key)
        name = file_certificate(str(files[0]), str(files[1]))
        await stream.write(discovery.DiscoveryRequest(resource_names=[name]).SerializeToString())
        first = discovery.DiscoveryResponse.FromString(await stream.read())
        made = secret_pb2.Secret.FromString(first.resources[0].value)
        assert (made.name, made.tls_certificate.private_key.inline_bytes) == (name, held.key)
        assert secrets.settled, "only the identity counts"
        # What does not fit together stays with the agent.
        other = issue(Authority())
        put(other.chain, held.key)
        secrets.changed()
        put(other.chain, other.key)
        secrets.changed()
        second = discovery.DiscoveryResponse.FromString(await stream.read())
        made = secret_pb2.Secret.FromString(second.resources[0].value)
        assert made.tls_certificate.certificate_chain.inline_bytes == other.chain
        answer = discovery.DiscoveryRequest(resource_names=[name], response_nonce=second.nonce)
        answer.error_detail.message = "too odd"
        await stream.write(answer.SerializeToString())
        await until(lambda: secrets.refused_files == ["too odd"], "the refusal")
        assert secrets.settled

    asyncio.run(with_stream(tmp_path, "StreamSecrets", work))
