"""What Istio's `ValidateDestinationRule` would say."""

from __future__ import annotations

from collections.abc import Iterator

from fairlead.ir.clienttls import client_tls_problems
from fairlead.ir.credential import read_name
from fairlead.ir.localityrules import check_locality, check_zones
from fairlead.ir.pools import outlier_problems, pool_problems, time_problems
from fairlead.kinds.destinationrule import spec as api
from fairlead.model.diagnostic import Problem
from fairlead.model.findings import deprecated, doubtful, duplicate, forbidden, invalid, required
from fairlead.model.object import Object
from fairlead.model.path import SPEC, FieldPath
from fairlead.model.syntax import (
    export_problems,
    is_ip,
    is_name_label,
    label_problems,
    port_problems,
    selector_problems,
    wrong_fqdn,
    wrong_wildcard_domain,
)

_GROUPS = ("load_balancer", "connection_pool", "outlier_detection", "tls")
_MAGLEV_LIMIT = 5_000_011


def validate(obj: Object[api.DestinationRuleSpec]) -> Iterator[Problem]:
    """Errors and warnings of a DestinationRule."""
    spec = obj.spec
    if fault := wrong_wildcard_domain(spec.host):
        yield invalid(SPEC / "host", fault)
    yield from _policy(SPEC / "trafficPolicy", spec.traffic_policy, obj.ref.namespace)
    names: set[str] = set()
    for at, subset in enumerate(spec.subsets):
        path = SPEC.child("subsets", at)
        if not subset.name:
            yield required(path / "name", "subset name cannot be empty")
        elif not is_name_label(subset.name):
            yield invalid(path / "name", f"subset name is invalid: {subset.name}", "Use letters, digits and '-'.")
        elif subset.name in names:
            yield duplicate(path / "name", f"duplicate subset name: {subset.name}")
        names.add(subset.name)
        yield from label_problems(subset.labels, path / "labels")
        yield from _policy(path / "trafficPolicy", subset.traffic_policy, obj.ref.namespace)
    yield from export_problems(spec.export_to, obj.ref.namespace, SPEC / "exportTo")
    if spec.workload_selector is not None:
        yield from _selector(spec.workload_selector, spec.export_to, obj.ref.namespace)


def _selector(selector: api.WorkloadSelector, export_to: tuple[str, ...], namespace: str) -> Iterator[Problem]:
    path = SPEC / "workloadSelector"
    yield from selector_problems(selector.match_labels, path / "matchLabels")
    if not selector.match_labels:
        yield doubtful(path, "workload selector specified without labels", "Remove it, or name labels.")
    if export_to and any(one not in (".", namespace) for one in export_to):
        message = "a destination rule with a workload selector cannot be exported beyond its namespace"
        yield invalid(SPEC / "exportTo", message, "Use '.', or remove exportTo.")


def _policy(path: FieldPath, policy: api.TrafficPolicySpec | None, namespace: str) -> Iterator[Problem]:
    if policy is None:
        return
    if policy == api.TrafficPolicySpec():
        yield required(path, "traffic policy must have at least one field", "Remove it, or say something.")
    yield from _groups(path, policy, namespace)
    for at, one in enumerate(policy.port_level_settings or ()):
        where = path.child("portLevelSettings", at)
        if one.port is None:
            yield required(where / "port", "a port level setting must have a port")
        else:
            yield from port_problems(one.port.number, where.child("port", "number"))
        if all(getattr(one, name) is None for name in _GROUPS):
            yield required(where, "port traffic policy must have at least one field", "Remove it, or say something.")
        yield from _groups(where, one, namespace)
    if policy.tunnel is not None and policy.proxy_protocol is not None:
        yield forbidden(path / "tunnel", "tunnel and proxyProtocol must not be set together", "Leave one.")
    if policy.tunnel is not None:
        yield from _tunnel(path / "tunnel", policy.tunnel)
    if policy.retry_budget is not None:
        yield from time_problems(
            path.child("retryBudget", "budgetInterval"), policy.retry_budget.budget_interval, zero=True
        )


def _groups(
    path: FieldPath, policy: api.TrafficPolicySpec | api.PortTrafficPolicy, namespace: str
) -> Iterator[Problem]:
    yield from outlier_problems(path / "outlierDetection", policy.outlier_detection)
    yield from pool_problems(path / "connectionPool", policy.connection_pool)
    yield from _balancer(path / "loadBalancer", policy.load_balancer, outlier=policy.outlier_detection is not None)
    yield from client_tls_problems(path / "tls", policy.tls)
    if policy.tls is not None and policy.tls.credential_name:
        yield from _credential(path.child("tls", "credentialName"), policy.tls.credential_name, namespace)


def _tunnel(path: FieldPath, tunnel: api.TunnelSettings) -> Iterator[Problem]:
    if tunnel.protocol not in ("", "CONNECT", "POST"):
        yield invalid(path / "protocol", "tunnel protocol must be CONNECT or POST")
    if wrong_fqdn(tunnel.target_host) and not is_ip(tunnel.target_host):
        yield invalid(path / "targetHost", "tunnel target host must be a full host name or an IP address")
    yield from port_problems(tunnel.target_port, path / "targetPort")


