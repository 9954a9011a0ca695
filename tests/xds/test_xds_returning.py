"""Clients that return: what is found by comparing sets is what is found by looking name by name."""

from __future__ import annotations

import random

import pytest
from envoy.service.discovery.v3 import discovery_pb2

from fairlead.envoy.resource import CLUSTER, ENDPOINT, Resource, Rows
from fairlead.xds import wire
from fairlead.xds.messages import DeltaRequest, ProtocolError
from fairlead.xds.requests import Claims
from fairlead.xds.session import Session


def _rows(count: int) -> Rows:
    rows = Rows()
    for number in range(count):
        rows.put(Resource.of(ENDPOINT, f"n{number}", b"%d" % number))
    return rows


def _request(type_url: str, names: list[str], versions: dict[str, str]) -> DeltaRequest:
    made = discovery_pb2.DeltaDiscoveryRequest(
        type_url=type_url, resource_names_subscribe=names, initial_resource_versions=versions
    )
    return wire.decode_delta(made.SerializeToString())[0]


def _run(session: Session, request: DeltaRequest) -> list[object]:
    """What the client is sent, and what it holds and asks for then."""
    session.receive(request)
    said: list[object] = []
    while (response := session.next()) is not None:
        said.append((response.type_url, sorted(one.name for one in response.resources), sorted(response.removed)))
        session.receive(DeltaRequest(response.type_url, nonce=response.nonce))
    ledger = session.ledger(request.type_url)
    assert ledger is not None
    return [*said, sorted(dict(ledger.acked.items()).items()), session.settled]


@pytest.mark.parametrize("seed", range(60))
def test_a_client_that_returns_is_told_the_same_however_it_is_compared(seed: int) -> None:
    chance = random.Random(seed)
    rows = _rows(40)
    type_url = chance.choice((CLUSTER, ENDPOINT))
    versions = {name: one.version for name, one in rows.items()}
    asked = list(rows)
    for _ in range(chance.randrange(6)):
        name = chance.choice([*rows, "strange", "odd"])
        match chance.randrange(4):
            case 0:
                versions[name] = "other"
            case 1:
                versions.pop(name, None)
            case 2 if name in asked:
                asked.remove(name)
            case _ if name not in asked:
                asked.append(name)
            case _:
                pass
    chance.shuffle(asked)
    names = asked if type_url == ENDPOINT else []
    request = _request(type_url, names, versions)
    assert isinstance(request.initial_versions, Claims)
    plain = DeltaRequest(type_url, tuple(names), (), dict(versions))
    compared = Session({type_url: rows}, delta=True)
    looked = Session({type_url: dict(rows)}, delta=True)
    assert _run(compared, request) == _run(looked, plain)
    # And what the two take for different is told of the same changes.
    for number in (3, 5):
        before = rows.get(f"n{number}")
        rows.put(Resource.of(ENDPOINT, f"n{number}", b"changed"))
        changed = {type_url: {f"n{number}": before}}
        compared.update({type_url: rows}, changed)
        looked.update({type_url: dict(rows)}, {type_url: [f"n{number}"]})
        assert (compared.next() is None) == (looked.next() is None)


def test_claims_follow_what_changes() -> None:
    rows = _rows(30)
    first = rows.claims()[0]
    assert len(first) == 30
    rows.put(Resource.of(ENDPOINT, "n3", b"new"))
    rows.put(Resource.of(ENDPOINT, "more", b"new"))
    rows.drop("n4")
    assert set(rows.claims()[0]) == {one.claim for one in rows.values()}
    assert _request(ENDPOINT, [], {name: one.version for name, one in rows.items()}).initial_versions == {
        name: one.version for name, one in rows.items()
    }


@pytest.mark.parametrize("seed", range(20))
def test_requests_that_end_alike_are_read_as_if_each_stood_alone(seed: int) -> None:
    chance = random.Random(seed)
    wire.forget()
    rows = _rows(300)
    for client in range(12):
        versions = {name: one.version for name, one in rows.items()}
        for _ in range(chance.randrange(4)):
            # Some differ at the begin, as in what is theirs, and some anywhere.
            name = chance.choice(["a", "b", "n0", "n1", chance.choice(list(rows))])
            if chance.random() < 0.5:
                versions[name] = f"of {client}"
            else:
                versions.pop(name, None)
        made = discovery_pb2.DeltaDiscoveryRequest(type_url=CLUSTER, initial_resource_versions=versions)
        made.node.id = f"sidecar~10.0.0.{client}~a.b~b.svc.cluster.local"
        request, node = wire.decode_delta(made.SerializeToString(deterministic=True))
        assert node is not None
        assert node.id == made.node.id
        assert isinstance(request.initial_versions, Claims)
        assert request.initial_versions == versions
        assert len(request.initial_versions) == len(versions)
        plain = DeltaRequest(CLUSTER, (), (), dict(versions))
        assert _run(Session({CLUSTER: rows}, delta=True), request) == _run(
            Session({CLUSTER: dict(rows)}, delta=True), plain
        )
        if chance.random() < 0.4:
            rows.put(Resource.of(CLUSTER, f"n{chance.randrange(300)}", b"changed for %d" % client))


def test_a_request_that_ends_like_others_and_is_none_is_refused() -> None:
    versions = {name: one.version for name, one in _rows(300).items()}
    made = discovery_pb2.DeltaDiscoveryRequest(type_url=CLUSTER, initial_resource_versions=versions)
    made.node.id = "sidecar~10.0.0.1~a.b~b.svc.cluster.local"
    data = made.SerializeToString(deterministic=True)
    wire.decode_delta(data)
    with pytest.raises(ProtocolError):
        wire.decode_delta(data[:5] + data[6:])


def test_an_entry_that_is_none_is_refused() -> None:
    rows = _rows(30)
    entries = [one.claim for one in rows.values()]
    entries[7] = b"\xff\xff"
    session = Session({ENDPOINT: rows}, delta=True)
    with pytest.raises(ProtocolError):
        session.receive(DeltaRequest(ENDPOINT, tuple(rows), (), Claims(entries)))
