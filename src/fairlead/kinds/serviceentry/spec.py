"""Fields of ServiceEntry."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from fairlead.model.entry import EntrySpec
from fairlead.model.object import Spec

EntryResolution = Literal["NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN", "DYNAMIC_DNS"]


class ServicePort(Spec, frozen=True):
    """A port that clients call."""

    number: Annotated[int, Meta(description="The port clients call, 1 to 65535.")]
    name: Annotated[str, Meta(description="A DNS label, unique in the object.")]
    protocol: Annotated[
        str,
        Meta(
            description="HTTP, HTTPS, GRPC, GRPC-Web, HTTP2, MONGO, REDIS, MYSQL, TCP or TLS, in any case; "
            "empty: detected from the first bytes."
        ),
    ] = ""
    target_port: Annotated[int, Meta(description="The port on the endpoints; 0: the same number.")] = 0


class EntrySelector(Spec, frozen=True):
    """Chooses WorkloadEntries (and pods) of the namespace."""

    labels: Annotated[
        dict[str, str], Meta(max_length=256, description="Labels that an instance must have; empty chooses all.")
    ] = {}


class ServiceEntry(Spec, frozen=True):
    """A service that is not described by a Service: outside of the mesh, or made of WorkloadEntries."""

    hosts: Annotated[
        tuple[str, ...], Meta(description="Names that clients call; a first label may be a wildcard (*.example.com).")
    ]
    addresses: Annotated[
        tuple[str, ...], Meta(description="Virtual addresses or networks (CIDR) by which clients call the hosts.")
    ] = ()
    ports: Annotated[tuple[ServicePort, ...], Meta(description="Ports that clients call.")] = ()
    location: Annotated[
        Literal["MESH_EXTERNAL", "MESH_INTERNAL"],
        Meta(description="Whether the service belongs to the mesh. External services are called without mesh mTLS."),
    ] = "MESH_EXTERNAL"
    resolution: Annotated[
        EntryResolution,
        Meta(
            description="How an endpoint is found. NONE: the address that the client dialled; STATIC: endpoints as "
            "written; DNS: all addresses of a name; DNS_ROUND_ROBIN: one of them, as the name answers; DYNAMIC_DNS: "
            "the name that the client asked for."
        ),
    ] = "NONE"
    endpoints: Annotated[
        Annotated[tuple[EntrySpec, ...], Meta(max_length=4096)] | None,
        Meta(description="Where the service is; not together with workloadSelector."),
    ] = None
    workload_selector: Annotated[
        EntrySelector | None, Meta(description="Chooses the WorkloadEntries of the namespace that serve the hosts.")
    ] = None
    export_to: Annotated[
        tuple[str, ...],
        Meta(description="Namespaces that see the hosts: * (all), . (its own), ~ (none) or names. Empty: the default."),
    ] = ()
    subject_alt_names: Annotated[
        tuple[str, ...], Meta(description="Names that a server's certificate must carry one of.")
    ] = ()
