"""Property: whatever is published, lost, delayed or refused, a proxy ends with the catalog, in a safe order."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from xds_proxy_model import TYPES, Proxy, is_bad, make

from fairlead.envoy.resource import CLUSTER, ENDPOINT, LISTENER, ROUTE, Resource
from fairlead.xds.channel import Channel
from fairlead.xds.messages import Response
from fairlead.xds.session import Session
from fairlead.xds.step import Together

NAMES = range(4)
Changes = dict[str, dict[str, Resource | None]]


def changes(old: dict[str, dict[str, Resource]], new: dict[str, dict[str, Resource]]) -> Changes:
    """Names of which the two have not the same, with what the old one has."""
    return {
        item: {
            name: old[item].get(name) for name in {*old[item], *new[item]} if old[item].get(name) != new[item].get(name)
        }
        for item in TYPES
    }


class Link:
    """A proxy and its session, with messages under way."""

    def __init__(self, *, delta: bool, live: bool, together: Together | None = None) -> None:
        self.together = together
        self.proxy = Proxy(delta=delta)
        self.delta = delta
        self.live = live
        self.catalog: dict[str, dict[str, Resource]] = {item: {} for item in TYPES}
        self.down: list[Response] = []
        self.session: Session | None = None
        self.lost: set[tuple[str, str]] = set()

    def publish(self, catalog: dict[str, dict[str, Resource]], changed: Changes | None = None) -> None:
        changed = changed or changes(self.catalog, catalog)
        if any(is_bad(one) for item in (LISTENER, ROUTE) for one in catalog[item].values()):
            # What is refused leaves its last good version in place, which may need a cluster that goes now.
            held = self.catalog[CLUSTER].keys() | self.proxy.running[CLUSTER].keys()
            self.proxy.exempt |= held - catalog[CLUSTER].keys()
        if self.live:
            # As the compiler's publisher does it: the mappings stay, what is in them changes.
            for item in TYPES:
                self.catalog[item].clear()
                self.catalog[item].update(catalog[item])
        else:
            self.catalog = catalog
        self.proxy.exempt |= {name for name, item in catalog[CLUSTER].items() if is_bad(item)}
        self.proxy.exempt |= {name for name, item in catalog[ENDPOINT].items() if is_bad(item)}
        if self.session is not None:
            self.session.update(self.catalog, changed if self.live else {item: set(changed[item]) for item in TYPES})

    def connect(self, *, remember: bool) -> None:
        previous = self.session.residue() if remember and self.session is not None else None
        if not remember:
            # A proxy does not say what it took over of a response that it refused (see Channel.receive_delta): after
            # a restart of the control plane in that moment nobody knows.
            proxy = self.proxy
            self.lost |= {
                (item, name)
                for item in TYPES
                for name, resource in proxy.running[item].items()
                if not self.delta or proxy.versions[item].get(name) != resource.version
            }
        self.down = []
        self.session = Session(self.catalog, delta=self.delta, previous=previous, together=self.together)
        for request in self.proxy.connect():
            self.session.receive(request)

    def pump(self) -> None:
        assert self.session is not None
        while (response := self.session.next()) is not None:
            self.down.append(response)

    def deliver_down(self) -> bool:
        if not self.down:
            return False
        self.proxy.receive(self.down.pop(0))
        return True

    def deliver_up(self, start: int) -> bool:
        assert self.session is not None
        for offset in range(len(TYPES)):
            item = TYPES[(start + offset) % len(TYPES)]
            if self.proxy.outbox[item]:
                self.session.receive(self.proxy.take(item))
                return True
        return False

    def settle(self) -> None:
        self.pump()
        rounds = 0
        while self.deliver_down() or self.deliver_up(rounds) or self.let_time_pass():
            self.pump()
            rounds += 1
            assert rounds < 2000, "does not come to rest"

    def let_time_pass(self) -> bool:
        waiting = self.proxy.warming - self.proxy.exempt
        for name in waiting:
            # Only where the protocol has no word for "there is none".
            assert not self.delta and name not in self.catalog[ENDPOINT], f"{name} warms for nothing"
        return self.proxy.time_out()


@st.composite
def catalogs(draw: st.DrawFn) -> dict[str, dict[str, Resource]]:
    def body() -> tuple[str, ...]:
        version = f"v{draw(st.integers(0, 2))}"
        return (version, "bad") if draw(st.integers(0, 11)) == 0 else (version,)

    clusters = draw(st.sets(st.sampled_from([f"c{i}" for i in NAMES])))
    some = st.sets(st.sampled_from(sorted(clusters)), max_size=2) if clusters else st.just(set[str]())
    routes = {f"r{i}": draw(some) for i in NAMES if draw(st.booleans())}
    some_routes = st.sets(st.sampled_from(sorted(routes)), max_size=2) if routes else st.just(set[str]())
    listeners = {f"l{i}": (draw(some), draw(some_routes)) for i in NAMES if draw(st.booleans())}
    return {
        CLUSTER: {name: make(CLUSTER, name, *body()) for name in sorted(clusters)},
        ENDPOINT: {name: make(ENDPOINT, name, *body()) for name in sorted(clusters) if draw(st.integers(0, 5))},
        ROUTE: {name: make(ROUTE, name, *body(), *(f"c:{c}" for c in sorted(refs))) for name, refs in routes.items()},
        LISTENER: {
            name: make(LISTENER, name, *body(), *(f"c:{c}" for c in sorted(refs)), *(f"r:{r}" for r in sorted(its)))
            for name, (refs, its) in listeners.items()
        },
    }


steps = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), catalogs()),
        st.tuples(st.just("down"), st.integers(1, 3)),
        st.tuples(st.just("up"), st.integers(0, 3)),
        st.tuples(st.just("up"), st.integers(0, 3)),
        st.tuples(st.just("drop"), st.booleans()),
        st.tuples(st.just("decode"), st.booleans()),
        st.tuples(st.just("settle"), st.none()),
    ),
    max_size=25,
)


company = st.lists(st.tuples(st.integers(0, 2), steps), min_size=2, max_size=6)


@given(few=st.sampled_from((0, 16)), first=catalogs(), script=company, alone=st.booleans())
@settings(max_examples=100, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_proxies_in_step_converge_each_at_its_own_pace(few: int, first, script, alone: bool) -> None:
    """What one refuses, loses or answers late is nothing to the others, however much they have in common."""
    together = Together()
    links = [Link(delta=True, live=True, together=together) for _ in range(3)]
    if not alone:
        # The first two are given the same mappings, the third has its own.
        links[1].catalog = links[0].catalog

    def publish(catalog: dict[str, dict[str, Resource]]) -> None:
        changed = changes(links[0].catalog, catalog)
        for link in links:
            link.publish(catalog, changed)

    with patch.object(Channel, "few", few):
        publish(first)
        for link in links:
            link.connect(remember=False)
            link.settle()
        for who, actions in script:
            for action, value in actions:
                if action == "publish":
                    publish(value)
                    for link in links:
                        link.pump()
                else:
                    act(links[who], action, value)
        for link in links:
            link.settle()
            assert not link.proxy.problems, link.proxy.problems
            check_end(link)


@given(delta=st.booleans(), live=st.booleans(), few=st.sampled_from((0, 16)), first=catalogs(), script=steps)
@settings(max_examples=500, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_proxy_converges_and_never_runs_ahead(delta: bool, live: bool, few: int, first, script) -> None:
    """However little a session remembers: with `few` 0 it keeps differences from the catalog as soon as it can."""
    with patch.object(Channel, "few", few):
        converge(Link(delta=delta, live=live, together=Together()), first, script)


def converge(link: Link, first: dict[str, dict[str, Resource]], script: list[tuple[str, Any]]) -> None:
    link.publish(first)
    link.connect(remember=False)
    for action, value in script:
        if action == "publish":
            link.publish(value)
            link.pump()
            assert not link.proxy.problems, link.proxy.problems
        else:
            act(link, action, value)
    link.settle()
    assert not link.proxy.problems, link.proxy.problems
    check_end(link)


def act(link: Link, action: str, value: Any) -> None:
    if action == "down":
        for _ in range(value):
            link.deliver_down()
    elif action == "up":
        link.deliver_up(value)
    elif action == "settle":
        link.settle()
    elif action == "drop":
        event("reconnect")
        link.connect(remember=value)
    else:
        link.proxy.decode_errors = value
    link.pump()
    assert not link.proxy.problems, link.proxy.problems


def check_end(link: Link) -> None:
    proxy, session = link.proxy, link.session
    assert session is not None
    for item in TYPES:
        wanted = proxy.wanted.get(item, set(link.catalog[item]))
        refused = set[str]()
        for name in wanted & set(link.catalog[item]):
            target = link.catalog[item][name]
            if is_bad(target):
                refused.add(name)
                assert proxy.running[item].get(name) != target
            else:
                assert proxy.running[item].get(name) == target or (item, name) in link.lost, (item, name)
        if item in (CLUSTER, LISTENER):
            left = {
                name for name in set(proxy.running[item]) - set(link.catalog[item]) if (item, name) not in link.lost
            }
            assert not left, left
        ledger = session.ledgers().get(item)
        assert set(ledger.nacked if ledger else ()) == refused, f"exactly the bad ones of {item} are in quarantine"
    for status in session.status():
        assert not [entry for entry in status.entries if entry.nacked is None], status
