"""Fields of EnvoyFilter."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta

from fairlead.model.object import Spec
from fairlead.model.target import TargetReference

INSERTS = ("INSERT_BEFORE", "INSERT_AFTER", "INSERT_FIRST")
UNORDERED = ("LISTENER", "FILTER_CHAIN", "ROUTE_CONFIGURATION", "VIRTUAL_HOST", "CLUSTER")
"""What has no order, so that to insert it is to add it."""

Port = Annotated[int, Meta(ge=0, le=4294967295)]


class Selector(Spec, frozen=True):
    """Chooses workloads by labels."""

    labels: Annotated[
        dict[str, str], Meta(max_length=256, description="Labels that a workload must have; empty: every one.")
    ] = {}


class ProxyMatch(Spec, frozen=True):
    """Properties of the proxy."""

    proxy_version: Annotated[str, Meta(description="Regular expression found in the version of the mesh's agent.")] = ""
    metadata: Annotated[
        dict[str, str], Meta(description="Metadata of the proxy's node; all of it must be equal, and be text.")
    ] = {}


class SubFilterMatch(Spec, frozen=True):
    """A filter inside of a network filter."""

    name: Annotated[str, Meta(description="Name of the HTTP filter.")] = ""


class FilterMatch(Spec, frozen=True):
    """A network filter."""

    name: Annotated[str, Meta(description="Name of the network filter.")] = ""
    sub_filter: Annotated[SubFilterMatch | None, Meta(description="An HTTP filter of a connection manager.")] = None


class FilterChainMatch(Spec, frozen=True):
    """Filter chains of a listener."""

    name: Annotated[str, Meta(description="Name of the filter chain.")] = ""
    sni: Annotated[str, Meta(description="A server name among those that the chain matches.")] = ""
    transport_protocol: Annotated[str, Meta(description="raw_buffer or tls, as the chain matches.")] = ""
    application_protocols: Annotated[
        str, Meta(description="Comma-separated protocols, all of which the chain must match.")
    ] = ""
    filter: Annotated[FilterMatch | None, Meta(description="A network filter of the chain.")] = None
    destination_port: Annotated[Port, Meta(description="The destination port that the chain matches.")] = 0
    transport_socket: Annotated[
        str, Meta(description="Name of the chain's transport socket, such as envoy.transport_sockets.tls.")
    ] = ""


class ListenerMatch(Spec, frozen=True):
    """Listeners."""

    port_number: Annotated[Port, Meta(description="Port of the listener; inbound: of the filter chain.")] = 0
    port_name: Annotated[str, Meta(description="Not used by Istio either.")] = ""
    filter_chain: Annotated[FilterChainMatch | None, Meta(description="Filter chains of the listener.")] = None
    listener_filter: Annotated[str, Meta(description="Name of a listener filter.")] = ""
    name: Annotated[str, Meta(description="Name of the listener, such as virtualInbound.")] = ""


class RouteMatch(Spec, frozen=True):
    """Routes of a virtual host."""

    name: Annotated[str, Meta(description="Name of the route.")] = ""
    action: Annotated[
        Literal["ANY", "ROUTE", "REDIRECT", "DIRECT_RESPONSE"], Meta(description="What the route does.")
    ] = "ANY"


class VirtualHostMatch(Spec, frozen=True):
    """Virtual hosts of a route configuration."""

    name: Annotated[str, Meta(description="Name of the virtual host, `host:port`.")] = ""
    domain_name: Annotated[str, Meta(description="A domain of the virtual host.")] = ""
    route: Annotated[RouteMatch | None, Meta(description="Routes of the virtual host.")] = None


class RouteConfigurationMatch(Spec, frozen=True):
    """Route configurations."""

    port_number: Annotated[Port, Meta(description="Port of the server or service.")] = 0
    port_name: Annotated[str, Meta(description="Name of the gateway server's port.")] = ""
    gateway: Annotated[str, Meta(description="The Gateway, `namespace/name`.")] = ""
    vhost: Annotated[VirtualHostMatch | None, Meta(description="Virtual hosts of the configuration.")] = None
    name: Annotated[str, Meta(description="Name of the route configuration.")] = ""


class ClusterMatch(Spec, frozen=True):
    """Clusters."""

    port_number: Annotated[Port, Meta(description="Port of the service.")] = 0
    service: Annotated[str, Meta(description="Full host name of the service.")] = ""
    subset: Annotated[str, Meta(description="Subset of the service.")] = ""
    name: Annotated[str, Meta(description="Exact name of the cluster; the other fields do not count then.")] = ""


class WaypointFilterMatch(Spec, frozen=True):
    """A filter of a waypoint."""

    name: Annotated[str, Meta(description="Name of the filter.")] = ""
    sub_filter: Annotated[SubFilterMatch | None, Meta(description="An HTTP filter.")] = None


class WaypointRouteMatch(Spec, frozen=True):
    """A route of a waypoint."""

    name: Annotated[str, Meta(description="Name of the route.")] = ""


class WaypointMatch(Spec, frozen=True):
    """Configuration of waypoints, of which there are none."""

    port_number: Annotated[Port, Meta(description="Port of the service.")] = 0
    filter: Annotated[WaypointFilterMatch | None, Meta(description="A filter.")] = None
    route: Annotated[WaypointRouteMatch | None, Meta(description="A route.")] = None


class ObjectMatch(Spec, frozen=True):
    """Which objects a patch is for; at most one of listener, routeConfiguration and cluster."""

    context: Annotated[
        Literal["ANY", "SIDECAR_INBOUND", "SIDECAR_OUTBOUND", "GATEWAY", "WAYPOINT"],
        Meta(description="The kind of proxy and the direction of traffic."),
    ] = "ANY"
    proxy: Annotated[ProxyMatch | None, Meta(description="Properties of the proxy.")] = None
    listener: Annotated[ListenerMatch | None, Meta(description="Listeners and what stands in them.")] = None
    route_configuration: Annotated[RouteConfigurationMatch | None, Meta(description="Routes.")] = None
    cluster: Annotated[ClusterMatch | None, Meta(description="Clusters.")] = None
    waypoint: Annotated[WaypointMatch | None, Meta(description="Waypoints.")] = None


class Patch(Spec, frozen=True):
    """What to change."""

    operation: Annotated[
        Literal[
            "INVALID",
            "MERGE",
            "MERGE_AND_REPLACE_LIST",
            "ADD",
            "REMOVE",
            "INSERT_BEFORE",
            "INSERT_AFTER",
            "INSERT_FIRST",
            "REPLACE",
        ],
        Meta(description="How to change it."),
    ] = "INVALID"
    value: Annotated[dict[str, Any] | None, Meta(description="Envoy's own message, in its JSON form.")] = None
    filter_class: Annotated[
        Literal["UNSPECIFIED", "AUTHN", "AUTHZ", "STATS"],
        Meta(description="With ADD of an HTTP filter: behind the mesh's filters of this class, or before STATS."),
    ] = "UNSPECIFIED"


class ConfigPatch(Spec, frozen=True):
    """One change of Envoy's configuration."""

    apply_to: Annotated[
        Literal[
            "INVALID",
            "LISTENER",
            "FILTER_CHAIN",
            "LISTENER_FILTER",
            "NETWORK_FILTER",
            "HTTP_FILTER",
            "ROUTE_CONFIGURATION",
            "VIRTUAL_HOST",
            "HTTP_ROUTE",
            "CLUSTER",
            "EXTENSION_CONFIG",
            "BOOTSTRAP",
        ],
        Meta(description="What is changed."),
    ] = "INVALID"
    match: Annotated[ObjectMatch | None, Meta(description="Which of them; none: all.")] = None
    patch: Annotated[Patch | None, Meta(description="The change.")] = None


class EnvoyFilter(Spec, frozen=True):
    """Changes of the configuration that the mesh gives to Envoy."""

    workload_selector: Annotated[Selector | None, Meta(description="The workloads; none: all of the namespace.")] = None
    target_refs: Annotated[tuple[TargetReference, ...], Meta(description="The Gateways, instead of a selector.")] = ()
    config_patches: Annotated[tuple[ConfigPatch, ...], Meta(description="The changes, in order.")] = ()
    priority: Annotated[
        int, Meta(ge=-2147483648, le=2147483647, description="Objects apply by priority, the lowest first.")
    ] = 0
