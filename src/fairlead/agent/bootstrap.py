"""Envoy's bootstrap: who the proxy is, and that everything else comes from the agent's Unix socket.

JSON, because Envoy reads YAML by rules of its own. Pipe paths are relative: Envoy runs in the agent's directory.
"""

from __future__ import annotations

from typing import Any

import msgspec

from fairlead import __version__
from fairlead.agent import collectors
from fairlead.envoy.names import LOCAL_CLUSTER
from fairlead.envoy.peer import Workload, environment, semantic_attributes
from fairlead.ir.view import KNOWS_PEERS
from fairlead.model.group import METADATA
from fairlead.model.launch import AgentConfig, BootstrapPatch, ProxySettings, StatsInclusion
from fairlead.model.regex import is_found

BOOTSTRAP_FILE = "bootstrap.json"
ADMIN_SOCKET = "admin.sock"
XDS_SOCKET = "xds.sock"
MAX_CONNECTIONS = 1_000_000
PROBE_ADDRESS, PROBE_PORT = "192.0.2.66", 15099
"""An address that nobody has (RFC 5737). From inside of a captured workload the proxy answers there: so it is seen that
what is called comes to the proxy."""
PROBE_ANSWER = b"captured\n"
_TYPES = "type.googleapis.com/"
_CONNECTIONS = f"{_TYPES}envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig"

# Istio's tags, so that Envoy's own statistics read the same on boards made for Istio. Names with dots in them end with
# a semicolon in statistics (`fairlead.envoy.names.stat_name`), which is no part of the tag.
_TAGS = (
    ("cluster_name", r"^cluster\.(([^;]+(?=;)|[^;.]+);?\.)"),
    ("tcp_prefix", r"^tcp\.((.*?)\.)\w+?$"),
    ("response_code", r"_rq(_(\d{3}))$"),
    ("response_code_class", r"_rq(_(\dxx))$"),
    ("http_conn_manager_prefix", r"^http\.(((?:in|out)bound_[^;]+|[^;.]+);?\.)"),
    ("listener_address", r"^listener\.(((?:[_.[:digit:]]*|[_\[\]aAbBcCdDeEfF[:digit:]]*))\.)"),
    ("authz_enforce_result", r"rbac(\.(allowed|denied))"),
    ("authz_dry_run_action", r"(\.istio_dry_run_(allow|deny)_)"),
    ("authz_dry_run_result", r"(\.shadow_(allowed|denied))"),
)
_KEPT_PREFIXES = (
    "istio",
    "fairlead.",
    "server",
    "cluster_manager",
    "listener_manager",
    "listener.",
    "main_thread",
    "runtime",
    "control_plane",
    "cluster.xds-grpc",
    "cluster.sds-grpc",
    "sds.",
)
_KEPT_SUFFIXES = (
    "downstream_cx_active",
    "downstream_rq_active",
    "downstream_cx_drain_close",
    "upstream_cx_active",
    "upstream_cx_connect_fail",
    "upstream_rq_active",
    "upstream_rq_total",
    "upstream_rq_retry",
    "upstream_rq_retry_success",
    "upstream_rq_timeout",
    "upstream_rq_pending_overflow",
    "upstream_rq_5xx",
    "grpc.request_message_count",
    "grpc.response_message_count",
    "membership_healthy",
    "membership_total",
)
_KEPT_CONTAINED = (".outlier_detection.", ".circuit_breakers.", ".ssl.", "rbac.")


PROXY_CONFIG = "PROXY_CONFIG"
"""Metadata with what the workload says of its own proxy, as in Istio."""
_META = "ISTIO_META_"
"""What follows it in a variable's name is metadata of the node, as in Istio."""


def node_id(config: AgentConfig) -> str:
    """Istio's node id: kind, address, name and domain."""
    domain = f"{config.namespace}.svc.{config.domain_suffix}"
    return f"{config.proxy_type}~{config.address}~{config.name}.{config.namespace}~{domain}"


