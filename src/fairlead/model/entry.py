"""Endpoints as ServiceEntry and WorkloadEntry write them (`networking.istio.io` WorkloadEntry)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated

from msgspec import Meta

from fairlead.model.diagnostic import Problem, Severity
from fairlead.model.object import Spec
from fairlead.model.path import FieldPath
from fairlead.model.syntax import (
    UNIX_PREFIX,
    is_ip,
    is_name_label,
    label_problems,
    port_problems,
    wrong_fqdn,
    wrong_unix_path,
)

TLS_MODE = "security.istio.io/tlsMode"
"""The label by which an instance says whether it accepts mesh mTLS: `istio`, or anything else for no."""


def accepts_mesh_mtls(labels: Mapping[str, str], service_account: str) -> bool:
    """As the label says; without it an instance that has an identity is taken to accept mesh mTLS, as in Istio."""
    return labels[TLS_MODE] == "istio" if TLS_MODE in labels else bool(service_account)


LOCALITY = "istio-locality"
"""The label that tells where an instance is, with dots in place of slashes (`REGION.ZONE.SUBZONE`)."""


def locality_said(labels: Mapping[str, str]) -> str:
    """The locality that labels tell, "" if they tell none; as in Istio dots stay where there are slashes."""
    said = labels.get(LOCALITY, "")
    return said if "/" in said else said.replace(".", "/")


class EntrySpec(Spec, frozen=True):
    """Where one instance of a service is reached."""

    address: Annotated[
        str,
        Meta(max_length=256, description="IP address, DNS name, or unix:///path; may be empty where network is set."),
    ] = ""
    ports: Annotated[
        dict[str, int],
        Meta(max_length=128, description="Port number by port name, where it differs from the service's target port."),
    ] = {}
    labels: Annotated[dict[str, str], Meta(max_length=256, description="Labels of the instance.")] = {}
    network: Annotated[str, Meta(max_length=2048, description="Network in which the address is reachable.")] = ""
    locality: Annotated[str, Meta(max_length=2048, description="REGION/ZONE/SUBZONE.")] = ""
    weight: Annotated[
        int, Meta(description="Share of the traffic, relative to the other instances.", ge=0, le=4294967295)
    ] = 0
    service_account: Annotated[
        str, Meta(max_length=253, description="Service account of the instance, in its namespace.")
    ] = ""


def entry_problems(
    entry: EntrySpec, path: FieldPath, *, known_ports: frozenset[str] | None = None, names_allowed: bool = True
) -> Iterator[Problem]:
    """What Istio's validation says of an endpoint. `known_ports`: the ServiceEntry's port names, if it has one."""
    address, unix = entry.address, entry.address.startswith(UNIX_PREFIX)
    if not address and not entry.network:
        remedy = "Set an IP address, a DNS name or unix:///path."
        yield Problem(path / "address", "Address is required", remedy=remedy, reason="FieldValueRequired")
        return
    if not address:
        said = f"address is unset with network {entry.network!r}"
        remedy = "The instance is reached through the gateways of that network only."
        yield Problem(path / "address", said, Severity.WARNING, remedy, code="FL0103")
    elif unix:
        yield from unix_problems(entry, path)
        if known_ports is not None and len(known_ports) != 1:
            yield Problem(path / "address", "a unix address needs a service with exactly one port")
    elif not is_ip(address):
        if not names_allowed:
            remedy = "STATIC resolution needs IP addresses; use resolution: DNS for names."
            yield Problem(path / "address", f"{address!r} is not an IP address", remedy=remedy)
        elif wrong_fqdn(address):
            yield Problem(path / "address", f"{address!r} is neither an IP address nor a domain name")
    for name in entry.ports:
        if known_ports is not None and name not in known_ports:
            remedy = f"Ports of the service: {', '.join(sorted(known_ports)) or 'none'}."
            yield Problem(path.child("ports", name), f"the service has no port named {name!r}", remedy=remedy)
    yield from named_port_problems(entry.ports, path / "ports")
    yield from label_problems(entry.labels, path / "labels")


def named_port_problems(ports: Mapping[str, int], path: FieldPath) -> Iterator[Problem]:
    """Names and numbers of an endpoint's ports. Istio's definition has names of less than 63 characters here."""
    for name, number in ports.items():
        if not is_name_label(name) or len(name) > 62:
            yield Problem(path / name, f"{name!r} is not a port name", remedy="Use a DNS label, 62 characters at most.")
        yield from port_problems(number, path / name)


def unix_problems(entry: EntrySpec, path: FieldPath) -> Iterator[Problem]:
    """What is wrong with an endpoint whose address is a Unix socket."""
    said = wrong_unix_path(entry.address)
    if said:
        remedy = "Use unix:///absolute/path or unix://@name; UDS may not be a dir."
        yield Problem(path / "address", said, remedy=remedy)
    if entry.ports:
        yield Problem(path / "ports", "UDS may not include ports", remedy="Remove ports.", reason="FieldValueForbidden")
