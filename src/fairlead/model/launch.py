"""What an agent is told when it is started: the contract between whoever starts agents and the agent."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from fairlead.model.probe import Probe

STATUS_PORT = 15020
"""Where an agent says whether it is ready, and serves metrics, unless it is told otherwise (Istio's port)."""
CaptureMode = Literal["redirect", "netns", "explicit", "none"]


class Capture(msgspec.Struct, frozen=True, omit_defaults=True):
    """How the application's traffic meets its proxy.

    redirect: the host's own rules send everything to ports 15001 and 15006 (Istio's way, on VMs and in pods).
    netns: the application has its own network namespace, in which Envoy listens and from which it dials.
    explicit: the application binds `app_address` and calls out through `outbound_address` (HTTP_PROXY, TCP binds).
    none: nothing is captured (gateways, or an application that only receives a certificate).

    `transparent`, with redirect: the host's rules hand connections over by TPROXY, and the application sees the
    caller's own address. Envoy needs CAP_NET_ADMIN for it.
    """

    mode: CaptureMode = "none"
    netns: str = ""
    app_address: str = "127.0.0.1"
    outbound_address: str = ""
    http_proxy_port: int = 15002
    transparent: bool = False


class AppPort(msgspec.Struct, frozen=True, omit_defaults=True):
    """A port on which the application serves."""

    port: int
    name: str = ""
    protocol: str = ""


class BootstrapPatch(msgspec.Struct, frozen=True, omit_defaults=True):
    """A change of Envoy's bootstrap: `value` is a serialised Envoy `Bootstrap`, merged into what the agent makes.

    `version` is a regular expression for the agent's version, `metadata` what the proxy's node must say (both: "" or
    nothing for any); `source` names the object and field.
    """

    value: bytes
    source: str = ""
    replace_lists: bool = False
    version: str = ""
    metadata: tuple[tuple[str, str], ...] = ()


class StatsInclusion(msgspec.Struct, frozen=True, omit_defaults=True):
    """Statistics of Envoy to create beside those that are always there (Istio ProxyStatsMatcher)."""

    prefixes: tuple[str, ...] = ()
    suffixes: tuple[str, ...] = ()
    regexps: tuple[str, ...] = ()


class Collector(msgspec.Struct, frozen=True, omit_defaults=True):
    """A server that Envoy reports to (Istio RemoteService): `address` is HOST:PORT; files of TLS are paths.

    ISTIO_MUTUAL presents the workload's own certificate. Times are seconds, 0: the kernel's.
    """

    address: str
    mode: Literal["DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL"] = "DISABLE"
    certificate: str = ""
    key: str = ""
    ca: str = ""
    sni: str = ""
    names: tuple[str, ...] = ()
    keepalive: tuple[int, int, int] | None = None
    """Probes, idle time and interval."""


class ProxySettings(msgspec.Struct, frozen=True, omit_defaults=True):
    """How an Envoy is started beyond threads and environment (Istio ProxyConfig); None: nobody says it.

    `drain_seconds` is how long Envoy lets connections of changed listeners end, `termination_seconds` how long the
    agent waits for open ones when it ends. `runtime` are Envoy's runtime values, where "" takes a usual one away.
    `ca_certificates` and `mesh_certificates` (PEM) are roots that peers may come from beside the mesh's own. `naming`
    says how the node's cluster, which tracers take as the service's name, is made; `service_cluster` is that name.
    `own` are fields of ProxyConfig that the control plane acts on for this proxy (`fairlead.ir.proxyown`).
    `semantic_names` has tracers of OpenTelemetry name the service by that project's conventions for Kubernetes, and
    `resource` are the attributes of the service that the workload says itself. `histogram_buckets` are limits of
    buckets by the beginning of histograms' names.
    """

    drain_seconds: float | None = None
    termination_seconds: float | None = None
    stats: StatsInclusion | None = None
    extra_stat_tags: tuple[str, ...] | None = None
    stats_compression: bool | None = None
    merge_metrics: bool | None = None
    runtime: dict[str, str] | None = None
    status_port: int | None = None
    connection_limit: int | None = None
    metrics_service: Collector | None = None
    statsd: str | None = None
    mesh_id: str | None = None
    naming: Literal["CANONICAL_NAME_ONLY", "CANONICAL_NAME_AND_NAMESPACE"] | None = None
    service_cluster: str | None = None
    readiness: Probe | None = None
    ca_certificates: tuple[str, ...] | None = None
    mesh_certificates: tuple[str, ...] | None = None
    flush_seconds: float | None = None
    flush_kilobytes: int | None = None
    own: dict[str, Any] | None = None
    log_level: str | None = None
    component_log_level: str | None = None
    stats_flush_seconds: float | None = None
    stats_eviction_seconds: float | None = None
    histogram_buckets: tuple[tuple[str, tuple[float, ...]], ...] | None = None
    semantic_names: bool | None = None
    resource: dict[str, str] | None = None


class AgentConfig(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """An agent's configuration file (JSON). Paths are absolute; times are seconds.

    `address` is where peers reach this workload: Envoy binds its inbound ports there, and the agent its status port.
    `more_addresses` are its others; with one of the other family of IP it works with both.
    `entry` names the WorkloadEntry (in `namespace`) whose health this agent reports; empty for gateways.
    `on_demand` is whether Envoy gets the clusters of hosts when it calls them first; auto: as the mesh's settings say.
    `workload_group` names the WorkloadGroup (in `namespace`) as whose member it joins: then the control plane writes
    its entry, and `entry` stays empty; `service_account`, `labels` and `readiness` must be the group's.
    `concurrency` is the number of Envoy's worker threads, 0 for one for each core; `proxy_env` is added to Envoy's
    environment. `bootstrap` are changes of Envoy's bootstrap, in order. `proxy` is what else is said of its start.
    """

    name: str
    namespace: str
    service_account: str
    directory: str
    xds_address: str
    join_address: str
    root_cert_file: str
    token_file: str = ""
    proxy_type: Literal["sidecar", "router"] = "sidecar"
    address: str = "127.0.0.1"
    more_addresses: tuple[str, ...] = ()
    entry: str = ""
    workload_group: str = ""
    labels: dict[str, str] = {}
    workload_name: str = ""
    trust_domain: str = "cluster.local"
    domain_suffix: str = "cluster.local"
    cluster_id: str = "Kubernetes"
    network: str = ""
    locality: str = ""
    status_port: int = STATUS_PORT
    capture: Capture = Capture()
    on_demand: Literal["auto", "true", "false"] = "auto"
    ports: tuple[AppPort, ...] = ()
    command: tuple[str, ...] = ()
    env: dict[str, str] = {}
    working_dir: str = ""
    app_log: str = ""
    readiness: Probe | None = None
    liveness: Probe | None = None
    drain_seconds: float = 45
    concurrency: int = 1
    proxy_env: dict[str, str] = {}
    bootstrap: tuple[BootstrapPatch, ...] = ()
    proxy: ProxySettings = ProxySettings()
    envoy: str = ""
    envoy_log_level: str = "warning"
