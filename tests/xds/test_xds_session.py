"""The session machine, rule by rule."""

from __future__ import annotations

import pytest
from xds_proxy_model import make

from fairlead.envoy.resource import CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET, Resource
from fairlead.xds.flight import named_in, set_version
from fairlead.xds.ledger import Entry, Nack, SyncState
from fairlead.xds.messages import (
    HEALTH,
    Acked,
    DeltaRequest,
    Health,
    Lacking,
    Nacked,
    ProtocolError,
    Response,
    SotwRequest,
)
from fairlead.xds.session import MAX_TYPES, Session


def catalog(*resources: Resource) -> dict[str, dict[str, Resource]]:
    found: dict[str, dict[str, Resource]] = {}
    for resource in resources:
        found.setdefault(resource.type_url, {})[resource.name] = resource
    return found


def names(response: Response | None) -> list[str]:
    assert response is not None
    return [resource.name for resource in response.resources]


def ask(session: Session, type_url: str, *subscribe: str, **fields: object) -> list[object]:
    if session.delta:
        return list(session.receive(DeltaRequest(type_url, subscribe=subscribe, **fields)))
    return list(session.receive(SotwRequest(type_url, names=subscribe, **fields)))


def ack(session: Session, response: Response | None, *subscribed: str, error: str | None = None) -> list[object]:
    assert response is not None
    if session.delta:
        return list(session.receive(DeltaRequest(response.type_url, nonce=response.nonce, error=error)))
    return list(
        session.receive(SotwRequest(response.type_url, subscribed, response.version, nonce=response.nonce, error=error))
    )


def settled(session: Session) -> list[list[str]]:
    """Acknowledge everything that comes; the names in each response."""
    found: list[list[str]] = []
    while (response := session.next()) is not None:
        found.append(names(response))
        ack(session, response)
    return found


C1, C2, C3 = (make(CLUSTER, f"c{number}", "v1") for number in (1, 2, 3))
E1, E2 = (make(ENDPOINT, f"c{number}", "v1") for number in (1, 2))
L1, R1, S1 = make(LISTENER, "l1", "v1"), make(ROUTE, "r1", "v1"), make(SECRET, "s1", "v1")
both = pytest.mark.parametrize("delta", [True, False], ids=["delta", "sotw"])


@both
def test_a_listener_that_was_refused_is_sent_again_with_another_version_of_a_secret(delta: bool) -> None:
    session = Session(catalog(L1), delta=delta)

    def tried() -> int:
        """How often the listener comes, and is refused, until there is nothing to send."""
        found = 0
        while (response := session.next()) is not None:
            bad = response.type_url == LISTENER and bool(response.resources)
            found += bad
            ack(session, response, "s1" if response.type_url == SECRET else "*", error="l1: no" if bad else None)
        return found

    ask(session, LISTENER, "*")
    assert tried() == 1
    ask(session, SECRET, "s1")
    assert tried() == 0
    for version, times in (("v1", 1), ("v2", 1), ("v2", 0)):
        # A version counts once, or what is refused for another reason would be sent for ever.
        session.update(catalog(L1), {SECRET: ["s1"]})
        session.update(catalog(L1, make(SECRET, "s1", version)), {SECRET: ["s1"]})
        assert tried() == times
    ledger = session.ledger(LISTENER)
    assert ledger is not None and ledger.nacked


@both
def test_the_last_good_secret_is_sent_again_in_place_of_one_that_was_refused(delta: bool) -> None:
    session = Session(catalog(S1), delta=delta)
    ask(session, SECRET, "s1")
    ack(session, session.next(), "s1")
    bad = make(SECRET, "s1", "v2")
    session.update(catalog(bad), {SECRET: ["s1"]})
    response = session.next()
    assert response is not None and response.resources == (bad,)
    ack(session, response, "s1", error="no certificate")
    response = session.next()
    assert response is not None and response.resources == (S1,)
    ack(session, response, "s1")
    assert session.next() is None
    assert session.entry(SECRET, "s1") == Entry("s1", bad.version, S1.version, Nack(bad.version, "no certificate"))


