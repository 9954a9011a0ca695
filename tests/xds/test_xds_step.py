"""Sessions in step: what is found out for one of them serves all, and only those that have the same."""

from __future__ import annotations

import gc
import tracemalloc

import pytest
from xds_proxy_model import make

from fairlead.envoy.resource import CLUSTER, ENDPOINT, Resource
from fairlead.xds.messages import Acked, DeltaRequest, Response
from fairlead.xds.session import Session
from fairlead.xds.step import Step, Together

Rows = dict[str, dict[str, Resource]]
FEW, MANY = 3, 40
"""Below 17 names a session remembers each."""


def rows(count: int) -> Rows:
    return {item: {f"c{number:02}": make(item, f"c{number:02}", "v1") for number in range(count)} for item in TYPES}


TYPES = (CLUSTER, ENDPOINT)


def answered(session: Session) -> list[Response]:
    """All that is sent, each acknowledged at once."""
    found: list[Response] = []
    while (response := session.next()) is not None:
        found.append(response)
        session.receive(DeltaRequest(response.type_url, nonce=response.nonce))
    return found


def sessions(*catalogs: Rows) -> list[Session]:
    """One for each catalog, all in sync."""
    together, made = Together(), list[Session]()
    for catalog in catalogs:
        session = Session(catalog, delta=True, version="1", together=together)
        session.receive(DeltaRequest(CLUSTER))
        session.receive(DeltaRequest(ENDPOINT, subscribe=tuple(catalog[ENDPOINT])))
        answered(session)
        made.append(session)
    return made


def change(
    found: list[Session], catalogs: list[Rows], item: str, *words: str, names: tuple[str, ...] = ("c01",)
) -> None:
    new = {name: make(item, name, *words) for name in names}
    before = {name: catalogs[0][item].get(name) for name in names}
    for catalog in {id(one): one for one in catalogs}.values():
        catalog[item].update(new)
    for session, catalog in zip(found, catalogs, strict=True):
        session.update(catalog, {item: before}, "2")


@pytest.mark.parametrize("count", [FEW, MANY])
@pytest.mark.parametrize("item", TYPES)
def test_one_response_serves_all_also_where_mappings_differ(item: str, count: int) -> None:
    first = rows(count)
    other = {key: dict(found) for key, found in first.items()}
    catalogs = [first, first, other]
    found = sessions(*catalogs)
    for word in ("v2", "v3"):
        change(found, catalogs, item, word)
        sent = [answered(session) for session in found]
        assert [one.type_url for one in sent[0]] == ([CLUSTER, ENDPOINT] if item == CLUSTER else [ENDPOINT])
        assert all(one is shared for each in sent[1:] for one, shared in zip(each, sent[0], strict=True))
        assert all(session.settled for session in found)


def test_what_has_come_is_asked_for_and_sent_in_step() -> None:
    catalog = rows(MANY)
    catalogs = [catalog] * 3
    found = sessions(*catalogs)
    for name in ("c90", "c91"):
        for item in TYPES:
            change(found, catalogs, item, "v1", names=(name,))
        clusters = [session.next() for session in found]
        assert clusters[0] is not None and all(one is clusters[0] for one in clusters)
        assert all(session.next() is None for session in found), "nobody has asked for its endpoints"
        request = DeltaRequest(ENDPOINT, subscribe=(name,))
        for session in found:
            session.receive(request)
        sent = [session.next() for session in found]
        assert sent[0] is not None and [one.name for one in sent[0].resources] == [name]
        assert all(one is sent[0] for one in sent)
        for session in found:
            for one in (sent[0], clusters[0]):
                session.receive(DeltaRequest(one.type_url, nonce=one.nonce))
            assert session.settled and session.next() is None
            ledger = session.ledger(ENDPOINT)
            assert ledger is not None and dict(ledger.acked.items()) == catalog[ENDPOINT]
    # And who does not ask is told nothing of it.
    for item in TYPES:
        change(found, catalogs, item, "v1", names=("c92",))
    change(found, catalogs, ENDPOINT, "v2", names=("c92", "c01"))
    sent = [[one.name for each in answered(session) for one in each.resources] for session in found]
    assert sent == [["c92", "c01"]] * 3, "the cluster, and the endpoints that were asked for"


