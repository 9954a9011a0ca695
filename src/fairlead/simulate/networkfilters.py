"""Network filters before the last one: authorization of connections, and what they tell the last one."""

from __future__ import annotations

from typing import Any

from envoy.config.listener.v3.listener_components_pb2 import Filter as NetworkFilter
from envoy.extensions.filters.network.ext_authz.v3.ext_authz_pb2 import ExtAuthz
from envoy.extensions.filters.network.rbac.v3.rbac_pb2 import RBAC
from envoy.extensions.filters.network.set_filter_state.v3.set_filter_state_pb2 import Config as SetFilterState
from envoy.extensions.filters.network.sni_cluster.v3.sni_cluster_pb2 import SniCluster
from envoy.extensions.filters.network.sni_dynamic_forward_proxy.v3.sni_dynamic_forward_proxy_pb2 import (
    FilterConfig as SniForward,
)

from fairlead.envoy.messages import unpacked as unpacked_any
from fairlead.envoy.resource import LISTENER
from fairlead.simulate import rbac
from fairlead.simulate.matching import Undecided, metadata_matches
from fairlead.simulate.visit import Visit
from fairlead.simulate.walk import Setting

_ALPN_KEY = "envoy.network.application_protocols"


class Bytes:
    """What filters leave for the TCP proxy: a cluster ("": its own), and what mesh mTLS is to offer."""

    def __init__(self) -> None:
        self.cluster = ""
        self.alpn: tuple[str, ...] = ()
        self.metadata: dict[str, dict[str, Any]] = {}


def pass_network_filter(visit: Visit, one: NetworkFilter, flowing: Bytes) -> None:
    """Take a connection through a filter. Raises Ended where it is refused."""
    config = unpacked_any(one.typed_config) if one.HasField("typed_config") else None
    if isinstance(config, RBAC):
        _authorize(visit, config, flowing)
    elif isinstance(config, SetFilterState):
        for value in config.on_new_connection:
            if value.object_key == _ALPN_KEY:
                flowing.alpn = tuple(value.format_string.text_format_source.inline_string.split(","))
    elif isinstance(config, SniCluster):
        flowing.cluster = visit.connection.sni
        visit.say("route", one.name, f"the server name is the cluster: {visit.connection.sni or 'none'}")
    elif isinstance(config, ExtAuthz):
        _ask(visit, config, flowing)
    elif not isinstance(config, SniForward):
        why = f"what filter {one.name} does is not modelled"
        visit.trail.doubt(f"{visit.proxy.shown}: {why}")
        own = visit.mesh.origins.extension(one.name)
        found = own or visit.mesh.origins.patches(visit.proxy.view, LISTENER, visit.listener.name)
        visit.say("filter", one.name, f"undecided: {why}", found, setting=Setting(LISTENER, visit.listener.name))


def _authorize(visit: Visit, config: RBAC, flowing: Bytes) -> None:
    where = Setting(LISTENER, visit.listener.name, "filters[envoy.filters.network.rbac]")
    try:
        if config.HasField("shadow_rules"):
            judged = rbac.judge(config.shadow_rules, visit.peer, None, flowing.metadata)
            noted = flowing.metadata.setdefault("envoy.filters.network.rbac", {})
            noted[f"{config.shadow_rules_stat_prefix}shadow_effective_policy_id"] = judged.policy
        if not config.HasField("rules"):
            return
        judged = rbac.judge(config.rules, visit.peer, None, flowing.metadata)
    except Undecided as reason:
        visit.trail.doubt(f"authorization: {reason}")
        visit.say("authorization", "network", f"undecided: {reason}", setting=where)
        return
    action = ("ALLOW", "DENY", "LOG")[config.rules.action]
    caller = visit.peer.identity or "a caller without identity"
    origins = visit.mesh.origins.policy(judged.policy)
    if judged.allowed:
        said = f"allowed for {caller}" if judged.policy else f"no {action} rule matches"
        visit.say("authorization", judged.policy or action, said, origins, setting=where)
        return
    failed = {key: rbac.failing(policy, visit.peer, None) for key, policy in sorted(config.rules.policies.items())}
    origins = origins or visit.mesh.origins.refusing(visit.proxy.view, failed)
    said = f"denied for {caller}" if judged.policy else f"no ALLOW rule matches for {caller}"
    visit.say("authorization", judged.policy or action, said, origins, setting=where, passed=False)
    raise visit.end(0, "", f"rbac_access_denied_matched_policy[{judged.policy or 'none'}]", "reset")


def _ask(visit: Visit, config: ExtAuthz, flowing: Bytes) -> None:
    asked = config.HasField("filter_enabled_metadata")
    if asked and not metadata_matches(config.filter_enabled_metadata, flowing.metadata):
        return
    who = config.grpc_service.envoy_grpc.cluster_name.rpartition("|")[2] or "an authorizer"
    visit.trail.doubt(f"external authorization by {who}")
    origins = visit.mesh.origins.policies(visit.proxy.view, "CUSTOM")
    visit.say("external authorization", who, f"undecided: {who} is asked", origins)
