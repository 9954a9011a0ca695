"""TLS and TCP routes of sidecars: which filter chains a host's port has, and where they lead.

Conditions that hold for a proxy as a whole (its labels and namespace, the port, the gateways) are decided here; what
only a connection shows (SNI, destination address) becomes a filter chain's match. Semantics:
VirtualService `tls` and `tcp`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from fairlead.compiler.hosts import NameKey, destination_name, host, host_named, settings
from fairlead.compiler.outboundports import Caller
from fairlead.compiler.policies import PolicyKey, effective, patterns, policy_for
from fairlead.compiler.scope import special
from fairlead.compiler.sidecars import namespace_of, sees_routes
from fairlead.compiler.statnames import outbound_stat_name
from fairlead.envoy import names
from fairlead.envoy.listener import Match, match
from fairlead.envoy.overlap import Taken
from fairlead.envoy.tcpproxy import TcpTarget
from fairlead.inc import Reader, rule
from fairlead.ir.host import Host, HostKey, Resolution
from fairlead.ir.protocol import Protocol
from fairlead.ir.route import (
    MESH,
    ROUTES_BY_MESH_HOST,
    ROUTES_MESH,
    ROUTES_PARTIAL,
    Destination,
    L4Match,
    L4Rule,
    RouteSet,
)
from fairlead.ir.view import selects
from fairlead.ir.visibility import host_matches, is_visible
from fairlead.model.diagnostic import Origin


class TcpChain(msgspec.Struct, frozen=True):
    """A filter chain that forwards bytes. `origin` is the object that asked for it."""

    matching: Match
    target: TcpTarget
    origin: Origin


class ChainsKey(msgspec.Struct, frozen=True):
    """A port of a host at a listener that other hosts may share, as a caller has it.

    `subnet` limits the destination; `shared` says that only the SNI tells hosts with TLS ports apart.
    """

    caller: Caller
    host: HostKey
    port: int
    subnet: str = ""
    shared: bool = False


@rule
def tcp_chains(r: Reader, key: ChainsKey) -> tuple[TcpChain, ...]:
    """The chains of one port, the more special first."""
    found = host(r, key.host)
    port = found.port(key.port) if found is not None else None
    if found is None or port is None:
        return ()
    routes = list(_routes(r, key.caller, found))
    made = _tls_chains(r, key, found, routes) if port.protocol.is_tls else _tcp_chains(r, key, found, routes)
    return tuple(made)


def destination_port(r: Reader, client_namespace: str, to: Destination, called_port: int) -> int:
    """The port of a destination: the one that it names, else its host's only one, else the one that was called."""
    if to.port:
        return to.port
    at = host_named(r, NameKey(namespace_of(client_namespace), destination_name(r, to.host)))
    found = host(r, at) if at is not None else None
    return found.ports[0].number if found is not None and len(found.ports) == 1 else called_port


def rule_target(r: Reader, caller: Caller, said: L4Rule, called_port: int, stat_prefix: str) -> TcpTarget | None:
    """Where a rule leads, None if nowhere. Several destinations share by weight under `stat_prefix`."""
    clusters: list[tuple[str, int]] = []
    for one in said.routes:
        to = one.destination
        port = destination_port(r, caller.namespace, to, called_port)
        if one.weight > 0 or len(said.routes) == 1:
            name = destination_name(r, to.host)
            clusters.append((names.subset_key("outbound", port, to.subset, name), one.weight))
    if not clusters:
        return None
    first = said.routes[0].destination
    return _with_policy(
        r,
        caller,
        TcpTarget(tuple(clusters), stat_prefix if len(clusters) > 1 else ""),
        host_named(r, NameKey(namespace_of(caller.namespace), destination_name(r, first.host))),
        first.subset,
        destination_port(r, caller.namespace, first, called_port),
    )


def holds(caller: Caller, condition: L4Match, port: int, gateway: str = MESH) -> bool:
    """Whether what is known of the proxy and port fulfils a condition."""
    return (
        (not condition.gateways or gateway in condition.gateways)
        and selects(condition.source_labels, caller.labels)
        and condition.port in (0, port)
        and condition.source_namespace in ("", namespace_of(caller.namespace))
    )


