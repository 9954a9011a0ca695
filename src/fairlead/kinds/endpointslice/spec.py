"""The fields of an EndpointSlice: every field of Kubernetes' `discovery.k8s.io/v1`."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from fairlead.model.object import Spec

AddressType = Literal["IPv4", "IPv6", "FQDN"]
_WHOLE_LIST = {"x-kubernetes-list-type": "atomic"}


class Conditions(Spec, frozen=True):
    """How an endpoint is."""

    ready: Annotated[
        bool | None,
        Meta(description="If false, it is left out, unless the Service has publishNotReadyAddresses."),
    ] = None
    serving: Annotated[bool | None, Meta(description="Kept, without effect.")] = None
    terminating: Annotated[bool | None, Meta(description="Kept, without effect.")] = None


class TargetRef(Spec, frozen=True):
    """The object that an endpoint stands for."""

    api_version: Annotated[str, Meta(description="Its API version.")] = ""
    kind: Annotated[str, Meta(description="Its kind.")] = ""
    namespace: Annotated[str, Meta(description="Its namespace.")] = ""
    name: Annotated[str, Meta(description="Its name.")] = ""
    uid: Annotated[str, Meta(description="Its uid.")] = ""
    field_path: Annotated[str, Meta(description="A part of it.")] = ""
    resource_version: Annotated[str, Meta(description="Its resourceVersion.")] = ""


class ForName(Spec, frozen=True):
    """A zone or a node, by name."""

    name: Annotated[str, Meta(description="The name.")] = ""


class Hints(Spec, frozen=True):
    """Who should prefer an endpoint."""

    for_zones: Annotated[tuple[ForName, ...], Meta(description="Zones.", extra_json_schema=_WHOLE_LIST)] = ()
    for_nodes: Annotated[tuple[ForName, ...], Meta(description="Nodes.", extra_json_schema=_WHOLE_LIST)] = ()


class SliceEndpoint(Spec, frozen=True):
    """An instance of the service."""

    addresses: Annotated[
        tuple[str, ...], Meta(description="Its addresses, 1 to 100; each is called.", extra_json_schema=_WHOLE_LIST)
    ]
    conditions: Annotated[Conditions | None, Meta(description="How it is. Default: ready.")] = None
    hostname: Annotated[str, Meta(description="Its own name before a headless Service's: `HOSTNAME.SERVICE`.")] = ""
    target_ref: Annotated[TargetRef | None, Meta(description="Kept, without effect.")] = None
    deprecated_topology: Annotated[dict[str, str], Meta(description="Kept, without effect.")] = {}
    node_name: Annotated[str, Meta(description="Kept, without effect.")] = ""
    zone: Annotated[str, Meta(description="Kept, without effect.")] = ""
    hints: Annotated[Hints | None, Meta(description="Kept, without effect.")] = None


class SlicePort(Spec, frozen=True):
    """A port of all endpoints of the slice."""

    name: Annotated[str, Meta(description="The name of the Service's port that leads here.")] = ""
    protocol: Annotated[Literal["TCP", "UDP", "SCTP"], Meta(description="The transport.")] = "TCP"
    port: Annotated[int | None, Meta(description="The instances' port, 1 to 65535. Default: the Service's.")] = None
    app_protocol: Annotated[str, Meta(description="Kept, without effect: the Service says it.")] = ""


class EndpointSliceSpec(Spec, frozen=True):
    """An EndpointSlice's fields beside its metadata."""

    address_type: Annotated[
        AddressType | None, Meta(description="What all addresses are; FQDN has no effect. Default: as they are.")
    ] = None
    endpoints: Annotated[
        tuple[SliceEndpoint, ...], Meta(description="The instances, at most 1000.", extra_json_schema=_WHOLE_LIST)
    ] = ()
    ports: Annotated[
        tuple[SlicePort, ...],
        Meta(description="Their ports, at most 100; names are distinct.", extra_json_schema=_WHOLE_LIST),
    ] = ()