def metadata(config: AgentConfig) -> dict[str, Any]:
    """The node metadata by which the control plane makes this proxy's view."""
    captured = "TPROXY" if config.capture.transparent else "REDIRECT"
    if config.capture.mode not in ("redirect", "netns"):
        captured = "NONE"
    said = {name[len(_META) :]: value for name, value in config.proxy_env.items() if name.startswith(_META)}
    return {
        **said,
        "NAMESPACE": config.namespace,
        "NAME": config.name,
        "LABELS": dict(config.labels),
        "SERVICE_ACCOUNT": config.service_account,
        "INSTANCE_IPS": ",".join((config.address, *config.more_addresses)),
        "WORKLOAD_NAME": config.workload_name or config.name,
        "CLUSTER_ID": config.cluster_id,
        "NETWORK": config.network,
        "LOCALITY": config.locality,
        "MESH_ID": config.proxy.mesh_id or config.trust_domain,
        "INTERCEPTION_MODE": captured,
        "FAIRLEAD_CAPTURE": msgspec.to_builtins(config.capture),
        "FAIRLEAD_PORTS": msgspec.to_builtins(config.ports),
        "FAIRLEAD_ENTRY": config.entry,
        "FAIRLEAD_ON_DEMAND": config.on_demand,
        "FAIRLEAD_VERSION": __version__,
        **({METADATA: config.workload_group} if config.workload_group else {}),
        **({PROXY_CONFIG: config.proxy.own} if config.proxy.own else {}),
    }


def bootstrap(config: AgentConfig) -> dict[str, Any]:
    """The whole bootstrap as JSON-shaped data."""
    made = _common(config)
    if metadata(config).get(KNOWS_PEERS) == "true":
        made["static_resources"]["clusters"].append(_local_cluster())
        made["cluster_manager"] = {"local_cluster_name": LOCAL_CLUSTER}
    return made


def _common(config: AgentConfig) -> dict[str, Any]:
    limit = config.proxy.connection_limit or MAX_CONNECTIONS
    reported = collectors.sinks(config.proxy)
    return {
        "node": _node(config),
        "layered_runtime": {
            "layers": [
                {
                    "name": "static",
                    "static_layer": _runtime(config.proxy.runtime or {}),
                },
                {"name": "admin", "admin_layer": {}},
            ]
        },
        "bootstrap_extensions": [
            {
                "name": "envoy.bootstrap.internal_listener",
                "typed_config": {"@type": f"{_TYPES}envoy.extensions.bootstrap.internal_listener.v3.InternalListener"},
            }
        ],
        "overload_manager": {
            "resource_monitors": [
                {
                    "name": "envoy.resource_monitors.global_downstream_max_connections",
                    "typed_config": {"@type": _CONNECTIONS, "max_active_downstream_connections": limit},
                }
            ]
        },
        "stats_config": _stats(config),
        **_stats_times(config.proxy),
        **({"stats_sinks": reported} if reported else {}),
        "admin": {"address": {"pipe": {"path": ADMIN_SOCKET, "mode": 0o600}}},
        "dynamic_resources": {
            "lds_config": {"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"},
            "cds_config": {"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"},
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": True,
                "grpc_services": [{"envoy_grpc": {"cluster_name": "xds-grpc"}}],
            },
        },
        "static_resources": {
            **({"listeners": [_probe_listener()]} if config.capture.mode == "netns" else {}),
            "clusters": [_agent_cluster("xds-grpc"), _agent_cluster("sds-grpc"), *collectors.clusters(config.proxy)],
        },
    }


def encode(made: dict[str, Any]) -> bytes:
    """The bootstrap file's content."""
    return msgspec.json.format(msgspec.json.encode(made), indent=1)


def patched(config: AgentConfig) -> dict[str, Any]:
    """The bootstrap with the changes that are for this proxy. Raises UnreadableError (a ValueError)."""
    # Descriptions of messages that only proxies with such changes need.
    from envoy.config.bootstrap.v3.bootstrap_pb2 import Bootstrap

    from fairlead.envoy.merge import merge
    from fairlead.envoy.messages import parse
    from fairlead.envoy.protojson import to_json

    made = bootstrap(config)
    wanted = [one for one in config.bootstrap if _concerns(one, made["node"]["metadata"])]
    if not wanted:
        return made
    message = Bootstrap.FromString(parse(Bootstrap, made))
    for one in wanted:
        change = Bootstrap.FromString(one.value)
        if one.replace_lists:
            merge(message, change, replace_lists=True)
        else:
            message.MergeFrom(change)
    return to_json(message, original_names=True)


def _concerns(patch: BootstrapPatch, said: dict[str, Any]) -> bool:
    if patch.version and not is_found(patch.version, __version__):
        return False
    return all(said.get(name) == value for name, value in patch.metadata)


def _node(config: AgentConfig) -> dict[str, Any]:
    node: dict[str, Any] = {
        "id": node_id(config),
        "cluster": _cluster_name(config),
        "metadata": metadata(config),
    }
    if config.locality:
        names = ("region", "zone", "sub_zone")
        node["locality"] = dict(zip(names, config.locality.split("/", 2), strict=False))
    return node


