"""Fields of Istio's MeshConfig (`istio.mesh.v1alpha1`)."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from fairlead.ir.clienttls import ClientTLSSettings
from fairlead.ir.localityspec import LocalityLoadBalancerSetting, ZoneAwareLoadBalancerSetting
from fairlead.ir.poolspec import ConnectionPoolSettings, OutlierDetection
from fairlead.ir.providers import ExtensionProvider
from fairlead.ir.proxyconfig import Duration, KeepaliveSettings, ProxyConfig
from fairlead.model.object import Spec

Exports = Annotated[
    tuple[str, ...] | None, Meta(description="Where objects are seen that do not say: *, . or namespaces.")
]


class OutboundTrafficPolicy(Spec, frozen=True):
    """What happens to calls of hosts that nothing describes."""

    mode: Annotated[
        Literal["REGISTRY_ONLY", "ALLOW_ANY", "ALLOW_ANY_DYNAMIC_DNS"],
        Meta(
            description="ALLOW_ANY: they go where the client dialled. REGISTRY_ONLY: they are refused. "
            "ALLOW_ANY_DYNAMIC_DNS: HTTP requests go to the host that they name."
        ),
    ] = "REGISTRY_ONLY"
    tls: Annotated[
        ClientTLSSettings | None, Meta(description="TLS of requests that ALLOW_ANY_DYNAMIC_DNS lets through.")
    ] = None


class InboundTrafficPolicy(Spec, frozen=True):
    """Where the proxy finds the application."""

    mode: Annotated[
        Literal["PASSTHROUGH", "LOCALHOST"],
        Meta(description="PASSTHROUGH: at the workload's address. LOCALHOST: at 127.0.0.1."),
    ] = "PASSTHROUGH"


class ConfigSource(Spec, frozen=True):
    """A further source of configuration."""

    address: str = ""
    tls_settings: ClientTLSSettings | None = None
    subscribed_resources: tuple[str, ...] = ()


class CertificateData(Spec, frozen=True):
    """A further root certificate."""

    pem: str = ""
    spiffe_bundle_url: str = ""
    cert_signers: tuple[str, ...] = ()
    trust_domains: tuple[str, ...] = ()


class Certificate(Spec, frozen=True):
    """Deprecated: a certificate to provision."""

    secret_name: str = ""
    dns_names: tuple[str, ...] = ()


class ServiceFlags(Spec, frozen=True):
    """Settings of services."""

    cluster_local: bool = False


class ServiceSettings(Spec, frozen=True):
    """Settings of the services whose hosts match."""

    settings: ServiceFlags | None = None
    hosts: tuple[str, ...] = ()


class CA(Spec, frozen=True):
    """An external certificate authority."""

    address: str = ""
    tls_settings: ClientTLSSettings | None = None
    request_timeout: Duration = ""
    istiod_side: bool = True


class DefaultProviders(Spec, frozen=True):
    """Providers that are used where nothing else is said."""

    tracing: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    access_logging: tuple[str, ...] = ()


class LabelExpression(Spec, frozen=True):
    """A condition on a label (metav1.LabelSelectorRequirement)."""

    key: Annotated[str, Meta(description="The label.")] = ""
    operator: Annotated[
        Literal["In", "NotIn", "Exists", "DoesNotExist"], Meta(description="How the label's value is compared.")
    ] = "In"
    values: Annotated[tuple[str, ...], Meta(description="For In and NotIn.")] = ()


class LabelSelector(Spec, frozen=True):
    """metav1.LabelSelector."""

    match_labels: dict[str, str] = {}
    match_expressions: tuple[LabelExpression, ...] = ()


class ServiceScope(Spec, frozen=True):
    """Which services are local to their cluster, which global."""

    namespace_selector: LabelSelector | None = None
    services_selector: LabelSelector | None = None
    scope: Literal["LOCAL", "GLOBAL"] = "LOCAL"


EntryVisibility = Annotated[
    Literal["UNSPECIFIED", "PUBLIC", "NAMESPACE", "NONE"],
    Meta(description="PUBLIC: everywhere (default). NAMESPACE: in their own namespace. NONE: nowhere."),
]


class VisibilityRule(Spec, frozen=True):
    """A condition on a ServiceEntry."""

    namespace_selector: Annotated[
        LabelSelector | None, Meta(description="Labels of the entry's namespace; without it the rule matches nothing.")
    ] = None


class VisibilityPolicy(Spec, frozen=True):
    """How far ServiceEntries may be seen of which all rules hold."""

    visibility: EntryVisibility = "UNSPECIFIED"
    matching_rules: Annotated[tuple[VisibilityRule, ...], Meta(description="Without any it is for all entries.")] = ()


class ServiceEntryVisibility(Spec, frozen=True):
    """How far the hosts of ServiceEntries may be seen at most, whatever their exportTo says (Istio since 1.31)."""

    default_visibility: EntryVisibility = "UNSPECIFIED"
    policies: Annotated[tuple[VisibilityPolicy, ...], Meta(description="The first that fits counts.")] = ()
    apply_to_sidecars: Annotated[
        bool, Meta(description="Sidecars and gateways mind it; without it, it has no effect here.")
    ] = False


class DefaultTrafficPolicy(Spec, frozen=True):
    """What holds for hosts whose DestinationRule does not say; a rule that says one of them replaces it as a whole."""

    connection_pool: Annotated[ConnectionPoolSettings | None, Meta(description="Limits of every cluster.")] = None
    outlier_detection: Annotated[OutlierDetection | None, Meta(description="For calls of other workloads.")] = None


class PathNormalization(Spec, frozen=True):
    """How URL paths are normalised before they are matched."""

    normalization: Literal["DEFAULT", "NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES"] = "DEFAULT"


class HTTPRetry(Spec, frozen=True):
    """The retry policy of routes that have none."""

    attempts: Annotated[int, Meta(ge=0, description="0 switches retries off.")] = 0
    per_try_timeout: Duration = ""
    retry_on: str = ""
    retry_remote_localities: bool | None = None
    retry_ignore_previous_hosts: bool | None = None
    backoff: Duration = ""


class TLSConfig(Spec, frozen=True):
    """TLS parameters of the mesh."""

    min_protocol_version: Literal["TLS_AUTO", "TLSV1_2", "TLSV1_3"] = "TLS_AUTO"
    ecdh_curves: tuple[str, ...] = ()
    cipher_suites: tuple[str, ...] = ()


class FairleadSettings(Spec, frozen=True):
    """What Istio's MeshConfig has no words for."""

    scope: Annotated[
        Literal["all", "learned"],
        Meta(description="Clusters that sidecars have at once: of all hosts, or of those that they are known to call."),
    ] = "all"
    http3: Annotated[
        bool, Meta(description="Gateways' HTTPS servers serve HTTP/3, too: on the UDP port of the same number.")
    ] = False


