"""Findings about hosts and processes of a mesh that runs: judgements of facts that a shell has gathered.

Facts come from the control plane (what agents report, what proxies refuse), from the host itself, and from dialling.
`fairlead check` and `fairlead analyze` say the same of the same facts.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator

import msgspec

from fairlead.analyze.codes import CODES
from fairlead.analyze.finding import Finding, of_ref, placed
from fairlead.model.diagnostic import Origin
from fairlead.model.ref import Ref

MOST_SKEW = 5.0
"""Seconds by which two clocks may differ."""
MOST_BEHIND = 30.0
"""Seconds in which a proxy takes what it is sent."""
_LEAST_LIFE = 1 / 3
"""The share of a certificate's life below which it should have been renewed."""
_FEW = 3
_TAKEN = re.compile(r"cannot bind '?(?P<address>\[?[0-9a-fA-F.:]+\]?):(?P<port>\d+)'?: (Address already in use)")


class Clock(msgspec.Struct, frozen=True):
    """How far the clock of a host, or of a workload's, is ahead of the control plane's (seconds), by `slack` exact."""

    ref: Ref
    skew: float
    slack: float = 0


class ProxyFacts(msgspec.Struct, frozen=True):
    """A connected proxy as the control plane sees it. `behind` are seconds."""

    ref: Ref
    agent: str = ""
    envoy: str = ""
    behind: float = 0


class RefusalFacts(msgspec.Struct, frozen=True):
    """A resource that proxies refuse: Envoy's words for it (`error`), and the fields behind it, as far as known."""

    resource: str
    error: str
    proxies: tuple[Ref, ...]
    behind: tuple[Origin, ...] = ()


class Leaf(msgspec.Struct, frozen=True):
    """A workload's certificate: Unix seconds, and whether the mesh's authorities vouch for it (None: not known)."""

    begins: float
    ends: float
    trusted: bool | None = None


class ReplicaFacts(msgspec.Struct, frozen=True):
    """A replica on the host that is looked at.

    `captured`: its capture was looked at. `rules` is what is wrong with the rules of that, `names` why a name of the
    mesh is not resolved inside.
    """

    ref: Ref
    running: bool = True
    captured: bool = False
    certificate: Leaf | None = None
    rules: str = ""
    names: str = ""


class AgentFacts(msgspec.Struct, frozen=True):
    """What an agent says is wrong, "" what is well: why its certificate (which ends at `ends`, Unix seconds) could not
    be renewed, why calls do not reach the proxy, why names are not resolved, what is wrong with files that it uses.
    """

    ref: Ref
    certificate: str = ""
    ends: float = 0
    capture: str = ""
    names: str = ""
    files: str = ""


class EndpointFacts(msgspec.Struct, frozen=True):
    """An endpoint that was dialled, and why nobody answered ("" if somebody did)."""

    ref: Ref
    address: str
    port: int
    problem: str = ""


class ProcessFacts(msgspec.Struct, frozen=True):
    """A Process: the node that runs it ("": none), and its replicas; `said` is what the node says of them."""

    ref: Ref
    node: str
    ready: int
    wanted: int
    said: str = ""


def _found(code: str, ref: Ref, message: str, field: str = "") -> Finding:
    known = CODES[code]
    return Finding(known.severity, code, message, known.remedy, field=field, **of_ref(ref))


def _name(ref: Ref) -> str:
    return f"{ref.name}.{ref.namespace}" if ref.namespace else ref.name


def of_ports(taken: Iterable[tuple[Ref, str, int, str]]) -> Iterator[Finding]:
    """Ports that are wanted and cannot be had: whose, address, number, and what the system says."""
    for ref, address, port, said in taken:
        yield _found("FL3730", ref, f"{address}:{port}: {said}")


def of_clocks(clocks: Iterable[Clock]) -> Iterator[Finding]:
    """Clocks that differ from the control plane's."""
    for one in clocks:
        if abs(one.skew) >= MOST_SKEW + one.slack:
            where = "ahead of" if one.skew > 0 else "behind"
            yield _found("FL3734", one.ref, f"the clock is {abs(one.skew):.0f} s {where} the control plane's")


def of_refusals(refusals: Iterable[RefusalFacts]) -> Iterator[Finding]:
    """What proxies refuse, about the field that is behind it; about a proxy where that is not known."""
    for one in refusals:
        about = one.behind[0] if one.behind else Origin(one.proxies[0])
        who = _some([_name(each) for each in one.proxies])
        verb = "refuses" if len(one.proxies) == 1 else "refuse"
        taken = _TAKEN.search(one.error)
        if taken is not None:
            said = f"{who} cannot listen at {taken['address']}:{taken['port']}: something else does"
            found = _found("FL3730", about.ref, said, str(about.path))
        else:
            more = f"; behind it are also {_some(list(map(_named, one.behind[1:])))}" if one.behind[1:] else ""
            found = _found("FL3731", about.ref, f"{who} {verb} {one.resource}: {one.error}{more}", str(about.path))
        yield placed(found, about.position)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _FEW} more" if len(names) > _FEW else ""
    return ", ".join(names[:_FEW]) + more