def _cluster_name(config: AgentConfig) -> str:
    """The node's cluster, as Istio names it: tracers take it as the service's name."""
    settings, name = config.proxy, config.workload_name or config.name
    if settings.service_cluster:
        return settings.service_cluster
    if settings.naming is None:
        return f"{config.labels.get('app') or name}.{config.namespace}"
    canonical = Workload.of(name, config.namespace, config.labels, "").canonical_service
    return canonical if settings.naming == "CANONICAL_NAME_ONLY" else f"{canonical}.{config.namespace}"


def variables(config: AgentConfig, own: Workload) -> dict[str, str]:
    """The variables of Envoy's environment that say whose proxy it is."""
    settings, service = config.proxy, _cluster_name(config)
    attributes = {"service.name": service}
    if settings.semantic_names:
        attributes = {**semantic_attributes(config.name, own, config.labels), **(settings.resource or {})}
    return environment(own, settings.mesh_id or "", service, attributes)


def _runtime(said: dict[str, str]) -> dict[str, Any]:
    """Runtime values: "" takes a usual one away, and Envoy wants truth values as such."""
    values: dict[str, Any] = {"re2.max_program_size.error_level": 32768}
    for name, value in sorted(said.items()):
        values[name] = {"true": True, "false": False}.get(value, value)
    return {name: value for name, value in values.items() if value != ""}


def _stats(config: AgentConfig) -> dict[str, Any]:
    settings, wanted = config.proxy, config.proxy.stats or StatsInclusion()
    patterns: list[dict[str, Any]] = [{"prefix": text} for text in _KEPT_PREFIXES]
    patterns += [{"suffix": text} for text in _KEPT_SUFFIXES]
    patterns += [{"contains": text} for text in _KEPT_CONTAINED]
    for kind, texts in (("prefix", wanted.prefixes), ("suffix", wanted.suffixes), ("regex", wanted.regexps)):
        for text in (one.replace("{pod_ip}", config.address) for one in texts if one):
            patterns.append({"safe_regex": {"regex": text}} if kind == "regex" else {kind: text})
    tags = (*_TAGS, *((name, rf"({name}=\.=(.*?);\.)") for name in settings.extra_stat_tags or ()))
    buckets = [
        {"match": {"prefix": prefix}, "buckets": list(limits)} for prefix, limits in settings.histogram_buckets or ()
    ]
    return {
        "use_all_default_tags": False,
        "stats_tags": [{"tag_name": name, "regex": regex} for name, regex in tags],
        "stats_matcher": {"inclusion_list": {"patterns": patterns}},
        **({"histogram_bucket_settings": buckets} if buckets else {}),
    }


def _stats_times(settings: ProxySettings) -> dict[str, str]:
    """How often statistics are flushed, and forgotten where nothing was counted since."""
    said = {
        "stats_flush_interval": settings.stats_flush_seconds,
        "stats_eviction_interval": settings.stats_eviction_seconds,
    }
    return {name: f"{value:.9g}s" for name, value in said.items() if value is not None}


def _local_cluster() -> dict[str, Any]:
    """Where the instances of the workload itself are, for zone-aware load balancing. Nothing is routed to it."""
    source: dict[str, Any] = {"ads": {}, "initial_fetch_timeout": "5s", "resource_api_version": "V3"}
    return {
        "name": LOCAL_CLUSTER,
        "type": "EDS",
        "connect_timeout": "1s",
        "eds_cluster_config": {"eds_config": source, "service_name": LOCAL_CLUSTER},
    }


def _probe_listener() -> dict[str, Any]:
    """Binds nothing: the listener that takes all outbound connections hands over those that were meant for it."""
    answer = f"{_TYPES}envoy.extensions.filters.network.direct_response.v3.Config"
    return {
        "name": "fairlead_probe",
        "address": {"socket_address": {"address": PROBE_ADDRESS, "port_value": PROBE_PORT}},
        "bind_to_port": False,
        "filter_chains": [
            {
                "filters": [
                    {
                        "name": "envoy.filters.network.direct_response",
                        "typed_config": {"@type": answer, "response": {"inline_string": PROBE_ANSWER.decode()}},
                    }
                ]
            }
        ],
    }


def _agent_cluster(name: str) -> dict[str, Any]:
    h2: dict[str, Any] = {
        "@type": f"{_TYPES}envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    limits = {"max_connections": 100000, "max_pending_requests": 100000, "max_requests": 100000}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "circuit_breakers": {"thresholds": [{"priority": priority, **limits} for priority in ("DEFAULT", "HIGH")]},
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": h2},
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"pipe": {"path": XDS_SOCKET}}}}]}],
        },
    }