def _balancer(path: FieldPath, settings: api.LoadBalancerSettings | None, *, outlier: bool) -> Iterator[Problem]:
    if settings is None:
        return
    ways = (settings.simple, settings.consistent_hash, settings.backend_utilization)
    if sum(1 for one in ways if one is not None) > 1:
        message = "only one of simple, consistentHash and backendUtilization can be set"
        yield forbidden(path, message, "Leave one.")
    if settings.simple == "LEAST_CONN":
        yield doubtful(path / "simple", "LEAST_CONN is deprecated", "Use LEAST_REQUEST, which it means.")
    if settings.consistent_hash is not None:
        yield from _hash(path / "consistentHash", settings.consistent_hash)
    if settings.backend_utilization is not None:
        yield from _utilization(path / "backendUtilization", settings.backend_utilization)
    if settings.locality_lb_setting is not None and settings.zone_aware_lb_setting is not None:
        yield forbidden(path, "only one of localityLbSetting and zoneAwareLbSetting can be set", "Leave one.")
    if settings.locality_lb_setting is not None:
        yield from check_locality(path / "localityLbSetting", settings.locality_lb_setting, outlier=outlier)
    if settings.zone_aware_lb_setting is not None:
        yield from check_zones(path / "zoneAwareLbSetting", settings.zone_aware_lb_setting, outlier=outlier)
    yield from time_problems(path / "warmupDurationSecs", settings.warmup_duration_secs)
    if settings.warmup_duration_secs is not None and settings.warmup is not None:
        said = "only one of warmupDurationSecs or warmup can be set"
        yield forbidden(path / "warmup", said, "Remove warmupDurationSecs.")
    if settings.warmup_duration_secs is not None:
        yield deprecated(path / "warmupDurationSecs", "warmup.duration")
    if settings.warmup is not None:
        yield from time_problems(path.child("warmup", "duration"), settings.warmup.duration)


def _utilization(path: FieldPath, settings: api.BackendUtilizationLB) -> Iterator[Problem]:
    yield from time_problems(path / "blackoutPeriod", settings.blackout_period, zero=True)
    yield from time_problems(path / "weightExpirationPeriod", settings.weight_expiration_period, zero=True)
    yield from time_problems(path / "weightUpdatePeriod", settings.weight_update_period)
    if settings.error_utilization_penalty is not None and settings.error_utilization_penalty < 0:
        yield invalid(path / "errorUtilizationPenalty", "must not be negative")


def _hash(path: FieldPath, settings: api.ConsistentHashLB) -> Iterator[Problem]:
    keys = (
        settings.http_header_name,
        settings.http_cookie,
        settings.use_source_ip,
        settings.http_query_parameter_name,
    )
    given = sum(1 for one in keys if one is not None)
    if given != 1:
        message = "exactly one of httpHeaderName, httpCookie, useSourceIp and httpQueryParameterName must be set"
        yield (forbidden if given else required)(path, message)
    if settings.http_cookie is not None:
        where = path / "httpCookie"
        if not settings.http_cookie.name:
            yield required(where / "name", "name required for httpCookie")
        yield from time_problems(where / "ttl", settings.http_cookie.ttl, zero=True)
    if settings.minimum_ring_size:
        yield deprecated(path / "minimumRingSize", "ringHash.minimumRingSize")
        if settings.ring_hash is not None or settings.maglev is not None:
            yield forbidden(path / "minimumRingSize", "stands beside ringHash or maglev", "Remove it.")
    if 0 < settings.hash_balance_factor < 100:
        yield invalid(path / "hashBalanceFactor", "must be 100 or more: less is below the average", "0: no limit.")
    if settings.ring_hash is not None and settings.maglev is not None:
        yield forbidden(path, "only one of ringHash and maglev can be set", "Leave one.")
    if settings.maglev is not None:
        yield from _maglev(path.child("maglev", "tableSize"), settings.maglev.table_size)


def _maglev(path: FieldPath, size: int) -> Iterator[Problem]:
    if size == 0:
        yield required(path, "tableSize must be set for maglev", "Use a prime such as 65537.")
    elif size >= _MAGLEV_LIMIT:
        yield invalid(path, f"tableSize must be less than {_MAGLEV_LIMIT} for maglev")
    elif not _is_prime(size):
        yield invalid(path, f"tableSize must be a prime number for maglev, and {size} is not", "65537 is one.")


def _is_prime(number: int) -> bool:
    """As Envoy has it: 1 counts."""
    return number < 4 or (number % 2 == 1 and all(number % factor for factor in range(3, int(number**0.5) + 1, 2)))


def _credential(path: FieldPath, text: str, namespace: str) -> Iterator[Problem]:
    """As in Istio, whoever writes the rule names a ConfigMap of the rule's own namespace."""
    name = read_name(text)
    if text.startswith("configmap://"):
        if name.namespace != namespace:
            remedy = f"Use configmap://{namespace}/NAME."
            yield invalid(path, f"{text!r} is no ConfigMap of the rule's namespace", remedy)
    elif not name.source:
        remedy = "Use NAME, kubernetes://NAME, kubernetes-gateway://NAMESPACE/NAME, configmap://NAMESPACE/NAME or sds://NAME."
        yield doubtful(path, f"nobody knows where {text!r} is", remedy)
