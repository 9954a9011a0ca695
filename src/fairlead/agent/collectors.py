"""Where Envoy sends its statistics by itself: an Envoy metrics service, statsd (bootstrap `stats_sinks`)."""

from __future__ import annotations

from typing import Any

from fairlead.model.launch import Collector, ProxySettings

METRICS_CLUSTER = "envoy_metrics_service"
"""Istio's name for the cluster of the metrics service."""
_WORKLOAD, _ROOTS = "default", "ROOTCA"
"""What the agent calls these secrets (`fairlead.agent.sds`)."""
_TYPES = "type.googleapis.com/"
_HTTP = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def sinks(settings: ProxySettings) -> list[dict[str, Any]]:
    """The bootstrap's sinks, none where nobody asks for one."""
    made: list[dict[str, Any]] = []
    if settings.metrics_service is not None:
        config = {
            "@type": f"{_TYPES}envoy.config.metrics.v3.MetricsServiceConfig",
            "transport_api_version": "V3",
            "grpc_service": {"envoy_grpc": {"cluster_name": METRICS_CLUSTER}},
        }
        made.append({"name": "envoy.stat_sinks.metrics_service", "typed_config": config})
    if settings.statsd:
        address = {"socket_address": {"protocol": "UDP", **_host_port(settings.statsd)}}
        config = {"@type": f"{_TYPES}envoy.config.metrics.v3.StatsdSink", "address": address}
        made.append({"name": "envoy.stat_sinks.statsd", "typed_config": config})
    return made


def clusters(settings: ProxySettings) -> list[dict[str, Any]]:
    """The static clusters that these sinks need."""
    said = settings.metrics_service
    if said is None:
        return []
    endpoint = {"endpoint": {"address": {"socket_address": _host_port(said.address)}}}
    made: dict[str, Any] = {
        "name": METRICS_CLUSTER,
        "type": "STRICT_DNS",
        "dns_lookup_family": "V4_ONLY",
        "respect_dns_ttl": True,
        "connect_timeout": "5s",
        "load_assignment": {"cluster_name": METRICS_CLUSTER, "endpoints": [{"lb_endpoints": [endpoint]}]},
        "typed_extension_protocol_options": {
            _HTTP: {"@type": f"{_TYPES}{_HTTP}", "explicit_http_config": {"http2_protocol_options": {}}}
        },
    }
    if said.mode != "DISABLE":
        made["transport_socket"] = _tls(said)
    if said.keepalive is not None:
        names = ("keepalive_probes", "keepalive_time", "keepalive_interval")
        alive = {name: value for name, value in zip(names, said.keepalive, strict=True) if value}
        made["upstream_connection_options"] = {"tcp_keepalive": alive}
    return [made]


def _host_port(address: str) -> dict[str, Any]:
    host, _, port = address.rpartition(":")
    return {"address": host.strip("[]"), "port_value": int(port)}


def _tls(said: Collector) -> dict[str, Any]:
    """Towards the server: with the workload's own certificate, with files, or with none."""
    common: dict[str, Any] = {"alpn_protocols": ["h2"]}
    names = [{"san_type": kind, "matcher": {"exact": one}} for one in said.names for kind in ("DNS", "URI")]
    checked = {"match_typed_subject_alt_names": names} if names else {}
    if said.mode == "ISTIO_MUTUAL":
        common["tls_certificate_sds_secret_configs"] = [_secret(_WORKLOAD)]
        common["combined_validation_context"] = {
            "default_validation_context": checked,
            "validation_context_sds_secret_config": _secret(_ROOTS),
        }
    else:
        roots: dict[str, Any] = {"trusted_ca": {"filename": said.ca}} if said.ca else {"system_root_certs": {}}
        common["validation_context"] = {**roots, **checked}
        if said.mode == "MUTUAL":
            pair = {"certificate_chain": {"filename": said.certificate}, "private_key": {"filename": said.key}}
            common["tls_certificates"] = [pair]
    context = {
        "@type": f"{_TYPES}envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "common_tls_context": common,
        "sni": said.sni or said.address.rpartition(":")[0],
    }
    return {"name": "envoy.transport_sockets.tls", "typed_config": context}


def _secret(name: str) -> dict[str, Any]:
    source = {
        "api_type": "GRPC",
        "transport_api_version": "V3",
        "set_node_on_first_message_only": True,
        "grpc_services": [{"envoy_grpc": {"cluster_name": "sds-grpc"}}],
    }
    return {"name": name, "sds_config": {"api_config_source": source, "resource_api_version": "V3"}}
