"""What is wrong with MeshConfig (as istio `pkg/config/validation/agent` has it), and which settings have no effect."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from fairlead.ir.authz import authorizer_of
from fairlead.ir.ciphers import is_cipher_suite, is_curve
from fairlead.ir.clienttls import client_tls_problems
from fairlead.ir.localityrules import check_locality, check_zones
from fairlead.ir.logformat import format_problems
from fairlead.ir.meshspec import (
    CertificateData,
    HTTPRetry,
    LabelSelector,
    MeshConfig,
    OutboundTrafficPolicy,
    ServiceEntryVisibility,
    TLSConfig,
)
from fairlead.ir.observability import (
    ignored_fields,
    is_served,
    observability_of,
    provider_problems,
    without_use,
)
from fairlead.ir.pools import outlier_problems, pool_problems
from fairlead.ir.providers import ExtensionProvider
from fairlead.ir.proxyconfig import KeepaliveSettings, ProxyConfig
from fairlead.ir.proxyown import AT_ONCE
from fairlead.ir.proxysettings import AT_START, duration_problems, is_certificates, start_problems, without_effect
from fairlead.ir.proxystart import variable_problems
from fairlead.model.diagnostic import Problem, Severity
from fairlead.model.findings import forbidden
from fairlead.model.path import ROOT, FieldPath
from fairlead.model.syntax import (
    export_problems,
    is_name_label,
    is_trust_domain,
    label_problems,
    port_problems,
    wrong_wildcard_domain,
)

_EFFECTIVE = frozenset(
    (
        "access_log_encoding",
        "access_log_file",
        "access_log_format",
        "ca_certificates",
        "connect_timeout",
        "default_config",
        "default_destination_rule_export_to",
        "default_http_retry_policy",
        "default_inbound_http_retry_policy",
        "default_providers",
        "default_service_export_to",
        "default_traffic_policy",
        "default_virtual_service_export_to",
        "discovery_selectors",
        "disable_envoy_listener_log",
        "dns_refresh_rate",
        "enable_auto_mtls",
        "enable_envoy_access_log_service",
        "enable_prometheus_merge",
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
        "proxy_inbound_listen_port",
        "proxy_listen_port",
        "root_namespace",
        "service_entry_visibility",
        "service_settings",
        "tcp_keepalive",
        "tls_defaults",
        "trust_domain",
        "trust_domain_aliases",
        "zone_aware_lb_setting",
    )
)
_AT_ONCE = AT_ONCE | {"envoy_access_log_service"}
_UNUSED_MESH = {
    "ca": "Bring your own authority with `fairlead serve --ca-cert --ca-key`.",
    "certificates": "Deprecated by Istio: use Secrets.",
    "config_sources": "Objects come from the API only.",
    "compliance_policy": "Restrict TLS by meshMTLS and tlsDefaults.",
    "service_scope_configs": "It is for ambient mode, which there is not: keep calls in a cluster by serviceSettings.",
    "verify_certificate_at_client": "Servers are verified unless insecureSkipVerify says otherwise.",
    "hbone_idle_timeout": "There is no ambient mode.",
}
"""Why settings have no effect, or what to use."""
_REMEDY = "Remove it, or expect nothing of it."


def mesh_config_problems(config: MeshConfig, base: FieldPath = ROOT) -> Iterator[Problem]:
    """What Istio's validation says of the settings, and a warning for each that has no effect."""
    yield from _ports(config, base)
    yield from _durations(config, base)
    yield from _names(config, base)
    yield from _providers(config, base)
    if config.locality_lb_setting is not None:
        # Whether there is outlier detection, only the DestinationRule of each host can say.
        yield from check_locality(base / "localityLbSetting", config.locality_lb_setting, outlier=True)
    if config.zone_aware_lb_setting is not None:
        path = base / "zoneAwareLbSetting"
        yield from check_zones(path, config.zone_aware_lb_setting, outlier=True)
        if config.locality_lb_setting is not None:
            yield forbidden(path, "only one of localityLbSetting and zoneAwareLbSetting can be set", "Leave one.")
    yield from _outbound_problems(config.outbound_traffic_policy, base / "outboundTrafficPolicy")
    yield from _tls_problems(base / "meshMTLS", config.mesh_mtls)
    yield from _tls_problems(base / "tlsDefaults", config.tls_defaults)
    if config.default_config is not None:
        path = base.child("defaultConfig", "proxyMetadata")
        yield from variable_problems(config.default_config.proxy_metadata, path)
        yield from start_problems(config.default_config, base / "defaultConfig")
    if config.default_traffic_policy is not None:
        path = base / "defaultTrafficPolicy"
        yield from pool_problems(path / "connectionPool", config.default_traffic_policy.connection_pool)
        yield from outlier_problems(path / "outlierDetection", config.default_traffic_policy.outlier_detection)
    yield from _root_problems(config, base)
    yield from _service_problems(config, base)
    yield from _selector_problems(config, base)
    yield from _without_effect(config, base)