@both
def test_a_secret_that_was_never_good_is_not_sent_again(delta: bool) -> None:
    session = Session(catalog(S1), delta=delta)
    ask(session, SECRET, "s1")
    ack(session, session.next(), "s1", error="no certificate")
    assert session.next() is None


@both
@pytest.mark.parametrize("subscribe", [(), ("*",)])
def test_wildcard_old_and_new(delta: bool, subscribe: tuple[str, ...]) -> None:
    session = Session(catalog(C1, C2), delta=delta)
    ask(session, CLUSTER, *subscribe)
    response = session.next()
    assert names(response) == ["c1", "c2"]
    assert session.next() is None, "one response in flight"
    ack(session, response, *subscribe)
    assert session.next() is None


@both
def test_named_types_without_names_ask_for_nothing(delta: bool) -> None:
    session = Session(catalog(E1), delta=delta)
    ask(session, ENDPOINT)
    assert session.next() is None


@both
def test_an_empty_world_is_answered(delta: bool) -> None:
    session = Session({}, delta=delta)
    ask(session, LISTENER)
    assert names(session.next()) == []


def test_named_wildcard_and_unsubscribing_from_both() -> None:
    session = Session(catalog(C1, C2), delta=True)
    ask(session, CLUSTER)
    ack(session, session.next())
    ask(session, CLUSTER, "c1")
    ack(session, session.next())
    ask(session, CLUSTER, unsubscribe=("*",))
    changed = [make(CLUSTER, name, "v2") for name in ("c1", "c2")]
    session.update(catalog(*changed), {CLUSTER: ["c1", "c2"]})
    response = session.next()
    assert names(response) == ["c1"]
    ack(session, response)
    ask(session, CLUSTER, unsubscribe=("c1",))
    session.update(catalog(C1, C2), {CLUSTER: ["c1", "c2"]})
    assert session.next() is None, "not the old wildcard again"


def test_what_is_asked_for_beside_the_wildcard_may_come_to_be_before_the_answer() -> None:
    rows = {CLUSTER: {"c1": C1}, ENDPOINT: {}}
    session = Session(rows, delta=True)
    assert ask(session, CLUSTER) == []
    ack(session, session.next())
    assert ask(session, CLUSTER, "c1") == [], "it is there"
    ack(session, session.next())
    assert ask(session, CLUSTER, "c2", "c3") == [Lacking(CLUSTER, ("c2", "c3"))]
    rows[CLUSTER]["c2"] = C2
    session.update(rows, {CLUSTER: {"c2": None}})
    response = session.next()
    assert names(response) == ["c2"] and response is not None and response.removed == ("c3",)
    # Who names all that it wants asks for nothing that it could be given otherwise.
    assert ask(Session(rows, delta=True), CLUSTER, "c9") == []


def test_unsubscribed_but_still_in_the_wildcard_is_told() -> None:
    session = Session(catalog(C1), delta=True)
    ask(session, CLUSTER, "*", "c1", "c9")
    first = session.next()
    assert first is not None
    assert (names(first), first.removed) == (["c1"], ("c9",))
    ack(session, first)
    ask(session, CLUSTER, unsubscribe=("c1", "c9"))
    second = session.next()
    assert second is not None
    assert (names(second), second.removed) == (["c1"], ("c9",))


def test_sotw_names_replace_and_the_empty_list_ends_a_named_subscription() -> None:
    session = Session(catalog(C1, C2), delta=False)
    ask(session, CLUSTER, "c1")
    first = session.next()
    assert names(first) == ["c1"]
    ack(session, first, "c1", "c2")
    second = session.next()
    assert names(second) == ["c1", "c2"]
    ack(session, second)
    session.update(catalog(C3), {CLUSTER: ["c1", "c2", "c3"]})
    assert session.next() is None


def test_unknown_names_are_answered_and_remembered() -> None:
    session = Session({}, delta=True)
    ask(session, ENDPOINT, "c1")
    response = session.next()
    assert response is not None
    assert (response.resources, response.removed) == ((), ("c1",))
    ack(session, response)
    session.update(catalog(E1), {ENDPOINT: ["c1"]})
    assert names(session.next()) == ["c1"]


