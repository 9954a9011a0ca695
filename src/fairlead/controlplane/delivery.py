"""Gives each proxy the catalog of its view."""

from __future__ import annotations

from collections.abc import Mapping

from fairlead.compiler.publish import Changes
from fairlead.controlplane.feed import Feed
from fairlead.envoy.resource import Resource
from fairlead.ir.view import View, view_of_node
from fairlead.model.identity import Identity
from fairlead.xds.server import Refused, Subscription, Wake
from fairlead.xds.wire import Node


class _Subscribed:
    def __init__(self, delivery: Delivery, view: View, wake: Wake) -> None:
        self._delivery = delivery
        self.view = view
        self.wake = wake

    @property
    def catalog(self) -> Mapping[str, Mapping[str, Resource]]:
        return self._delivery.feed.model.publisher.catalog(self.view)

    @property
    def version(self) -> str:
        return str(self._delivery.feed.revision)

    def close(self) -> None:
        self._delivery.close(self)


class Delivery:
    """The xDS server's source of catalogs: one view a proxy, shared by proxies that are alike."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self._subscribed: dict[View, dict[_Subscribed, None]] = {}
        feed.listen(self._changed)

    async def open(self, peer: Identity, node: Node, wake: Wake) -> Subscription:
        """The catalog for a node whose certificate is `peer`'s. Raises Refused where the node makes no sense."""
        try:
            view = view_of_node(node.id, node.metadata)
        except (ValueError, TypeError) as error:
            raise Refused(f"the node cannot be understood: {error}") from None
        self.feed.model.publisher.open(view)
        subscribed = _Subscribed(self, view, wake)
        self._subscribed.setdefault(view, {})[subscribed] = None
        return subscribed

    def close(self, subscribed: _Subscribed) -> None:
        """A proxy has gone."""
        members = self._subscribed.get(subscribed.view)
        if members is not None and subscribed in members:
            del members[subscribed]
            if not members:
                del self._subscribed[subscribed.view]
            self.feed.model.publisher.close(subscribed.view)

    def _changed(self, changed: dict[View, Changes]) -> None:
        for view, names in changed.items():
            for subscribed in self._subscribed.get(view, ()):
                subscribed.wake(names)


def view_of(node: Node) -> View:
    """The view of a node that was admitted."""
    return view_of_node(node.id, node.metadata)
