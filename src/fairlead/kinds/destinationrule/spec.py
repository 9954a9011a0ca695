"""The spec of a DestinationRule: every field of Istio's `networking.istio.io/v1` API."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from fairlead.ir.clienttls import ClientTLSSettings
from fairlead.ir.localityspec import LocalityLoadBalancerSetting, ZoneAwareLoadBalancerSetting
from fairlead.ir.poolspec import ConnectionPoolSettings, OutlierDetection, Uint32
from fairlead.model.object import Spec


class PortSelector(Spec, frozen=True):
    """A port by number."""

    number: Annotated[Uint32, Meta(description="The port's number.")] = 0


class HTTPCookie(Spec, frozen=True):
    """Hash a cookie; make it if the client has none and ttl is given."""

    name: Annotated[str, Meta(description="The cookie's name.")] = ""
    path: Annotated[str, Meta(description="The cookie's path.")] = ""
    ttl: Annotated[str | None, Meta(description="Lifetime of a made cookie; 0s is a session cookie.")] = None
    attributes: Annotated[tuple[CookieAttribute, ...], Meta(description="Further attributes of a made cookie.")] = ()


class CookieAttribute(Spec, frozen=True):
    """An attribute of a cookie, such as SameSite."""

    name: Annotated[str, Meta(description="The attribute's name.")]
    value: Annotated[str, Meta(description="The attribute's value.")] = ""


class RingHash(Spec, frozen=True):
    """Ketama hashing on a ring."""

    minimum_ring_size: Annotated[int, Meta(ge=0, description="Entries on the ring at least; 1024 if 0.")] = 0


class Maglev(Spec, frozen=True):
    """Maglev hashing with a table."""

    table_size: Annotated[int, Meta(ge=0, description="A prime below 5000011.")] = 0


class ConsistentHashLB(Spec, frozen=True):
    """Requests with an equal hash go to one endpoint. Exactly one source of the hash."""

    http_header_name: Annotated[str | None, Meta(description="Hash this request header.")] = None
    http_cookie: Annotated[HTTPCookie | None, Meta(description="Hash a cookie.")] = None
    use_source_ip: Annotated[bool | None, Meta(description="Hash the client's address.")] = None
    http_query_parameter_name: Annotated[str | None, Meta(description="Hash this query parameter.")] = None
    ring_hash: Annotated[RingHash | None, Meta(description="Ring hashing, the default.")] = None
    maglev: Annotated[Maglev | None, Meta(description="Maglev hashing.")] = None
    minimum_ring_size: Annotated[int, Meta(ge=0, description="Deprecated: use ringHash.")] = 0
    hash_balance_factor: Annotated[
        Uint32, Meta(description="Percent of the average load that one endpoint gets at most, from 100; 0: no limit.")
    ] = 0


class BackendUtilizationLB(Spec, frozen=True):
    """Weights from the utilization that endpoints report."""

    blackout_period: Annotated[str | None, Meta(description="A new endpoint's reports are not used so long.")] = None
    weight_expiration_period: Annotated[str | None, Meta(description="A report is used so long.")] = None
    weight_update_period: Annotated[str | None, Meta(description="How often weights are computed.")] = None
    error_utilization_penalty: Annotated[float | None, Meta(description="Weight of errors in the utilization.")] = None
    metric_names_for_computing_utilization: Annotated[
        tuple[str, ...], Meta(description="Metrics to use where an endpoint reports no utilization.")
    ] = ()


class WarmupConfiguration(Spec, frozen=True):
    """A new endpoint gets its full share only after a while."""

    duration: Annotated[str, Meta(description="How long an endpoint is new.")]
    minimum_percent: Annotated[
        Annotated[float, Meta(ge=0, le=100)] | None, Meta(description="Its share at first; 10 if not given.")
    ] = None
    aggression: Annotated[
        Annotated[float, Meta(ge=1)] | None, Meta(description="Speed of the increase; 1 is linear, the default.")
    ] = None


class LoadBalancerSettings(Spec, frozen=True):
    """How an endpoint is chosen. At most one of simple, consistentHash and backendUtilization."""

    simple: Annotated[
        Literal["UNSPECIFIED", "LEAST_CONN", "RANDOM", "PASSTHROUGH", "ROUND_ROBIN", "LEAST_REQUEST"] | None,
        Meta(description="A standard algorithm; LEAST_CONN is the old name of LEAST_REQUEST."),
    ] = None
    consistent_hash: Annotated[ConsistentHashLB | None, Meta(description="Choose by a hash of the request.")] = None
    backend_utilization: Annotated[
        BackendUtilizationLB | None, Meta(description="Choose by the utilization that endpoints report.")
    ] = None
    locality_lb_setting: Annotated[
        LocalityLoadBalancerSetting | None, Meta(description="Load balancing between localities.")
    ] = None
    zone_aware_lb_setting: Annotated[
        ZoneAwareLoadBalancerSetting | None, Meta(description="Zone-aware load balancing.")
    ] = None
    warmup_duration_secs: Annotated[str | None, Meta(description="Deprecated: use warmup.")] = None
    warmup: Annotated[WarmupConfiguration | None, Meta(description="Slow start of new endpoints.")] = None


class PortTrafficPolicy(Spec, frozen=True):
    """What holds for one port. What is not given here is default: nothing is inherited."""

    port: Annotated[PortSelector | None, Meta(description="The host's port.")] = None
    load_balancer: Annotated[LoadBalancerSettings | None, Meta(description="How an endpoint is chosen.")] = None
    connection_pool: Annotated[ConnectionPoolSettings | None, Meta(description="Limits.")] = None
    outlier_detection: Annotated[OutlierDetection | None, Meta(description="Passive health checks.")] = None
    tls: Annotated[ClientTLSSettings | None, Meta(description="TLS towards the host.")] = None


class TunnelSettings(Spec, frozen=True):
    """Tunnel TCP over HTTP."""

    protocol: Annotated[str, Meta(description="CONNECT (the default) or POST.")] = ""
    target_host: Annotated[str, Meta(description="Host to which the tunnel leads.")] = ""
    target_port: Annotated[Uint32, Meta(description="Port to which the tunnel leads.")] = 0


class ProxyProtocol(Spec, frozen=True):
    """Send a PROXY protocol header."""

    version: Annotated[Literal["V1", "V2"], Meta(description="Version of the header.")] = "V1"


class RetryBudget(Spec, frozen=True):
    """Limit retries to a share of the active requests."""

    percent: Annotated[Annotated[float, Meta(ge=0, le=100)] | None, Meta(description="The share; 20 if not given.")] = (
        None
    )
    min_retry_concurrency: Annotated[Uint32, Meta(description="Always allowed; 3 if 0.")] = 0
    budget_interval: Annotated[
        str | None, Meta(description="Requests of so long count; without it those that are active.")
    ] = None


class TrafficPolicySpec(Spec, frozen=True):
    """What holds for a host or a subset."""

    load_balancer: Annotated[LoadBalancerSettings | None, Meta(description="How an endpoint is chosen.")] = None
    connection_pool: Annotated[ConnectionPoolSettings | None, Meta(description="Limits.")] = None
    outlier_detection: Annotated[OutlierDetection | None, Meta(description="Passive health checks.")] = None
    tls: Annotated[ClientTLSSettings | None, Meta(description="TLS towards the host.")] = None
    port_level_settings: Annotated[
        Annotated[tuple[PortTrafficPolicy, ...], Meta(max_length=4096)] | None,
        Meta(description="Policies of single ports."),
    ] = None
    tunnel: Annotated[TunnelSettings | None, Meta(description="Tunnel TCP over HTTP.")] = None
    proxy_protocol: Annotated[ProxyProtocol | None, Meta(description="PROXY protocol header.")] = None
    retry_budget: Annotated[RetryBudget | None, Meta(description="Limit on retries.")] = None


class SubsetSpec(Spec, frozen=True):
    """A named part of the host's endpoints."""

    name: Annotated[str, Meta(description="Name that VirtualServices use.")] = ""
    labels: Annotated[dict[str, str], Meta(description="Labels that endpoints of the subset have.")] = {}
    traffic_policy: Annotated[
        TrafficPolicySpec | None, Meta(description="Overrides the host's policy, group by group.")
    ] = None


class WorkloadSelector(Spec, frozen=True):
    """Workloads by label."""

    match_labels: Annotated[dict[str, str], Meta(max_length=4096, description="Labels that the workload has.")] = {}


class DestinationRuleSpec(Spec, frozen=True):
    """How clients talk to a host, after routing has chosen it."""

    host: Annotated[
        str, Meta(description="The host; without dots it is a service of the rule's namespace; wildcards may be used.")
    ]
    traffic_policy: Annotated[TrafficPolicySpec | None, Meta(description="What holds for the whole host.")] = None
    subsets: Annotated[tuple[SubsetSpec, ...], Meta(description="Named parts of the endpoints.")] = ()
    export_to: Annotated[
        tuple[str, ...], Meta(description="Namespaces that see it: `*`, `.` or names; everybody by default.")
    ] = ()
    workload_selector: Annotated[
        WorkloadSelector | None, Meta(description="Clients of this namespace that it is for; all if not given.")
    ] = None
