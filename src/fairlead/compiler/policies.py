"""Which traffic policy a client uses for a host.

Istio's rules: the client's namespace is asked first, then the host's, then the root namespace; within a namespace the
most specific host pattern wins, and objects for one pattern that are exported alike are merged, those that select the
client first, then by age: the first general policy stands and subsets add up. Clients of the root namespace first take
only what it keeps for itself, so that what it says to the whole mesh does not stand before what a host's owner says.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from msgspec.structs import replace

from fairlead.compiler.hosts import settings
from fairlead.inc import Reader, rule
from fairlead.ir.filters import Pairs
from fairlead.ir.host import Host, HostKey
from fairlead.ir.traffic import (
    TRAFFIC_POLICIES,
    TRAFFIC_POLICIES_BY_HOST,
    TRAFFIC_POLICIES_PARTIAL,
    HashPolicy,
    HttpPool,
    LoadBalancer,
    Policy,
    Subset,
    TrafficPolicy,
    effective_policy,
)
from fairlead.ir.view import selects
from fairlead.ir.visibility import host_matches, is_visible


class PolicyKey(NamedTuple):
    """A host as clients of a namespace with these labels call it."""

    client_namespace: str
    client_labels: Pairs
    host: HostKey


@rule
def policy_for(r: Reader, key: PolicyKey) -> TrafficPolicy | None:
    """The merged policy for a host, or None where nobody says anything."""
    root = settings(r).root_namespace
    asked = [(key.client_namespace, key.client_namespace == root), (key.host.namespace, False), (root, False)]
    for namespace, private in dict.fromkeys(asked):
        for pattern in policy_patterns(r, key.host.hostname):
            found = _policies(r, key, namespace, pattern, private=private)
            if found:
                return _merge(_alike(found))
    return None


def patterns(hostname: str) -> Iterator[str]:
    """The host patterns of whole labels that cover a name, the most specific first: itself, `*.rest` ..., `*`."""
    yield hostname
    rest = hostname.removeprefix("*.")
    while "." in rest:
        rest = rest.partition(".")[2]
        yield f"*.{rest}"
    if hostname != "*":
        yield "*"


@rule
def policy_patterns(r: Reader, hostname: str) -> tuple[str, ...]:
    """The host patterns under which policies for a name may be, the most specific first."""
    partial = {one.host for _, one in r.rows(TRAFFIC_POLICIES_PARTIAL, "") if host_matches(one.host, hostname)}
    return tuple(sorted({*patterns(hostname), *partial}, key=lambda one: (one != hostname, -len(one))))


_BY_CLIENT = HashPolicy(source_ip=True)
"""What makes calls of one address go to one instance."""


def effective(r: Reader, policy: TrafficPolicy | None, subset: str, port: int, found: Host) -> Policy:
    """What holds for one port of a host or of a subset of it ("": none).

    A host may itself want that one client keeps one instance; a policy that says how to balance stands before that.
    """
    said = _upgraded(r, above(settings(r).baseline, effective_policy(policy, subset, port)), port, found)
    balancer = said.load_balancer or LoadBalancer()
    if not found.sticky or balancer.simple or balancer.hash is not None or balancer.utilization is not None:
        return said
    return replace(said, load_balancer=replace(balancer, hash=_BY_CLIENT))


def _upgraded(r: Reader, said: Policy, port: int, found: Host) -> Policy:
    """With HTTP/2 to a port of HTTP where the mesh wants that (`h2UpgradePolicy`) and nothing nearer says whether."""
    if not settings(r).h2_upgrade or not ((at := found.port(port)) and at.protocol.is_http):
        return said
    pool = said.http or HttpPool()
    return replace(said, http=replace(pool, h2_upgrade="UPGRADE")) if pool.h2_upgrade in ("", "DEFAULT") else said


def above(baseline: Policy, said: Policy) -> Policy:
    """What is said, and for a connection pool or outlier detection that is not the mesh's (`defaultTrafficPolicy`)."""
    unlimited = said.tcp is None and said.http is None
    return replace(
        said,
        tcp=baseline.tcp if unlimited else said.tcp,
        http=baseline.http if unlimited else said.http,
        outlier=said.outlier or baseline.outlier,
    )


def _policies(r: Reader, key: PolicyKey, namespace: str, pattern: str, *, private: bool) -> list[TrafficPolicy]:
    """What a namespace says of a pattern to the client; `private`: only what it says to nobody else.

    Those that name these very clients stand before those for everybody, older before younger.
    """
    default = settings(r).default_policy_export_to
    rows: list[TrafficPolicy] = []
    for at in r.find(TRAFFIC_POLICIES_BY_HOST, pattern):
        if at.namespace != namespace:
            continue
        found = r.get(TRAFFIC_POLICIES, at)
        if (
            found is not None
            and (not private or _exports(found.export_to or default, namespace) == {namespace})
            and is_visible(found.export_to or default, namespace, key.client_namespace)
            and (
                not found.selector or (namespace == key.client_namespace and selects(found.selector, key.client_labels))
            )
        ):
            rows.append(found)
    return sorted(rows, key=lambda one: (not one.selector, one.created, one.key))


def _exports(export_to: tuple[str, ...], namespace: str) -> set[str]:
    return {namespace if one == "." else one for one in export_to}


def _alike(found: list[TrafficPolicy]) -> list[TrafficPolicy]:
    """The policy that stands, with those merged into it: exported alike, for the same clients or for everybody."""
    first = found[0]
    exports = _exports(first.export_to, first.key.namespace)
    return [
        one
        for one in found
        if _exports(one.export_to, one.key.namespace) == exports and one.selector in (first.selector, ())
    ]


def _merge(found: list[TrafficPolicy]) -> TrafficPolicy:
    first = found[0]
    subsets: dict[str, Subset] = {}
    for one in found:
        for subset in one.subsets:
            subsets.setdefault(subset.name, subset)
    if len(found) == 1:
        return first
    # The oldest that says something of the whole host: one that only names subsets leaves that to the others.
    general = next((one for one in found if one.policy != Policy() or one.ports), first)
    return replace(first, policy=general.policy, ports=general.ports, subsets=tuple(subsets.values()))
