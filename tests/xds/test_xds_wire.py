"""The wire format, against the protobuf library."""

from __future__ import annotations

import gc
import time

import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.service.discovery.v3 import discovery_pb2

from fairlead.envoy.resource import CLUSTER, Resource
from fairlead.xds import wire
from fairlead.xds.messages import DeltaRequest, ProtocolError, Response, SotwRequest

BODIES = [cluster_pb2.Cluster(name="x" * size).SerializeToString() for size in (1, 130, 20_000)]
RESPONSE = Response(
    CLUSTER, "7", "42", tuple(Resource.of(CLUSTER, f"c{i}", body) for i, body in enumerate(BODIES)), ("gone", "né")
)


def test_delta_response() -> None:
    message = discovery_pb2.DeltaDiscoveryResponse.FromString(b"".join(wire.Encoder().delta(RESPONSE)))
    assert (message.system_version_info, message.type_url, message.nonce) == ("42", CLUSTER, "7")
    assert list(message.removed_resources) == ["gone", "né"]
    assert [item.resource.value for item in message.resources] == BODIES
    assert [(item.name, item.version) for item in message.resources] == [
        (item.name, item.version) for item in RESPONSE.resources
    ]
    inner = cluster_pb2.Cluster()
    assert message.resources[2].resource.Unpack(inner)
    assert len(inner.name) == 20_000


def test_sotw_response() -> None:
    message = discovery_pb2.DiscoveryResponse.FromString(b"".join(wire.Encoder().sotw(RESPONSE)))
    assert (message.version_info, message.type_url, message.nonce) == ("42", CLUSTER, "7")
    assert [(item.type_url, item.value) for item in message.resources] == [(CLUSTER, body) for body in BODIES]


def test_requests() -> None:
    delta = discovery_pb2.DeltaDiscoveryRequest(
        type_url=CLUSTER,
        resource_names_subscribe=["a"],
        resource_names_unsubscribe=["b"],
        initial_resource_versions={"a": "1"},
        response_nonce="3",
    )
    assert wire.decode_delta(delta.SerializeToString()) == (
        DeltaRequest(CLUSTER, ("a",), ("b",), {"a": "1"}, "3", None),
        None,
    )
    sotw = discovery_pb2.DiscoveryRequest(type_url=CLUSTER, resource_names=["a"], version_info="v", response_nonce="3")
    sotw.error_detail.message = "no"
    sotw.node.id = "me"
    sotw.node.metadata.update({"LABELS": {"app": "x"}})
    request, node = wire.decode_sotw(sotw.SerializeToString())
    assert request == SotwRequest(CLUSTER, ("a",), "v", "3", "no")
    assert node is not None
    assert (node.id, node.metadata) == ("me", {"LABELS": {"app": "x"}})


def test_garbage_and_giants_are_refused() -> None:
    with pytest.raises(ProtocolError):
        wire.decode_delta(b"\xff\xff")
    giant = discovery_pb2.DeltaDiscoveryRequest(type_url=CLUSTER)
    giant.node.id = "x" * (2 << 20)
    with pytest.raises(ProtocolError, match="node description"):
        wire.decode_delta(giant.SerializeToString())


def test_a_length_that_never_ends_costs_no_more_than_its_bytes() -> None:
    begun = time.process_time()
    with pytest.raises(ProtocolError):
        wire.decode_delta(b"\x0a" + b"\xff" * (1 << 20))
    assert time.process_time() - begun < 2, "tens of seconds, were it read as one number"


def test_what_is_sent_to_nobody_any_more_is_not_kept() -> None:
    """Each version of a large resource would stay with the differences from it and to it."""

    def version(number: int) -> Resource:
        return Resource.of(CLUSTER, "a", b"".join(bytes([number]) + b"x" * 500 for _ in range(8)))

    def sent(encoder: wire.Encoder, base: Resource, resource: Resource) -> None:
        encoder.delta(Response(CLUSTER, "1", "1", (resource,), (), {"a": base}))

    def kept() -> int:
        gc.collect()
        return sum(type(one) is Resource for one in gc.get_objects())

    encoder, before = wire.Encoder(), kept()
    old, new = version(0), version(1)
    for number in range(2, 50):
        sent(encoder, old, new)
        old, new = new, version(number)
    assert kept() > before + 40
    sent(encoder, old, new)
    encoder.forget()
    sent(encoder, old, new)
    encoder.forget()
    assert kept() == before + 2, "both versions of what was sent since"
    encoder.forget()
    del old, new
    assert kept() == before
