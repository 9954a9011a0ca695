"""MeshConfig to the mesh's fact: from a ConfigMap's text, a file, or an object.

Istio keeps these settings in the ConfigMap `istio` of the root namespace, as YAML under the key `mesh`. Durations,
ports and lists are checked as istio `pkg/config/validation/agent` does. A setting that is decoded but not acted on
gets a warning (FL0100) that names it, never silence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import msgspec

from fairlead.ir.authz import authorizer_of
from fairlead.ir.ciphers import is_cipher_suite, is_curve, usable, usable_curves
from fairlead.ir.headers import proxy_headers
from fairlead.ir.locality import Distribution, LocalityLb
from fairlead.ir.localityrules import check_locality
from fairlead.ir.mesh import Mesh, TlsLimits
from fairlead.ir.meshnetworks import NETWORKS_KEY, read_networks
from fairlead.ir.meshspec import DefaultTrafficPolicy, HTTPRetry, LocalitySetting, MeshConfig, TLSConfig
from fairlead.ir.observability import ignored_fields, is_served, observability_of, provider_problems
from fairlead.ir.pools import http_pool, outlier_detection, outlier_problems, pool_problems, tcp_pool
from fairlead.ir.proxyconfig import KeepaliveSettings, ProxyConfig, Topology
from fairlead.ir.proxystart import variable_problems
from fairlead.ir.traffic import Policy, RetryPolicy, TcpKeepalive
from fairlead.model.decode import decode
from fairlead.model.diagnostic import Position, Problem, Severity
from fairlead.model.duration import is_duration, parse_duration
from fairlead.model.manifest import Manifest
from fairlead.model.path import ROOT, FieldPath
from fairlead.model.syntax import export_problems, is_name_label, port_problems, wrong_fqdn
from fairlead.model.yaml import YAMLError, parse_documents

CONFIGMAP_NAMESPACE = "istio-system"
CONFIGMAP_NAME = "istio"
CONFIGMAP_KEY = "mesh"
_DATA = ROOT.child("data", CONFIGMAP_KEY)

_EFFECTIVE = frozenset(
    (
        "access_log_encoding",
        "access_log_file",
        "access_log_format",
        "connect_timeout",
        "default_config",
        "default_destination_rule_export_to",
        "default_http_retry_policy",
        "default_providers",
        "default_service_export_to",
        "default_traffic_policy",
        "default_virtual_service_export_to",
        "dns_refresh_rate",
        "enable_auto_mtls",
        "enable_tracing",
        "extension_providers",
        "fairlead",
        "h2_upgrade_policy",
        "inbound_cluster_stat_name",
        "inbound_traffic_policy",
        "ingress_class",
        "ingress_controller_mode",
        "ingress_selector",
        "ingress_service",
        "locality_lb_setting",
        "mesh_mtls",
        "outbound_cluster_stat_name",
        "outbound_traffic_policy",
        "path_normalization",
        "protocol_detection_timeout",
        "proxy_http_port",
        "root_namespace",
        "tcp_keepalive",
        "tls_defaults",
        "trust_domain",
        "trust_domain_aliases",
    )
)
_EFFECTIVE_PROXY = frozenset(("concurrency", "gateway_topology", "proxy_headers", "proxy_metadata", "tracing"))
_UNUSED_PROXY = {
    "drain_duration": "A Process says it by terminationGracePeriodSeconds.",
    "termination_drain_duration": "A Process says it by terminationGracePeriodSeconds.",
    "image": "Agents start the Envoy that is installed with them.",
}
"""What to do about settings that agents take from elsewhere: they start before they hear of the mesh's settings."""
_UNUSED_MESH = {
    "ca": "Bring your own authority with `fairlead serve --ca-cert --ca-key`.",
    "ca_certificates": "Roots change by rotation of the authority.",
    "certificates": "Deprecated by Istio: use Secrets.",
    "config_sources": "Objects come from the API only.",
    "discovery_selectors": "All namespaces are looked at: limit what proxies see with Sidecar or exportTo.",
    "enable_prometheus_merge": "Scrape the application itself.",
    "proxy_inbound_listen_port": "Inbound connections are redirected to 15006.",
    "proxy_listen_port": "Outbound connections are redirected to 15001.",
    "service_scope_configs": "There is one cluster, and no ambient mode.",
    "service_settings": "There is one cluster: every service is local to it.",
    "verify_certificate_at_client": "Servers are verified unless insecureSkipVerify says otherwise.",
    "hbone_idle_timeout": "There is no ambient mode.",
}
"""Why settings have no effect, or what to use."""
_INGRESS_SERVICE = "istio-ingressgateway"
_REMEDY = "Remove it, or expect nothing of it."


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
    config, problems = decode(MeshConfig, manifest.data["spec"] if base else manifest.data, base)
    if config is not None:
        problems = list(mesh_config_problems(config, base))
    failed = config is None or any(one.severity is Severity.ERROR for one in problems)
    mesh = None if failed or config is None else mesh_of(config)
    return MeshReading(mesh, tuple((one, manifest.position(one.path)) for one in problems))


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
        yield msgspec.structs.replace(problem, path=_DATA, message=message)


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
        inbound_policy=config.inbound_traffic_policy.mode if config.inbound_traffic_policy else "PASSTHROUGH",
        auto_mtls=config.enable_auto_mtls is not False,
        access_log_file=config.access_log_file,
        access_log_format=config.access_log_format,
        access_log_encoding=config.access_log_encoding,
        connect_timeout=_seconds(config.connect_timeout, default.connect_timeout),
        tcp_keepalive=_keepalive(config.tcp_keepalive),
        default_retry=_retry(config.default_http_retry_policy),
        protocol_detection_timeout=_seconds(config.protocol_detection_timeout, default.protocol_detection_timeout),
        dns_refresh_rate=_seconds(config.dns_refresh_rate, default.dns_refresh_rate),
        h2_upgrade=config.h2_upgrade_policy == "UPGRADE",
        default_service_export_to=config.default_service_export_to or default.default_service_export_to,
        default_route_export_to=config.default_virtual_service_export_to or default.default_route_export_to,
        default_policy_export_to=config.default_destination_rule_export_to or default.default_policy_export_to,
        locality=_locality(config.locality_lb_setting),
        proxy_concurrency=proxy.concurrency,
        proxy_environment=tuple(sorted(proxy.proxy_metadata.items())),
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
        ingress_gateway=ingress_gateway(config),
        headers=proxy_headers(proxy.proxy_headers),
        baseline=_baseline(config.default_traffic_policy),
        inbound_stat_name=config.inbound_cluster_stat_name,
        outbound_stat_name=config.outbound_cluster_stat_name,
    )


