"""From a route, or a TCP proxy, to an endpoint: cluster, endpoint, and the connection that is made to it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment

from fairlead.envoy import names
from fairlead.envoy.resource import CLUSTER, ENDPOINT, SECRET
from fairlead.model.diagnostic import Origin
from fairlead.simulate.connection import Connection, Inside
from fairlead.simulate.upstream import Dialled, Picked, dial, limits, pick, spoken
from fairlead.simulate.visit import Visit
from fairlead.simulate.walk import Setting

_DNS = (Cluster.STRICT_DNS, Cluster.LOGICAL_DNS)


class Onward(NamedTuple):
    """The next connection. `external` is where the address is a name that only DNS knows; `shown` is its endpoint."""

    connection: Connection
    dialled: Dialled
    cluster: Cluster
    shown: str
    external: bool = False


class Wanted(NamedTuple):
    """What is to be forwarded: to which cluster, for which host, and what is spoken (and offered, if TCP says so)."""

    cluster: str
    host: str
    inside: Inside
    missing_status: int = 503
    alpn: tuple[str, ...] = ()
    http: bool = True
    origins: tuple[Origin, ...] = ()


def onward(visit: Visit, wanted: Wanted) -> Onward:
    """The connection to the endpoint that gets the request; raises Ended where there is none."""
    cluster, assignment = _cluster(visit, wanted)
    origins = visit.mesh.origins.cluster(cluster) or wanted.origins
    origins = (*origins, *visit.mesh.origins.patches(visit.proxy.view, CLUSTER, cluster.name))
    limited = limits(cluster)
    kind = Cluster.DiscoveryType.Name(cluster.type) if not cluster.HasField("cluster_type") else "by name"
    visit.say(
        "cluster",
        cluster.name,
        f"{kind}{'; ' + limited if limited else ''}",
        origins,
        setting=Setting(CLUSTER, cluster.name),
    )
    if cluster.HasField("cluster_type"):
        return _by_name(visit, wanted, cluster)
    if cluster.type == Cluster.ORIGINAL_DST:
        return _original(visit, wanted, cluster)
    picked = pick(assignment, visit.trail.preferred) if assignment is not None else None
    if picked is None:
        _nobody(visit, cluster, origins)
        raise visit.end(503 if wanted.http else 0, "UH", "no_healthy_upstream", "" if wanted.http else "reset")
    return _picked(visit, wanted, cluster, picked)


def _cluster(visit: Visit, wanted: Wanted) -> tuple[Cluster, ClusterLoadAssignment | None]:
    world = visit.mesh.world
    resource = visit.catalog[CLUSTER].get(wanted.cluster)
    endpoints = visit.catalog[ENDPOINT].get(wanted.cluster)
    if resource is None and visit.mesh.asks(visit.proxy.view):
        resource, endpoints = visit.mesh.on_demand(visit.proxy.view, wanted.cluster)
        if resource is not None:
            visit.say("cluster", wanted.cluster, "the proxy asks for it, and the request waits until it is there")
    if resource is None:
        _tell_missing(visit, wanted)
        status = wanted.missing_status if wanted.http else 0
        raise visit.end(status, "NC", "cluster_not_found", "" if wanted.http else "reset")
    cluster = world.cluster(resource)
    if cluster.type == Cluster.EDS and not cluster.HasField("cluster_type"):
        name = cluster.eds_cluster_config.service_name or cluster.name
        endpoints = visit.catalog[ENDPOINT].get(name) or endpoints
        return cluster, world.endpoints(endpoints) if endpoints is not None else None
    return cluster, cluster.load_assignment


def _tell_missing(visit: Visit, wanted: Wanted) -> None:
    """Say what of a cluster's name is not there: the host, its port, or the subset."""
    parts = wanted.cluster.split("|")
    said = "the proxy has no cluster of this name"
    origins = wanted.origins
    if len(parts) == 4:
        _, port, subset, host = parts
        seen = visit.mesh.origins.seen_host(visit.proxy.view.namespace, host)
        ports = visit.mesh.ports(host)
        if not ports:
            said = f"the mesh knows no host {host}"
        elif not seen:
            said = f"{host} is not visible in namespace {visit.proxy.view.namespace}"
        elif not visit.mesh.origins.shown(visit.proxy.view, host):
            said = f"{host} is not among the hosts that the caller's Sidecar lets it see"
            origins = (*visit.mesh.origins.limiting(visit.proxy.view), *origins)
        elif int(port or 0) not in ports:
            said = f"{host} has no port {port}, only {', '.join(map(str, ports))}"
        elif subset:
            said = f"no DestinationRule defines subset {subset} of {host}"
        else:
            said = f"{host} is not among what the proxy may call"
        origins = (*origins, *(one for one in seen if one not in origins))
    visit.say("cluster", wanted.cluster, said, origins, setting=Setting(CLUSTER, wanted.cluster), passed=False)