def _outbound_problems(said: OutboundTrafficPolicy | None, base: FieldPath) -> Iterator[Problem]:
    """TLS is for requests that are looked up by name; all sidecars have one setting, and no Secret of anybody's."""
    if said is None or said.tls is None:
        return
    path = base / "tls"
    yield from client_tls_problems(path, said.tls)
    if said.mode != "ALLOW_ANY_DYNAMIC_DNS":
        wrong = f"tls has no effect with {said.mode}: connections go on as the client begins them"
        yield Problem(path, wrong, Severity.WARNING, "Set mode: ALLOW_ANY_DYNAMIC_DNS, or remove it.", "FL0100")
    if said.tls.mode == "ISTIO_MUTUAL":
        wrong = "unknown hosts have no identity in the mesh that ISTIO_MUTUAL could verify"
        yield Problem(path / "mode", wrong, remedy="Use SIMPLE or MUTUAL.")
    if said.tls.credential_name:
        wrong = "sidecars get no Secrets for unknown hosts"
        yield Problem(path / "credentialName", wrong, remedy="Name files on the hosts of the sidecars.")


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


def is_plain(one: CertificateData) -> bool:
    """Whether a further root is one that every peer may come from, and that is known when a proxy starts."""
    return bool(one.pem) and is_usable(one) and not one.trust_domains


def is_usable(one: CertificateData) -> bool:
    """Whether a further root is trusted: there are no signers here for which only some would be."""
    return bool(one.pem or one.spiffe_bundle_url) and not one.cert_signers


def _root_problems(config: MeshConfig, base: FieldPath) -> Iterator[Problem]:
    """Roots that are no certificates, and such as hold for some peers only: trusting these fully would be too much."""
    for at, one in enumerate(config.ca_certificates):
        path = base.child("caCertificates", at)
        if one.pem and not is_certificates(one.pem):
            remedy = "Give the text from BEGIN to END CERTIFICATE."
            yield Problem(path / "pem", "not a certificate in PEM", remedy=remedy)
        if bool(one.pem) == bool(one.spiffe_bundle_url):
            yield Problem(path, "exactly one of pem and spiffeBundleUrl is needed", remedy="Give one of them.")
        elif one.spiffe_bundle_url and not one.spiffe_bundle_url.startswith("https://"):
            said = f"{one.spiffe_bundle_url!r} is not an https URL: whoever is in between could give roots"
            yield Problem(path / "spiffeBundleUrl", said, remedy="Use https.")
        for number, domain in enumerate(one.trust_domains):
            if not is_trust_domain(domain):
                yield Problem(path.child("trustDomains", number), f"{domain!r} is not a trust domain")
        if one.cert_signers:
            said = "certSigners has no effect: the root is not trusted"
            remedy = "There are no signers beside the mesh's authority: remove certSigners, or the root."
            yield Problem(path / "certSigners", said, Severity.WARNING, remedy, "FL0100")


def _service_problems(config: MeshConfig, base: FieldPath) -> Iterator[Problem]:
    """Hosts to which no host can be like (serviceSettings)."""
    for at, one in enumerate(config.service_settings):
        path = base.child("serviceSettings", at)
        for number, host in enumerate(one.hosts):
            if wrong := wrong_wildcard_domain(host):
                yield Problem(path.child("hosts", number), wrong, remedy="Write a full name, or *.SUFFIX.")
        if not one.hosts:
            wrong = "without hosts the settings are nobody's"
            yield Problem(path / "hosts", wrong, Severity.WARNING, "Name hosts, or remove the settings.", "FL0100")


