"""Mesh-wide settings."""

from __future__ import annotations

from typing import Literal

import msgspec

from fairlead.inc import Table
from fairlead.ir.anchors import TrustAnchor
from fairlead.ir.authz import Authorizer
from fairlead.ir.connections import Connections
from fairlead.ir.credential import SecretServer
from fairlead.ir.discovery import Looking
from fairlead.ir.filters import Pairs
from fairlead.ir.headers import ProxyHeaders
from fairlead.ir.locality import LocalityLb
from fairlead.ir.network import Network
from fairlead.ir.nodesettings import USUAL, NodeSettings
from fairlead.ir.observability import Observability
from fairlead.ir.traffic import ClientTls, Policy, RetryPolicy, TcpKeepalive
from fairlead.model.diagnostic import Origin
from fairlead.model.launch import ProxySettings

MESH_KEY = "mesh"


class TlsLimits(msgspec.Struct, frozen=True):
    """What TLS may use (Istio TLSConfig); "" and empty lists leave the default."""

    min_version: Literal["", "TLSV1_2", "TLSV1_3"] = ""
    cipher_suites: tuple[str, ...] = ()
    curves: tuple[str, ...] = ()


class Mesh(msgspec.Struct, frozen=True):
    """Settings that hold for the whole mesh (Istio MeshConfig). Times are seconds.

    `mesh_tls` is for servers of mesh mTLS, `other_tls` for gateways and origins of TLS where these do not
    say themselves. `scope` is which clusters a sidecar has at once: of all hosts that it sees, or of those that it is
    known to call. `gateway_client_cert` is what gateways do with X-Forwarded-Client-Cert (Envoy's words), "" for
    SANITIZE_SET; `gateway_proxy_protocol` has them expect the PROXY protocol. `http3` has HTTPS servers of gateways
    listen for QUIC, too. `ingress_mode` is which Ingresses are served, `ingress_class` the class in their
    annotation, `ingress_gateway` the value of the label `istio` of the gateways that serve them, and `ingress_service`
    the Service by which clients reach these.
    `baseline` has connection pools and outlier detection for hosts whose policies do not say
    them; `inbound_stat_name` and `outbound_stat_name` are patterns of names in statistics, "" for the clusters' own.
    `outbound_tls` is that of requests to unknown hosts that are looked up by name.
    `listener_log` has listeners log connections for which there is no filter chain.
    `outbound_port` and `inbound_port` are those to which rules of a whole host redirect. `anchors` are further roots of
    peers. `cluster_local` says of patterns of hosts whether their clients call instances of their own cluster only.
    `looking` is what it makes of namespaces. `node` is what a proxy's own node says (`compiler.own`), and nothing for
    the mesh. `origin` is the object that
    has the settings, None where nobody has said any.
    """

    origin: Origin | None = None
    root_namespace: str = "istio-system"
    trust_domain: str = "cluster.local"
    trust_domain_aliases: tuple[str, ...] = ()
    domain_suffix: str = "cluster.local"
    outbound_policy: Literal["ALLOW_ANY", "REGISTRY_ONLY", "ALLOW_ANY_DYNAMIC_DNS"] = "ALLOW_ANY"
    outbound_tls: ClientTls | None = None
    inbound_policy: Literal["PASSTHROUGH", "LOCALHOST"] = "PASSTHROUGH"
    auto_mtls: bool = True
    access_log_file: str = ""
    access_log_format: str = ""
    listener_log: bool = True
    access_log_encoding: Literal["TEXT", "JSON"] = "TEXT"
    connect_timeout: float = 10.0
    tcp_keepalive: TcpKeepalive | None = None
    default_retry: RetryPolicy | None = None
    inbound_retry: RetryPolicy | None = None
    protocol_detection_timeout: float = 0.0
    dns_refresh_rate: float = 60.0
    h2_upgrade: bool = False
    default_service_export_to: tuple[str, ...] = ("*",)
    default_route_export_to: tuple[str, ...] = ("*",)
    default_policy_export_to: tuple[str, ...] = ("*",)
    locality: LocalityLb = LocalityLb()
    num_trusted_proxies: int = 0
    gateway_client_cert: str = ""
    gateway_proxy_protocol: bool = False
    http3: bool = False
    proxy_concurrency: int | None = None
    proxy_environment: Pairs = ()
    proxy_settings: ProxySettings = ProxySettings()
    path_normalization: Literal["DEFAULT", "NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES"] = "DEFAULT"
    http_proxy_port: int = 0
    authorizers: tuple[Authorizer, ...] = ()
    observability: Observability = Observability()
    networks: tuple[Network, ...] = ()
    mesh_tls: TlsLimits = TlsLimits()
    other_tls: TlsLimits = TlsLimits()
    scope: Literal["all", "learned"] = "all"
    ingress_mode: Literal["UNSPECIFIED", "OFF", "DEFAULT", "STRICT"] = "STRICT"
    ingress_class: str = "istio"
    ingress_gateway: str = "ingressgateway"
    ingress_service: str = "istio-ingressgateway"
    headers: ProxyHeaders = ProxyHeaders()
    connections: Connections = Connections()
    baseline: Policy = Policy()
    inbound_stat_name: str = ""
    outbound_stat_name: str = ""
    looking: Looking = Looking()
    outbound_port: int = 15001
    inbound_port: int = 15006
    anchors: tuple[TrustAnchor, ...] = ()
    cluster_local: tuple[tuple[str, bool], ...] = ()
    secret_servers: tuple[SecretServer, ...] = ()
    node: NodeSettings = USUAL


MESHES: Table[str, Mesh] = Table("mesh", stage=1)
