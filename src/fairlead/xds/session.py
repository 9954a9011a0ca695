"""The ADS session machine: requests and changes in, responses and ledger events out. No I/O, no clock.

One `Session` is one proxy's stream. The shell calls `receive` for each request, `update` when the catalog changes,
and `next` until it gives None; it may call `next` as slowly as the client reads, since a response is made only then.

Order among types is make before break: clusters, endpoints, listeners, routes, secrets. What must wait, and for what:

* listeners and routes wait until the proxy has acknowledged every cluster and endpoint set that it never had before;
* removals of clusters wait until nothing of listeners and routes is due or unanswered, and after a reconnect also until
  the client has asked about the listeners and routes that it still holds;
* endpoints and secrets never wait, nor the word that there are none any more (EdsClusterImpl::onConfigUpdate then keeps
  what it has): Envoy withholds the acknowledgement of clusters as long as one of them warms
  (ClusterManagerImpl::updateClusterCounts), and it warms until its endpoints and secrets have come. For the same
  reason the endpoints of every cluster that is sent again are sent again behind it, although they did not change.

The name of an endpoint set is the name of its cluster, as in Istio.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import cast

import msgspec

from fairlead.envoy.resource import CLUSTER, ENDPOINT, EXTENSION, LISTENER, MAKE_BEFORE_BREAK, ROUTE, SECRET, Resource
from fairlead.xds.channel import Channel
from fairlead.xds.held import Before
from fairlead.xds.ledger import Entry, SyncState, TypeLedger, TypeStatus
from fairlead.xds.messages import (
    HEALTH,
    Acked,
    Catalog,
    Changed,
    DeltaRequest,
    Event,
    Health,
    ProtocolError,
    Response,
    SotwRequest,
)
from fairlead.xds.standing import SURE
from fairlead.xds.step import Together

MAX_TYPES = 64
_NOTHING: Mapping[str, Resource] = {}


def _never(_type_url: str) -> bool:
    return False


class Residue(msgspec.Struct, frozen=True):
    """What must be known of a proxy's last stream when it connects again; falsy if that is nothing.

    `whole`: ledgers of a state-of-the-world client, from which it keeps its last good listeners and clusters.
    `unsure`: what it may run without saying so.
    """

    whole: Mapping[str, TypeLedger] = {}
    unsure: Mapping[str, frozenset[str]] = {}

    def __bool__(self) -> bool:
        return bool(self.whole or self.unsure)


_NO_RESIDUE = Residue()


class Session:
    """One stream. `delta` tells the protocol; `version` names the catalog in responses (delta's system version).

    `previous` is what the last stream of the same proxy left, if that is known; `patches` tells that the client takes
    differences of resources (`fairlead.xds.patch`). Sessions of one `together` are in step as far as they can be.
    """

    __slots__ = (
        "_answered",
        "_catalog",
        "_channels",
        "_early_clusters",
        "_nonces",
        "_order",
        "_patches",
        "_previous",
        "_secrets",
        "_together",
        "_version",
        "delta",
    )

    def __init__(
        self,
        catalog: Catalog,
        *,
        delta: bool,
        version: str = "",
        previous: Residue | None = None,
        patches: bool = False,
        together: Together | None = None,
    ) -> None:
        self.delta = delta
        self._together = together if delta else None
        self._patches = patches and delta
        self._catalog = catalog
        self._version = version
        self._channels: dict[str, Channel] = {}
        self._order: tuple[Channel, ...] = ()
        self._nonces = 0
        self._answered = False
        self._early_clusters = SURE
        self._previous = previous or _NO_RESIDUE
        self._secrets: dict[str, str] = {}

    def receive(self, request: DeltaRequest | SotwRequest) -> list[Event]:
        """Take a request of the client. Raises ProtocolError if it asks for more than a session may hold."""
        channel = self._channels.get(request.type_url)
        if channel is not None and channel.step is not None and isinstance(request, DeltaRequest):
            # Nearly all that is ever said: what others have acknowledged too.
            said = channel.acknowledged(channel.step, request, self._catalog.get(request.type_url, _NOTHING))
            if said is not None:
                self._answered = True
                if request.type_url == SECRET:
                    self._retry(said)
                return said
        if request.type_url == HEALTH:
            return [Health(request.error is None, request.error or "")]
        if channel is None:
            if not request.type_url or len(self._channels) >= MAX_TYPES:
                raise ProtocolError(f"a request without a type, or more than {MAX_TYPES} types on one stream")
            start = None if self._together is None else self._together.start(request.type_url, patches=self._patches)
            channel = self._channels[request.type_url] = Channel(
                request.type_url, delta=self.delta, patches=self._patches, start=start
            )
            self._order = self._in_order()
        first = not channel.requested
        self._answered = self._answered or bool(request.nonce)
        catalog = self._named(request.type_url)
        unsure = self._previous.unsure.get(request.type_url, ())
        if isinstance(request, DeltaRequest):
            events = channel.receive_delta(request, catalog, unsure)
        else:
            events = channel.receive_sotw(request, catalog, self._previous.whole.get(request.type_url), unsure)
        if first and request.type_url == ENDPOINT:
            # Clusters that went out before the endpoints were asked for: the client may be warming them.
            channel.resend(self._early_clusters)
            self._early_clusters = SURE
        if request.type_url == SECRET:
            self._retry(events)
        return events

    def _retry(self, events: Collection[Event]) -> None:
        """What was refused is due again once the proxy has taken a secret that it had not in this version.

        Envoy refuses a listener or cluster of which it holds a credential that it cannot use (it keeps the credential,
        although it has refused that, too), and does not come back to it by itself. A version counts once: so what is
        refused for another reason is not sent for ever.
        """
        taken = {name: version for event in events if isinstance(event, Acked) for name, version in event.resources}
        changed = [name for name, version in taken.items() if self._secrets.get(name) != version]
        self._secrets.update(taken)
        for type_url in (CLUSTER, LISTENER) if changed else ():
            channel = self._channels.get(type_url)
            if channel is not None:
                channel.forgive()

    def update(self, catalog: Catalog, changed: Changed | None = None, version: str = "") -> None:
        """The catalog is now this; `changed` None means that anything may differ from the last one, which is intact.

        Of a catalog that changes in place every change must be told here before anything else is asked of the session.
        """
        before, self._catalog = self._catalog, catalog
        self._version = version or self._version
        # Told of every change to each of thousands of sessions: mostly one type has changed, and none has moved.
        for type_url, names in changed.items() if changed is not None else ():
            channel = self._channels.get(type_url)
            if channel is not None and names:
                now = catalog.get(type_url, _NOTHING)
                if type(names) is dict:
                    channel.moved(now, cast("Before", names))
                else:
                    old = before.get(type_url, _NOTHING)
                    channel.leave()
                    channel.moved(now, {one: old.get(one) for one in names})
        for channel in self._order:
            now = catalog.get(channel.type_url, _NOTHING)
            if changed is None:
                old = before.get(channel.type_url, _NOTHING)
                channel.leave()
                channel.moved(now, {one: old.get(one) for one in {**old, **now}})
                channel.look_again()
            elif channel.catalog is not now:
                channel.moved(now, {})

    def next(self) -> Response | None:
        """The next response to send, or None if there is nothing to send until something comes in."""
        for channel in self._order:
            # Asked for every channel after each message: anything but attributes would cost more than all the rest.
            if channel.flight is not None or not (channel.dirty or channel.owed):
                continue
            if not self._may_add(channel.type_url):
                continue
            nonce = str(self._nonces + 1)
            response = channel.compose(
                self._named(channel.type_url),
                nonce,
                self._version,
                self._may_remove,
            )
            if response is None and not self._answered and channel.type_url == CLUSTER:
                response = self._ask(channel, nonce)
            if response is not None:
                self._nonces += 1
                if channel.type_url == CLUSTER and channel.flight is not None:
                    self._rewarm(channel.flight.sent, shared=channel.step is not None)
                return response
        return None

    def _ask(self, channel: Channel, nonce: str) -> Response | None:
        """After a reconnect, before removals: an empty response. A client sends its first requests of all types before
        it answers anything, so when this is answered it is known which listeners and routes it still has.
        """
        catalog = self._named(channel.type_url)
        if not channel.due(catalog).removes:
            return None
        channel.owed = True
        return channel.compose(catalog, nonce, self._version, _never)

    def _named(self, type_url: str) -> Mapping[str, Resource]:
        return self._catalog.get(type_url, _NOTHING)

    def _in_order(self) -> tuple[Channel, ...]:
        known = [self._channels[item] for item in MAKE_BEFORE_BREAK if item in self._channels]
        return (*known, *(item for key, item in self._channels.items() if key not in MAKE_BEFORE_BREAK))

    def _may_add(self, type_url: str) -> bool:
        if type_url not in (LISTENER, ROUTE):
            return True
        for below in (CLUSTER, ENDPOINT):
            channel = self._channels.get(below)
            # Mostly nothing is due there: asked for each client and change.
            if channel is None or (channel.flight is None and not channel.dirty):
                continue
            if channel.introducing(self._named(below)):
                return False
        return True

    def _may_remove(self, type_url: str) -> bool:
        if type_url in (ROUTE, EXTENSION):
            # Requests to a filter without its configuration fail.
            return self._settled(LISTENER)
        if type_url != CLUSTER:
            return True
        clusters = self._channels.get(CLUSTER)
        if clusters is None or not clusters.wildcard:
            # Not an Envoy that takes what it is given, but a client that names what it uses (gRPC).
            return True
        return self._answered and self._settled(LISTENER) and self._settled(ROUTE)

    def _settled(self, type_url: str) -> bool:
        channel = self._channels.get(type_url)
        return channel is None or channel.idle(self._named(type_url))

    def _rewarm(self, clusters: Mapping[str, Resource], *, shared: bool) -> None:
        endpoints = self._channels.get(ENDPOINT)
        if endpoints is None:
            self._early_clusters = self._early_clusters.union(clusters)
        elif shared:
            endpoints.resend_sent(clusters)
        else:
            endpoints.resend(clusters)

    @property
    def settled(self) -> bool:
        """Whether the client has everything that it asked for so far. Cheap; may be False for a moment too long."""
        for channel in self._order:  # noqa: SIM110 - asked after each message, as in `next`
            if channel.flight is not None or channel.dirty or channel.owed:
                return False
        return True

    @property
    def may_send(self) -> bool:
        """Whether `next` may give something before anything else comes in. May be True for nothing."""
        for channel in self._order:  # noqa: SIM110 - asked after each message, as in `next`
            if channel.flight is None and (channel.dirty or channel.owed):
                return True
        return False

    # The ledger.

    def ledgers(self) -> dict[str, TypeLedger]:
        """The live ledgers by type: for reading."""
        return {key: channel.ledger for key, channel in self._channels.items()}

    def ledger(self, type_url: str) -> TypeLedger | None:
        """The live ledger of a type, if the client has asked for it: for reading."""
        channel = self._channels.get(type_url)
        return None if channel is None else channel.ledger

    def follows(self, catalog: Catalog) -> bool:
        """Whether this, and no other mapping, is what the client is given."""
        return self._catalog is catalog

    def place(self) -> tuple[int, ...] | None:
        """Where the client stands, by the identities of steps: who stands there too, and is given the same, lacks the
        same. None if it goes by itself with some type. Says nothing any more when anything has happened to a session.
        """
        steps = [channel.step for channel in self._order]
        return None if None in steps else tuple(map(id, steps))

    def unanswered(self, type_url: str) -> Collection[str]:
        """Names of a type that may have to be sent, and those that were sent and not answered. What the client wants
        and what is not among them, it has.
        """
        channel = self._channels.get(type_url)
        if channel is None:
            return ()
        flight = channel.flight
        return channel.dirty if flight is None else (*channel.dirty, *flight.sent, *flight.removed)

    def residue(self) -> Residue:
        """What to keep when the stream has ended."""
        unsure = dict(self._previous.unsure)
        whole = dict(self._previous.whole)
        for key, channel in self._channels.items():
            names = channel.unsure | set(channel.flight.sent if channel.flight else ())
            unsure.pop(key, None)
            if names:
                unsure[key] = frozenset(names)
            if channel.whole and channel.ledger.last_acked:
                channel.ledger.acked.detach()
                whole[key] = channel.ledger
        return Residue(whole, unsure)

    def states(self) -> dict[str, SyncState]:
        """How each type stands, without the names. Costs nothing; STALE may stand for a moment too long."""
        return {key: channel.ledger.state(open_=not channel.quiet) for key, channel in self._channels.items()}

    @property
    def refused(self) -> bool:
        """Whether the proxy refuses something."""
        return any(channel.ledger.nacked for channel in self._order)

    def status(self) -> tuple[TypeStatus, ...]:
        """How each type that the proxy asked for stands, in delivery order."""
        found: list[TypeStatus] = []
        for channel in self._order:
            due = channel.due(self._named(channel.type_url))
            waiting = (*(resource.name for resource in due.adds), *due.removes)
            found.append(channel.ledger.status(channel.type_url, waiting))
        return tuple(found)

    def entry(self, type_url: str, name: str) -> Entry:
        """How one resource stands."""
        channel = self._channels.get(type_url)
        return channel.ledger.entry(name) if channel else Entry(name, "", "")
