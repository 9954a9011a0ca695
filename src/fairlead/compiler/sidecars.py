"""Which Sidecar holds for a proxy, and what it lets the proxy see.

What a client sees is named by its *scope*. A namespace is one: what its clients see where no Sidecar says otherwise. A
Sidecar that says something makes others: `NAMESPACE/SIDECAR-NAMESPACE/SIDECAR` is everything that it lets the clients
of a namespace see, and with `/N` behind it what its egress listener number N does (`/-`: nothing, on ports for which it
has no listener). So proxies with the same Sidecar in the same namespace share everything, and rules that take a client
namespace take a scope as well.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from fairlead.inc import Reader, rule
from fairlead.ir.filters import Pairs
from fairlead.ir.host import Host
from fairlead.ir.mesh import MESH_KEY, MESHES, Mesh
from fairlead.ir.route import Destination
from fairlead.ir.sidecar import ANY, SIDECARS, SIDECARS_BY_NAMESPACE, EgressListener, Import, OutboundMode, Sidecar
from fairlead.ir.view import selects
from fairlead.model.diagnostic import Diagnostic, Severity
from fairlead.model.ref import NamespacedName

NOTHING = "-"
_ALL = Import(ANY, "*")


class SidecarKey(NamedTuple):
    """What of a proxy decides which Sidecar holds for it."""

    namespace: str
    labels: Pairs


class Outbound(msgspec.Struct, frozen=True):
    """What happens to calls to hosts that a client does not see; a proxy for them goes before `mode`."""

    mode: OutboundMode
    proxy: Destination | None = None


@rule
def sidecar_for(r: Reader, key: SidecarKey) -> NamespacedName | None:
    """The Sidecar of a proxy: one that chooses it, else the namespace's general one, else the mesh's.

    Of several the oldest stands. Reports the others.
    """
    root = _mesh(r).root_namespace
    here = _ranked(r, key.namespace)
    choosing = [one for one in here if one.selector and selects(one.selector, key.labels)]
    general = [one for one in here if not one.selector]
    for found in (choosing, general, [one for one in _ranked(r, root) if not one.selector]):
        if found:
            for lost in found[1:]:
                r.report(_unused(lost, found[0]))
            return found[0].key
    return None


@rule
def proxy_scope(r: Reader, key: SidecarKey) -> str:
    """The scope of a proxy: its namespace, unless a Sidecar lets it see something else."""
    at = sidecar_for(r, key)
    found = r.get(SIDECARS, at) if at is not None else None
    if found is None or (all(one.sees_all for one in found.egress) and not found.outbound_mode):
        return key.namespace
    return f"{key.namespace}/{found.key.namespace}/{found.key.name}"


def namespace_of(scope: str) -> str:
    """The client namespace of a scope."""
    return scope.partition("/")[0]


def is_limited(scope: str) -> bool:
    """Whether a Sidecar decides what is seen."""
    return "/" in scope


@rule
def listeners_of(r: Reader, scope: str) -> tuple[EgressListener, ...]:
    """The egress listeners of a scope that a Sidecar makes; one that sees everything if it names none."""
    _, where, name, *which = f"{scope}/".rstrip("/").split("/")
    sidecar = r.get(SIDECARS, NamespacedName(where, name))
    if sidecar is None:
        return ()
    egress = sidecar.egress or (EgressListener(sidecar.origin, (_ALL,)),)
    if not which:
        return egress
    return egress[int(which[0]) : int(which[0]) + 1] if which[0] != NOTHING else ()


@rule
def scopes_of(r: Reader, scope: str) -> tuple[tuple[int, str], ...]:
    """The scopes of a Sidecar's listeners, each with its port (0: all ports that no other one has); none apart."""
    return tuple((one.port, f"{scope}/{at}") for at, one in enumerate(listeners_of(r, scope)) if not one.is_apart)


@rule
def sockets_of(r: Reader, scope: str) -> tuple[tuple[str, str], ...]:
    """The Unix sockets of a Sidecar's listeners (`unix:///path`), each with the scope of what is seen there."""
    if scope.count("/") != 2:
        return ()
    return tuple((one.bind, f"{scope}/{at}") for at, one in enumerate(listeners_of(r, scope)) if one.is_socket)


def on_socket(r: Reader, scope: str, socket: str) -> str:
    """What a client sees at a Unix socket."""
    return dict(sockets_of(r, scope)).get(socket, f"{scope}/{NOTHING}")