def test_who_has_something_else_under_a_name_gets_that() -> None:
    first = rows(MANY)
    other = {key: dict(found) for key, found in first.items()}
    found = sessions(first, other)
    before: dict[str, Resource | None] = {"c01": first[ENDPOINT]["c01"]}
    first[ENDPOINT]["c01"], other[ENDPOINT]["c01"] = make(ENDPOINT, "c01", "mine"), make(ENDPOINT, "c01", "theirs")
    for session, catalog in zip(found, (first, other), strict=True):
        session.update(catalog, {ENDPOINT: before}, "2")
    bodies = [[one.resources[0].body for one in answered(session)] for session in found]
    assert bodies == [[b"mine"], [b"theirs"]]


def test_who_refuses_goes_alone_and_comes_back() -> None:
    catalog = rows(MANY)
    catalogs = [catalog] * 3
    found = sessions(*catalogs)
    change(found, catalogs, ENDPOINT, "bad")
    refusing, *others = found
    response = refusing.next()
    assert response is not None
    refusing.receive(DeltaRequest(ENDPOINT, nonce=response.nonce, error="c01: will not have it"))
    assert [one for session in others for one in answered(session)] == [response, response]
    assert refusing.refused and not any(session.refused for session in others)
    for word in ("good", "better"):
        change(found, catalogs, ENDPOINT, word)
        sent = [answered(session) for session in found]
        assert [[resource.body for one in each for resource in one.resources] for each in sent] == [[word.encode()]] * 3
    assert sent[0][0] is sent[1][0], "in step again"
    assert not refusing.refused


def test_who_is_slow_is_told_what_is_new_and_the_others_wait_for_nothing() -> None:
    catalog = rows(MANY)
    catalogs = [catalog] * 2
    quick, slow = found = sessions(*catalogs)
    change(found, catalogs, ENDPOINT, "v2", names=("c01", "c02"))
    late = slow.next()
    assert late is not None and answered(quick) == [late]
    change(found, catalogs, ENDPOINT, "v3", names=("c02", "c03"))
    assert [sorted(one.name for one in each.resources) for each in answered(quick)] == [["c02", "c03"]]
    assert slow.next() is None
    events = slow.receive(DeltaRequest(ENDPOINT, nonce=late.nonce))
    assert [type(one) for one in events] == [Acked]
    assert [[one.body for one in each.resources] for each in answered(slow)] == [[b"v3", b"v3"]]
    ledger = slow.ledger(ENDPOINT)
    assert ledger is not None and dict(ledger.acked.items()) == catalog[ENDPOINT]


def test_steps_that_nobody_stands_on_are_forgotten() -> None:
    catalog = rows(MANY)
    catalogs = [catalog] * 2
    found = sessions(*catalogs)
    for number in range(300):
        change(found, catalogs, TYPES[number % 2], f"v{number}")
        for session in found:
            answered(session)
    gc.collect()
    assert sum(isinstance(one, Step) for one in gc.get_objects()) < 100


def test_a_session_in_sync_is_small() -> None:
    """Bytes that one more session in step keeps, whatever it follows."""
    catalog = rows(MANY)
    together = Together()

    def synced() -> Session:
        session = Session(catalog, delta=True, version="1", together=together)
        session.receive(DeltaRequest(CLUSTER))
        session.receive(DeltaRequest(ENDPOINT, subscribe=tuple(catalog[ENDPOINT])))
        answered(session)
        return session

    synced()
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        kept = [synced() for _ in range(100)]
        each = (tracemalloc.get_traced_memory()[0] - before) / len(kept)
    finally:
        tracemalloc.stop()
    assert each < 1_700, each
