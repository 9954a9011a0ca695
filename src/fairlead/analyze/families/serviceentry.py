"""ServiceEntries and Services: addresses, protocols and names of ports (semantics: Istio's own analyzers)."""

from __future__ import annotations

from collections.abc import Iterator

from fairlead.analyze import queries, shape
from fairlead.analyze.analyzer import Analyzer
from fairlead.analyze.document import HOSTS, SERVICE, SERVICE_ENTRY, Document, scopes
from fairlead.analyze.finding import Said
from fairlead.inc import Reader
from fairlead.ir.protocol import Protocol, port_protocol
from fairlead.model.path import SPEC


def addresses(r: Reader, one: Document) -> Iterator[Said]:
    """TCP ports of hosts without an address: two such hosts with one port cannot be told apart."""
    if shape.words(one.spec, "addresses") or shape.items(one.data, "status", "addresses") or _allocated(r):
        return
    for at, port in shape.entries(one.spec, "ports"):
        if shape.text(port, "protocol").upper() in ("", "TCP"):
            said = f"port {shape.number(port, 'number')} is TCP and the entry has no addresses to tell its hosts by"
            yield Said(
                "IST0134", said, SPEC.child("ports", at), "Set spec.addresses, or rely on those that are allotted."
            )


def _allocated(r: Reader) -> bool:
    metadata = shape.mapping(queries.mesh_config(r, ""), "defaultConfig", "proxyMetadata")
    on = {name for name, value in metadata.items() if str(value).lower() == "true"}
    return "ISTIO_META_DNS_CAPTURE" in on and bool(
        on & {"ISTIO_META_DNS_AUTO_ALLOCATE", "PILOT_ENABLE_IP_AUTOALLOCATE"}
    )


def protocols(r: Reader, one: Document) -> Iterator[Said]:
    """One host and port in two entries with different protocols, seen by the same clients."""
    shown = set(scopes(one))
    for host in shape.words(one.spec, "hosts"):
        for at, port in shape.entries(one.spec, "ports"):
            said, number = shape.text(port, "protocol").upper(), shape.number(port, "number")
            for ref, other in r.rows(HOSTS, queries.qualified(host, one.ref.namespace)):
                if ref == one.ref or other.sort != SERVICE_ENTRY or not _meet(shown, set(scopes(other))):
                    continue
                if any(
                    shape.number(theirs, "number") == number and shape.text(theirs, "protocol").upper() != said
                    for theirs in shape.items(other.spec, "ports")
                ):
                    text = f"{ref} gives {host} port {number} another protocol than {said or 'none'}"
                    yield Said("IST0177", text, SPEC.child("ports", at, "protocol"), "Agree on one protocol.")
                    return


def _meet(one: set[str], other: set[str]) -> bool:
    return bool(one & other) or ("*" in one and bool(other)) or ("*" in other and bool(one))


def port_names(_: Reader, one: Document) -> Iterator[Said]:
    """Ports whose protocol has to be detected, because neither name nor appProtocol says it."""
    if one.ref.namespace in queries.SYSTEM or _control_plane(one):
        return
    external = shape.text(one.spec, "type") == "ExternalName"
    for at, port in shape.entries(one.spec, "ports"):
        name, number = shape.text(port, "name"), shape.number(port, "port") or 0
        transport = shape.text(port, "protocol") or "TCP"
        found = port_protocol(number, name, shape.text(port, "appProtocol"), transport)
        if found is not Protocol.AUTO and not (external and name == "tcp"):
            continue
        path = SPEC.child("ports", at)
        if external:
            said = f"port {name or number} of an ExternalName service does not say its protocol, or says TCP"
            yield Said("IST0150", said, path, "Name it after its protocol: http, https, grpc, tls ...")
        else:
            said = f"port {number} is named {name!r}, which does not begin with a protocol: the proxy detects it"
            yield Said("IST0118", said, path, "Name it PROTOCOL-anything, or set appProtocol.")


def _control_plane(one: Document) -> bool:
    return "istio" in one.labels or one.labels.get("release") == "istio"


ANALYZERS = (
    Analyzer("serviceentry.Analyzer", ("IST0134",), (SERVICE_ENTRY,), addresses),
    Analyzer("serviceentry.ConflictingServiceEntryProtocolAnalyzer", ("IST0177",), (SERVICE_ENTRY,), protocols),
    Analyzer("service.PortNameAnalyzer", ("IST0118", "IST0150"), (SERVICE,), port_names),
)