@both
def test_asking_again_is_answered_again(delta: bool) -> None:
    session = Session(catalog(E1, E2), delta=delta)
    ask(session, ENDPOINT, "c1")
    ack(session, session.next(), "c1")
    if delta:
        ask(session, ENDPOINT, unsubscribe=("c1",))
    else:
        ask(session, ENDPOINT, nonce="1")
    assert session.next() is None
    ask(session, ENDPOINT, "c1", **({} if delta else {"nonce": "1"}))
    assert names(session.next()) == ["c1"]


def test_reconnect_sends_differences_and_names_what_is_gone() -> None:
    session = Session(catalog(C1, C2), delta=True)
    ask(session, CLUSTER, initial_versions={"c1": C1.version, "c2": "old", "c9": "x"})
    ask(session, LISTENER, initial_versions={"l1": "x"})
    first = session.next()
    assert first is not None
    assert (names(first), first.removed) == (["c2"], ()), "removals wait for listeners"
    listeners = session.next()
    assert listeners is not None
    assert (names(listeners), listeners.removed) == ([], ("l1",))
    ack(session, first)
    assert session.next() is None
    ack(session, listeners)
    last = session.next()
    assert last is not None
    assert (names(last), last.removed) == ([], ("c9",))


def test_reconnect_with_removals_only_waits_for_a_sign_that_all_was_asked() -> None:
    session = Session({}, delta=True)
    ask(session, CLUSTER, initial_versions={"c1": "x"})
    probe = session.next()
    assert probe is not None
    assert (probe.resources, probe.removed) == ((), ())
    ask(session, LISTENER, initial_versions={"l1": "x"})
    ack(session, probe)
    listeners = session.next()
    assert listeners is not None
    assert listeners.removed == ("l1",)
    assert session.next() is None
    ack(session, listeners)
    removal = session.next()
    assert removal is not None
    assert removal.removed == ("c1",)


def test_sotw_reconnect_with_the_same_world_is_sent_nothing() -> None:
    session = Session(catalog(C1, C2), delta=False)
    ask(session, CLUSTER, version=set_version([C2, C1]))
    assert session.next() is None
    assert session.status()[0].state is SyncState.SYNCED
    session.update(catalog(C1), {CLUSTER: ["c2"]})
    probe = session.next()
    assert names(probe) == ["c1", "c2"]
    ack(session, probe)
    assert names(session.next()) == ["c1"]


@both
def test_changes_merge_while_a_response_is_in_flight(delta: bool) -> None:
    session = Session(catalog(C1), delta=delta)
    ask(session, CLUSTER)
    first = session.next()
    for version in ("v2", "v3"):
        session.update(catalog(make(CLUSTER, "c1", version), C2), {CLUSTER: ["c1", "c2"]})
        assert session.next() is None
    ack(session, first)
    second = session.next()
    assert second is not None
    assert [resource.body for resource in second.resources] == [b"v3", b"v1"]


@both
def test_a_change_that_was_taken_back_in_flight_is_sent_back(delta: bool) -> None:
    session = Session(catalog(C1), delta=delta)
    ask(session, CLUSTER)
    ack(session, session.next())
    session.update(catalog(make(CLUSTER, "c1", "v2")), {CLUSTER: ["c1"]})
    second = session.next()
    session.update(catalog(C1), {CLUSTER: ["c1"]})
    ack(session, second)
    third = session.next()
    assert third is not None
    assert third.resources == (C1,)


@both
def test_stale_nonces_are_no_answers(delta: bool) -> None:
    session = Session(catalog(C1), delta=delta)
    ask(session, CLUSTER)
    first = session.next()
    ack(session, first)
    session.update(catalog(C1, C2), {CLUSTER: ["c2"]})
    second = session.next()
    assert ack(session, first) == []
    assert session.status()[0].state is SyncState.STALE
    assert ack(session, second) != []
    assert session.status()[0].state is SyncState.SYNCED


