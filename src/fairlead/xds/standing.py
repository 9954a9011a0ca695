"""Where one client stands with one type of resources: what it asked for, holds, and may lack; alone or in step.

Pure. What is sent and what answers mean is decided in `fairlead.xds.channel`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fairlead.envoy.resource import Resource
from fairlead.xds.flight import Flight, Trial
from fairlead.xds.held import FEW, Before, Wanted
from fairlead.xds.ledger import TypeLedger
from fairlead.xds.messages import DeltaRequest, Event
from fairlead.xds.step import Step

Named = Mapping[str, Resource]
SURE: frozenset[str] = frozenset()
"""No names: one for all channels, of which nearly all have none."""
_NOTHING: Named = {}


class Standing:
    """Where a client stands. `start` is where those stand that lack nothing, if it may be in step with others."""

    __slots__ = (
        "_force",
        "_start",
        "_trials",
        "_tried",
        "catalog",
        "dirty",
        "flight",
        "ledger",
        "names",
        "owed",
        "step",
        "unsure",
        "wildcard",
    )
    few = FEW
    """Up to so many resources are remembered one by one."""

    def __init__(self, start: Step | None) -> None:
        self.wildcard = False
        self.names = Wanted()
        self.ledger = TypeLedger()
        self.catalog = _NOTHING
        """What the client is given, as far as was told."""
        self._start = start
        self.step: Step | None = None
        """Where this client stands together with others. The sets, exceptions and flight here are then those of all."""
        self.flight: Flight | None = None
        self.owed = False
        """Whether the next response goes out even if there is nothing in it."""
        self.dirty: set[str] = set()
        """Names that may have to be sent."""
        self._force: set[str] = set()
        self._trials: tuple[Trial, ...] = ()
        self._tried = 0
        self.unsure = SURE
        """Sent or taken away in a refused response, so perhaps done, but not yet acknowledged by themselves."""

    def subscribed(self, name: str) -> bool:
        """Whether the client wants this resource."""
        return self.wildcard or name in self.names

    def moved(self, catalog: Named, before: Before) -> None:
        """The catalog has changed, and is perhaps another mapping now."""
        if self.step is not None and self._moved_in_step(self.step, catalog, before):
            return
        self.leave()
        self.catalog = catalog
        self.names.moved(catalog, before)
        self.ledger.acked.moved(catalog, before)
        if self.wildcard:
            self.dirty.update(before)
            return
        self.dirty.update([name for name in before if name in self.names or name in self.ledger.acked])

    def look_again(self) -> None:
        """Compare everything that the client has with what it should have."""
        self.leave()
        self.dirty.update(self.ledger.acked)

    @property
    def quiet(self) -> bool:
        """Whether nothing can be due or in flight: there is nothing to look at."""
        return not (self.flight or self.dirty or self.owed)

    def resend(self, names: Iterable[str]) -> None:
        """Send these again although the client has them (an updated cluster warms until its endpoints come anew)."""
        again = [name for name in names if self.subscribed(name)]
        if again:
            self.leave()
            self._force.update(again)
            self.dirty.update(again)

    def resend_sent(self, sent: Mapping[str, Resource]) -> None:
        """The same for what others are sent too."""
        step, held = self.step, self.ledger.acked
        if step is not None and all(name in self.names for name in sent):
            catalog = self.catalog
            if held.follows or all(held.get(name) is step.behind.get(name, catalog.get(name)) for name in sent):
                following = step.resent(catalog, sent)
                if following is not None:
                    self._stand(following)
                    return
        self.resend(sent)

    # In step with others.

    def join(self) -> None:
        """From now on stand where all stand that lack nothing, if this client does not either."""
        start = self._start
        if (
            start is None
            or self.flight is not None
            or self.dirty
            or self.owed
            or self._force
            or self._trials
            or self.unsure
            or self.ledger.nacked
            or not self.ledger.acked.level
            or (self.wildcard and not self.names.nothing)
        ):
            return
        self._stand(start)

    def leave(self) -> None:
        """From now on go by itself."""
        if self.step is not None:
            self.step = None
            self.dirty, self._force = set(self.dirty), set(self._force)
            self.ledger.acked.part()

    def _stand(self, step: Step) -> None:
        self.step = step
        self.dirty, self._force, self.flight = step.dirty, step.force, step.flight
        self.ledger.acked.share(step.behind)

    def _moved_in_step(self, step: Step, catalog: Named, before: Before) -> bool:
        """Whether this client takes the same step as others with this change."""
        names, held = self.names, self.ledger.acked
        if catalog is not self.catalog:
            self.catalog = catalog
            names.rebase(catalog)
            held.rebase(catalog)
        if not before:
            return True
        concerned = self._concerned(step, before)
        if concerned is None:
            return False
        wanted, came = concerned
        if wanted is not None and not wanted and not came:
            return True
        if not held.follows:
            behind = step.behind
            for name in before if wanted is None else wanted:
                if held.get(name) is not behind.get(name, before[name]):
                    return False
        following = step.moved(catalog, before, wanted, came)
        if following is None or (names.follows and not following.kept):
            return False
        for name in came:
            names.discard(name)
        self._stand(following)
        return True

    def _concerned(self, step: Step, before: Before) -> tuple[tuple[str, ...] | None, tuple[str, ...]] | None:
        """Which of the changed names the client wants (None: all), and which have come that it has not asked for.

        None if it is not for others to tell.
        """
        names, follows = self.names, self.ledger.acked.follows
        if self.wildcard:
            return None, ()
        if names.follows:
            if not follows or not names.apart(before):
                return None
            return step.parted(before)
        wanted = tuple([name for name in before if name in names])
        if len(wanted) == len(before):
            return None, ()
        return None if follows else (wanted, ())

    def asked(self, step: Step, request: DeltaRequest, catalog: Named) -> bool:
        """Whether this is nothing but the question for what has come, which others ask too; it is taken then."""
        names = request.subscribe
        if (
            not names
            or request.nonce
            or request.unsubscribe
            or request.initial_versions
            or not (self.names.follows and self.ledger.acked.follows)
            or not all(name in step.behind and step.behind[name] is None and name in catalog for name in names)
        ):
            return False
        following = step.resent(catalog, names)
        if following is None:
            return False
        for name in names:
            self.names.add(name)
        self._stand(following)
        return True

    def acknowledged(self, step: Step, request: DeltaRequest, catalog: Named) -> list[Event] | None:
        """What follows from an answer that is nothing but the acknowledgement of what is in flight; else None."""
        flight = step.flight
        if (
            flight is None
            or request.nonce != flight.nonce
            or request.error is not None
            or request.subscribe
            or request.unsubscribe
            or request.initial_versions
        ):
            return None
        held = self.ledger.acked
        if not held.follows:
            for name, resource in flight.sent.items():
                held.put(name, resource)
        self.ledger.landed(flight.version)
        self._stand(step.landed(catalog))
        if not held.follows and held.exceptions > self._tried:
            self.leave()
            self._compact(catalog)
            self.join()
        return step.events

    def _compact(self, catalog: Named) -> None:
        """Remember only differences from the catalog once that is less. Tried again only after a good deal more."""
        held = self.ledger.acked
        if self.flight is not None or held.follows or held.exceptions <= self._tried:
            return
        self._tried = held.exceptions + held.exceptions // 4
        held.follow(catalog, self.few)
        self.names.follow(catalog, self.few)
        # A set that was large once stays large, even when it is empty.
        self.dirty, self._force = set(self.dirty), set(self._force)