def ingress_gateway(config: MeshConfig) -> str:
    """The label `istio` of the gateways that serve Ingress: ingressSelector, else the name of ingressService.

    Istio's `getIngressGatewaySelector`: the name of its own default service stands for its own default label.
    """
    service = "" if config.ingress_service == _INGRESS_SERVICE else config.ingress_service
    return config.ingress_selector or service or Mesh().ingress_gateway


def mesh_config_problems(config: MeshConfig, base: FieldPath = ROOT) -> Iterator[Problem]:
    """What Istio's validation says of the settings, and a warning for each that has no effect."""
    yield from _ports(config, base)
    yield from _durations(config, base)
    yield from _names(config, base)
    yield from _providers(config, base)
    if config.locality_lb_setting is not None:
        # Whether there is outlier detection, only the DestinationRule of each host can say.
        yield from check_locality(base / "localityLbSetting", config.locality_lb_setting, outlier=True)
    yield from _tls_problems(base / "meshMTLS", config.mesh_mtls)
    yield from _tls_problems(base / "tlsDefaults", config.tls_defaults)
    if config.default_config is not None:
        path = base.child("defaultConfig", "proxyMetadata")
        yield from variable_problems(config.default_config.proxy_metadata, path)
    if config.default_traffic_policy is not None:
        path = base / "defaultTrafficPolicy"
        yield from pool_problems(path / "connectionPool", config.default_traffic_policy.connection_pool)
        yield from outlier_problems(path / "outlierDetection", config.default_traffic_policy.outlier_detection)
    yield from _without_effect(config, base)


