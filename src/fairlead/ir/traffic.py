"""How a client talks to a host: load balancing, connection pools, outlier detection, TLS, retries.

Times are seconds, percentages 0 to 100. None means "not said here": a less specific policy or the default holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec

from fairlead.inc import Table
from fairlead.ir.filters import Pairs
from fairlead.ir.locality import LocalityLb
from fairlead.ir.visibility import concerned
from fairlead.model.diagnostic import Origin
from fairlead.model.ref import NamespacedName
from fairlead.model.syntax import is_partial_wildcard


class TcpKeepalive(msgspec.Struct, frozen=True):
    """SO_KEEPALIVE settings; 0 leaves the kernel's default."""

    probes: int = 0
    time: float = 0
    interval: float = 0


class RetryPolicy(msgspec.Struct, frozen=True):
    """Retries of HTTP requests (Istio HTTPRetry). `attempts` 0 switches them off."""

    attempts: int
    retry_on: str = ""
    per_try_timeout: float | None = None
    backoff: float | None = None
    retry_remote_localities: bool = False
    ignore_previous_hosts: bool = True


class HashPolicy(msgspec.Struct, frozen=True):
    """What a consistent hash is computed from; one of the four. `cookie_ttl` None: the cookie is never made."""

    header: str = ""
    cookie: str = ""
    cookie_path: str = ""
    cookie_ttl: float | None = None
    cookie_attributes: Pairs = ()
    source_ip: bool = False
    query: str = ""


class LoadBalancer(msgspec.Struct, frozen=True):
    """How an endpoint is chosen.

    With `balance_factor` an endpoint that a hash means has at most so many percent of the average of requests (0: any
    number), and what is more goes to others.
    """

    simple: Literal["", "ROUND_ROBIN", "LEAST_REQUEST", "RANDOM", "PASSTHROUGH"] = ""
    hash: HashPolicy | None = None
    ring_hash: bool = True
    minimum_ring_size: int = 0
    maglev_table_size: int = 0
    balance_factor: int = 0
    warmup: float = 0
    warmup_minimum_percent: float = 0
    warmup_aggression: float = 0
    locality: LocalityLb | None = None
    utilization: UtilizationLb | None = None


class UtilizationLb(msgspec.Struct, frozen=True):
    """Weights from the load that endpoints report in their answers (ORCA)."""

    blackout: float | None = None
    expiration: float | None = None
    update: float | None = None
    error_penalty: float | None = None
    metrics: tuple[str, ...] = ()


class TcpPool(msgspec.Struct, frozen=True):
    """Connection limits at the TCP level."""

    max_connections: int | None = None
    connect_timeout: float | None = None
    keepalive: TcpKeepalive | None = None
    idle_timeout: float | None = None
    max_connection_duration: float | None = None


class HttpPool(msgspec.Struct, frozen=True):
    """Connection and request limits at the HTTP level."""

    max_pending_requests: int | None = None
    max_requests: int | None = None
    max_requests_per_connection: int | None = None
    max_retries: int | None = None
    idle_timeout: float | None = None
    h2_upgrade: Literal["", "DEFAULT", "UPGRADE", "DO_NOT_UPGRADE"] = ""
    use_client_protocol: bool = False
    max_concurrent_streams: int | None = None
    ping: Ping | None = None


class Ping(msgspec.Struct, frozen=True):
    """HTTP/2 PING frames that find dead connections."""

    interval: float
    timeout: float


class OutlierDetection(msgspec.Struct, frozen=True):
    """Passive health checking: when an endpoint is ejected, and for how long.

    `error_codes` are the statuses that count as 5xx, in place of those.
    """

    consecutive_5xx: int | None = None
    consecutive_gateway: int | None = None
    consecutive_local_origin: int | None = None
    split_local_origin: bool = False
    interval: float | None = None
    base_ejection: float | None = None
    max_ejection_percent: int | None = None
    min_health_percent: int | None = None
    error_codes: tuple[int, ...] = ()


class ClientTls(msgspec.Struct, frozen=True):
    """TLS towards the host (Istio ClientTLSSettings)."""

    mode: Literal["DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL"]
    client_certificate: str = ""
    private_key: str = ""
    ca_certificates: str = ""
    ca_crl: str = ""
    credential_name: str = ""
    subject_alt_names: tuple[str, ...] = ()
    sni: str = ""
    insecure_skip_verify: bool = False


class Tunnel(msgspec.Struct, frozen=True):
    """Connections are carried over HTTP CONNECT (or POST) to `target`, which is `host:port`."""

    target: str
    post: bool = False


class RetryBudget(msgspec.Struct, frozen=True):
    """Retries are limited to a share of the requests, and `minimum` are always allowed.

    Requests are those of the last `interval` seconds; 0: those that are active.
    """

    percent: float = 20
    minimum: int = 3
    interval: float = 0


class Policy(msgspec.Struct, frozen=True):
    """Everything that may be said about traffic to one port of a host or subset."""

    load_balancer: LoadBalancer | None = None
    tcp: TcpPool | None = None
    http: HttpPool | None = None
    outlier: OutlierDetection | None = None
    tls: ClientTls | None = None
    proxy_protocol: Literal["", "V1", "V2"] = ""
    tunnel: Tunnel | None = None
    retry_budget: RetryBudget | None = None


