"""MeshConfig to the mesh's fact: from a ConfigMap's text, a file, or an object.

Istio keeps these settings in the ConfigMap `istio` of the root namespace, as YAML under the key `mesh`. Durations,
ports and lists are checked as istio `pkg/config/validation/agent` does. A setting that is decoded but not acted on
gets a warning (FL0100) that names it, never silence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import msgspec

from fairlead.ir.anchors import TrustAnchor
from fairlead.ir.authz import authorizer_of
from fairlead.ir.ciphers import usable, usable_curves
from fairlead.ir.clienttls import client_tls
from fairlead.ir.connections import connections_of
from fairlead.ir.credential import SecretServer
from fairlead.ir.discovery import NAME_LABEL, Ceiling, LabelCondition, Looking, NamespaceSelector, Visibility
from fairlead.ir.headers import proxy_headers
from fairlead.ir.ingress import gateway_label
from fairlead.ir.locality import LocalityLb
from fairlead.ir.localityspec import by_locality, by_zone
from fairlead.ir.mesh import Mesh, TlsLimits
from fairlead.ir.meshchecks import is_plain, is_usable, mesh_config_problems
from fairlead.ir.meshnetworks import NETWORKS_KEY, read_networks
from fairlead.ir.meshremoved import without_removed_mesh
from fairlead.ir.meshspec import (
    DefaultTrafficPolicy,
    HTTPRetry,
    LabelExpression,
    LabelSelector,
    MeshConfig,
    TLSConfig,
)
from fairlead.ir.observability import address_of, observability_of
from fairlead.ir.pools import http_pool, outlier_detection, tcp_pool
from fairlead.ir.proxyconfig import KeepaliveSettings, ProxyConfig, Topology
from fairlead.ir.proxysettings import settings_of
from fairlead.ir.traffic import Policy, RetryPolicy, TcpKeepalive
from fairlead.ir.visibility import DOMAIN_SUFFIX
from fairlead.model.decode import decode
from fairlead.model.diagnostic import Position, Problem, Severity
from fairlead.model.duration import parse_duration
from fairlead.model.launch import ProxySettings
from fairlead.model.manifest import Manifest
from fairlead.model.path import ROOT, FieldPath
from fairlead.model.protojson import Read, of_protojson
from fairlead.model.yaml import YAMLError, parse_documents

CONFIGMAP_NAMESPACE = "istio-system"
CONFIGMAP_NAME = "istio"
CONFIGMAP_KEY = "mesh"
MESH_DATA = ROOT.child("data", CONFIGMAP_KEY)
"""Where in the ConfigMap the settings stand."""


class MeshReading(NamedTuple):
    """What a text says: the fact (None if a finding is an error), and findings with their place in the text."""

    mesh: Mesh | None
    findings: tuple[tuple[Problem, Position | None], ...]


def read_mesh_config(text: str, file: str = "") -> MeshReading:
    """Read MeshConfig from YAML: the settings themselves, or a `MeshConfig` document that has them under `spec`.

    An empty text means the defaults.
    """
    try:
        documents = parse_documents(text, file)
    except YAMLError as error:
        return MeshReading(None, ((Problem(ROOT, error.message, code="FL0008"), error.position),))
    if len(documents) > 1:
        said = Problem(ROOT, "more than one document", remedy="Keep one.", code="FL0008")
        return MeshReading(None, ((said, documents[1].position(ROOT)),))
    manifest = documents[0] if documents else Manifest({}, file)
    base = ROOT / "spec" if "spec" in manifest.data and manifest.data.get("kind") == "MeshConfig" else ROOT
    read = of_protojson(MeshConfig, manifest.data["spec"] if base else manifest.data)
    settings, removed = without_removed_mesh(read.value, base)
    config, problems = decode(MeshConfig, settings, base)
    if config is not None:
        problems = list(mesh_config_problems(config, base))
    problems = [*problems, *removed]
    failed = config is None or any(one.severity is Severity.ERROR for one in problems)
    mesh = None if failed or config is None else mesh_of(config)
    return MeshReading(mesh, tuple((one, manifest.position(_written(one.path, base, read))) for one in problems))


def _written(path: FieldPath, base: FieldPath, read: Read) -> FieldPath:
    return FieldPath((*base, *read.original(FieldPath(tuple(path)[len(tuple(base)) :]))))


def is_mesh_configmap(namespace: str, name: str) -> bool:
    """Whether a ConfigMap is the one that holds the mesh's settings."""
    return (namespace, name) == (CONFIGMAP_NAMESPACE, CONFIGMAP_NAME)


