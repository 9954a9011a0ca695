"""Gives each proxy the catalog of its view, and holds back a push that would take too much away."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping

import msgspec

from fairlead.compiler.publish import Changes
from fairlead.controlplane import guard
from fairlead.controlplane.feed import Feed, Pass
from fairlead.envoy.resource import CLUSTER, Resource
from fairlead.inc.few import Few, joined, parted
from fairlead.ir.view import View, view_of_node
from fairlead.model.identity import Identity
from fairlead.model.nodeid import called
from fairlead.xds.claim import Refused
from fairlead.xds.server import Subscription, Wake
from fairlead.xds.wire import Node

_log = logging.getLogger(__name__)


class Held(msgspec.Struct, frozen=True):
    """A push that is held: what its proxies go on being served, why, and since when (Unix seconds)."""

    catalog: dict[str, dict[str, Resource]]
    reason: str
    since: float


class _Subscribed:
    """A proxy's subscription. What it is given is found out once for all proxies of a view, and told here."""

    __slots__ = ("_delivery", "catalog", "name", "version", "view", "wake")

    def __init__(self, delivery: Delivery, view: View, name: str, wake: Wake) -> None:
        self._delivery = delivery
        self.view = view
        self.name = name
        self.wake = wake
        self.catalog = delivery.served(view)
        self.version = str(delivery.feed.revision)

    def close(self) -> None:
        self._delivery.close(self)


class Delivery:
    """The xDS server's source of catalogs: one view a proxy, shared by proxies that are alike.

    What would take away more than `limits` allow at once is held for the view as a whole: clusters, routes and
    listeners belong together. It goes out when it is released, or when later changes bring enough back.
    """

    def __init__(self, feed: Feed, limits: guard.Limits | None = None) -> None:
        self.feed = feed
        self.limits = limits or guard.Limits()
        self.held: dict[View, Held] = {}
        self._subscribed: dict[View, Few[_Subscribed]] = {}
        self._asking: set[View] = set()
        self.noted: Callable[[str, list[str], str], None] = lambda _sort, _nodes, _reason: None
        """Told of pushes that are held or released: which of both, the node ids, and why."""
        feed.listen(self._passed)

    async def open(self, peer: Identity, node: Node, wake: Wake) -> Subscription:
        """The catalog for a node whose certificate is `peer`'s. Raises Refused where the node makes no sense."""
        try:
            view = view_of_node(node.id, node.metadata)
        except (ValueError, TypeError, AttributeError) as error:
            raise Refused(f"the node cannot be understood: {error}") from None
        view = self._first(view)
        self.feed.model.publisher.open(view)
        subscribed = _Subscribed(self, view, node.id, wake)
        self._subscribed[view] = joined(self._subscribed.get(view, ()), subscribed)
        self._turned(view)
        return subscribed

    def close(self, subscribed: _Subscribed) -> None:
        """A proxy has gone. With the last one of a view, what is held for it is forgotten."""
        members = self._subscribed.get(subscribed.view)
        if members is not None and subscribed in members:
            members = parted(members, subscribed)
            if members:
                self._subscribed[subscribed.view] = members
            else:
                del self._subscribed[subscribed.view]
                self.held.pop(subscribed.view, None)
                self._asking.discard(subscribed.view)
            self.feed.model.publisher.close(subscribed.view)

    def view_of(self, node: Node) -> View:
        """The view of a node that was admitted: one object for all proxies that are alike."""
        return self._first(view_of(node))

    def _first(self, view: View) -> View:
        members = self._subscribed.get(view)
        return next(iter(members)).view if members else view

    def served(self, view: View) -> Mapping[str, Mapping[str, Resource]]:
        """What the proxies of a view are given: what there is, or what there was where a push is held."""
        held = self.held.get(view)
        return self.feed.model.publisher.catalog(view) if held is None else held.catalog

    def members(self, view: View) -> list[str]:
        """The node ids of a view's proxies."""
        return sorted(one.name for one in self._subscribed.get(view, ()))

    def nodes(self) -> list[str]:
        """The node ids of all proxies."""
        return [one.name for members in self._subscribed.values() for one in members]

    def names(self, view: View) -> list[str]:
        """The names of a view's proxies, `NAME.NAMESPACE`."""
        return [called(one) for one in self.members(view)]

    def release(self, name: str = "") -> list[str]:
        """Send what is held, for everybody or for the proxy `NAME.NAMESPACE` and those like it; the node ids."""
        out: list[str] = []
        for view in list(self.held):
            ids = self.members(view)
            if name and not any(name in (at, called(at)) for at in ids):
                continue
            _log.warning("released by hand: %s, for %d proxies", self.held[view].reason, len(ids))
            self.noted("released", ids, f"released by hand: {self.held[view].reason}")
            self._let_go(view)
            out += ids
        return sorted(out)

    def _passed(self, made: Pass) -> None:
        for view in [at for at in self.held if at in made.changed]:
            now = self.feed.model.publisher.catalog(view)
            if not guard.still(self.limits, self.held[view].catalog, now):
                _log.warning("no longer held, enough has come back: %s", self.held[view].reason)
                self.noted("released", self.members(view), f"enough has come back: {self.held[view].reason}")
                self._let_go(view)
        judged: dict[tuple[int, int, int], str] = {}
        publisher, version = self.feed.model.publisher, str(self.feed.revision)
        for view, names in made.changed.items():
            # There may be as many views as proxies.
            members = self._subscribed.get(view)
            if members is None or view in self.held:
                continue
            now = publisher.catalog(view)
            if not self._turned(view):
                basis = guard.basis(now, names)
                reason = judged.get(basis)
                if reason is None:
                    reason = judged[basis] = guard.objection(self.limits, now, names)
                if reason:
                    self._hold(view, now, names, reason)
                    continue
            for subscribed in members:
                subscribed.catalog, subscribed.version = now, version
                subscribed.wake(names)

    def _turned(self, view: View) -> bool:
        """Whether its proxies ask for clusters from now on: then most go, and come back when they are needed."""
        asks, asked = self.feed.model.publisher.asks(view), view in self._asking
        if asks is not asked:
            (self._asking.add if asks else self._asking.discard)(view)
        return asks and not asked

    def _hold(self, view: View, now: Mapping[str, Mapping[str, Resource]], changed: Changes, reason: str) -> None:
        frozen = {type_url: dict(rows) for type_url, rows in now.items()}
        for type_url, before in changed.items():
            rows = frozen[type_url]
            for name, was in before.items():
                if was is None:
                    rows.pop(name, None)
                else:
                    rows[name] = was
        self.held[view] = Held(frozen, reason, time.time())
        self.noted("held", self.members(view), reason)
        ids = self.names(view)
        _log.error(
            "push held for %s%s: %s; `fairlead proxy-status --release` sends it",
            ", ".join(ids[:3]),
            f" and {len(ids) - 3} more" if len(ids) > 3 else "",
            reason,
        )
        # Streams must from now on compose from what is served, not from the live catalog.
        self._wake(view, {CLUSTER: {}})

    def _let_go(self, view: View) -> None:
        del self.held[view]
        self._wake(view, None)

    def _wake(self, view: View, names: Changes | None) -> None:
        members = self._subscribed.get(view)
        if not members:
            return
        catalog, version = self.served(view), str(self.feed.revision)
        for subscribed in members:
            subscribed.catalog, subscribed.version = catalog, version
            subscribed.wake(names)


def view_of(node: Node) -> View:
    """The view of a node that was admitted."""
    return view_of_node(node.id, node.metadata)