class PortPolicy(msgspec.Struct, frozen=True):
    """A policy for one port of the host.

    Istio inherits nothing here: for this port, load balancer, connection pools, outlier detection and TLS are as
    this policy says and otherwise default, whatever the general policy says (`effective_policy`).
    """

    port: int
    policy: Policy


class Subset(msgspec.Struct, frozen=True):
    """A named part of a host's endpoints: those with these labels."""

    name: str
    labels: Pairs
    policy: Policy
    ports: tuple[PortPolicy, ...]
    origin: Origin


class TrafficPolicy(msgspec.Struct, frozen=True):
    """What one object (DestinationRule) says about a host. `selector` limits it to clients with these labels."""

    key: NamespacedName
    origin: Origin
    host: str
    policy: Policy
    ports: tuple[PortPolicy, ...] = ()
    subsets: tuple[Subset, ...] = ()
    export_to: tuple[str, ...] = ()
    selector: Pairs = ()
    created: str = ""


TRAFFIC_POLICIES: Table[NamespacedName, TrafficPolicy] = Table("traffic-policies", stage=1)
TRAFFIC_POLICIES_BY_HOST = TRAFFIC_POLICIES.index("host", lambda key, policy: [policy.host])
"""Policies under the host they name, wildcards (`*.example.com`) as they are."""
TRAFFIC_POLICIES_PARTIAL = TRAFFIC_POLICIES.index(
    "partial", lambda key, policy: [""] if is_partial_wildcard(policy.host) else []
)
"""The policies whose wildcard is not a whole label (`*-x.example.com`), under ""."""
TRAFFIC_POLICIES_WITH_SELECTOR = TRAFFIC_POLICIES.index("selector", lambda key, policy: [""] if policy.selector else [])
"""The policies that are for some clients only, under ""."""


def _said(policy: TrafficPolicy) -> Iterator[Policy]:
    yield policy.policy
    yield from (one.policy for one in policy.ports)
    for subset in policy.subsets:
        yield subset.policy
        yield from (one.policy for one in subset.ports)


def _near(_: NamespacedName, policy: TrafficPolicy) -> list[str]:
    """Outlier detection counts, as it switches the mesh's own failover on."""
    places = any(one.outlier or (one.load_balancer and one.load_balancer.locality) for one in _said(policy))
    return [""] if places else []


TRAFFIC_POLICIES_NEAR = TRAFFIC_POLICIES.index("near", _near)
"""The policies for which it may matter where a caller is, under ""."""


def policies_in(policy: TrafficPolicy) -> Iterator[Policy]:
    """Everything that a traffic policy says: of all ports and of single ones, in general and of subsets."""
    yield policy.policy
    yield from (one.policy for one in policy.ports)
    for subset in policy.subsets:
        yield subset.policy
        yield from (one.policy for one in subset.ports)


def credentials_in(policy: TrafficPolicy) -> tuple[str, ...]:
    """The credentials that the TLS of a policy names, in order, but the workload's own."""
    said = (one.tls for one in policies_in(policy))
    names = {one.credential_name for one in said if one is not None and one.credential_name}
    return tuple(sorted(one for one in names if not one.startswith("builtin://")))


TRAFFIC_POLICIES_WITH_CREDENTIALS = TRAFFIC_POLICIES.index(
    "credentials", lambda key, policy: [""] if credentials_in(policy) else []
)
"""The policies whose TLS names credentials, under ""."""
TRAFFIC_POLICIES_BY_NAMESPACE = TRAFFIC_POLICIES.index("namespace", lambda key, policy: [key.namespace])


def _concerning(key: NamespacedName, policy: TrafficPolicy) -> set[str]:
    return {*concerned(policy.export_to, key.namespace), *([key.namespace] if policy.selector else [])}


TRAFFIC_POLICIES_CONCERNING = TRAFFIC_POLICIES.index("concerning", _concerning)
"""Policies that are not for the clients of all namespaces, under each namespace for whose clients they are."""


def effective_policy(traffic: TrafficPolicy | None, subset: str, port: int) -> Policy:
    """What holds for a port of a host (`subset` "") or of a subset of it.

    Istio's `MergeSubsetTrafficPolicy`: the subset's policy overrides the host's group by group. On either level a
    policy for the port takes the place of load balancer, connection pools, outlier detection and TLS altogether,
    those it does not give included. An unknown subset has the host's policy.
    """
    if traffic is None:
        return Policy()
    merged = _override(Policy(), traffic.policy, traffic.ports, port)
    named = next((one for one in traffic.subsets if one.name == subset), None) if subset else None
    return merged if named is None else _override(merged, named.policy, named.ports, port)


def _override(base: Policy, over: Policy, ports: tuple[PortPolicy, ...], port: int) -> Policy:
    for one in ports:
        if one.port == port:
            return msgspec.structs.replace(
                one.policy,
                proxy_protocol=over.proxy_protocol or base.proxy_protocol,
                tunnel=over.tunnel or base.tunnel,
                retry_budget=over.retry_budget or base.retry_budget,
            )
    pool = over if over.tcp is not None or over.http is not None else base
    return Policy(
        load_balancer=over.load_balancer or base.load_balancer,
        tcp=pool.tcp,
        http=pool.http,
        outlier=over.outlier or base.outlier,
        tls=over.tls or base.tls,
        proxy_protocol=over.proxy_protocol or base.proxy_protocol,
        tunnel=over.tunnel or base.tunnel,
        retry_budget=over.retry_budget or base.retry_budget,
    )