def _selector_problems(config: MeshConfig, base: FieldPath) -> Iterator[Problem]:
    """What Kubernetes would say of label selectors."""
    selectors = [(base.child("discoverySelectors", at), one) for at, one in enumerate(config.discovery_selectors)]
    visibility, path = config.service_entry_visibility or ServiceEntryVisibility(), base / "serviceEntryVisibility"
    for at, policy in enumerate(visibility.policies):
        for number, rule in enumerate(policy.matching_rules):
            where = path.child("policies", at, "matchingRules", number, "namespaceSelector")
            if rule.namespace_selector is not None:
                selectors.append((where, rule.namespace_selector))
            else:
                remedy = "Name labels of namespaces, or leave the rule out."
                yield Problem(where, "a rule without it matches nothing", Severity.WARNING, remedy, "FL0100")
    for where, selector in selectors:
        yield from _one_selector(where, selector)
    if config.service_entry_visibility is not None and not visibility.apply_to_sidecars:
        said = "serviceEntryVisibility has no effect without applyToSidecars: there is no ambient mode"
        yield Problem(path, said, Severity.WARNING, "Set applyToSidecars: true.", "FL0100")


def _one_selector(path: FieldPath, one: LabelSelector) -> Iterator[Problem]:
    yield from label_problems(one.match_labels, path / "matchLabels")
    for number, expression in enumerate(one.match_expressions):
        where = path.child("matchExpressions", number)
        yield from label_problems(dict.fromkeys((expression.key,), ""), where / "key")
        if bool(expression.values) != (expression.operator in ("In", "NotIn")):
            wrong = "must not have values" if expression.values else "needs values"
            remedy = "In and NotIn have values, Exists and DoesNotExist none."
            yield Problem(where / "values", f"{expression.operator} {wrong}", remedy=remedy)


def _ports(config: MeshConfig, base: FieldPath) -> Iterator[Problem]:
    yield from port_problems(config.proxy_listen_port, base / "proxyListenPort")
    yield from port_problems(config.proxy_inbound_listen_port, base / "proxyInboundListenPort")
    if config.proxy_http_port:
        yield from port_problems(config.proxy_http_port, base / "proxyHttpPort")
    proxy = config.default_config
    if proxy is not None and proxy.concurrency is not None and proxy.concurrency < 0:
        path = base.child("defaultConfig", "concurrency")
        yield Problem(path, "must not be negative", remedy="0 means one for each core.")


def _durations(config: MeshConfig, base: FieldPath) -> Iterator[Problem]:
    """Each as (field path, value, least, most); times are seconds."""
    keepalive, retry = config.tcp_keepalive or KeepaliveSettings(), config.default_http_retry_policy or HTTPRetry()
    inbound = config.default_inbound_http_retry_policy or HTTPRetry()
    checks: tuple[tuple[str, str, float, float], ...] = (
        ("connectTimeout", config.connect_timeout, 0.001, 3600),
        ("protocolDetectionTimeout", config.protocol_detection_timeout, 0, 3600),
        ("dnsRefreshRate", config.dns_refresh_rate, 0.001, 86400 * 365),
        ("hboneIdleTimeout", config.hbone_idle_timeout, 0.001, 86400 * 365),
        ("tcpKeepalive.time", keepalive.time, 1, 86400 * 365),
        ("tcpKeepalive.interval", keepalive.interval, 1, 86400 * 365),
        ("defaultHttpRetryPolicy.perTryTimeout", retry.per_try_timeout, 0.001, 86400 * 365),
        ("defaultHttpRetryPolicy.backoff", retry.backoff, 0.001, 86400 * 365),
        ("defaultInboundHttpRetryPolicy.perTryTimeout", inbound.per_try_timeout, 0.001, 86400 * 365),
        ("defaultInboundHttpRetryPolicy.backoff", inbound.backoff, 0.001, 86400 * 365),
    )
    yield from duration_problems(base, checks)


