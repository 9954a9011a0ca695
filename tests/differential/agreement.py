"""Whether what the simulator says of a call is what happened."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from fairlead.compiler.model import MeshModel
from fairlead.envoy.resource import CLUSTER
from fairlead.simulate.mesh import Mesh, Proxy
from fairlead.simulate.walk import Verdict, Walk
from fairlead.simulate.walker import walk
from tests.differential.calls import Call
from tests.differential.logs import Line
from tests.differential.reaching import SCRIPT
from tests.differential.reality import Seen
from tests.differential.topology import DOOR, PROXIED, SERVERS, WRITTEN, Workload

_SHARE = re.compile(r"% to ([^\s,;]+)")
"""In the words of a step: a cluster among which requests are shared out."""
_ASKED, _SCRIPT = "external authorization by ", f"filter {SCRIPT} "
"""How doubts begin that are none here: it is known what authorizers answer, and that scripts do nothing."""
_REASON = re.compile(r"\|.*(?=\})")
"""What OpenSSL and the kernel say of a connection that failed; the rest is Envoy's word for how it failed."""


class Known:
    """The workloads of the topology, as the simulator asks for them."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._all = [self._proxy(one) for one in PROXIED]

    def _proxy(self, one: Workload) -> Proxy:
        return Proxy(one.view(self._prefix), one.name, f"spiffe://cluster.local/ns/{one.namespace}/sa/{one.account}")

    def named(self, name: str, namespace: str) -> Sequence[Proxy]:
        """See `fairlead.simulate.mesh.Workloads`."""
        return [one for one in self._all if one.name == name and namespace in ("", one.view.namespace)]

    def at(self, address: str) -> Proxy | None:
        """See `fairlead.simulate.mesh.Workloads`."""
        return next((one for one in self._all if one.address == address), None)

    def routers(self) -> Sequence[Proxy]:
        """See `fairlead.simulate.mesh.Workloads`."""
        return self.named(DOOR.name, DOOR.namespace)

    def names(self) -> Sequence[str]:
        """See `fairlead.simulate.mesh.Workloads`."""
        return [one.shown for one in self._all]


class Compared(msgspec.Struct, frozen=True):
    """What differs, by what it is, said and seen; nothing: they agree. `undecided` is why the simulator cannot know."""

    differs: Mapping[str, tuple[Any, Any]] = {}
    undecided: tuple[str, ...] = ()


class Simulation:
    """The simulator over the same compiled mesh."""

    def __init__(self, model: MeshModel, prefix: str = WRITTEN) -> None:
        self._prefix = prefix
        self.mesh = Mesh(model, Known(prefix))

    def walk(self, call: Call, endpoint: str = "", cluster: str = "") -> Walk:
        """What the simulator says of a call, if that endpoint and cluster get it where several could."""
        caller, request = (
            msgspec.json.decode(
                msgspec.json.encode(one).replace(WRITTEN.encode(), self._prefix.encode()), type=type(one)
            )
            for one in (call.caller, call.request)
        )
        return walk(self.mesh, caller, request, endpoint, cluster)

    def compare(self, call: Call, seen: Seen) -> Compared:
        """The differences between what is said and what was seen."""
        first = seen.first
        endpoint, cluster = (first.endpoint or "", first.cluster or "") if first is not None else ("", "")
        found = self._compared(call, seen, self.walk(call, endpoint, cluster))
        if not found.differs or first is None or flags(first.flags) != "NC":
            return found
        # Envoy does not name a cluster that it does not have: it may be any of those among which requests are shared.
        shared = [name for step in self.walk(call).steps for name in _SHARE.findall(step.said)]
        others = (self._compared(call, seen, self.walk(call, "", name)) for name in shared)
        return next((one for one in others if not one.differs), found)

    def _compared(self, call: Call, seen: Seen, walked: Walk) -> Compared:
        verdict = walked.verdict
        asked = [one.removeprefix(_ASKED) for one in verdict.undecided if one.startswith(_ASKED)]
        left = [one for one in verdict.undecided if not one.startswith((_ASKED, _SCRIPT))]
        if left:
            return Compared(undecided=tuple(left))
        if asked and _denied(walked):
            # What comes after the authorizer does not count.
            answer = ("status", "flags", "details")
            said = (200 if call.request.protocol == "grpc" else 403, "UAEX", "ext_authz_denied")
            line = next((one for one in (seen.first, seen.second) if one is not None and one.details == said[2]), None)
            was = (seen.answer.status, flags(line.flags), line.details) if line is not None else (0, "", "")
            return Compared({name: pair for name, *pair in zip(answer, said, was, strict=True) if pair[0] != pair[1]})
        found: dict[str, tuple[Any, Any]] = {}
        for name, said, was in (*self._pairs(call, verdict, seen), *_told(walked, seen)):
            if said != was:
                found[name] = said, was
        return Compared(found)

    def _pairs(self, call: Call, verdict: Verdict, seen: Seen) -> list[tuple[str, Any, Any]]:
        first, ender = seen.first, ending(seen)
        if first is None:
            return [("nothing was logged", verdict.details, "connection_refused" if _refused(seen) else "?")]
        made: list[tuple[str, Any, Any]] = [("listener", verdict.listener, first.listener)]
        made.append(("chain", verdict.chain, first.chain or ""))
        if verdict.details == "tls_handshake" and first.refused:
            return made
        http = call.request.protocol != "tcp" and first.kind == "http"
        if http:
            made.append(("status", verdict.status, seen.answer.status))
            made.append(("route", verdict.route, first.route or ""))
            if first.route or verdict.route:
                made.append(("virtual host", verdict.virtual_host, first.host or ""))
        catalog = self.catalog(call)
        if not verdict.cluster or verdict.cluster in catalog[CLUSTER]:
            # Envoy does not name a cluster that it does not have.
            made.append(("cluster", verdict.cluster, first.cluster or ""))
        if http or verdict.reached:
            # Where the endpoint was never dialled the log has none.
            made.append(("endpoint", verdict.endpoint if first.endpoint else "", first.endpoint or ""))
        unreached = _nobody_there(seen, ender)
        if unreached and verdict.reached:
            return [one for one in made if one[0] != "status"]
        if ender is not None and http:
            made.append(("flags", flags(verdict.flags), flags(ender.flags)))
            made.append(("details", plain(verdict.details), plain(ender.details)))
        if ender is not None and not http:
            made.extend(_of_connection(verdict, first, ender))
        made.append(("reached", verdict.reached, bool(seen.answer.instance)))
        return made

    def catalog(self, call: Call) -> Mapping[str, Mapping[str, Any]]:
        """What the first proxy has."""
        caller = call.caller
        if caller.kind == "workload":
            one = next(one for one in PROXIED if one.name == caller.name)
        elif caller.kind == "internet":
            one = DOOR
        else:
            one = next(one for one in PROXIED if one.address == call.request.host)
        return self.mesh.catalog(one.view(self._prefix))


def _denied(walked: Walk) -> bool:
    """Whether one of the authorizers that are asked lets nobody pass."""
    asked = [step for step in walked.steps if step.stage == "external authorization"]
    return any(origin.ref.name.startswith("denying-") for step in asked for origin in step.origins)


def _told(walked: Walk, seen: Seen) -> list[tuple[str, Any, Any]]:
    """What the steps say beyond the verdict: where a redirect leads, and what the application sees of a rewrite."""
    made: list[tuple[str, Any, Any]] = []
    http = seen.first is not None and seen.first.kind == "http"
    for step in walked.steps:
        if step.said.startswith("redirects to ") and http and seen.answer.status:
            made.append(("location", step.said.removeprefix("redirects to "), seen.answer.headers.get("location")))
    if not (walked.verdict.reached and seen.answer.instance and http):
        return made
    for what, header in (("path", "x-saw-path"), ("host", "x-saw-host")):
        said = [found for step in walked.steps for found in re.findall(rf"{what} \S+ becomes ([^\s,;]+)", step.said)]
        # Proxies on the way write some characters otherwise.
        if said and not re.search(r'["<>^`{|}%]', said[-1]):
            made.append((f"{what} that is seen", said[-1], seen.answer.headers.get(header)))
    return made


def _of_connection(verdict: Verdict, first: Line, ender: Line) -> list[tuple[str, Any, Any]]:
    """What is comparable where the first proxy forwards bytes."""
    if ender.kind == "http":
        return [
            ("flags", flags(verdict.flags), flags(ender.flags)),
            ("details", plain(verdict.details), plain(ender.details)),
        ]
    said = verdict.details if verdict.details.startswith("rbac_") else ""
    was = ender.closed or ""
    came_from = ender if ender.kind == "listener" else first
    return [
        ("details", said, was if was.startswith("rbac_") else ""),
        ("flags", flags(verdict.flags), flags(came_from.flags)),
    ]


def ending(seen: Seen) -> Line | None:
    """The line of the proxy at which the call ended."""
    first, second = seen.first, seen.second
    if first is None or second is None:
        return first
    if (first.closed or "").startswith("rbac_"):
        return first
    # A proxy answers by itself where its connection to the next one came to nothing, whatever that one says of it.
    return second if first.details == "via_upstream" or first.kind == "tcp" else first


def flags(text: str | None) -> str:
    """Response flags in one order; retries that were used up are no reason of their own."""
    return ",".join(sorted(one for one in (text or "").split(",") if one not in ("", "-", "URX")))


def plain(text: str | None) -> str:
    """Response code details without what the operating system or the TLS library said."""
    return _REASON.sub("", text or "")


def _refused(seen: Seen) -> bool:
    return seen.answer.error.startswith("connect: ")


def _nobody_there(seen: Seen, ender: Line | None) -> bool:
    """Whether an upstream refused the connection, of which the simulator cannot know: it is no proxy of the mesh."""
    if ender is not None and flags(ender.flags) == "DF":
        return True  # what DNS knows is nothing that the simulator could know
    if ender is None or not ender.endpoint or "UF" not in (ender.flags or ""):
        return False
    at = ".".join(ender.endpoint.rpartition(":")[0].split(".")[-2:])
    return at not in {one.at for one in SERVERS}
