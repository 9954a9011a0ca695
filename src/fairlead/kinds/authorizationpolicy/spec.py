"""Fields of AuthorizationPolicy."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from fairlead.model.object import Spec
from fairlead.model.target import TargetReference, WorkloadSelector

Action = Literal["ALLOW", "DENY", "AUDIT", "CUSTOM"]
Strings = tuple[str, ...]


class Source(Spec, frozen=True):
    """Conditions on the caller: all fields must hold, one value of each; `not` fields exclude."""

    principals: Annotated[
        Strings, Meta(description="Identities from the caller's certificate: cluster.local/ns/NAMESPACE/sa/ACCOUNT.")
    ] = ()
    not_principals: Annotated[Strings, Meta(description="Identities that the caller must not have.")] = ()
    request_principals: Annotated[Strings, Meta(description="ISSUER/SUBJECT of a validated token.")] = ()
    not_request_principals: Annotated[Strings, Meta(description="Token identities that must not be presented.")] = ()
    namespaces: Annotated[Strings, Meta(description="Namespaces, from the caller's certificate.")] = ()
    not_namespaces: Annotated[Strings, Meta(description="Namespaces that the caller must not come from.")] = ()
    service_accounts: Annotated[
        Strings, Meta(max_length=16, description="NAMESPACE/ACCOUNT, or ACCOUNT in the policy's own namespace.")
    ] = ()
    not_service_accounts: Annotated[
        Strings, Meta(max_length=16, description="Service accounts that the caller must not have.")
    ] = ()
    trust_domains: Annotated[Strings, Meta(description="Trust domains, from the caller's certificate.")] = ()
    not_trust_domains: Annotated[Strings, Meta(description="Trust domains the caller must not belong to.")] = ()
    ip_blocks: Annotated[Strings, Meta(description="Addresses or networks of the connection's other end.")] = ()
    not_ip_blocks: Annotated[Strings, Meta(description="Addresses that are excluded.")] = ()
    remote_ip_blocks: Annotated[
        Strings, Meta(description="Addresses or networks of the original client (X-Forwarded-For, PROXY protocol).")
    ] = ()
    not_remote_ip_blocks: Annotated[Strings, Meta(description="Original clients that are excluded.")] = ()


class Operation(Spec, frozen=True):
    """Conditions on the request: all fields must hold, one value of each; `not` fields exclude."""

    hosts: Annotated[Strings, Meta(description="Host names, in any case (HTTP only).")] = ()
    not_hosts: Annotated[Strings, Meta(description="Hosts that are excluded.")] = ()
    ports: Annotated[Strings, Meta(description="Ports of the workload, as strings.")] = ()
    not_ports: Annotated[Strings, Meta(description="Ports that are excluded.")] = ()
    methods: Annotated[Strings, Meta(description="HTTP methods; POST for gRPC.")] = ()
    not_methods: Annotated[Strings, Meta(description="Methods that are excluded.")] = ()
    paths: Annotated[
        Strings, Meta(description="Paths without query; {*} stands for one segment, {**} for any number.")
    ] = ()
    not_paths: Annotated[Strings, Meta(description="Paths that are excluded.")] = ()


class From(Spec, frozen=True):
    """Who calls."""

    source: Source | None = None


class To(Spec, frozen=True):
    """What is asked."""

    operation: Operation | None = None


class Condition(Spec, frozen=True):
    """A further attribute of the request."""

    key: Annotated[
        str, Meta(description="request.headers[NAME], source.ip, destination.port, connection.sni, request.auth.* ...")
    ]
    values: Annotated[Strings, Meta(description="Values of which the attribute must have one.")] = ()
    not_values: Annotated[Strings, Meta(description="Values that the attribute must not have.")] = ()


class Rule(Spec, frozen=True):
    """Holds if one of `from`, one of `to` and every `when` hold; what is absent holds always."""

    callers: Annotated[Annotated[tuple[From, ...], Meta(max_length=512)] | None, Meta(description="Who calls.")] = (
        msgspec.field(default=None, name="from")
    )
    to: Annotated[tuple[To, ...] | None, Meta(description="What is asked.")] = None
    when: Annotated[tuple[Condition, ...], Meta(description="Further conditions.")] = ()


class Provider(Spec, frozen=True):
    """An external authorizer, named in MeshConfig's extensionProviders."""

    name: str = ""


class AuthorizationPolicy(Spec, frozen=True):
    """Who may call the chosen workloads, and what they may ask for."""

    selector: Annotated[
        WorkloadSelector | None,
        Meta(description="Workloads; absent: all of the namespace (of the mesh, in the root namespace)."),
    ] = None
    target_ref: Annotated[TargetReference | None, Meta(description="Deprecated: use targetRefs.")] = None
    target_refs: Annotated[tuple[TargetReference, ...], Meta(description="Gateways or services it is for.")] = ()
    rules: Annotated[
        Annotated[tuple[Rule, ...], Meta(max_length=512)] | None,
        Meta(description="One must hold. No rules: nothing matches, so ALLOW denies all."),
    ] = None
    action: Annotated[Action, Meta(description="What happens to a request that a rule matches.")] = "ALLOW"
    provider: Annotated[Provider | None, Meta(description="The authorizer that action CUSTOM asks.")] = None