@both
def test_make_before_break(delta: bool) -> None:
    old = [make(LISTENER, "l1", "v1", "c:c1"), C1, E1]
    session = Session(catalog(*old), delta=delta)
    ask(session, CLUSTER)
    clusters = session.next()
    ask(session, ENDPOINT, "c1")
    endpoints = session.next()
    assert names(endpoints) == ["c1"], "endpoints do not wait for the clusters' acknowledgement"
    ask(session, LISTENER)
    assert session.next() is None
    ack(session, endpoints, "c1")
    assert session.next() is None
    ack(session, clusters)
    listeners = session.next()
    assert names(listeners) == ["l1"]
    ack(session, listeners)

    new = [make(LISTENER, "l1", "v2", "c:c2"), C2, E2]
    session.update(catalog(*new), {CLUSTER: ["c1", "c2"], ENDPOINT: ["c1", "c2"], LISTENER: ["l1"]})
    clusters = session.next()
    assert clusters is not None
    assert (names(clusters), clusters.removed) == (["c2"] if delta else ["c1", "c2"], ())
    ask(session, ENDPOINT, *(("c2",) if delta else ("c1", "c2")), **({} if delta else {"nonce": "2"}))
    endpoints = session.next()
    assert names(endpoints) == ["c2"]
    ack(session, clusters)
    assert session.next() is None, "the listener waits for the endpoints"
    ack(session, endpoints, "c1", "c2")
    listeners = session.next()
    assert listeners is not None
    assert listeners.type_url == LISTENER
    assert session.next() is None, "the old cluster waits for the listener"
    ack(session, listeners)
    last = session.next()
    assert last is not None
    assert last.type_url == CLUSTER
    assert last.removed == (("c1",) if delta else ())
    assert names(last) == ([] if delta else ["c2"])


@both
def test_endpoints_are_sent_again_behind_an_updated_cluster(delta: bool) -> None:
    session = Session(catalog(C1, E1), delta=delta)
    ask(session, CLUSTER)
    clusters = session.next()
    ask(session, ENDPOINT, "c1")
    ack(session, session.next(), "c1")
    ack(session, clusters)
    assert session.next() is None
    session.update(catalog(make(CLUSTER, "c1", "v2"), E1), {CLUSTER: ["c1"]})
    assert names(session.next()) == ["c1"]
    again = session.next()
    assert again is not None
    assert again.resources == (E1,), "the same version, before the cluster is acknowledged"


def test_secrets_never_wait() -> None:
    session = Session(catalog(C1, S1), delta=True)
    ask(session, CLUSTER)
    session.next()
    ask(session, SECRET, "s1")
    assert names(session.next()) == ["s1"]


@both
def test_one_bad_resource_alone(delta: bool) -> None:
    session = Session(catalog(C1), delta=delta)
    ask(session, CLUSTER)
    ack(session, session.next())
    worse = make(CLUSTER, "c1", "v2")
    session.update(catalog(worse), {CLUSTER: ["c1"]})
    events = ack(session, session.next(), error="no such thing")
    assert events == [Nacked(CLUSTER, "c1", worse.version, "no such thing", C1.version)]
    if not delta:
        repaired = session.next()
        assert repaired is not None
        assert repaired.resources == (C1,), "the world again, with the last good version"
        ack(session, repaired)
    assert session.next() is None, "not sent again"
    assert session.status()[0].state is SyncState.NACKED
    assert session.entry(CLUSTER, "c1") == Entry("c1", worse.version, C1.version, Nack(worse.version, "no such thing"))
    session.update(catalog(worse, C2), {CLUSTER: ["c2"]})
    response = session.next()
    assert response is not None
    assert response.resources == ((C2,) if delta else (C1, C2)), "the last good version stays"
    ack(session, response)
    mended = make(CLUSTER, "c1", "v3")
    session.update(catalog(mended, C2), {CLUSTER: ["c1"]})
    assert mended in (session.next() or pytest.fail("nothing sent")).resources


