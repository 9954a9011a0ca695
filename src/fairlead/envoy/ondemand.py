"""The filter that has a request wait while the proxy asks for the cluster to which it goes."""

from __future__ import annotations

from envoy.config.core.v3.config_source_pb2 import AggregatedConfigSource, ApiVersion, ConfigSource
from envoy.extensions.filters.http.on_demand.v3.on_demand_pb2 import OnDemand, OnDemandCds
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import HttpFilter

from fairlead.envoy.pack import pack, seconds

TIMEOUT = 3.0
"""Seconds that a request waits for its cluster; then it is answered as if there were none (503).

Envoy asks once: later requests to what there is not wait in vain, so it must not be long."""


def on_demand_filter() -> HttpFilter:
    """Clusters come on the stream on which everything else comes."""
    source = ConfigSource(ads=AggregatedConfigSource(), resource_api_version=ApiVersion.V3)
    wanted = OnDemand(odcds=OnDemandCds(source=source, timeout=seconds(TIMEOUT)))
    return HttpFilter(name="envoy.filters.http.on_demand", typed_config=pack(wanted))
