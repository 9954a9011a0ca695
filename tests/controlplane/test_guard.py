"""What is held back because it takes too much away at once."""

from __future__ import annotations

import gc

from envoy.config.endpoint.v3.endpoint_components_pb2 import LbEndpoint, LocalityLbEndpoints
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment

from fairlead.controlplane.guard import Limits, objection
from fairlead.envoy.resource import ENDPOINT, Resource


def endpoints(name: str, count: int) -> Resource:
    group = LocalityLbEndpoints(lb_endpoints=[LbEndpoint() for _ in range(count)])
    return Resource.of(ENDPOINT, name, ClusterLoadAssignment(cluster_name=name, endpoints=[group]).SerializeToString())


def test_what_takes_more_than_the_share_of_all_endpoints_is_held() -> None:
    now = {ENDPOINT: {"a": endpoints("a", 0), "b": endpoints("b", 13)}}
    assert objection(Limits(), now, {ENDPOINT: {"a": endpoints("a", 14)}}) == "14 of 27 endpoints would go at once"
    assert not objection(Limits(), now, {ENDPOINT: {"a": endpoints("a", 12)}})
    assert not objection(Limits(), now, {ENDPOINT: {"a": None}})


def test_what_was_once_sent_is_not_kept_for_its_count() -> None:
    """A mesh has as many versions of endpoint sets in a day as it has changes, and some of them are large."""

    def kept() -> int:
        gc.collect()
        return sum(type(one) is Resource for one in gc.get_objects())

    now = endpoints("a", 5)
    before = kept()
    for count in range(6, 60):
        was, now = now, endpoints("a", count)
        assert not objection(Limits(), {ENDPOINT: {"a": now}}, {ENDPOINT: {"a": was}})
    del was
    assert kept() == before