def _nobody(visit: Visit, cluster: Cluster, origins: tuple[Origin, ...]) -> None:
    said = "no endpoint"
    if cluster.name == names.BLACKHOLE_CLUSTER:
        said = "calls to hosts that the proxy does not see are not forwarded"
        origins = visit.mesh.origins.limiting(visit.proxy.view)
    else:
        parts = cluster.name.split("|")
        subset = parts[2] if len(parts) == 4 else ""
        said = f"no healthy endpoint{' with the labels of subset ' + subset if subset else ''}"
        chosen = visit.mesh.selected(parts[-1])
        sick = [one for one in chosen if not one.healthy]
        if sick:
            said += f"; unhealthy: {', '.join(one.key.name for one in sick[:3])}{' ...' if len(sick) > 3 else ''}"
            origins = (*visit.mesh.origins.placed(*(one.origin for one in sick[:3])), *origins)
        else:
            if not chosen and len(parts) == 4:
                said += ": the host's selector chooses no workload"
            choosing = visit.mesh.origins.choosing(cluster)
            origins = (*origins, *choosing) if subset else (*choosing, *origins)
    visit.say("endpoint", cluster.name, said, origins, setting=Setting(ENDPOINT, cluster.name), passed=False)


def _by_name(visit: Visit, wanted: Wanted, cluster: Cluster) -> Onward:
    """A dynamic forward proxy: the name in the request is looked up."""
    host, _, port = wanted.host.partition(":")
    dialled = dial(cluster, None, host)
    number = int(port) if port.isdigit() else 443 if dialled.tls else 80
    if visit.mesh.is_nowhere(visit.proxy.view, host):
        said = "no host of the mesh has this name, and it is none of another domain"
        visit.say("endpoint", f"{host}:{number}", said, passed=False)
        raise visit.end(503 if wanted.http else 0, "DF", "dns_resolution_failure", "" if wanted.http else "reset")
    visit.say("endpoint", f"{host}:{number}", "the name in the request is looked up in DNS")
    visit.name(cluster=cluster.name, endpoint=f"{host}:{number}")
    return Onward(
        _connection(visit, wanted, cluster, dialled, host, number), dialled, cluster, f"{host}:{number}", True
    )


def _original(visit: Visit, wanted: Wanted, cluster: Cluster) -> Onward:
    at = visit.connection
    address, port = at.address, cluster.original_dst_lb_config.upstream_port_override.value or at.port
    dialled = dial(cluster, None, wanted.host.partition(":")[0])
    visit.say("endpoint", f"{address}:{port}", "where the connection was going")
    visit.name(cluster=cluster.name, endpoint=f"{address}:{port}")
    return Onward(_connection(visit, wanted, cluster, dialled, address, port), dialled, cluster, f"{address}:{port}")