def mesh_of_configmap(namespace: str, name: str, data: Mapping[str, str]) -> Mesh | None:
    """The fact of a ConfigMap: None if it is another ConfigMap, has neither settings nor networks, or is wrong."""
    if not is_mesh_configmap(namespace, name) or not {CONFIGMAP_KEY, NETWORKS_KEY} & data.keys():
        return None
    found = read_mesh_config(data.get(CONFIGMAP_KEY, "")).mesh
    if found is None or NETWORKS_KEY not in data:
        return found
    return msgspec.structs.replace(found, networks=read_networks(data[NETWORKS_KEY])[0])


def configmap_problems(namespace: str, name: str, data: Mapping[str, str]) -> Iterator[Problem]:
    """What is wrong with the mesh settings in a ConfigMap; nothing for other ConfigMaps. Lines count in the value."""
    if not is_mesh_configmap(namespace, name):
        return
    if NETWORKS_KEY in data:
        for problem in read_networks(data[NETWORKS_KEY])[1]:
            path = ROOT.child("data", NETWORKS_KEY)
            yield msgspec.structs.replace(problem, path=path, message=f"{problem.path}: {problem.message}")
    if CONFIGMAP_KEY not in data:
        return
    for problem, position in read_mesh_config(data[CONFIGMAP_KEY]).findings:
        line = f" (line {position.line} of the value)" if position else ""
        field = f"{problem.path}: " if problem.path else ""
        message = f"{field}{problem.message}{line}"
        yield msgspec.structs.replace(problem, path=MESH_DATA, message=message)


def mesh_of(config: MeshConfig) -> Mesh:
    """The fact of valid settings; what is not said has Istio's default."""
    default = Mesh()
    proxy = config.default_config or ProxyConfig()
    topology = proxy.gateway_topology or Topology()
    client_cert = topology.forward_client_cert_details
    outbound = config.outbound_traffic_policy
    return Mesh(
        root_namespace=config.root_namespace or default.root_namespace,
        trust_domain=config.trust_domain or default.trust_domain,
        trust_domain_aliases=config.trust_domain_aliases,
        outbound_policy=outbound.mode if outbound else "ALLOW_ANY",
        outbound_tls=client_tls(outbound.tls) if outbound else None,
        inbound_policy=config.inbound_traffic_policy.mode if config.inbound_traffic_policy else "PASSTHROUGH",
        auto_mtls=config.enable_auto_mtls is not False,
        access_log_file=config.access_log_file,
        access_log_format=config.access_log_format,
        access_log_encoding=config.access_log_encoding,
        connect_timeout=_seconds(config.connect_timeout, default.connect_timeout),
        tcp_keepalive=_keepalive(config.tcp_keepalive),
        default_retry=_retry(config.default_http_retry_policy),
        inbound_retry=_retry(config.default_inbound_http_retry_policy),
        protocol_detection_timeout=_seconds(config.protocol_detection_timeout, default.protocol_detection_timeout),
        dns_refresh_rate=_seconds(config.dns_refresh_rate, default.dns_refresh_rate),
        h2_upgrade=config.h2_upgrade_policy == "UPGRADE",
        default_service_export_to=config.default_service_export_to or default.default_service_export_to,
        default_route_export_to=config.default_virtual_service_export_to or default.default_route_export_to,
        default_policy_export_to=config.default_destination_rule_export_to or default.default_policy_export_to,
        locality=by_zone(config.zone_aware_lb_setting) or by_locality(config.locality_lb_setting) or LocalityLb(),
        listener_log=not config.disable_envoy_listener_log,
        proxy_concurrency=proxy.concurrency,
        proxy_environment=tuple(sorted(proxy.proxy_metadata.items())),
        proxy_settings=_start(config, proxy),
        num_trusted_proxies=topology.num_trusted_proxies,
        gateway_client_cert="" if client_cert == "UNDEFINED" else client_cert,
        gateway_proxy_protocol=topology.proxy_protocol is not None,
        http3=config.fairlead is not None and config.fairlead.http3,
        path_normalization=config.path_normalization.normalization if config.path_normalization else "DEFAULT",
        http_proxy_port=config.proxy_http_port,
        authorizers=tuple(
            one for one in map(authorizer_of, config.extension_providers) if one is not None and one.name
        ),
        observability=observability_of(config),
        mesh_tls=_tls(config.mesh_mtls),
        other_tls=_tls(config.tls_defaults),
        scope=config.fairlead.scope if config.fairlead else "all",
        ingress_mode=config.ingress_controller_mode,
        ingress_class=config.ingress_class or default.ingress_class,
        ingress_gateway=gateway_label(config.ingress_selector, config.ingress_service),
        ingress_service=config.ingress_service or default.ingress_service,
        headers=proxy_headers(proxy.proxy_headers),
        connections=connections_of(proxy.connection_settings),
        baseline=_baseline(config.default_traffic_policy),
        inbound_stat_name=config.inbound_cluster_stat_name,
        outbound_stat_name=config.outbound_cluster_stat_name,
        outbound_port=config.proxy_listen_port,
        inbound_port=config.proxy_inbound_listen_port,
        anchors=tuple(
            TrustAnchor(one.pem, one.spiffe_bundle_url, one.trust_domains)
            for one in config.ca_certificates
            if is_usable(one)
        ),
        cluster_local=_cluster_local(config),
        secret_servers=tuple(_secret_servers(config)),
        looking=Looking(tuple(_namespaces(one) for one in config.discovery_selectors), _ceiling(config)),
    )