def _routes(r: Reader, caller: Caller, found: Host) -> Iterator[RouteSet]:
    """The route sets with TLS or TCP rules for a host, the oldest first."""
    default = settings(r).default_route_export_to
    rows = [row for pattern in patterns(found.key.hostname) for row in r.rows(ROUTES_BY_MESH_HOST, pattern)]
    partial = r.rows(ROUTES_PARTIAL, "")
    rows.extend(row for row in partial if any(host_matches(one, found.key.hostname) for one in row[1].hosts))
    if found.key.hostname.startswith("*"):
        # Rules may name single hosts out of those for which a wildcard stands.
        rows.extend(
            row for row in r.rows(ROUTES_MESH, "") if any(host_matches(found.key.hostname, one) for one in row[1].hosts)
        )
    own = namespace_of(caller.namespace)
    seen = {
        at: routes
        for at, routes in rows
        if (routes.tls or routes.tcp)
        and is_visible(routes.export_to or default, at.namespace, own)
        and sees_routes(r, caller.namespace, routes.hosts, at.namespace, exact=routes.gateway_api)
    }
    yield from sorted(seen.values(), key=lambda one: (one.created, one.key))


def _tls_chains(r: Reader, key: ChainsKey, found: Host, routes: Iterable[RouteSet]) -> Iterator[TcpChain]:
    taken: Taken[L4Rule] = Taken()
    handled = False
    own = (key.subnet,) if key.subnet else ()
    for one in routes:
        for said in one.tls:
            target = rule_target(r, key.caller, said, key.port, f"{one.key.name}.{one.key.namespace}")
            if target is None:
                continue
            for condition in said.matches:
                if holds(key.caller, condition, key.port):
                    matching = match(subnets=condition.destination_subnets or own, sni=condition.sni_hosts)
                    handled = True
                    yield from (TcpChain(part, target, said.origin) for part in taken.free(matching, said)[0])
    if not handled:
        sni = (found.key.hostname,) if key.shared or key.subnet else ()
        yield TcpChain(match(subnets=own, sni=sni), _own_target(r, key), found.origin)


def _tcp_chains(r: Reader, key: ChainsKey, found: Host, routes: Iterable[RouteSet]) -> Iterator[TcpChain]:
    own = (key.subnet,) if key.subnet else ()
    taken: Taken[Origin] = Taken()
    for one in routes:
        for said in one.tcp:
            subnets = _subnets(key, said)
            target = rule_target(r, key.caller, said, key.port, f"{one.key.name}.{one.key.namespace}")
            if subnets is None or target is None:
                continue
            parts, _ = taken.free(match(subnets=subnets or own), said.origin)
            yield from (TcpChain(part, target, said.origin) for part in parts)
            if not subnets:
                return
    parts, _ = taken.free(match(subnets=own), found.origin)
    yield from (TcpChain(part, _own_target(r, key), found.origin) for part in parts)


def _subnets(key: ChainsKey, said: L4Rule) -> tuple[str, ...] | None:
    """The destination networks for which a rule holds here: () for any, None if it does not hold at all."""
    if not said.matches:
        return ()
    subnets: list[str] = []
    for condition in said.matches:
        if holds(key.caller, condition, key.port):
            if not condition.destination_subnets:
                return ()
            subnets.extend(condition.destination_subnets)
    return tuple(subnets) or None


def _own_target(r: Reader, key: ChainsKey) -> TcpTarget:
    cluster = names.subset_key("outbound", key.port, "", key.host.hostname)
    return _with_policy(r, key.caller, TcpTarget(((cluster, 1),)), key.host, "", key.port)


def _with_policy(r: Reader, caller: Caller, target: TcpTarget, at: HostKey | None, subset: str, port: int) -> TcpTarget:
    """What a traffic policy says about connections, where Envoy takes it from the listener."""
    found = host(r, at) if at is not None else None
    if at is None or found is None:
        return target
    near = special(r, namespace_of(caller.namespace)).seen_by(at.hostname)
    client_labels = caller.labels if near else ()
    said = effective(r, policy_for(r, PolicyKey(near, client_labels, at)), subset, port, found)
    balancer = said.load_balancer
    served = found.port(port)
    over_mesh = not found.external and (said.tls is None or said.tls.mode == "ISTIO_MUTUAL")
    return msgspec.structs.replace(
        target,
        stat_prefix=target.stat_prefix or outbound_stat_name(r, found, port, subset),
        idle_timeout=said.tcp.idle_timeout if said.tcp is not None else None,
        max_connection_duration=said.tcp.max_connection_duration if said.tcp is not None else None,
        hash_source_ip=balancer is not None and balancer.hash is not None and balancer.hash.source_ip,
        tunnel=said.tunnel,
        sni_port=port if found.resolution is Resolution.DYNAMIC_DNS else 0,
        families=caller.families,
        detected=over_mesh and served is not None and served.protocol is Protocol.AUTO,
    )