def _picked(visit: Visit, wanted: Wanted, cluster: Cluster, picked: Picked) -> Onward:
    said: list[str] = []
    if picked.others:
        said.append(f"one of {picked.others + 1}")
    if picked.priority:
        said.append(f"priority {picked.priority}: nobody nearer is healthy")
    if picked.locality:
        said.append(f"in {picked.locality}")
    where = Setting(ENDPOINT, cluster.name)
    external = cluster.type in _DNS and not _is_address(picked.address)
    origins: tuple[Origin, ...] = ()
    if external:
        said.append(f"the proxy looks {picked.address} up in DNS, which must know it")
        origins = visit.mesh.origins.looked_up(cluster, picked.address)
    visit.say("endpoint", picked.shown, ", ".join(said) or "the only one", origins, setting=where)
    visit.name(cluster=cluster.name, endpoint=picked.shown)
    dialled = dial(cluster, picked.endpoint, wanted.host.partition(":")[0])
    made = _connection(visit, wanted, cluster, dialled, picked.address, picked.port)
    return Onward(made, dialled, cluster, picked.shown, external)


def _is_address(text: str) -> bool:
    return text.replace(".", "").isdigit() or ":" in text


def _connection(
    visit: Visit, wanted: Wanted, cluster: Cluster, dialled: Dialled, address: str, port: int
) -> Connection:
    alpn = wanted.alpn or dialled.alpn
    before = visit.connection
    inside: Inside = spoken(cluster, wanted.inside, dialled.alpn) if wanted.http else wanted.inside
    if not dialled.tls:
        # Bytes of a client's own TLS that nobody has ended go on as they are.
        if before.tls and not visit.terminated:
            return Connection(
                address,
                port,
                visit.proxy.address,
                True,
                before.sni,
                before.alpn,
                before.certificate,
                before.trusted,
                inside,
            )
        return Connection(address, port, visit.proxy.address, inside=inside)
    inner: Inside = "tcp" if before.tls and not visit.terminated else inside
    identity = visit.proxy.identity if dialled.mesh else "a certificate" if dialled.presents else ""
    return Connection(address, port, visit.proxy.address, True, dialled.sni, alpn, identity, dialled.mesh, inner)


def missing_secret(visit: Visit, names_of: Iterable[str]) -> str:
    """The first credential that the control plane should have for the proxy, and has not; "" for none."""
    known = visit.catalog[SECRET]
    if not visit.mesh.complete:
        return ""
    return next((one for one in names_of if one.startswith(names.CREDENTIALS) and one not in known), "")


def tell_dialled(visit: Visit, made: Onward, *, http: bool) -> None:
    """Add the step of the TLS decision towards an endpoint; raises Ended where what it needs is not there."""
    dialled = made.dialled
    lacking = missing_secret(visit, dialled.secrets)
    if lacking:
        said = f"there is no Secret {lacking.removeprefix(names.CREDENTIAL_PREFIX)} for this"
        visit.say("upstream tls", "TLS", said, visit.mesh.origins.cluster(made.cluster), passed=False)
        flags, details = "UF", "upstream_reset_before_response_started{remote_connection_failure|TLS_error}"
        raise visit.end(503 if http else 0, flags, details, "" if http else "reset")
    where = Setting(CLUSTER, made.cluster.name, f"transportSocketMatches[{dialled.match}]" if dialled.match else "")
    origins = visit.mesh.origins.cluster_tls(made.cluster)
    if not dialled.tls:
        said = "the endpoint is not marked as taking mesh mTLS" if dialled.match else "the cluster says nothing of TLS"
        visit.say("upstream tls", "plaintext", said, origins, setting=where)
        return
    names_of_server = ", ".join(str(one.matcher.exact or one.matcher.prefix) for one in dialled.accepts[:3])
    parts = [f"SNI {dialled.sni}" if dialled.sni else "no SNI"]
    if made.connection.alpn:
        parts.append(f"offers {', '.join(made.connection.alpn)}")
    if names_of_server:
        parts.append(f"takes {names_of_server}")
    visit.say("upstream tls", "mesh mTLS" if dialled.mesh else "TLS", "; ".join(parts), origins, setting=where)