@both
def test_the_named_one_is_convicted_when_the_others_pass(delta: bool) -> None:
    session = Session(catalog(C1, C2, C3), delta=delta)
    ask(session, CLUSTER)
    assert ack(session, session.next(), error="Error adding/updating cluster(s) c2: it is bad") == []
    others = session.next()
    assert names(others) == ["c1", "c3"]
    events = ack(session, others)
    assert isinstance(events[0], Acked)
    assert events[1:] == [Nacked(CLUSTER, "c2", C2.version, "Error adding/updating cluster(s) c2: it is bad")]
    assert session.next() is None


@both
def test_without_a_name_the_bad_one_is_found_by_halving(delta: bool) -> None:
    resources = [make(CLUSTER, f"c{number:02}", "v1") for number in range(16)]
    session = Session(catalog(*resources), delta=delta)
    ask(session, CLUSTER)
    refused = 0
    events: list[object] = []
    while (response := session.next()) is not None:
        bad = "c11" in names(response)
        refused += bad
        events += ack(session, response, error="Proto constraint validation failed" if bad else None)
    assert [item.name for item in events if isinstance(item, Nacked)] == ["c11"]
    assert len(session.ledgers()[CLUSTER].acked) == 15
    assert refused == 5, "log2(16) + 1"


def test_a_name_in_the_message_that_is_innocent_is_not_convicted() -> None:
    session = Session(catalog(C1, C2), delta=True)
    ask(session, CLUSTER)
    events: list[object] = []
    while (response := session.next()) is not None:
        bad = "c2" in names(response)
        events += ack(session, response, error="c1: was mentioned, c2 is bad" if bad else None)
    assert [item.name for item in events if isinstance(item, Nacked)] == ["c2"]


def test_health_goes_up_and_gets_no_response() -> None:
    session = Session({}, delta=True)
    assert ask(session, HEALTH) == [Health(True, "")]
    assert ask(session, HEALTH, error="probe failed") == [Health(False, "probe failed")]
    assert session.next() is None
    assert session.status() == ()


def test_status_before_and_after() -> None:
    session = Session(catalog(R1, L1), delta=True)
    ask(session, LISTENER)
    assert session.status()[0].state is SyncState.NOT_SENT
    response = session.next()
    assert session.status()[0].state is SyncState.STALE
    ack(session, response)
    status = session.status()[0]
    assert (status.state, status.sent, status.acked, status.acked_resources) == (SyncState.SYNCED, 1, 1, 1)


def test_a_stream_is_bounded() -> None:
    session = Session({}, delta=True)
    for number in range(MAX_TYPES):
        ask(session, f"type/{number}")
    with pytest.raises(ProtocolError):
        ask(session, "type/more")


def test_big_worlds_go_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fairlead.xds.channel.RESPONSE_BYTES", 5)
    session = Session(catalog(C1, C2, C3), delta=True)
    ask(session, CLUSTER)
    ask(session, LISTENER)
    first = session.next()
    assert names(first) == ["c1", "c2"]
    ack(session, first)
    assert names(session.next()) == ["c3"]


def test_named_in() -> None:
    known = ["outbound|80||a.b.svc", "a", "aa", "0.0.0.0_80", "b c"]
    message = "Error adding/updating cluster(s) outbound|80||a.b.svc: bad, aa: worse\n0.0.0.0_80: x; b c: y"
    assert named_in(message, known) == {"outbound|80||a.b.svc", "aa", "0.0.0.0_80", "b c"}


@both
def test_what_a_refused_response_took_away_is_sent_when_it_comes_back_as_it_was(delta: bool) -> None:
    """Envoy removes listeners first, and refuses the response because of another one then."""
    before = catalog(L1)
    session = Session(before, delta=delta)
    ask(session, LISTENER)
    assert settled(session) == [["l1"]]
    bad = catalog(make(LISTENER, "l2", "bad"))
    session.update(bad)
    ack(session, session.next(), error="Error adding/updating listener(s) l2: it is bad")
    session.update(before)
    assert settled(session) == [["l1"]]
    assert session.settled