def _tls(config: TLSConfig | None) -> TlsLimits:
    if config is None:
        return TlsLimits()
    lowest = config.min_protocol_version
    return TlsLimits(
        "" if lowest == "TLS_AUTO" else lowest, usable(config.cipher_suites), usable_curves(config.ecdh_curves)
    )


def _seconds(text: str, default: float) -> float:
    return parse_duration(text) if text else default


def _keepalive(settings: KeepaliveSettings | None) -> TcpKeepalive | None:
    if settings is None:
        return None
    return TcpKeepalive(settings.probes, _seconds(settings.time, 0), _seconds(settings.interval, 0))


def _start(config: MeshConfig, proxy: ProxyConfig) -> ProxySettings:
    """How proxies start: what `defaultConfig` says, the mesh's further roots, whether metrics are merged, names."""
    roots = tuple(one.pem for one in config.ca_certificates if is_plain(one))
    merged = None if config.enable_prometheus_merge is not False else False
    tracers = (one.opentelemetry for one in config.extension_providers)
    semantic = any(
        one is not None and one.service_attribute_enrichment == "OTEL_SEMANTIC_CONVENTIONS" for one in tracers
    )
    return msgspec.structs.replace(
        settings_of(proxy),
        mesh_certificates=roots or None,
        merge_metrics=merged,
        semantic_names=semantic or None,
    )


def _cluster_local(config: MeshConfig) -> tuple[tuple[str, bool], ...]:
    """Istio's defaults (what is Kubernetes' own) hold beside what is said."""
    if not config.service_settings:
        return ()
    found = {f"*.kube-system.svc.{DOMAIN_SUFFIX}": True, f"kubernetes.default.svc.{DOMAIN_SUFFIX}": True}
    for one in config.service_settings:
        local = one.settings is not None and one.settings.cluster_local
        found.update(dict.fromkeys(one.hosts, local))
    return tuple(sorted(found.items()))


def _secret_servers(config: MeshConfig) -> Iterator[SecretServer]:
    for one in config.extension_providers:
        if one.sds is not None:
            yield SecretServer(one.name, address_of(one.sds), one.sds.name)


def _baseline(said: DefaultTrafficPolicy | None) -> Policy:
    if said is None:
        return Policy()
    pool = said.connection_pool
    return Policy(tcp=tcp_pool(pool), http=http_pool(pool), outlier=outlier_detection(said.outlier_detection))


def _namespaces(said: LabelSelector) -> NamespaceSelector:
    equal = (LabelCondition(name, "In", (value,)) for name, value in sorted(said.match_labels.items()))
    return (*equal, *(LabelCondition(one.key, one.operator, one.values) for one in said.match_expressions))


def _ceiling(config: MeshConfig) -> Ceiling:
    """Sidecars and gateways mind it only where they are told to: without `applyToSidecars` it is for ambient mode."""
    said = config.service_entry_visibility
    if said is None or not said.apply_to_sidecars:
        return Ceiling()
    policies: list[tuple[Visibility, tuple[NamespaceSelector, ...]]] = []
    for one in said.policies:
        asked = tuple(_namespaces(rule.namespace_selector or _NOBODY) for rule in one.matching_rules)
        policies.append((_VISIBILITY[one.visibility], asked))
    return Ceiling(tuple(policies), _VISIBILITY[said.default_visibility], config.default_service_export_to or ("*",))


_VISIBILITY: dict[str, Visibility] = {
    "UNSPECIFIED": "PUBLIC",
    "PUBLIC": "PUBLIC",
    "NAMESPACE": "NAMESPACE",
    "NONE": "NONE",
}
_NOBODY = LabelSelector(match_expressions=(LabelExpression(NAME_LABEL, "DoesNotExist"),))
"""A rule without a matcher matches nothing, as in Istio: every namespace has its name as a label."""


def _retry(policy: HTTPRetry | None) -> RetryPolicy | None:
    if policy is None:
        return None
    return RetryPolicy(
        attempts=policy.attempts,
        retry_on=policy.retry_on,
        per_try_timeout=parse_duration(policy.per_try_timeout) if policy.per_try_timeout else None,
        backoff=parse_duration(policy.backoff) if policy.backoff else None,
        retry_remote_localities=bool(policy.retry_remote_localities),
        ignore_previous_hosts=policy.retry_ignore_previous_hosts is not False,
    )