def _tls_problems(path: FieldPath, config: TLSConfig | None) -> Iterator[Problem]:
    """Names that Envoy does not know: it would refuse every listener that has them."""
    for at, one in enumerate(config.cipher_suites if config is not None else ()):
        if not is_cipher_suite(one):
            yield Problem(
                path.child("cipherSuites", at), f"{one!r} is not a cipher suite", remedy="Use OpenSSL's names."
            )
    for at, one in enumerate(config.ecdh_curves if config is not None else ()):
        if not is_curve(one):
            remedy = "One of P-256, P-384, P-521, X25519, X25519MLKEM768."
            yield Problem(path.child("ecdhCurves", at), f"{one!r} is not a curve", remedy=remedy)


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


def _locality(setting: LocalitySetting | None) -> LocalityLb:
    if setting is None:
        return LocalityLb()
    return LocalityLb(
        enabled=setting.enabled is not False,
        distribute=tuple(Distribution(one.from_, tuple(sorted(one.to.items()))) for one in setting.distribute),
        failover=tuple((one.from_, one.to) for one in setting.failover),
        priority=setting.failover_priority,
    )


def _baseline(said: DefaultTrafficPolicy | None) -> Policy:
    if said is None:
        return Policy()
    pool = said.connection_pool
    return Policy(tcp=tcp_pool(pool), http=http_pool(pool), outlier=outlier_detection(said.outlier_detection))


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


def _ports(config: MeshConfig, base: FieldPath) -> Iterator[Problem]:
    yield from port_problems(config.proxy_listen_port, base / "proxyListenPort")
    yield from port_problems(config.proxy_inbound_listen_port, base / "proxyInboundListenPort")
    if config.proxy_http_port:
        yield from port_problems(config.proxy_http_port, base / "proxyHttpPort")
    proxy = config.default_config
    if proxy is not None:
        yield from port_problems(proxy.status_port, base.child("defaultConfig", "statusPort"))
        yield from port_problems(proxy.proxy_admin_port, base.child("defaultConfig", "proxyAdminPort"))
        if proxy.concurrency is not None and proxy.concurrency < 0:
            path = base.child("defaultConfig", "concurrency")
            yield Problem(path, "must not be negative", remedy="0 means one for each core.")


def _durations(config: MeshConfig, base: FieldPath) -> Iterator[Problem]:
    """Each as (field path, value, least, most); times are seconds."""
    keepalive, retry = config.tcp_keepalive or KeepaliveSettings(), config.default_http_retry_policy or HTTPRetry()
    proxy = config.default_config or ProxyConfig()
    checks: tuple[tuple[str, str, float, float], ...] = (
        ("connectTimeout", config.connect_timeout, 0.001, 3600),
        ("protocolDetectionTimeout", config.protocol_detection_timeout, 0, 3600),
        ("dnsRefreshRate", config.dns_refresh_rate, 0.001, 86400 * 365),
        ("hboneIdleTimeout", config.hbone_idle_timeout, 0.001, 86400 * 365),
        ("tcpKeepalive.time", keepalive.time, 1, 86400 * 365),
        ("tcpKeepalive.interval", keepalive.interval, 1, 86400 * 365),
        ("defaultHttpRetryPolicy.perTryTimeout", retry.per_try_timeout, 0.001, 86400 * 365),
        ("defaultHttpRetryPolicy.backoff", retry.backoff, 0.001, 86400 * 365),
        ("defaultConfig.drainDuration", proxy.drain_duration, 1, 86400),
        ("defaultConfig.parentShutdownDuration", proxy.parent_shutdown_duration, 1, 86400),
        ("defaultConfig.terminationDrainDuration", proxy.termination_drain_duration, 0, 86400),
    )
    for field, text, least, most in checks:
        path = base.child(*field.split("."))
        if text and not is_duration(text):
            yield Problem(path, f"{text!r} is not a duration", remedy="Use a form such as 10s, 1m30s or 250ms.")
        elif text and not least <= parse_duration(text) <= most:
            yield Problem(path, f"{text} is not between {least:g} s and {most:g} s")


