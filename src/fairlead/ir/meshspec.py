"""Fields of Istio's MeshConfig (`istio.mesh.v1alpha1`)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from fairlead.ir.providers import ExtensionProvider
from fairlead.ir.proxyconfig import Duration, KeepaliveSettings, ProxyConfig, TLSSettings
from fairlead.model.object import Spec

Exports = Annotated[
    tuple[str, ...] | None, Meta(description="Where objects are seen that do not say: *, . or namespaces.")
]


class OutboundTrafficPolicy(Spec, frozen=True):
    """What happens to calls of hosts that nothing describes."""

    mode: Annotated[
        Literal["REGISTRY_ONLY", "ALLOW_ANY", "ALLOW_ANY_DYNAMIC_DNS"],
        Meta(description="ALLOW_ANY: they go where the client dialled. REGISTRY_ONLY: they are refused."),
    ] = "REGISTRY_ONLY"


class InboundTrafficPolicy(Spec, frozen=True):
    """Where the proxy finds the application."""

    mode: Annotated[
        Literal["PASSTHROUGH", "LOCALHOST"],
        Meta(description="PASSTHROUGH: at the workload's address. LOCALHOST: at 127.0.0.1."),
    ] = "PASSTHROUGH"


class ConfigSource(Spec, frozen=True):
    """A further source of configuration."""

    address: str = ""
    tls_settings: TLSSettings | None = None
    subscribed_resources: tuple[str, ...] = ()


class CertificateData(Spec, frozen=True):
    """A further root certificate."""

    pem: str = ""
    spiffe_bundle_url: str = ""
    cert_signers: tuple[str, ...] = ()
    trust_domains: tuple[str, ...] = ()


class Distribute(Spec, frozen=True):
    """Shares of traffic by locality."""

    from_: str = msgspec.field(default="", name="from")
    to: dict[str, int] = {}


class Failover(Spec, frozen=True):
    """Where traffic of a region goes if it has no healthy endpoint."""

    from_: str = msgspec.field(default="", name="from")
    to: str = ""


class LocalitySetting(Spec, frozen=True):
    """Load balancing by locality (LocalityLoadBalancerSetting)."""

    distribute: tuple[Distribute, ...] = ()
    failover: tuple[Failover, ...] = ()
    failover_priority: tuple[str, ...] = ()
    enabled: Annotated[bool | None, Meta(description="Default: true.")] = None


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
    tls_settings: TLSSettings | None = None
    request_timeout: Duration = ""
    istiod_side: bool = True


class DefaultProviders(Spec, frozen=True):
    """Providers that are used where nothing else is said."""

    tracing: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    access_logging: tuple[str, ...] = ()


class LabelExpression(Spec, frozen=True):
    """A condition on a label."""

    key: str = ""
    operator: str = ""
    values: tuple[str, ...] = ()


class LabelSelector(Spec, frozen=True):
    """metav1.LabelSelector."""

    match_labels: dict[str, str] = {}
    match_expressions: tuple[LabelExpression, ...] = ()


class ServiceScope(Spec, frozen=True):
    """Which services are local to their cluster, which global."""

    namespace_selector: LabelSelector | None = None
    services_selector: LabelSelector | None = None
    scope: Literal["LOCAL", "GLOBAL"] = "LOCAL"


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


class MeshConfig(Spec, frozen=True):
    """Settings for the whole mesh."""

    proxy_listen_port: int = 15001
    proxy_inbound_listen_port: int = 15006
    proxy_http_port: Annotated[int, Meta(description="Port of an HTTP proxy that each sidecar offers; 0: none.")] = 0
    connect_timeout: Annotated[Duration, Meta(description="Connection timeout; default 10s.")] = ""
    protocol_detection_timeout: Annotated[
        Duration, Meta(description="How long detection waits for a client's first bytes; 0s: for ever (default).")
    ] = ""
    tcp_keepalive: KeepaliveSettings | None = None
    ingress_class: str = ""
    ingress_service: str = ""
    ingress_controller_mode: Literal["UNSPECIFIED", "OFF", "DEFAULT", "STRICT"] = "STRICT"
    ingress_selector: str = ""
    enable_tracing: bool = False
    access_log_file: Annotated[str, Meta(description="Such as /dev/stdout; empty: no access log.")] = ""
    access_log_format: Annotated[str, Meta(description="Envoy's command operators; empty: Istio's format.")] = ""
    access_log_encoding: Literal["TEXT", "JSON"] = "TEXT"
    enable_envoy_access_log_service: bool = False
    disable_envoy_listener_log: bool = False
    default_config: Annotated[ProxyConfig | None, Meta(description="Settings of every proxy.")] = None
    outbound_traffic_policy: OutboundTrafficPolicy | None = None
    inbound_traffic_policy: InboundTrafficPolicy | None = None
    config_sources: tuple[ConfigSource, ...] = ()
    enable_auto_mtls: Annotated[
        bool | None, Meta(description="Speak mesh mTLS to workloads that accept it; default true.")
    ] = None
    trust_domain: Annotated[str, Meta(description="First part of every identity; default cluster.local.")] = ""
    trust_domain_aliases: Annotated[tuple[str, ...], Meta(description="Trust domains that mean this mesh, too.")] = ()
    ca_certificates: tuple[CertificateData, ...] = ()
    default_service_export_to: Exports = None
    default_virtual_service_export_to: Exports = None
    default_destination_rule_export_to: Exports = None
    root_namespace: Annotated[
        str, Meta(description="Namespace whose policies hold for the whole mesh; default istio-system.")
    ] = ""
    locality_lb_setting: LocalitySetting | None = None
    dns_refresh_rate: Annotated[Duration, Meta(description="How often DNS hosts are looked up; default 60s.")] = ""
    h2_upgrade_policy: Literal["DO_NOT_UPGRADE", "UPGRADE"] = "DO_NOT_UPGRADE"
    inbound_cluster_stat_name: str = ""
    outbound_cluster_stat_name: str = ""
    certificates: tuple[Certificate, ...] = ()
    service_settings: tuple[ServiceSettings, ...] = ()
    enable_prometheus_merge: bool | None = None
    verify_certificate_at_client: bool | None = None
    ca: CA | None = None
    extension_providers: tuple[ExtensionProvider, ...] = ()
    default_providers: DefaultProviders | None = None
    discovery_selectors: tuple[LabelSelector, ...] = ()
    path_normalization: PathNormalization | None = None
    default_http_retry_policy: HTTPRetry | None = None
    mesh_mtls: TLSConfig | None = msgspec.field(default=None, name="meshMTLS")
    tls_defaults: TLSConfig | None = None
    compliance_policy: str = ""
    service_scope_configs: tuple[ServiceScope, ...] = ()
    service_entry_visibility: dict[str, Any] | str | None = None
    default_traffic_policy: dict[str, Any] | None = None
    hbone_idle_timeout: Duration = ""
