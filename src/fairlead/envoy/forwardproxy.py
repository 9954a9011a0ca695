"""Forwarding to hosts by the name that the client gives: what explicitly captured applications need.

A redirected connection has an original destination to go on to. An application that uses its sidecar as an HTTP proxy
has none: the sidecar resolves the name in the request. Filter and clusters share one cache of names, whose settings
must be the same everywhere and at all times, so nothing in them depends on the mesh's settings; the families of a
proxy's own addresses are the same as long as it lives.
"""

from __future__ import annotations

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.listener.v3.listener_components_pb2 import Filter as NetworkFilter
from envoy.extensions.clusters.dynamic_forward_proxy.v3.cluster_pb2 import ClusterConfig
from envoy.extensions.common.dynamic_forward_proxy.v3.dns_cache_pb2 import DnsCacheConfig
from envoy.extensions.filters.http.dynamic_forward_proxy.v3.dynamic_forward_proxy_pb2 import FilterConfig
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import HttpFilter
from envoy.extensions.filters.network.sni_dynamic_forward_proxy.v3.sni_dynamic_forward_proxy_pb2 import (
    FilterConfig as SniFilterConfig,
)
from google.protobuf.duration_pb2 import Duration
from google.protobuf.wrappers_pb2 import UInt32Value

from fairlead.envoy.pack import pack
from fairlead.ir.families import Families

CLUSTER_TYPE = "envoy.clusters.dynamic_forward_proxy"
FILTER = "envoy.filters.http.dynamic_forward_proxy"
MAX_NAMES = 4096
"""Names that one proxy remembers; the application decides how many it asks for."""

_LOOKED_UP = {"IPv4": Cluster.V4_PREFERRED, "IPv6": Cluster.AUTO, "dual": Cluster.ALL}
"""Which addresses of a name are asked for; AUTO prefers IPv6."""


def _cache(families: Families) -> DnsCacheConfig:
    return DnsCacheConfig(
        name="fairlead",
        dns_lookup_family=_LOOKED_UP[families],
        dns_refresh_rate=Duration(seconds=60),
        max_hosts=UInt32Value(value=MAX_NAMES),
    )


def forward_filter(families: Families) -> HttpFilter:
    """Resolves the names of requests that such clusters get; stands before the router, and leaves all others alone."""
    return HttpFilter(name=FILTER, typed_config=pack(FilterConfig(dns_cache_config=_cache(families))))


def sni_forward_filter(port: int, families: Families) -> NetworkFilter:
    """Resolves the name in a TLS client's first bytes for such clusters; stands before the TCP proxy."""
    config = SniFilterConfig(dns_cache_config=_cache(families), port_value=port)
    return NetworkFilter(name="envoy.filters.network.sni_dynamic_forward_proxy", typed_config=pack(config))


def set_forwarding(out: Cluster, families: Families) -> None:
    """Make a cluster one that forwards by name."""
    out.lb_policy = Cluster.CLUSTER_PROVIDED
    out.cluster_type.name = CLUSTER_TYPE
    # Whether TLS is checked is up to the cluster's traffic policy, as for all others.
    out.cluster_type.typed_config.CopyFrom(
        pack(ClusterConfig(dns_cache_config=_cache(families), allow_insecure_cluster_options=True))
    )
