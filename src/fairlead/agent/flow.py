"""One type of resources between Envoy and the control plane: asked for, had, not answered yet. No I/O."""

from __future__ import annotations

from collections import deque
from collections.abc import Container

from envoy.service.discovery.v3 import discovery_pb2 as discovery

from fairlead.agent.modules import Module
from fairlead.envoy.resource import CLUSTER

UNSURE = "?"
SUBSTITUTED = "?module"
"""The version that Envoy is said to have where a module is missing; like UNSURE none of the control plane's."""
WILDCARD = "*"


def without(message: discovery.DeltaDiscoveryResponse, names: Container[str]) -> bytes:
    """The response, serialised, without the resources of these names."""
    out = discovery.DeltaDiscoveryResponse()
    out.CopyFrom(message)
    del out.resources[:]
    out.resources.extend(one for one in message.resources if one.name not in names)
    return out.SerializeToString()


class Sent:
    """A response that Envoy has not answered yet. `generation` 0 means that it came from the cache.

    It is `held` back until the modules in `needs` are known, or what is in files (`awaits`). `missing` and `lacking`
    say by resource what is then not as it should be: `missing` modules have been replaced, and what is `lacking` its
    files (`files` has the names of their secrets) Envoy has not been given at all.
    """

    __slots__ = ("added", "awaits", "files", "generation", "held", "lacking", "missing", "needs", "nonce", "removed")

    def __init__(self, message: discovery.DeltaDiscoveryResponse, generation: int) -> None:
        self.nonce = message.nonce
        self.added = {one.name: (one.version, one.SerializeToString()) for one in message.resources}
        self.removed = list(message.removed_resources)
        self.generation = generation
        self.needs: dict[str, Module] = {}
        self.held: discovery.DeltaDiscoveryResponse | None = None
        self.missing: dict[str, str] = {}
        self.files: dict[str, tuple[str, ...]] = {}
        self.awaits: set[str] = set()
        self.lacking: dict[str, str] = {}

    def object(self, kind: str, request: discovery.DeltaDiscoveryRequest) -> str:
        """Make Envoy's answer a refusal of what it has not been given as it was sent; what is lacking, in words."""
        refused = request.HasField("error_detail")
        if self.missing and not refused:
            request.error_detail.code = 14
            request.error_detail.message = "; ".join(f"{n}: {why}" for n, why in sorted(self.missing.items()))
        if not self.lacking:
            return ""
        # In Envoy's form, by which the control plane knows whom it is about.
        words = ", ".join(f"{n}: {why}" for n, why in sorted(self.lacking.items()))
        what = "cluster(s)" if kind == CLUSTER else "listener(s)"
        before = f"{request.error_detail.message}, " if refused else f"Error adding/updating {what} "
        request.error_detail.code = request.error_detail.code or 13
        request.error_detail.message = before + words
        return words


class Flow:
    """What Envoy asked for and has, for one type.

    By resource, the secrets of files (their names) that Envoy runs with are in `running`, and those for want of which
    it has not been given the newest version in `lacking`.
    """

    def __init__(self) -> None:
        self.wildcard = False
        self.names: set[str] = set()
        self.have: dict[str, str] = {}
        self.sent: deque[Sent] = deque()
        self.answered = False
        self.acked = False
        self.asked_in = 0
        self.fresh = True
        self.running: dict[str, tuple[str, ...]] = {}
        self.lacking: dict[str, tuple[str, ...]] = {}

    def subscribe(self, request: discovery.DeltaDiscoveryRequest) -> None:
        """Take the subscriptions of a request."""
        first, self.fresh = self.fresh, False
        if first:
            self.wildcard = not request.resource_names_subscribe
            self.have = dict(request.initial_resource_versions)
            self.answered = bool(self.have)
        for name in request.resource_names_subscribe:
            if name == WILDCARD:
                self.wildcard = True
                continue
            self.names.add(name)
            if not first and name in self.have:
                self.have[name] = UNSURE  # asked for again (a warming cluster): it wants the resource, not silence
        for name in request.resource_names_unsubscribe:
            if name == WILDCARD:
                self.wildcard = False
            self.names.discard(name)
        if request.resource_names_unsubscribe:
            self.have = {name: version for name, version in self.have.items() if self._wants(name)}
            self.running = {name: files for name, files in self.running.items() if self._wants(name)}
            self.lacking = {name: files for name, files in self.lacking.items() if self._wants(name)}

    def _wants(self, name: str) -> bool:
        return self.wildcard or name in self.names

    def forget(self, sent: Sent) -> None:
        """What Envoy lacks of older versions does not matter any more."""
        for name in (*sent.added, *sent.removed):
            self.lacking.pop(name, None)

    def settle(self, sent: Sent, refused: bool) -> None:
        """Envoy answered `sent`: update what it has. Of a refused response it may have taken a part."""
        given = {name: version for name, (version, _) in sent.added.items() if name not in sent.lacking}
        if refused:
            self.have.update({name: UNSURE for name in (*given, *sent.removed) if self._wants(name)})
            return
        if sent.missing:
            self.have.update({name: SUBSTITUTED if name in sent.missing else UNSURE for name in sent.added})
            return
        self.acked = self.acked or bool(given) or not sent.lacking
        self.have.update({name: version for name, version in given.items() if self._wants(name)})
        for name in (*given, *sent.removed):
            self.running.pop(name, None)
        self.running.update({name: sent.files[name] for name in given if name in sent.files and self._wants(name)})
        for name in sent.removed:
            self.have.pop(name, None)
