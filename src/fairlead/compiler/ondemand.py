"""Proxies that ask for clusters at the first call: which ones they have from the start.

Envoy asks for the cluster of a request whose route names one that it lacks. Nothing else of it asks: so clusters stay
to which bytes are forwarded, requests are copied, or Envoy itself calls (authorizers, tracers, loggers, rate limits).
All of that is one list for all that are seen alike; what a workload is known to call is a short list of its own, whose
cost is that of the hosts in it.
"""

from __future__ import annotations

from typing import NamedTuple

from fairlead.compiler.clusters import ClusterKey, OutboundKey, Way, clusters_in, clusters_of
from fairlead.compiler.hosts import NameKey, destination_name, host, host_named, settings
from fairlead.compiler.near import Near
from fairlead.compiler.reaching import called_anyway, is_reached, reached
from fairlead.compiler.scope import special
from fairlead.compiler.sidecars import is_limited, namespace_of
from fairlead.inc import Reader, rule
from fairlead.ir.host import HostKey
from fairlead.ir.learned import EVERYTHING, LEARNED
from fairlead.ir.route import ROUTES_NOT_ASKING
from fairlead.ir.view import Client, View
from fairlead.model.ref import NamespacedName


class Outside(NamedTuple):
    """What clusters and endpoints of other services depend on: who calls, whether by name, from where."""

    client: Client
    by_name: Way
    near: Near | None = None


class Learned(NamedTuple):
    """Clusters of hosts that a workload is known to call."""

    outside: Outside
    hosts: tuple[str, ...]


def asks(r: Reader, view: View) -> bool:
    """Whether a proxy asks for clusters when it needs them: as it says itself, else as the mesh does."""
    if view.type != "sidecar" or not view.workload_name or view.on_demand in ("", "false"):
        return False
    return view.on_demand == "true" or settings(r).scope == "learned"


def known_hosts(r: Reader, view: View) -> tuple[str, ...] | None:
    """The hosts that the workload of a reduced view is known to call; None if it is given all that it sees."""
    if view.on_demand != "true":
        return None
    found = r.get(LEARNED, NamespacedName(view.namespace, view.workload_name)) or ()
    return None if found == EVERYTHING else found


@rule
def standing_keys(r: Reader, key: Outside) -> tuple[ClusterKey, ...]:
    """The clusters that nobody could ask for, whoever the workload is."""
    kept = unasked_hosts(r, key.client.namespace)
    found: list[ClusterKey] = []
    for at in reached(r, key.client.namespace):
        wanted = _outbound(r, key, at)
        made = clusters_of(r, wanted) if at.hostname in kept else unasked_clusters(r, wanted)
        found.extend(one for one in made if is_reached(r, key.client.namespace, one.host, one.port))
    return tuple(found)


@rule
def learned_keys(r: Reader, key: Learned) -> tuple[ClusterKey, ...]:
    """The clusters of the hosts that are known to be called, as far as they are seen."""
    scope = key.outside.client.namespace
    if is_limited(scope):
        wanted = frozenset(key.hosts)
        hosts = [at for at in reached(r, scope) if at.hostname in wanted]
    else:
        hosts = [at for one in key.hosts if (at := host_named(r, NameKey(scope, one))) is not None]
    return tuple(one for at in hosts for one in clusters_in(r, scope, _outbound(r, key.outside, at)))


@rule
def unasked_clusters(r: Reader, key: OutboundKey) -> tuple[ClusterKey, ...]:
    """The clusters of a host to which bytes may be forwarded, by declaration or by detection."""
    found = host(r, key.host)
    ports = {one.number for one in found.ports if not one.protocol.is_http} if found is not None else set[int]()
    return tuple(one for one in clusters_of(r, key) if one.port in ports) if ports else ()


@rule
def unasked_hosts(r: Reader, scope: str) -> frozenset[str]:
    """The hosts of which all clusters stand: those that Envoy calls by itself, or that routes lead to otherwise than
    by a request."""
    found: set[str] = set()
    for _, routes in r.rows(ROUTES_NOT_ASKING, ""):
        found.update(to.destination.host for said in (*routes.tls, *routes.tcp) for to in said.routes)
        found.update(to.destination.host for said in routes.http for to in said.mirrors)
    return called_anyway(r, scope).union(destination_name(r, one) for one in found)


def _outbound(r: Reader, key: Outside, at: HostKey) -> OutboundKey:
    namespace = key.client.namespace
    near = special(r, namespace_of(namespace)).seen_by(at.hostname)
    return OutboundKey(near, key.client.labels if near else (), at, key.by_name, key.near)
