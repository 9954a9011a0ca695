"""DestinationRule to `TrafficPolicy`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fairlead.inc import Reader
from fairlead.ir import traffic as ir
from fairlead.ir.clienttls import client_tls
from fairlead.ir.filters import Pairs
from fairlead.ir.kind import Emission
from fairlead.ir.localityspec import by_locality, by_zone
from fairlead.ir.pools import http_pool, outlier_detection, tcp_pool
from fairlead.ir.visibility import DOMAIN_SUFFIX, full_name
from fairlead.kinds.destinationrule import spec as api
from fairlead.model.diagnostic import Origin
from fairlead.model.duration import parse_duration
from fairlead.model.object import Object
from fairlead.model.path import SPEC
from fairlead.model.ref import NamespacedName


def lower(_: Reader, obj: Object[api.DestinationRuleSpec]) -> Iterable[Emission]:
    """One `TrafficPolicy`. Policies stand as they were written; `ir.effective_policy` combines them."""
    spec = obj.spec
    key = NamespacedName(obj.ref.namespace, obj.ref.name)
    policy = ir.TrafficPolicy(
        key=key,
        origin=Origin(obj.ref),
        host=full_name(spec.host, obj.ref.namespace, DOMAIN_SUFFIX),
        policy=_policy(spec.traffic_policy),
        ports=_ports(spec.traffic_policy),
        subsets=tuple(
            ir.Subset(
                name=subset.name,
                labels=_pairs(subset.labels),
                policy=_policy(subset.traffic_policy),
                ports=_ports(subset.traffic_policy),
                origin=Origin(obj.ref, SPEC.child("subsets", at)),
            )
            for at, subset in enumerate(spec.subsets)
        ),
        export_to=spec.export_to,
        selector=_pairs(spec.workload_selector.match_labels) if spec.workload_selector else (),
        created=obj.meta.creation_timestamp or "",
    )
    yield ir.TRAFFIC_POLICIES, key, policy


def _pairs(values: Mapping[str, str]) -> Pairs:
    return tuple(sorted(values.items()))


def _seconds(text: str | None) -> float | None:
    return None if text is None else parse_duration(text)


def _policy(policy: api.TrafficPolicySpec | None) -> ir.Policy:
    if policy is None:
        return ir.Policy()
    return ir.Policy(
        load_balancer=_balancer(policy.load_balancer),
        tcp=tcp_pool(policy.connection_pool),
        http=http_pool(policy.connection_pool),
        outlier=outlier_detection(policy.outlier_detection),
        tls=client_tls(policy.tls),
        proxy_protocol=policy.proxy_protocol.version if policy.proxy_protocol else "",
        tunnel=_tunnel(policy.tunnel),
        retry_budget=_budget(policy.retry_budget),
    )


def _tunnel(tunnel: api.TunnelSettings | None) -> ir.Tunnel | None:
    if tunnel is None:
        return None
    host = f"[{tunnel.target_host}]" if ":" in tunnel.target_host else tunnel.target_host
    return ir.Tunnel(f"{host}:{tunnel.target_port}", post=tunnel.protocol == "POST")


def _budget(budget: api.RetryBudget | None) -> ir.RetryBudget | None:
    """Istio's defaults are those of Envoy: a fifth of the active requests, and three retries in any case."""
    if budget is None:
        return None
    percent = 20 if budget.percent is None else budget.percent
    interval = parse_duration(budget.budget_interval) if budget.budget_interval else 0
    return ir.RetryBudget(percent, budget.min_retry_concurrency or 3, interval)


def _ports(policy: api.TrafficPolicySpec | None) -> tuple[ir.PortPolicy, ...]:
    if policy is None or not policy.port_level_settings:
        return ()
    return tuple(
        ir.PortPolicy(
            one.port.number,
            ir.Policy(
                load_balancer=_balancer(one.load_balancer),
                tcp=tcp_pool(one.connection_pool),
                http=http_pool(one.connection_pool),
                outlier=outlier_detection(one.outlier_detection),
                tls=client_tls(one.tls),
            ),
        )
        for one in policy.port_level_settings
        if one.port is not None
    )


def _balancer(settings: api.LoadBalancerSettings | None) -> ir.LoadBalancer | None:
    if settings is None:
        return None
    simple = settings.simple or ""
    warmup, hashing = settings.warmup, settings.consistent_hash or api.ConsistentHashLB()
    ring = hashing.ring_hash.minimum_ring_size if hashing.ring_hash else hashing.minimum_ring_size
    return ir.LoadBalancer(
        simple="LEAST_REQUEST" if simple == "LEAST_CONN" else "" if simple == "UNSPECIFIED" else simple,
        hash=_hash(settings.consistent_hash),
        ring_hash=hashing.maglev is None,
        minimum_ring_size=ring,
        balance_factor=hashing.hash_balance_factor,
        maglev_table_size=hashing.maglev.table_size if hashing.maglev else 0,
        warmup=_seconds(warmup.duration if warmup else settings.warmup_duration_secs) or 0,
        warmup_minimum_percent=(warmup.minimum_percent or 0) if warmup else 0,
        warmup_aggression=(warmup.aggression or 0) if warmup else 0,
        locality=by_locality(settings.locality_lb_setting) or by_zone(settings.zone_aware_lb_setting),
        utilization=_utilization(settings.backend_utilization),
    )


def _utilization(setting: api.BackendUtilizationLB | None) -> ir.UtilizationLb | None:
    if setting is None:
        return None
    return ir.UtilizationLb(
        blackout=_seconds(setting.blackout_period),
        expiration=_seconds(setting.weight_expiration_period),
        update=_seconds(setting.weight_update_period),
        error_penalty=setting.error_utilization_penalty,
        metrics=setting.metric_names_for_computing_utilization,
    )


def _hash(settings: api.ConsistentHashLB | None) -> ir.HashPolicy | None:
    if settings is None:
        return None
    cookie = settings.http_cookie or api.HTTPCookie()
    return ir.HashPolicy(
        header=settings.http_header_name or "",
        cookie=cookie.name,
        cookie_path=cookie.path,
        cookie_ttl=_seconds(cookie.ttl),
        cookie_attributes=tuple((one.name, one.value) for one in cookie.attributes),
        source_ip=bool(settings.use_source_ip),
        query=settings.http_query_parameter_name or "",
    )
