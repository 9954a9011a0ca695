"""One resource type within a session: subscriptions, what is due, the response in flight, who is to blame for a NACK.

Pure. The order among types is decided in `fairlead.xds.session`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from fairlead.envoy.resource import CLUSTER, ENDPOINT, EXTENSION, LISTENER, ROUTE, SECRET, Resource
from fairlead.xds.complaint import reason
from fairlead.xds.flight import Due, Flight, Trial, bases_of, named_in, set_version
from fairlead.xds.ledger import Nack, TypeLedger
from fairlead.xds.messages import (
    NO_BASES,
    WILDCARD,
    Acked,
    DeltaRequest,
    Event,
    Lacking,
    Nacked,
    ProtocolError,
    Response,
    SotwRequest,
)
from fairlead.xds.returning import Returned, returned
from fairlead.xds.standing import SURE, Named, Standing
from fairlead.xds.step import Step

NAMED = frozenset({ENDPOINT, ROUTE, SECRET, EXTENSION})
"""Types whose first request without names asks for nothing; for all others it asks for everything."""

WHOLE = frozenset({CLUSTER, LISTENER})
"""Types of which a state-of-the-world response carries everything: what is absent is removed."""

MAX_NAMES = 200_000
RESPONSE_BYTES = 16 << 20


class Channel(Standing):
    """The conversation about one type. `delta` tells the protocol, `patches` whether the client takes differences.

    `start` is where clients stand that lack nothing, if there may be others with whom this one is in step.
    """

    __slots__ = ("_last_nonce", "_named_once", "delta", "patches", "requested", "type_url", "whole")

    def __init__(self, type_url: str, *, delta: bool, patches: bool = False, start: Step | None = None) -> None:
        super().__init__(start)
        self.type_url = type_url
        self.delta = delta
        self.patches = patches
        self.whole = not delta and type_url in WHOLE
        self.requested = False
        self._named_once = False
        self._last_nonce: str | None = None

    # Requests.

    def receive_delta(self, request: DeltaRequest, catalog: Named, unsure: Iterable[str] = ()) -> list[Event]:
        """Take a delta request: an answer to the response in flight, changed subscriptions, or both.

        `unsure` is left over from the proxy's last stream. Envoy runs the good part of a response that it refused,
        but does not name it in `initial_resource_versions`.
        """
        self.catalog = catalog
        if self.step is not None:
            if self.asked(self.step, request, catalog):
                return []
            self.leave()
        events = self._answer(request.nonce, request.error, catalog)
        first, self.requested = not self.requested, True
        if request.subscribe and len(self.names) + len(request.subscribe) > MAX_NAMES:
            raise ProtocolError(f"more than {MAX_NAMES} names of {self.type_url} on one stream")
        if len(request.initial_versions) > MAX_NAMES:
            raise ProtocolError(f"more than {MAX_NAMES} versions of {self.type_url} on one stream")
        found = returned(request, catalog, named=self.type_url in NAMED) if first and not unsure else None
        if found is not None:
            self._return(found, catalog, wildcard=not request.subscribe)
        else:
            self._take(request, catalog, unsure, first=first)
        for name in request.unsubscribe:
            self._unsubscribe(name)
        if self.wildcard and request.subscribe:
            lacking = tuple(name for name in request.subscribe if name != WILDCARD and name not in catalog)
            events += [Lacking(self.type_url, lacking)] if lacking else []
        self._compact(catalog)
        self.join()
        return events

    def _take(self, request: DeltaRequest, catalog: Named, unsure: Iterable[str], *, first: bool) -> None:
        """Take what a request asks for and says name by name."""
        if first and not request.subscribe and self.type_url not in NAMED:
            self._all(catalog)
        for name in request.subscribe:
            if name == WILDCARD:
                self._all(catalog)
            else:
                # The catalog's own text, so that sessions share it.
                known = catalog.get(name)
                name = name if known is None else known.name
                self.names.add(name)
                if not first or name not in request.initial_versions:
                    self._force.add(name)
                self.dirty.add(name)
        if first:
            self.unsure = frozenset([name for name in unsure if self.subscribed(name)]) or SURE
            self._remember({**request.initial_versions, **dict.fromkeys(self.unsure, "")}, catalog)
            self.owed = self.wildcard and not request.initial_versions

    def _return(self, found: Returned, catalog: Named, *, wildcard: bool) -> None:
        """Take a client that has what the catalog has, with few exceptions."""
        self.wildcard = wildcard
        self.ledger.acked.follow_but(catalog, found.held)
        if not wildcard:
            self.names.follow_but(catalog, found.wanted)
        self.dirty, self._force = found.due, found.forced

    def receive_sotw(
        self,
        request: SotwRequest,
        catalog: Named,
        previous: TypeLedger | None = None,
        unsure: Iterable[str] = (),
    ) -> list[Event]:
        """Take a state-of-the-world request. One with a stale nonce is ignored whole: a later one follows.

        `previous` and `unsure` are left over from the proxy's last stream.
        """
        self.catalog = catalog
        if request.nonce and self._last_nonce is not None and request.nonce != self._last_nonce:
            return []
        if len(request.names) > MAX_NAMES:
            raise ProtocolError(f"more than {MAX_NAMES} names of {self.type_url} on one stream")
        events = self._answer(request.nonce, request.error, catalog)
        first, self.requested = not self.requested, True
        names = set(request.names)
        self._named_once = self._named_once or bool(names)
        wildcard = WILDCARD in names or (not self._named_once and self.type_url not in NAMED)
        names.discard(WILDCARD)
        if wildcard and not self.wildcard:
            self._all(catalog)
        elif self.wildcard and not wildcard:
            self._unsubscribe(WILDCARD)
        for name in [name for name in self.names if name not in names]:
            self._unsubscribe(name)
        added = {name for name in names if name not in self.names}
        self.names.update(added)
        self._force |= added
        self.dirty |= added
        if first:
            self.owed = self.wildcard
            if self.whole and request.version:
                self._resume(request.version, catalog, previous)
                self.resend(unsure)
                self.unsure = frozenset(unsure) or SURE
                self.owed = self.owed or bool(self.unsure)
        self._compact(catalog)
        return events

    def _all(self, catalog: Named) -> None:
        self.wildcard = True
        self.dirty.update(catalog)

    def _unsubscribe(self, name: str) -> None:
        if name == WILDCARD:
            self.wildcard = False
            for held in [held for held in self.ledger.acked if held not in self.names]:
                self._forget(held)
            return
        if name not in self.names:
            return
        self.names.discard(name)
        if self.wildcard:
            # It may still come with the wildcard, which the client cannot know: tell it.
            self._force.add(name)
            self.dirty.add(name)
        else:
            self._forget(name)

    def _forget(self, name: str) -> None:
        self.ledger.acked.drop(name)
        self.ledger.forgiven(name)
        if name in self.unsure:
            self.unsure = self.unsure - {name} or SURE
        self._force.discard(name)
        self.dirty.discard(name)

    def _remember(self, versions: Mapping[str, str], catalog: Named) -> None:
        """What a reconnecting delta client says it holds. What is as it should be needs no second look."""
        for name, version in versions.items():
            known = catalog.get(name)
            if not self.subscribed(name):
                continue
            if known is not None and known.version == version:
                self.ledger.acked.put(known.name, known)
                if name not in self._force:
                    self.dirty.discard(name)
            else:
                name = known.name if known is not None else name
                self.ledger.acked.put(name, Resource(self.type_url, name, version))
                self.dirty.add(name)

    def _resume(self, version: str, catalog: Named, previous: TypeLedger | None) -> None:
        """What a reconnecting state-of-the-world client proves to hold: the set whose version it echoes."""
        target = [resource for name, resource in catalog.items() if self.subscribed(name)]
        if previous is not None and previous.last_acked == version:
            self.ledger.acked.replace(dict(previous.acked.items()))
            self.ledger.nacked = dict(previous.nacked)
        elif set_version(target) == version:
            self.ledger.acked.replace({resource.name: resource for resource in target})
        else:
            return
        self.ledger.last_acked = version
        self.dirty.update((*self.ledger.acked, *self.ledger.nacked))
        self.owed = False

    # What is due.

    def due(self, catalog: Named) -> Due:
        """What the client lacks, without what is in quarantine. Looks only at names that may have changed."""
        if self.dirty:
            self.leave()
        adds: list[Resource] = []
        removes: list[str] = []
        absent: list[str] = []
        for name in sorted(self.dirty):
            target = catalog.get(name) if self.subscribed(name) else None
            if target is None:
                self.ledger.forgiven(name)
                if not self.delta and not self.whole:
                    # No way to say it: the client drops what nothing refers to.
                    self._forget(name)
                    continue
                asked = name in self._force
                held = name in self.ledger.acked or name in self.unsure
                if held and not (asked and self.type_url not in WHOLE):
                    removes.append(name)
                elif asked:
                    # The client waits for this answer (a cluster warms until it comes): it does not wait its turn.
                    absent.append(name)
                else:
                    self._clean(name)
                continue
            wanted = self._sendable(name, target)
            if wanted is not None:
                adds.append(wanted)
            elif self.delta and name in self._force and name not in self.ledger.acked:
                # Asked for anew, but its only version is in quarantine: the client must not wait for it.
                absent.append(name)
            else:
                self._clean(name)
        return Due(tuple(adds), tuple(removes), tuple(absent))

    def _sendable(self, name: str, target: Resource) -> Resource | None:
        held = self.ledger.acked.get(name)
        nack = self.ledger.nacked.get(name)
        if nack is not None and nack.version != target.version:
            self.ledger.forgiven(name)
            nack = None
        if nack is not None:
            return held if name in self._force and held is not None and held.size else None
        if held is not None and held.version == target.version and not (name in self._force or name in self.unsure):
            return None
        return target

    def forgive(self) -> None:
        """What is in quarantine is due again: its refusal had a reason that may be gone."""
        if self.ledger.nacked:
            self.leave()
            self.dirty.update(self.ledger.nacked)
            self.ledger.nacked.clear()

    def _clean(self, name: str) -> None:
        self.dirty.discard(name)
        self._force.discard(name)

    def introducing(self, catalog: Named) -> bool:
        """Whether resources that the client never had, or the answer that there are none, are due or in flight."""
        if self.flight is not None and self.flight.introduces:
            return True
        if not self.dirty:
            return False
        introduces = None if self.step is None else self.step.introduces(catalog)
        if introduces is not None:
            return introduces
        due = self.due(catalog)
        return bool(due.absent) or any(self._is_new(resource.name) for resource in due.adds)

    def _is_new(self, name: str) -> bool:
        return name not in self.ledger.acked or name in self.unsure

    def idle(self, catalog: Named) -> bool:
        """Whether nothing is due or in flight. What waits for its trial is due; a trial of nothing due is void."""
        return self.flight is None and (not self.dirty or not self.due(catalog))

    # Responses.

    def compose(self, catalog: Named, nonce: str, version: str, may_remove: Callable[[str], bool]) -> Response | None:
        """The next response, which is then in flight; None if there is none to send now."""
        if self.flight is not None or self.quiet:
            return None
        plan = None if self.step is None else self.step.plan(catalog, version)
        if plan is not None:
            self._stand(plan.after)
            if self.flight is not None:
                self.ledger.sent(version, self.flight.sent, ())
            return plan.response
        due = self.due(catalog)
        adds, blame = self._next_adds(due.adds)
        testing = bool(self._trials) or len(adds) < len(due.adds)
        removes = due.removes if due.removes and not testing and may_remove(self.type_url) else ()
        absent = () if testing else due.absent
        if not (adds or removes or absent or self.owed):
            return None
        self.owed = False
        resources = adds
        if self.whole:
            content = {**dict(self.ledger.acked.items()), **{resource.name: resource for resource in adds}}
            for name in removes:
                content.pop(name, None)
            resources = tuple(content[name] for name in sorted(content))
            version = set_version(resources)
        gone = (*removes, *absent)
        sent = {resource.name: resource for resource in adds}
        introduces = bool(absent) or any(self._is_new(name) for name in sent)
        bases = bases_of(adds, self._surely_held) if self.patches else NO_BASES
        self.flight = Flight(nonce, version, sent, gone, absent, introduces, blame)
        self._last_nonce = nonce
        # What is in flight is looked at again when the answer comes.
        self._force.difference_update(sent, gone)
        self.dirty.difference_update(sent, gone)
        self.ledger.sent(version, sent, gone)
        return Response(self.type_url, nonce, version, resources, gone if self.delta else (), bases)

    def _surely_held(self, name: str) -> Resource | None:
        return None if name in self.unsure else self.ledger.acked.get(name)

    def _next_adds(self, adds: tuple[Resource, ...]) -> tuple[tuple[Resource, ...], tuple[tuple[str, Nack], ...]]:
        while self._trials:
            trial, *left = self._trials
            self._trials = tuple(left)
            chosen = tuple(resource for resource in adds if resource.name in trial.names)
            if chosen:
                exact = {resource.name: resource.version for resource in chosen} == trial.names
                return chosen, trial.blame if exact else ()
        if self.whole:
            return adds, ()
        size = 0
        for count, resource in enumerate(adds):
            size += resource.size
            if size > RESPONSE_BYTES and count:
                return adds[:count], ()
        return adds, ()

    # Answers.

    def _answer(self, nonce: str, error: str | None, catalog: Named) -> list[Event]:
        flight = self.flight
        if flight is None or not nonce or nonce != flight.nonce:
            return []
        self.flight = None
        self.dirty.update(flight.removed)
        if error is None:
            # What is still as it was sent needs no second look.
            self.dirty.update([name for name, sent in flight.sent.items() if catalog.get(name) is not sent])
        else:
            self.dirty.update(flight.sent)
            self.ledger.landed(None)
            return self._refused(flight, reason(error))
        self.ledger.landed(flight.version)
        return self._accepted(flight)

    def _accepted(self, flight: Flight) -> list[Event]:
        for name, resource in flight.sent.items():
            if self.subscribed(name):
                self.ledger.acked.put(name, resource)
        for name in flight.removed:
            self.ledger.acked.drop(name)
        if self.unsure:
            left = self.unsure.difference(flight.sent, flight.removed)
            self.unsure = left.intersection(self.ledger.acked) if self.whole else left
            self.unsure = self.unsure or SURE
        events: list[Event] = [
            Acked(
                self.type_url,
                tuple((name, resource.version) for name, resource in flight.sent.items()),
                flight.removed,
            )
        ]
        events += [self._convict(name, nack) for name, nack in flight.blame if self.subscribed(name)]
        return events

    def _refused(self, flight: Flight, message: str) -> list[Event]:
        names = {name: resource.version for name, resource in flight.sent.items()}
        self._trials += tuple([Trial({name: nack.version}) for name, nack in flight.blame])
        if not names:
            # A removal cannot be repaired by repeating it.
            for name in flight.removed:
                self.ledger.acked.drop(name)
            return [Nacked(self.type_url, name, "", message) for name in flight.removed]
        # Envoy takes away what a response removes although it refuses the rest (LdsApiImpl::onConfigUpdate,
        # CdsApiHelper::onConfigUpdate): should a listener come back as it was, the client may not have it any more.
        self.unsure = self.unsure.union([name for name in flight.removed if name not in flight.absent]) or SURE
        # It is not known which of them the client took over: unless convicted, each must be sent again.
        self._force.update(name for name in names if self.subscribed(name))
        self._force.update(flight.absent)
        # What a refused whole world left out may still be there: the world must be sent without the bad ones.
        self.owed = self.whole
        if len(names) == 1:
            return [self._convict(name, Nack(version, message)) for name, version in names.items()]
        self.unsure = self.unsure.union(names)
        suspects = {name: names[name] for name in sorted(named_in(message, names))}
        rest = {name: version for name, version in names.items() if name not in suspects}
        if not suspects or not rest:
            items = list(names.items())
            middle = len(items) // 2
            self._trials += (Trial(dict(items[:middle])), Trial(dict(items[middle:])))
        elif len(suspects) == 1:
            blame = tuple((name, Nack(version, message)) for name, version in suspects.items())
            self._trials += (Trial(rest, blame),)
        else:
            self._trials += (Trial(rest), *[Trial({name: version}) for name, version in suspects.items()])
        return []

    def _convict(self, name: str, nack: Nack) -> Event:
        self.ledger.refused(name, nack)
        self._force.discard(name)
        self.dirty.add(name)
        held = self.ledger.acked.get(name)
        if self.type_url == SECRET and held is not None:
            # Envoy shows the last good one, but keeps the refused one for listeners that it makes anew: not for long.
            self._force.add(name)
        return Nacked(self.type_url, name, nack.version, nack.message, held.version if held else "")
