"""Who may call whom, and over what: peer authentication and authorization."""

from __future__ import annotations

from typing import Literal

import msgspec

from fairlead.inc import Table
from fairlead.ir.attachment import Target, places
from fairlead.ir.filters import Pairs
from fairlead.model.diagnostic import Origin
from fairlead.model.ref import NamespacedName

MtlsMode = Literal["UNSET", "DISABLE", "PERMISSIVE", "STRICT"]


class PeerPolicy(msgspec.Struct, frozen=True):
    """What one object says about mTLS of inbound connections. An empty selector means the whole namespace.

    `origin` is of the mode where the object has one; `port_origins` stand in the order of `ports`.
    """

    key: NamespacedName
    origin: Origin
    selector: Pairs
    mode: MtlsMode
    ports: tuple[tuple[int, MtlsMode], ...] = ()
    created: str = ""
    port_origins: tuple[Origin, ...] = ()


class Source(msgspec.Struct, frozen=True):
    """Conditions on the peer; fields are ANDed, values of a field ORed, `not_` fields exclude."""

    principals: tuple[str, ...] = ()
    not_principals: tuple[str, ...] = ()
    request_principals: tuple[str, ...] = ()
    not_request_principals: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    not_namespaces: tuple[str, ...] = ()
    service_accounts: tuple[str, ...] = ()
    not_service_accounts: tuple[str, ...] = ()
    trust_domains: tuple[str, ...] = ()
    not_trust_domains: tuple[str, ...] = ()
    ip_blocks: tuple[str, ...] = ()
    not_ip_blocks: tuple[str, ...] = ()
    remote_ip_blocks: tuple[str, ...] = ()
    not_remote_ip_blocks: tuple[str, ...] = ()


class Operation(msgspec.Struct, frozen=True):
    """Conditions on the request."""

    hosts: tuple[str, ...] = ()
    not_hosts: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    not_ports: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    not_methods: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    not_paths: tuple[str, ...] = ()


class Condition(msgspec.Struct, frozen=True):
    """An attribute and the values it may, or may not, have."""

    key: str
    values: tuple[str, ...] = ()
    not_values: tuple[str, ...] = ()


class AccessRule(msgspec.Struct, frozen=True):
    """Holds if one source, one operation and every condition hold; an empty list holds always."""

    origin: Origin
    sources: tuple[Source, ...] = ()
    operations: tuple[Operation, ...] = ()
    conditions: tuple[Condition, ...] = ()


class AccessPolicy(msgspec.Struct, frozen=True):
    """Rules that allow or deny requests to the workloads that `selector` (or `targets`, see `attaches`) chooses."""

    key: NamespacedName
    origin: Origin
    selector: Pairs
    action: Literal["ALLOW", "DENY", "AUDIT", "CUSTOM"]
    rules: tuple[AccessRule, ...]
    provider: str = ""
    dry_run: bool = False
    created: str = ""
    targets: tuple[Target, ...] = ()


PEER_POLICIES: Table[NamespacedName, PeerPolicy] = Table("peer-policies", stage=1)
PEER_POLICIES_BY_NAMESPACE = PEER_POLICIES.index("namespace", lambda key, policy: [key.namespace])
ACCESS_POLICIES: Table[NamespacedName, AccessPolicy] = Table("access-policies", stage=1)
ACCESS_POLICIES_AT = ACCESS_POLICIES.index("at", lambda key, policy: places(key.namespace, policy))
ACCESS_POLICIES_BY_NAMESPACE = ACCESS_POLICIES.index("namespace", lambda key, policy: [key.namespace])
