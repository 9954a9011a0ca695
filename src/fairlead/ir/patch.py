"""Changes that objects make to Envoy's own configuration (EnvoyFilter): what to change, where, and how."""

from __future__ import annotations

from typing import Literal

import msgspec

from fairlead.inc import Table
from fairlead.ir.attachment import Target
from fairlead.ir.filters import Pairs
from fairlead.model.diagnostic import Origin
from fairlead.model.ref import NamespacedName

ApplyTo = Literal[
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
]
Operation = Literal[
    "MERGE",
    "MERGE_AND_REPLACE_LIST",
    "ADD",
    "REMOVE",
    "INSERT_BEFORE",
    "INSERT_AFTER",
    "INSERT_FIRST",
    "REPLACE",
]
Context = Literal["ANY", "SIDECAR_INBOUND", "SIDECAR_OUTBOUND", "GATEWAY"]
FilterClass = Literal["", "AUTHN", "AUTHZ", "STATS"]


class ChainMatch(msgspec.Struct, frozen=True):
    """Filter chains of a listener; a field that is empty matches every chain."""

    name: str = ""
    sni: str = ""
    transport_protocol: str = ""
    application_protocols: tuple[str, ...] = ()
    destination_port: int = 0
    transport_socket: str = ""
    filter: str = ""
    sub_filter: str = ""


class ListenerMatch(msgspec.Struct, frozen=True):
    """Listeners, and what stands in them; a field that is empty matches every one."""

    name: str = ""
    port: int = 0
    listener_filter: str = ""
    chain: ChainMatch = ChainMatch()


class RouteMatch(msgspec.Struct, frozen=True):
    """Route configurations, virtual hosts and routes; `gateway` is `namespace/name`."""

    name: str = ""
    port: int = 0
    port_name: str = ""
    gateway: str = ""
    host: str = ""
    domain: str = ""
    route: str = ""
    action: Literal["ANY", "ROUTE", "REDIRECT", "DIRECT_RESPONSE"] = "ANY"


class ClusterMatch(msgspec.Struct, frozen=True):
    """Clusters by the parts of their names."""

    name: str = ""
    port: int = 0
    service: str = ""
    subset: str = ""


class Patch(msgspec.Struct, frozen=True):
    """One change. `value` is the serialised message of the type that `apply_to` stands for.

    `version` is a regular expression for the proxy's version, `metadata` what its node must say.
    """

    apply_to: ApplyTo
    operation: Operation
    origin: Origin
    value: bytes = b""
    context: Context = "ANY"
    version: str = ""
    metadata: Pairs = ()
    listener: ListenerMatch = ListenerMatch()
    routes: RouteMatch = RouteMatch()
    cluster: ClusterMatch = ClusterMatch()
    filter_class: FilterClass = ""


class PatchSet(msgspec.Struct, frozen=True):
    """The changes of one object, for the workloads that it is for (see `fairlead.ir.attachment.attaches`)."""

    key: NamespacedName
    selector: Pairs = ()
    targets: tuple[Target, ...] = ()
    priority: int = 0
    created: str = ""
    patches: tuple[Patch, ...] = ()


PATCHES: Table[NamespacedName, PatchSet] = Table("patches", stage=1)
PATCHES_BY_NAMESPACE = PATCHES.index("namespace", lambda key, value: [key.namespace])