def _named(one: Origin) -> str:
    where = f"{one.ref.namespace}/{one.ref.name}" if one.ref.namespace else one.ref.name
    return f"{one.ref.kind} {where} {one.path}".rstrip()


def of_proxies(proxies: Iterable[ProxyFacts], version: str) -> Iterator[Finding]:
    """Who is behind, and who is of another version than the control plane or the other Envoys."""
    listed = list(proxies)
    usual = Counter(one.envoy for one in listed if one.envoy).most_common(1)
    for one in listed:
        if one.behind > MOST_BEHIND:
            yield _found("FL3732", one.ref, f"{_name(one.ref)} is {one.behind:.0f} s behind")
        if one.agent and one.agent != version:
            said = f"the agent of {_name(one.ref)} is {one.agent}, the control plane {version}"
            yield _found("FL3733", one.ref, said)
        elif one.envoy and one.envoy != usual[0][0]:
            yield _found("FL3733", one.ref, f"{_name(one.ref)} has {one.envoy}, most have {usual[0][0]}")


def of_trust(lagging: Iterable[tuple[Ref, str]]) -> Iterator[Finding]:
    """Workloads that do not trust what the mesh trusts, and why that is known."""
    for ref, said in lagging:
        yield _found("FL3737", ref, f"{_name(ref)}: {said}")


def of_agents(agents: Iterable[AgentFacts], now: float) -> Iterator[Finding]:
    """What agents say of themselves and of their workloads."""
    for one in agents:
        name = _name(one.ref)
        if one.certificate:
            code = "FL3736" if one.ends > now else "FL3735"
            left = f"ends in {one.ends - now:.0f} s" if one.ends > now else f"ended {now - one.ends:.0f} s ago"
            said = f"the certificate of {name} {left} and could not be renewed: {one.certificate}"
            yield _found(code, one.ref, said)
        if one.capture:
            yield _found("FL3738", one.ref, f"the capture rules of {name}: {one.capture}")
        if one.names:
            yield _found("FL3739", one.ref, f"inside of {name}: {one.names}")
        if one.files:
            yield _found("FL3744", one.ref, f"{name} goes on with what was in files before: {one.files}")


def of_endings(endings: Iterable[tuple[Ref, float]], now: float, most: float = 3600) -> Iterator[Finding]:
    """Certificates, as agents report their ends, that should have been renewed: they end within `most` seconds."""
    for ref, end in endings:
        if end - now <= most:
            yield _found("FL3736", ref, f"the certificate of {_name(ref)} ends in {max(end - now, 0):.0f} s")


def of_replicas(replicas: Iterable[ReplicaFacts], now: float) -> Iterator[Finding]:
    """What is wrong with replicas on a host; of one that does not run nothing else is said."""
    for one in replicas:
        name = _name(one.ref)
        if not one.running:
            yield _found("FL3741", one.ref, f"the agent of {name} does not run")
            continue
        yield from _of_leaf(one.ref, one.certificate, now)
        if one.rules:
            yield _found("FL3738", one.ref, f"the capture rules of {name}: {one.rules}")
        if one.names:
            yield _found("FL3739", one.ref, f"inside of {name}: {one.names}")


def _of_leaf(ref: Ref, leaf: Leaf | None, now: float) -> Iterator[Finding]:
    name = _name(ref)
    if leaf is None:
        yield _found("FL3735", ref, f"{name} has no certificate")
    elif leaf.begins > now:
        said = f"the certificate of {name} holds in {leaf.begins - now:.0f} s only: is this host's clock late?"
        yield _found("FL3735", ref, said)
    elif leaf.ends <= now:
        yield _found("FL3735", ref, f"the certificate of {name} ended {now - leaf.ends:.0f} s ago")
    elif leaf.trusted is False:
        yield _found("FL3737", ref, f"the certificate of {name} was signed by no authority of the mesh")
    elif leaf.ends - now < (leaf.ends - leaf.begins) * _LEAST_LIFE:
        yield _found("FL3736", ref, f"less than a third of the life of the certificate of {name} is left")


def of_endpoints(endpoints: Iterable[EndpointFacts]) -> Iterator[Finding]:
    """Endpoints at which nobody answers."""
    for one in endpoints:
        if one.problem:
            said = f"{_name(one.ref)} at {one.address}:{one.port} ({one.problem})"
            yield _found("FL3740", one.ref, said, "spec.ports")


def of_processes(processes: Iterable[ProcessFacts]) -> Iterator[Finding]:
    """Processes that do not run as they should."""
    for one in processes:
        name = _name(one.ref)
        if not one.node:
            yield _found("FL3743", one.ref, f"no node runs {name}")
        elif one.ready < one.wanted:
            more = f": {one.said}" if one.said else ""
            yield _found("FL3742", one.ref, f"{name} {one.ready}/{one.wanted}{more}", "spec.replicas")
