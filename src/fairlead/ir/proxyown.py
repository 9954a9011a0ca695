"""What a workload's own ProxyConfig says of listeners: it takes the place of what the mesh says of every proxy.

It comes from the annotation `proxy.istio.io/config`: the agent tells it in its node's metadata (PROXY_CONFIG, as
Istio's does). Each field counts as a whole, but for headers, of which each does. Other metadata speaks of more
(`fairlead.ir.nodesettings`).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, cast

import msgspec

from fairlead.ir.connections import Connections, connections_of
from fairlead.ir.headers import OwnHeaders, own_headers
from fairlead.ir.nodesettings import NodeSettings, node_settings
from fairlead.ir.observability import ProxyTraces, proxy_traces
from fairlead.ir.proxyconfig import ProxyConfig
from fairlead.model.decode import decode

METADATA = "PROXY_CONFIG"
"""The metadata of a node that has these fields."""
AT_ONCE = frozenset(("connection_settings", "gateway_topology", "proxy_headers", "tracing", "zipkin_address"))
"""Fields that have an effect on a proxy that runs, and not when it starts."""
_ENCODED = ("connectionSettings", "gatewayTopology", "proxyHeaders", "tracing", "zipkinAddress")


class OwnTopology(msgspec.Struct, frozen=True):
    """What stands before a gateway; `client_cert` is in Envoy's words, "" for the usual."""

    trusted: int = 0
    client_cert: str = ""
    proxy_protocol: bool = False


class OwnSettings(msgspec.Struct, frozen=True):
    """What one workload says; None where the mesh's settings hold."""

    headers: OwnHeaders | None = None
    topology: OwnTopology | None = None
    traces: ProxyTraces | None = None
    connections: Connections | None = None
    node: NodeSettings | None = None


def said_of(config: ProxyConfig) -> dict[str, Any]:
    """These fields of a configuration, as they are written; {} where it has none."""
    whole: dict[str, Any] = msgspec.to_builtins(config)
    return {name: whole[name] for name in _ENCODED if name in whole}


def own_settings(metadata: object) -> OwnSettings | None:
    """The settings in a node's metadata; None where there are none, or such as nobody can read."""
    if not isinstance(metadata, Mapping):
        return None
    said = cast("Mapping[str, Any]", metadata)
    found = {name: said[name] for name in _ENCODED if name in said}
    return _read(msgspec.json.encode(found, order="sorted")) if found else None


def own_of_node(metadata: Mapping[str, object]) -> OwnSettings | None:
    """The same from all metadata of a node: what it says outside of its ProxyConfig, too."""
    own, node = own_settings(metadata.get(METADATA)), node_settings(metadata)
    return own if node is None else msgspec.structs.replace(own or OwnSettings(), node=node)


@lru_cache(maxsize=256)
def _read(text: bytes) -> OwnSettings | None:
    config, _ = decode(ProxyConfig, msgspec.json.decode(text))
    if config is None:
        return None
    topology, headers = config.gateway_topology, config.proxy_headers
    return OwnSettings(
        headers=own_headers(headers) if headers is not None else None,
        topology=None
        if topology is None
        else OwnTopology(
            topology.num_trusted_proxies,
            "" if topology.forward_client_cert_details == "UNDEFINED" else topology.forward_client_cert_details,
            topology.proxy_protocol is not None,
        ),
        traces=proxy_traces(config) if config.tracing is not None or config.zipkin_address else None,
        connections=connections_of(config.connection_settings) if config.connection_settings is not None else None,
    )