def _names(config: MeshConfig, base: FieldPath) -> Iterator[Problem]:
    domains = [(base / "trustDomain", config.trust_domain)] if config.trust_domain else []
    domains += [(base.child("trustDomainAliases", at), one) for at, one in enumerate(config.trust_domain_aliases)]
    for path, domain in domains:
        if wrong_fqdn(domain):
            yield Problem(path, f"{domain!r} is not a trust domain", remedy="Use a DNS name, such as cluster.local.")
    if config.root_namespace and not is_name_label(config.root_namespace):
        yield Problem(base / "rootNamespace", f"{config.root_namespace!r} is not a namespace")
    exports = (
        ("defaultServiceExportTo", config.default_service_export_to),
        ("defaultVirtualServiceExportTo", config.default_virtual_service_export_to),
        ("defaultDestinationRuleExportTo", config.default_destination_rule_export_to),
    )
    for field, export_to in exports:
        yield from export_problems(export_to or (), "", base / field, none_allowed=True)
    if config.access_log_encoding == "JSON" and config.access_log_format:
        yield from _json_format(config.access_log_format, base / "accessLogFormat")


def _json_format(text: str, path: FieldPath) -> Iterator[Problem]:
    try:
        msgspec.json.decode(text, type=dict)
    except msgspec.MsgspecError:
        remedy = "Write a JSON object, or set accessLogEncoding: TEXT."
        yield Problem(path, "accessLogEncoding is JSON, but the format is not a JSON object", remedy=remedy)


def _providers(config: MeshConfig, base: FieldPath) -> Iterator[Problem]:
    seen: set[str] = set()
    for at, provider in enumerate(config.extension_providers):
        path = base.child("extensionProviders", at)
        if not provider.name:
            yield Problem(path / "name", "required", code="FL0004", reason="FieldValueRequired")
        if provider.name in seen:
            yield Problem(path / "name", f"{provider.name!r} is used twice", reason="FieldValueDuplicate")
        seen.add(provider.name)
        fields = zip(provider.__struct_fields__[1:], provider.__struct_encode_fields__[1:], strict=True)
        chosen = [encoded for name, encoded in fields if getattr(provider, name) is not None]
        if len(chosen) != 1:
            said = f"exactly one kind of provider is possible, found {', '.join(chosen) or 'none'}"
            yield Problem(path, said, remedy="Remove the others." if chosen else "Name one, such as zipkin.")
        authorizer = authorizer_of(provider)
        if authorizer is not None and authorizer.problem:
            said = f"{authorizer.problem}; policies that name it deny what they match"
            yield Problem(path, said, Severity.WARNING, "Mend the provider.", "FL0101")
        for field, wrong in provider_problems(provider):
            yield Problem(path.child(*field.split(".")), wrong, remedy="Name a host of the mesh and its port.")
        for field in ignored_fields(provider):
            yield Problem(path.child(*field.split(".")), f"{field} has no effect", Severity.WARNING, _REMEDY, "FL0100")
        if len(chosen) == 1 and authorizer is None and not is_served(provider):
            yield Problem(path / chosen[0], f"{chosen[0]} has no effect", Severity.WARNING, _REMEDY, "FL0100")


def _without_effect(config: MeshConfig, base: FieldPath) -> Iterator[Problem]:
    yield from _unused(config, MeshConfig(), _EFFECTIVE, base)
    if config.default_config is not None:
        yield from _unused(config.default_config, ProxyConfig(), _EFFECTIVE_PROXY, base / "defaultConfig")
    if config.enable_tracing and observability_of(config).tracer is None and config.default_providers is None:
        said = "enableTracing has no effect: neither defaultConfig.tracing nor defaultProviders names a tracer"
        remedy = "Name one, and have a Telemetry object use it."
        yield Problem(base / "enableTracing", said, Severity.WARNING, remedy, "FL0100")


def _unused(
    config: msgspec.Struct, default: msgspec.Struct, effective: frozenset[str], base: FieldPath
) -> Iterator[Problem]:
    for name, encoded in zip(config.__struct_fields__, config.__struct_encode_fields__, strict=True):
        value = getattr(config, name)
        if name == "hold_application_until_proxy_starts" and value:
            continue  # agents never start an application before its proxy has its configuration
        if name not in effective and value != getattr(default, name):
            remedy = _UNUSED_PROXY.get(name) or _UNUSED_MESH.get(name, _REMEDY)
            yield Problem(base / encoded, f"{encoded} has no effect", Severity.WARNING, remedy, "FL0100")