class MeshConfig(Spec, frozen=True):
    """Settings for the whole mesh."""

    proxy_listen_port: Annotated[int, Meta(description="Port to which rules of a host redirect outbound traffic.")] = (
        15001
    )
    proxy_inbound_listen_port: Annotated[
        int, Meta(description="Port to which rules of a host redirect inbound traffic.")
    ] = 15006
    proxy_http_port: Annotated[int, Meta(description="Port of an HTTP proxy that each sidecar offers; 0: none.")] = 0
    connect_timeout: Annotated[Duration, Meta(description="Connection timeout; default 10s.")] = ""
    protocol_detection_timeout: Annotated[
        Duration, Meta(description="How long detection waits for a client's first bytes; 0s: for ever (default).")
    ] = ""
    tcp_keepalive: Annotated[KeepaliveSettings | None, Meta(description="SO_KEEPALIVE on connections to hosts.")] = None
    ingress_class: Annotated[str, Meta(description="Kubernetes Ingress: class that is served.")] = ""
    ingress_service: Annotated[str, Meta(description="Kubernetes Ingress: service of the gateway.")] = ""
    ingress_controller_mode: Annotated[
        Literal["UNSPECIFIED", "OFF", "DEFAULT", "STRICT"],
        Meta(description="Kubernetes Ingress: which objects are served."),
    ] = "STRICT"
    ingress_selector: Annotated[str, Meta(description="Kubernetes Ingress: label of the gateway.")] = ""
    enable_tracing: Annotated[bool, Meta(description="Switches tracing on.")] = False
    access_log_file: Annotated[str, Meta(description="Such as /dev/stdout; empty: no access log.")] = ""
    access_log_format: Annotated[str, Meta(description="Envoy's command operators; empty: Istio's format.")] = ""
    access_log_encoding: Annotated[Literal["TEXT", "JSON"], Meta(description="How the access log is written.")] = "TEXT"
    enable_envoy_access_log_service: Annotated[bool, Meta(description="Sends access logs to a service.")] = False
    disable_envoy_listener_log: Annotated[
        bool, Meta(description="Switches off the log of connections that no route takes.")
    ] = False
    default_config: Annotated[ProxyConfig | None, Meta(description="Settings of every proxy.")] = None
    outbound_traffic_policy: Annotated[
        OutboundTrafficPolicy | None, Meta(description="What happens to calls of hosts that nothing describes.")
    ] = None
    inbound_traffic_policy: Annotated[
        InboundTrafficPolicy | None, Meta(description="Where the proxy finds the application.")
    ] = None
    config_sources: Annotated[tuple[ConfigSource, ...], Meta(description="Further sources of configuration.")] = ()
    enable_auto_mtls: Annotated[
        bool | None, Meta(description="Speak mesh mTLS to workloads that accept it; default true.")
    ] = None
    trust_domain: Annotated[str, Meta(description="First part of every identity; default cluster.local.")] = ""
    trust_domain_aliases: Annotated[tuple[str, ...], Meta(description="Trust domains that mean this mesh, too.")] = ()
    ca_certificates: Annotated[
        tuple[CertificateData, ...], Meta(description="Further roots that peers may come from.")
    ] = ()
    default_service_export_to: Exports = None
    default_virtual_service_export_to: Exports = None
    default_destination_rule_export_to: Exports = None
    root_namespace: Annotated[
        str, Meta(description="Namespace whose policies hold for the whole mesh; default istio-system.")
    ] = ""
    locality_lb_setting: Annotated[
        LocalityLoadBalancerSetting | None, Meta(description="Load balancing by locality.")
    ] = None
    zone_aware_lb_setting: Annotated[
        ZoneAwareLoadBalancerSetting | None,
        Meta(description="Zone-aware load balancing, instead of localityLbSetting."),
    ] = None
    dns_refresh_rate: Annotated[Duration, Meta(description="How often DNS hosts are looked up; default 60s.")] = ""
    h2_upgrade_policy: Annotated[
        Literal["DO_NOT_UPGRADE", "UPGRADE"], Meta(description="Whether HTTP/1.1 requests go to hosts as HTTP/2.")
    ] = "DO_NOT_UPGRADE"
    inbound_cluster_stat_name: Annotated[str, Meta(description="Pattern of inbound statistics names.")] = ""
    outbound_cluster_stat_name: Annotated[str, Meta(description="Pattern of outbound statistics names.")] = ""
    certificates: Annotated[tuple[Certificate, ...], Meta(description="Deprecated: certificates to provision.")] = ()
    service_settings: Annotated[tuple[ServiceSettings, ...], Meta(description="Settings of services by host.")] = ()
    enable_prometheus_merge: Annotated[
        bool | None, Meta(description="Serve the metrics of application and proxy as one page.")
    ] = None
    verify_certificate_at_client: Annotated[bool | None, Meta(description="Deprecated: verify servers by default.")] = (
        None
    )
    ca: Annotated[CA | None, Meta(description="An external certificate authority.")] = None
    extension_providers: Annotated[
        tuple[ExtensionProvider, ...], Meta(description="Named tracers, loggers, metrics and authorizers.")
    ] = ()
    default_providers: Annotated[
        DefaultProviders | None, Meta(description="Providers that are used where nothing else is said.")
    ] = None
    discovery_selectors: Annotated[
        tuple[LabelSelector, ...], Meta(description="Namespaces that the mesh looks at.")
    ] = ()
    path_normalization: Annotated[
        PathNormalization | None, Meta(description="How URL paths are normalised before they are matched.")
    ] = None
    default_http_retry_policy: Annotated[
        HTTPRetry | None, Meta(description="The retry policy of routes that have none.")
    ] = None
    default_inbound_http_retry_policy: Annotated[
        HTTPRetry | None, Meta(description="Retries of a sidecar's calls of its own application; attempts 0: none.")
    ] = None
    mesh_mtls: Annotated[TLSConfig | None, Meta(description="TLS parameters of mesh mTLS.")] = msgspec.field(
        default=None, name="meshMTLS"
    )
    tls_defaults: Annotated[TLSConfig | None, Meta(description="TLS parameters of all other TLS.")] = None
    compliance_policy: Annotated[str, Meta(description="Restricts TLS parameters to a standard.")] = ""
    service_scope_configs: Annotated[
        tuple[ServiceScope, ...], Meta(description="Which services are local to their cluster, which global.")
    ] = ()
    service_entry_visibility: Annotated[
        ServiceEntryVisibility | None, Meta(description="How far hosts of ServiceEntries may be seen at most.")
    ] = None
    default_traffic_policy: Annotated[
        DefaultTrafficPolicy | None, Meta(description="Connection pool and outlier detection where no rule says them.")
    ] = None
    hbone_idle_timeout: Annotated[Duration, Meta(description="When idle tunnels are closed.")] = ""
    fairlead: Annotated[FairleadSettings | None, Meta(description="Settings of Fairlead's own.")] = None
