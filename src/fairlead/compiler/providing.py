"""Services that MeshConfig names: under which name the clusters of a workload lead to them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from fairlead.compiler.hosts import NameKey, destination_name, host, host_named, settings
from fairlead.compiler.scope import special
from fairlead.inc import Reader, rule
from fairlead.ir.address import Address
from fairlead.ir.credential import read_name
from fairlead.model.diagnostic import Diagnostic, Severity

UNUSABLE_CODE = "FL2801"
"""A provider cannot be used."""


class Fault(NamedTuple):
    """Why a provider is not used: what is wrong, which part of a Telemetry object asks for it ("": any), a remedy."""

    wrong: str
    part: str = ""
    remedy: str = "Mend the provider."


def address_seen(r: Reader, namespace: str, name: str, said: Address, *, grpc: bool) -> Address | Fault:
    """The address under the name by which clusters of a namespace's workloads know it, or why it has no such."""
    for hostname in _spelled(said.hostname, settings(r).domain_suffix):
        wanted = destination_name(r, hostname)
        at = host_named(r, NameKey(special(r, namespace).seen_by(wanted), wanted))
        found = host(r, at) if at is not None else None
        if at is None or found is None or said.namespace not in ("", at.namespace):
            continue
        port = found.port(said.port)
        if port is None:
            return Fault(f"provider {name!r}: host {hostname!r} has no port {said.port}")
        if grpc and not port.protocol.is_http2:
            wrong = f"provider {name!r}: port {said.port} of {hostname!r} is not known as gRPC"
            return Fault(wrong, remedy="Name the port grpc or http2, or set its appProtocol.")
        return Address(at.namespace, wanted, said.port)
    where = f"{said.namespace}/" if said.namespace else ""
    wrong = f"provider {name!r}: there is no host {where + said.hostname!r} that this workload sees"
    return Fault(wrong, remedy="Name a host of the mesh: create a ServiceEntry for one outside, or export it.")


def _spelled(hostname: str, suffix: str) -> Iterator[str]:
    yield hostname
    if hostname.count(".") == 1:
        yield f"{hostname}.svc.{suffix}"
    if hostname.endswith(".svc"):
        yield f"{hostname}.{suffix}"


class ServedKey(NamedTuple):
    """A credential that a server of secrets may have, for proxies of a namespace."""

    namespace: str
    name: str


@rule
def secret_server(r: Reader, key: ServedKey) -> Address | None:
    """The server that has a credential; None where MeshConfig names none, or none that is there.

    Istio's rules: the one that is for this credential, else the first.
    """
    known = settings(r).secret_servers
    if not known:
        return None
    chosen = next((one for one in known if one.credential == key.name), known[0])
    found = address_seen(r, key.namespace, chosen.provider, chosen.address, grpc=True)
    if not isinstance(found, Fault):
        return found
    origin = settings(r).origin
    if origin is not None:
        r.report(Diagnostic(UNUSABLE_CODE, Severity.WARNING, f"not used: {found.wrong}", origin, found.remedy))
    return None


def sources_of(r: Reader, namespace: str, names: Iterable[str]) -> Mapping[str, Address]:
    """The servers of those credentials that come from one, by the names that objects give them."""
    found: dict[str, Address] = {}
    for text in names:
        said = read_name(text)
        server = secret_server(r, ServedKey(namespace, said.name)) if said.served else None
        if server is not None:
            found[text] = server
    return found
