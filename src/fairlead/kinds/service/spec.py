"""Fields of Service (core/v1), all of them."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from fairlead.model.object import Spec

HEADLESS = "None"
"""The clusterIP of a service without a virtual address."""

Family = Literal["IPv4", "IPv6"]
Transport = Literal["TCP", "UDP", "SCTP"]


# How writers of one object share its lists, as Kubernetes' own schema says.
_BY_PORT = {
    "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": ["port", "protocol"],
    "x-kubernetes-patch-merge-key": "port",
    "x-kubernetes-patch-strategy": "merge",
}
_WHOLE_LIST = {"x-kubernetes-list-type": "atomic"}
_WHOLE_MAP = {"x-kubernetes-map-type": "atomic"}


class ServicePort(Spec, frozen=True):
    """A port that clients call."""

    port: Annotated[int, Meta(description="The port clients call, 1 to 65535.")]
    name: Annotated[
        str,
        Meta(
            description="A DNS label, needed where there are several ports. Its prefix (http, grpc, tcp ...) "
            "declares the protocol where appProtocol does not."
        ),
    ] = ""
    protocol: Annotated[Transport, Meta(description="The transport.")] = "TCP"
    app_protocol: Annotated[str, Meta(description="The application protocol: http, grpc, kubernetes.io/h2c ...")] = ""
    target_port: Annotated[
        int | str | None, Meta(description="The instances' port, by number or name. Default: the same number.")
    ] = None
    node_port: Annotated[int, Meta(description="Port on every node (NodePort, LoadBalancer).")] = 0


class ClientIPConfig(Spec, frozen=True):
    """Settings of session affinity by client address."""

    timeout_seconds: Annotated[
        int | None, Meta(description="Kept, without effect: workloads are kept while they live.")
    ] = None


class SessionAffinityConfig(Spec, frozen=True):
    """Settings of session affinity."""

    client_ip: Annotated[ClientIPConfig | None, Meta(description="For sessionAffinity ClientIP.")] = msgspec.field(
        default=None, name="clientIP"
    )


class Service(Spec, frozen=True):
    """A name, and usually a virtual address, for the workloads that a selector chooses."""

    ports: Annotated[
        tuple[ServicePort, ...], Meta(description="Ports that clients call.", extra_json_schema=_BY_PORT)
    ] = ()
    selector: Annotated[
        dict[str, str],
        Meta(
            description="Labels of the workloads that serve; they live in the service's namespace.",
            extra_json_schema=_WHOLE_MAP,
        ),
    ] = {}
    type: Annotated[
        Literal["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"],
        Meta(description="How the service is exposed. ExternalName: another name for externalName."),
    ] = "ClusterIP"
    cluster_ip: Annotated[
        str, Meta(description="The virtual address; None for a headless service; empty to be given one.")
    ] = msgspec.field(default="", name="clusterIP")
    cluster_ips: Annotated[
        tuple[str, ...],
        Meta(
            description="Virtual addresses, at most one of each family; the first is clusterIP.",
            extra_json_schema=_WHOLE_LIST,
        ),
    ] = msgspec.field(default=(), name="clusterIPs")
    external_name: Annotated[str, Meta(description="The DNS name that an ExternalName service stands for.")] = ""
    external_ips: Annotated[
        tuple[str, ...],
        Meta(description="Further addresses whose traffic the nodes accept.", extra_json_schema=_WHOLE_LIST),
    ] = msgspec.field(default=(), name="externalIPs")
    ip_families: Annotated[
        tuple[Family, ...], Meta(description="Address families of clusterIPs.", extra_json_schema=_WHOLE_LIST)
    ] = ()
    ip_family_policy: Annotated[
        Literal["", "SingleStack", "PreferDualStack", "RequireDualStack"],
        Meta(description="Whether one or both address families are asked for."),
    ] = ""
    publish_not_ready_addresses: Annotated[
        bool, Meta(description="Send traffic to workloads that are not ready, too.")
    ] = False
    session_affinity: Annotated[
        Literal["None", "ClientIP"],
        Meta(description="ClientIP: one client keeps one workload, unless a DestinationRule balances otherwise."),
    ] = "None"
    session_affinity_config: Annotated[
        SessionAffinityConfig | None, Meta(description="Settings of session affinity.")
    ] = None
    load_balancer_ip: Annotated[str, Meta(description="Kept, without effect.")] = msgspec.field(
        default="", name="loadBalancerIP"
    )
    load_balancer_source_ranges: Annotated[
        tuple[str, ...], Meta(description="Kept, without effect.", extra_json_schema=_WHOLE_LIST)
    ] = ()
    load_balancer_class: Annotated[str | None, Meta(description="Kept, without effect.")] = None
    allocate_load_balancer_node_ports: Annotated[bool | None, Meta(description="Kept, without effect.")] = None
    health_check_node_port: Annotated[int, Meta(description="Kept, without effect.")] = 0
    external_traffic_policy: Annotated[Literal["", "Cluster", "Local"], Meta(description="Kept, without effect.")] = ""
    internal_traffic_policy: Annotated[
        Literal["Cluster", "Local"], Meta(description="Local would keep traffic on its node; has no effect here.")
    ] = "Cluster"
    traffic_distribution: Annotated[
        str | None, Meta(description="PreferClose or PreferSameZone, PreferSameNode: close endpoints are called first.")
    ] = None