def _names(config: MeshConfig, base: FieldPath) -> Iterator[Problem]:
    domains = [(base / "trustDomain", config.trust_domain)] if config.trust_domain else []
    domains += [(base.child("trustDomainAliases", at), one) for at, one in enumerate(config.trust_domain_aliases)]
    for path, domain in domains:
        if not is_trust_domain(domain):
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
    else:
        yield from format_problems(config.access_log_format, base / "accessLogFormat")


def _json_format(text: str, path: FieldPath) -> Iterator[Problem]:
    try:
        fields = msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.MsgspecError:
        remedy = "Write a JSON object, or set accessLogEncoding: TEXT."
        yield Problem(path, "accessLogEncoding is JSON, but the format is not a JSON object", remedy=remedy)
    else:
        for one in fields.values():
            for problem in format_problems(one, path):
                yield msgspec.structs.replace(problem, path=path)


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
        yield from _log_problems(provider, path)
        for field in ignored_fields(provider):
            yield Problem(path.child(*field.split(".")), f"{field} has no effect", Severity.WARNING, _REMEDY, "FL0100")
        if len(chosen) == 1 and authorizer is None and not is_served(provider):
            wrong, remedy = without_use(chosen[0])
            yield Problem(path / chosen[0], wrong, Severity.WARNING, remedy, "FL0100")


def _log_problems(provider: ExtensionProvider, path: FieldPath) -> Iterator[Problem]:
    for field, log in (
        ("envoyFileAccessLog", provider.envoy_file_access_log),
        ("envoyOtelAls", provider.envoy_otel_als),
    ):
        if log is not None and log.log_format is not None:
            at = path.child(field, "logFormat")
            yield from format_problems(log.log_format.text, at / "text")
            yield from format_problems(log.log_format.labels, at / "labels")


def _without_effect(config: MeshConfig, base: FieldPath) -> Iterator[Problem]:
    yield from _unused(config, MeshConfig(), _EFFECTIVE, base)
    if config.default_config is not None:
        yield from without_effect(config.default_config, base / "defaultConfig", AT_START | _AT_ONCE)
    yield from _log_service(config, base)
    if config.enable_tracing and observability_of(config).tracer is None and config.default_providers is None:
        said = "enableTracing has no effect: neither defaultConfig.tracing nor defaultProviders names a tracer"
        remedy = "Name one, and have a Telemetry object use it."
        yield Problem(base / "enableTracing", said, Severity.WARNING, remedy, "FL0100")


def _log_service(config: MeshConfig, base: FieldPath) -> Iterator[Problem]:
    """The access log service needs a switch and an address; TLS is up to the host's DestinationRule."""
    service = (config.default_config or ProxyConfig()).envoy_access_log_service
    path = base.child("defaultConfig", "envoyAccessLogService")
    if config.enable_envoy_access_log_service and (service is None or not service.address):
        said = "enableEnvoyAccessLogService has no effect: defaultConfig.envoyAccessLogService has no address"
        yield Problem(base / "enableEnvoyAccessLogService", said, Severity.WARNING, f"Set {path}.address.", "FL0100")
    if service is None:
        return
    if not config.enable_envoy_access_log_service:
        said = "envoyAccessLogService has no effect without enableEnvoyAccessLogService"
        yield Problem(path, said, Severity.WARNING, "Set enableEnvoyAccessLogService: true.", "FL0100")
    for name, value in (("tlsSettings", service.tls_settings), ("tcpKeepalive", service.tcp_keepalive)):
        if value is not None:
            remedy = "Say it in a DestinationRule for that host."
            yield Problem(path / name, f"{name} has no effect", Severity.WARNING, remedy, "FL0100")


def _unused(
    config: msgspec.Struct, default: msgspec.Struct, effective: frozenset[str], base: FieldPath
) -> Iterator[Problem]:
    for name, encoded in zip(config.__struct_fields__, config.__struct_encode_fields__, strict=True):
        value = getattr(config, name)
        if name == "verify_certificate_at_client" and value:
            continue  # servers are always verified
        if name not in effective and value != getattr(default, name):
            remedy = _UNUSED_MESH.get(name, _REMEDY)
            yield Problem(base / encoded, f"{encoded} has no effect", Severity.WARNING, remedy, "FL0100")
