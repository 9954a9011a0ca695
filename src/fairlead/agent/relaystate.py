"""The relay machine: Envoy's requests and the control plane's responses in, messages and saves out. No I/O.

One Envoy stream lives over any number of upstream streams. What Envoy has acknowledged is kept by type and name (the
cache). While the control plane is away, subscriptions are answered from the cache; when it is back, it is told the
versions that Envoy runs (`initial_resource_versions`), so that only differences flow.

Extension configurations that name modules to fetch are held back until each module is there or cannot be had; what is
cached and acknowledged is the control plane's configuration, not the one that Envoy got instead. If Envoy takes one
with a module missing, the control plane hears a refusal that says why; when the module is there at last, everything
that is missing is asked for again on a new stream.

Clusters and listeners that name files of the host (certificates, keys) are held back until the files have been looked
at. Envoy would take the configuration and then wait for what the agent cannot give; so it gets the response without the
resources whose files are not as they must be, and the control plane hears what an Envoy says that reads the files
itself. When a file is put right, everything that is missing is asked for again.

The invariant behind every step: what the control plane believes Envoy to have is what Envoy has, or a version that
cannot match. Therefore a type is subscribed upstream only when none of its responses is still unanswered by Envoy, and
resources of a refused response are claimed with a version that the control plane never gave.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping

import msgspec
from envoy.config.core.v3 import base_pb2
from envoy.service.discovery.v3 import discovery_pb2 as discovery
from google.protobuf.message import DecodeError

from fairlead.agent.effects import (
    CloseUpstream,
    Effect,
    Fetch,
    HealthSeen,
    Look,
    OpenUpstream,
    Save,
    ToEnvoy,
    ToUpstream,
    Withheld,
)
from fairlead.agent.filereferences import may_name, named
from fairlead.agent.flow import UNSURE, WILDCARD, Flow, Sent, without
from fairlead.agent.modules import Failed, Module, Outcome, Ready, filled, needed
from fairlead.envoy.resource import CLUSTER, EXTENSION, LISTENER, MAKE_BEFORE_BREAK
from fairlead.xds.patch import METADATA as PATCHES
from fairlead.xds.patch import PATCH, NotApplicable, apply
from fairlead.xds.patch_pb2 import Patch

HEALTH = "type.googleapis.com/istio.v1.HealthInformation"
NAME_TABLE = "type.googleapis.com/istio.networking.nds.v1.NameTable"
NAME_FILES = (CLUSTER, LISTENER)
"""Types whose resources may name files."""

Stored = Mapping[str, tuple[str, bytes]]


class Unhealthy(msgspec.Struct, frozen=True):
    """The workload's health as reported upstream: `reason` says why it is bad."""

    reason: str