@rule
def proxy_of(r: Reader, scope: str) -> tuple[str, int, str] | None:
    """Where a Sidecar has its proxies be HTTP proxies: address ("": loopback), port, and the scope of what is seen."""
    if scope.count("/") != 2:
        return None
    found = ((at, one) for at, one in enumerate(listeners_of(r, scope)) if one.is_http_proxy)
    return next(((one.bind, one.port, f"{scope}/{at}") for at, one in found), None)


def on_port(r: Reader, scope: str, port: int) -> str:
    """What a client sees on a port: its scope there."""
    if scope.count("/") != 2:
        return scope
    found = scopes_of(r, scope)
    exact = [one for number, one in found if number == port]
    return next(iter(exact or [one for number, one in found if not number]), f"{scope}/{NOTHING}")


def bound_address(r: Reader, scope: str) -> tuple[str, bool]:
    """The address of a listener's own, "" if it has none, and whether it is bound rather than redirected to."""
    if scope.count("/") != 3:
        return "", False
    for one in listeners_of(r, scope):
        return one.bind, not one.captured
    return "", False


def binds_itself(r: Reader, scope: str) -> bool:
    """Whether some egress listener of a Sidecar is bound rather than redirected to."""
    return is_limited(scope) and any(not one.captured for one in listeners_of(r, scope))


def sees_host(r: Reader, scope: str, found: Host) -> bool:
    """Whether a scope's Sidecar imports a host (always, if there is none)."""
    if not is_limited(scope):
        return True
    own = namespace_of(scope)
    return any(
        one.sees_host(found.key.hostname, found.key.namespace, own)
        and (not one.port or one.is_http_proxy or found.port(one.port) is not None)
        for one in listeners_of(r, scope)
    )


def sees_routes(r: Reader, scope: str, hosts: tuple[str, ...], namespace: str, *, exact: bool) -> bool:
    """Whether a scope's Sidecar imports the routing rules that an object of a namespace has for hosts."""
    if not is_limited(scope):
        return True
    own = namespace_of(scope)
    return any(one.sees_routes(hosts, namespace, own, exact=exact) for one in listeners_of(r, scope))


def imports_of(r: Reader, scope: str) -> Iterable[Import]:
    """What a scope's Sidecar imports, each once."""
    return sorted({one for listener in listeners_of(r, scope) for one in listener.imports})


@rule
def outbound_of(r: Reader, scope: str) -> Outbound:
    """What happens to calls to hosts that a scope does not show: as its Sidecar says, else as the mesh does."""
    if is_limited(scope):
        _, where, name, *_ = scope.split("/")
        sidecar = r.get(SIDECARS, NamespacedName(where, name))
        if sidecar is not None and sidecar.outbound_mode:
            return Outbound(sidecar.outbound_mode, sidecar.egress_proxy)
    return Outbound(_mesh(r).outbound_policy)


@rule
def mesh_hosts(r: Reader, _: str) -> tuple[str, ...]:
    """The hosts that every proxy calls for the mesh itself, whatever it sees: authorizers, tracers, loggers,
    servers of secrets.
    """
    mesh = _mesh(r)
    said = mesh.observability
    found = {one.hostname for one in mesh.authorizers}
    found.update(one.address.hostname for _name, one in said.tracers)
    found.update(one.address.hostname for _name, one in said.loggers if one.address is not None)
    if said.tracer is not None:
        found.add(said.tracer.address.hostname)
    if said.log_service is not None:
        found.add(said.log_service.hostname)
    found.update(one.address.hostname for one in mesh.secret_servers)
    return tuple(sorted(found))


def sidecar(r: Reader, key: SidecarKey) -> Sidecar | None:
    """The fact of the Sidecar of a proxy."""
    at = sidecar_for(r, key)
    return r.get(SIDECARS, at) if at is not None else None


def _ranked(r: Reader, namespace: str) -> list[Sidecar]:
    found = [one for _, one in r.rows(SIDECARS_BY_NAMESPACE, namespace)]
    return sorted(found, key=lambda one: (one.created, one.key))


def _mesh(r: Reader) -> Mesh:
    return r.get(MESHES, MESH_KEY) or Mesh()


def _unused(lost: Sidecar, kept: Sidecar) -> Diagnostic:
    what = "some of its workloads" if lost.selector else "the workloads of its namespace"
    return Diagnostic(
        "FL2000",
        Severity.WARNING,
        f"Sidecar {kept.key} is already in force for {what}; this one is not used for them",
        lost.origin,
        "Join the two, or let their selectors choose different workloads.",
    )