class Relay:
    """The machine. Every method returns the effects in order; the shell carries them out in that order."""

    def __init__(self, good: Mapping[str, Stored]) -> None:
        self._good: dict[str, dict[str, tuple[str, bytes]]] = {kind: dict(items) for kind, items in good.items()}
        self._flows: dict[str, Flow] = {}
        self._node: base_pb2.Node | None = None
        self._upstream_open = False
        self._waiting = False
        self._generation = 0
        self._node_sent = False
        self._local = 0
        self._health: Unhealthy | None = None
        self._health_known = False
        self._modules: dict[str, Module] = {}
        self._outcomes: dict[Module, Outcome] = {}
        self._files: dict[str, str] = {}
        self._behind: deque[tuple[Flow, Sent]] = deque()

    # What others may look at.

    def good(self, type_url: str) -> Stored:
        """The last good resources of a type: name to (version, serialised `Resource`)."""
        return self._good.get(type_url, {})

    @property
    def connected(self) -> bool:
        """Whether a control plane stream is open."""
        return self._upstream_open

    @property
    def synced(self) -> bool:
        """Whether the running Envoy has acknowledged clusters and listeners, from wherever they came."""
        return all(kind in self._flows and self._flows[kind].acked for kind in (CLUSTER, LISTENER))

    def counts(self) -> dict[str, int]:
        """The number of resources that Envoy has, by type."""
        return {kind: len(flow.have) for kind, flow in self._flows.items()}

    def wants(self, module: Module) -> bool:
        """Whether some configuration still needs a module."""
        return module in self._modules.values()

    def files(self) -> set[str]:
        """The secrets of files that matter: Envoy runs with them, waits for them, or would have them."""
        return {
            name
            for flow in self._flows.values()
            for resources in (flow.running, flow.lacking, *(sent.files for sent in flow.sent))
            for some in resources.values()
            for name in some
        }

    def unwell(self) -> list[str]:
        """What is wrong with files that Envoy runs with: it keeps what was in them."""
        running = {name for flow in self._flows.values() for some in flow.running.values() for name in some}
        return [said for name in sorted(running) if (said := self._files.get(name, ""))]

    # Envoy's side.

    def envoy_opened(self) -> list[Effect]:
        """Envoy opened a stream (for the first time, or anew after a crash)."""
        self._flows = {}
        self._modules, self._outcomes, self._files = {}, {}, {}
        self._behind.clear()
        self._upstream_open = False
        self._waiting = True
        return []

    def envoy_closed(self) -> list[Effect]:
        """Envoy's stream ended."""
        self._flows = {}
        self._modules, self._outcomes, self._files = {}, {}, {}
        self._behind.clear()
        self._upstream_open = False
        self._node_sent = False
        return [CloseUpstream()]

    def envoy_request(self, request: discovery.DeltaDiscoveryRequest) -> list[Effect]:
        """A message of Envoy: a subscription, an answer to a response, or both."""
        if request.HasField("node"):
            self._node = request.node
        kind = request.type_url
        effects: list[Effect] = [] if self._flows else [OpenUpstream()]
        flow = self._flows.setdefault(kind, Flow())
        current = flow.asked_in == self._generation and self._upstream_open
        forward = current
        if request.response_nonce:
            sent = self._answered(flow, request.response_nonce)
            if sent is not None:
                effects += self._settle(kind, flow, sent, request.HasField("error_detail"))
                words = sent.object(kind, request)
                effects += [Withheld(kind, words)] if words else []
                forward = forward and sent.generation == self._generation
        flow.subscribe(request)
        if kind == EXTENSION and request.resource_names_unsubscribe:
            self._forget(request.resource_names_unsubscribe)
        if forward:
            return [*effects, self._upstream(request)]
        subscribed = list(request.resource_names_subscribe)
        if current:
            if subscribed or request.resource_names_unsubscribe:
                effects.append(self._upstream(_subscription_only(request)))
        elif self._upstream_open:
            effects += self._ask(kind, flow)
        else:
            effects += self._serve(kind, flow, again=subscribed)
        return effects

    def _answered(self, flow: Flow, nonce: str) -> Sent | None:
        """Envoy answers in order, so an answer also settles whatever it skipped."""
        while flow.sent:
            sent = flow.sent.popleft()
            if sent.nonce == nonce:
                return sent
        return None

    def _settle(self, kind: str, flow: Flow, sent: Sent, refused: bool) -> list[Effect]:
        flow.settle(sent, refused)
        if refused or sent.missing or not sent.generation:
            return []
        known = self._good.get(kind, {})
        kept = {name: item for name, item in known.items() if name in flow.have}
        given = flow.have.keys() - sent.lacking.keys()
        kept.update((name, item) for name, item in sent.added.items() if name in given)
        for name in sent.removed:
            kept.pop(name, None)
        if kept == known and kind in self._good:
            return []
        self._good[kind] = kept
        return [Save(kind)]

    # The control plane's side.

    def upstream_opened(self) -> list[Effect]:
        """A new stream to the control plane is open and empty."""
        if self._node is None:
            return []
        self._upstream_open = True
        self._waiting = False
        self._node_sent = False
        self._generation += 1
        effects: list[Effect] = []
        for kind in sorted(self._flows, key=_order):
            effects += self._ask(kind, self._flows[kind])
        effects.append(self._ask_table())
        if self._health_known:
            effects.append(self._report())
        return effects

    def upstream_closed(self) -> list[Effect]:
        """The control plane's stream ended, or could not be opened."""
        self._upstream_open = False
        self._waiting = False
        effects: list[Effect] = []
        for kind in sorted(self._flows, key=_order):
            effects += self._serve(kind, self._flows[kind])
        return [*effects, *self._cured()]

    def upstream_silent(self) -> list[Effect]:
        """The control plane kept Envoy's first requests waiting for too long: serve what was good before."""
        clusters = self._flows.get(CLUSTER)
        if clusters is None or clusters.answered or CLUSTER not in self._good:
            return []
        return [*self.upstream_closed(), OpenUpstream()]

    def upstream_response(self, body: bytes) -> list[Effect]:
        """A DeltaDiscoveryResponse of the control plane."""
        message = discovery.DeltaDiscoveryResponse.FromString(body)
        if not self._upstream_open:
            return []
        if message.type_url == HEALTH:
            return [HealthSeen()]
        try:
            body = self._whole(message) or body
        except (NotApplicable, DecodeError):
            # It is told on a new stream what is here, and sends the rest whole.
            return [*self.upstream_closed(), OpenUpstream()]
        if message.type_url == NAME_TABLE:
            return self._table(message)
        flow = self._flows.get(message.type_url)
        if flow is None:
            return []
        return self._give(flow, message, body, self._generation)

    # Modules.

    def _give(
        self, flow: Flow, message: discovery.DeltaDiscoveryResponse, body: bytes, generation: int
    ) -> list[Effect]:
        """Send a response to Envoy, or hold it back until its modules are there; later ones wait behind it."""
        flow.answered = True
        sent = Sent(message, generation)
        flow.sent.append(sent)
        if message.type_url != EXTENSION:
            return self._look(flow, sent, message, body)
        sent.needs, sent.held = needed(message), message
        self._forget((*sent.removed, *sent.added))
        self._modules.update(sent.needs)
        known = {*self._outcomes, *(one for other in flow.sent if other is not sent for one in other.needs.values())}
        unknown = sorted({*sent.needs.values()} - known, key=lambda one: one.url)
        return [*self._release(flow), *(Fetch(one) for one in unknown)]

    def _release(self, flow: Flow) -> list[Effect]:
        made: list[Effect] = []
        for sent in flow.sent:
            if sent.held is None:
                continue
            if any(one not in self._outcomes for one in sent.needs.values()):
                break
            body, sent.missing = filled(sent.held, sent.needs, self._outcomes)
            sent.held = None
            made.append(ToEnvoy(body))
        return made

    def _forget(self, names: Iterable[str]) -> None:
        for name in names:
            self._modules.pop(name, None)
        waiting = {one for flow in self._flows.values() for sent in flow.sent for one in sent.needs.values()}
        wanted = waiting.union(self._modules.values())
        self._outcomes = {one: outcome for one, outcome in self._outcomes.items() if one in wanted}

    def module(self, module: Module, outcome: Outcome) -> list[Effect]:
        """A module is there, or cannot be had (for now: a later outcome replaces this one)."""
        flow = self._flows.get(EXTENSION)
        if flow is None or not self.wants(module):
            return []
        before = self._outcomes.get(module)
        self._outcomes[module] = outcome
        effects = self._release(flow)
        if not (isinstance(before, Failed) and isinstance(outcome, Ready)):
            return effects
        names = [name for name, one in self._modules.items() if one == module]
        if self._upstream_open:
            return [*effects, *self.again()]
        return [*effects, *self._serve(EXTENSION, flow, again=names)]

    # Files.

    def _look(self, flow: Flow, sent: Sent, message: discovery.DeltaDiscoveryResponse, body: bytes) -> list[Effect]:
        """Send a response to Envoy, or hold it back until the files that it names have been looked at.

        What comes after it, of any type, waits behind it: a changed cluster warms until endpoints come that Envoy does
        not ask for, as it has them already.
        """
        if message.type_url in NAME_FILES and may_name(body):
            found = {one.name: named(one.resource.value) for one in message.resources}
            sent.files = {name: files for name, files in found.items() if files}
        if not sent.files and not self._behind:
            flow.forget(sent)
            return [ToEnvoy(body)]
        sent.held = message
        sent.awaits = {name for files in sent.files.values() for name in files}
        self._behind.append((flow, sent))
        return [Look(name) for name in sorted(sent.awaits)]

    def _looked(self) -> list[Effect]:
        """Send what waited for files, and what waited behind it, in the order in which it came."""
        made: list[Effect] = []
        while self._behind and not self._behind[0][1].awaits:
            flow, sent = self._behind.popleft()
            flow.forget(sent)
            for resource, names in sent.files.items():
                if said := "; ".join(filter(None, (self._files.get(name, "") for name in names))):
                    sent.lacking[resource] = said
                    flow.lacking[resource] = names
            if sent.held is not None:
                made.append(ToEnvoy(without(sent.held, sent.lacking)))
            sent.held = None
        return made

    def file(self, name: str, problem: str) -> list[Effect]:
        """How the files of a secret are: "" if Envoy would take them, else what is wrong."""
        lacking = any(name in names for flow in self._flows.values() for names in flow.lacking.values())
        other = lacking and self._files.get(name, problem) != problem
        self._files[name] = problem
        for _, sent in self._behind:
            sent.awaits.discard(name)
        effects = self._looked()
        if not problem:
            return [*effects, *self._cured()]
        # What was said of it is not so any more: it is said anew.
        return [*effects, *self.again()] if other else effects

    def _cured(self) -> list[Effect]:
        """What Envoy was not given, and would be now, comes again: from the control plane, or from the cache."""
        if self._waiting:
            return []
        effects: list[Effect] = []
        cured = False
        for kind, flow in self._flows.items():
            well = [one for one, names in flow.lacking.items() if not any(self._files.get(name) for name in names)]
            for one in well:
                del flow.lacking[one]
            cured = cured or bool(well)
            if well and not self._upstream_open:
                effects += self._serve(kind, flow, again=well)
        return [*effects, *self.again()] if cured else effects

    def again(self) -> list[Effect]:
        """What Envoy has refused it would take now: refused versions are not sent again on the same stream."""
        return [*self.upstream_closed(), OpenUpstream()] if self._upstream_open else []

    def _whole(self, message: discovery.DeltaDiscoveryResponse) -> bytes:
        """Put whole resources in the place of differences; the message anew, or nothing if it has none.

        A difference is against what Envoy has acknowledged, which is what is good. Raises NotApplicable.
        """
        found = False
        good = self.good(message.type_url)
        for one in message.resources:
            if one.resource.type_url != PATCH:
                continue
            found = True
            patch = Patch.FromString(one.resource.value)
            version, kept = good.get(one.name, ("", b""))
            one.resource.value = apply(patch, version, discovery.Resource.FromString(kept).resource.value)
            one.resource.type_url = patch.type_url
        return message.SerializeToString() if found else b""

    def health(self, problem: Unhealthy | None) -> list[Effect]:
        """The workload's health changed, or is known for the first time."""
        if self._health_known and problem == self._health:
            return []
        self._health_known, self._health = True, problem
        return [self._report()] if self._upstream_open else []

    # Making messages.

    def _ask(self, kind: str, flow: Flow) -> list[Effect]:
        """Subscribe a type on this upstream stream, unless Envoy still owes an answer."""
        if flow.fresh or flow.sent or flow.asked_in == self._generation:
            return []
        flow.asked_in = self._generation
        flow.lacking.clear()  # it will come anew
        request = discovery.DeltaDiscoveryRequest(type_url=kind, initial_resource_versions=flow.have)
        if flow.wildcard and flow.names:
            request.resource_names_subscribe.append(WILDCARD)
        request.resource_names_subscribe.extend(sorted(flow.names))
        nothing = not flow.wildcard and not flow.names  # an empty first request would mean everything
        return [] if nothing else [self._upstream(request)]

    def _ask_table(self) -> ToUpstream:
        held = {name: version for name, (version, _) in self.good(NAME_TABLE).items()}
        return self._upstream(
            discovery.DeltaDiscoveryRequest(type_url=NAME_TABLE, initial_resource_versions=held),
        )

    def _table(self, message: discovery.DeltaDiscoveryResponse) -> list[Effect]:
        table = self._good.setdefault(NAME_TABLE, {})
        table.update({one.name: (one.version, one.SerializeToString()) for one in message.resources})
        for name in message.removed_resources:
            table.pop(name, None)
        answer = discovery.DeltaDiscoveryRequest(type_url=NAME_TABLE, response_nonce=message.nonce)
        return [self._upstream(answer), Save(NAME_TABLE)]

    def _report(self) -> ToUpstream:
        request = discovery.DeltaDiscoveryRequest(type_url=HEALTH)
        if self._health is not None:
            request.error_detail.code = 13
            request.error_detail.message = self._health.reason[:1024]
        return self._upstream(request)

    def _upstream(self, request: discovery.DeltaDiscoveryRequest) -> ToUpstream:
        if not self._node_sent:
            self._node_sent = True
            if self._node is not None:
                request.node.CopyFrom(self._node)
                request.node.metadata[PATCHES] = True
        elif request.HasField("node"):
            request.ClearField("node")
        # Agents that are alike say the same in the same bytes, and the control plane reads them once.
        return ToUpstream(request.SerializeToString(deterministic=True))

    def _serve(self, kind: str, flow: Flow, again: Iterable[str] = ()) -> list[Effect]:
        """Answer from the cache what Envoy asked for and does not have; `again` is sent in any case."""
        if self._waiting or flow.fresh:
            return []
        good = self._good.get(kind)
        if good is None:
            return []
        on_the_way = {name for sent in flow.sent for name in sent.added}
        wanted = {name for name in flow.names if flow.have.get(name, UNSURE) == UNSURE} - on_the_way
        first = flow.wildcard and not flow.answered
        if first:
            wanted.update(good)
        wanted.update(name for name in again if name != WILDCARD)
        found = sorted(wanted & good.keys())
        if not found and not first:
            return []
        self._local += 1
        message = discovery.DeltaDiscoveryResponse(type_url=kind, nonce=f"cached-{self._local}")
        for name in found:
            message.resources.append(discovery.Resource.FromString(good[name][1]))
        return self._give(flow, message, message.SerializeToString(), 0)


def _subscription_only(request: discovery.DeltaDiscoveryRequest) -> discovery.DeltaDiscoveryRequest:
    """The request without its answer, which belongs to a stream that is gone."""
    return discovery.DeltaDiscoveryRequest(
        type_url=request.type_url,
        resource_names_subscribe=request.resource_names_subscribe,
        resource_names_unsubscribe=request.resource_names_unsubscribe,
    )


def _order(kind: str) -> int:
    return MAKE_BEFORE_BREAK.index(kind) if kind in MAKE_BEFORE_BREAK else len(MAKE_BEFORE_BREAK)
