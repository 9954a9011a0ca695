"""HTTP filters in their order: what each makes of a request.

One that is not modelled leaves a doubt and lets it pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from envoy.config.core.v3.extension_pb2 import TypedExtensionConfig
from envoy.config.route.v3.route_components_pb2 import FilterConfig
from envoy.extensions.filters.http.cors.v3.cors_pb2 import CorsPolicy
from envoy.extensions.filters.http.ext_authz.v3.ext_authz_pb2 import ExtAuthz, ExtAuthzPerRoute
from envoy.extensions.filters.http.fault.v3.fault_pb2 import HTTPFault
from envoy.extensions.filters.http.header_mutation.v3.header_mutation_pb2 import HeaderMutation
from envoy.extensions.filters.http.jwt_authn.v3.config_pb2 import JwtAuthentication, PerRouteConfig
from envoy.extensions.filters.http.local_ratelimit.v3.local_rate_limit_pb2 import LocalRateLimit
from envoy.extensions.filters.http.rbac.v3.rbac_pb2 import RBAC, RBACPerRoute
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import HttpFilter
from envoy.type.v3.percent_pb2 import FractionalPercent
from google.protobuf.message import Message as Proto

from fairlead.envoy.messages import unpacked as unpacked_any
from fairlead.envoy.names import PEER_HEADER
from fairlead.envoy.resource import EXTENSION, LISTENER
from fairlead.model.diagnostic import Origin
from fairlead.simulate import jwt, rbac
from fairlead.simulate.exchange import Exchange
from fairlead.simulate.matching import Undecided, header_matches, metadata_matches, string_matches
from fairlead.simulate.message import change_headers
from fairlead.simulate.origins import child
from fairlead.simulate.walk import Setting

_NEUTRAL = frozenset(
    (
        "envoy.extensions.filters.http.grpc_stats.v3.FilterConfig",
        "envoy.extensions.filters.http.grpc_web.v3.GrpcWeb",
        "envoy.extensions.filters.http.header_to_metadata.v3.Config",
        "envoy.extensions.filters.http.dynamic_forward_proxy.v3.FilterConfig",
        "envoy.extensions.filters.http.on_demand.v3.OnDemand",
        "envoy.extensions.filters.http.router.v3.Router",
        "envoy.extensions.filters.http.compressor.v3.Compressor",
        "envoy.extensions.filters.http.decompressor.v3.Decompressor",
        "envoy.extensions.filters.http.buffer.v3.Buffer",
        "envoy.extensions.filters.http.set_metadata.v3.Config",
        "envoy.extensions.filters.http.stateful_session.v3.StatefulSession",
    )
)
"""Filters that neither refuse a request nor change where it goes."""

_EVERY = 2**32 - 1
"""The size of a bucket that limits nothing."""


def pass_filters(exchange: Exchange) -> None:
    """Take a request through the filters. Raises Ended where one of them answers it."""
    for one in exchange.manager.http_filters:
        if one.disabled or _disabled(exchange, one.name):
            continue
        config = _config(exchange, one)
        if config is None:
            _unknown(exchange, one, "its configuration cannot be read here")
            continue
        name = config.DESCRIPTOR.full_name
        handle = HANDLERS.get(name)
        if handle is not None:
            handle(exchange, one.name, config)
        elif name not in _NEUTRAL:
            _unknown(exchange, one, f"what {name.rpartition('.')[2]} does is not modelled")


def _disabled(exchange: Exchange, name: str) -> bool:
    said = exchange.per_route(name, FilterConfig)
    return said is not None and said.disabled


def _config(exchange: Exchange, one: HttpFilter) -> Proto | None:
    if one.HasField("typed_config"):
        return unpacked_any(one.typed_config)
    found = exchange.visit.catalog[EXTENSION].get(one.name)
    if found is None:
        return unpacked_any(one.config_discovery.default_config) if one.HasField("config_discovery") else None
    return unpacked_any(TypedExtensionConfig.FromString(found.body).typed_config)


def _setting(exchange: Exchange, name: str) -> Setting:
    return Setting(LISTENER, exchange.visit.listener.name, f"httpFilters[{name}]")


def _unknown(exchange: Exchange, one: HttpFilter, why: str) -> None:
    visit = exchange.visit
    found = visit.mesh.origins.extension(one.name) or visit.mesh.origins.patches(
        visit.proxy.view, LISTENER, visit.listener.name
    )
    visit.trail.doubt(f"filter {one.name} of {visit.proxy.shown}: {why}")
    visit.say("filter", one.name, f"undecided: {why}", found, setting=_setting(exchange, one.name))


_NO_PROVIDER = "-deny-due-to-bad-CUSTOM-action"
"""How the name of a rule ends that stands for an authorizer nobody has defined (Istio's name)."""


def _authorize(exchange: Exchange, name: str, config: Any) -> None:
    made: RBAC = config
    said = exchange.per_route(name, RBACPerRoute)
    if said is not None:
        if not said.HasField("rbac"):
            return
        made = said.rbac
    if made.HasField("shadow_rules"):
        _shadow(exchange, name, made)
    if not made.HasField("rules"):
        return
    visit = exchange.visit
    try:
        judged = rbac.judge(made.rules, visit.peer, exchange.message)
    except Undecided as reason:
        visit.trail.doubt(f"authorization: {reason}")
        visit.say("authorization", name, f"undecided: {reason}", visit.mesh.origins.policy(str(reason)))
        return
    tell_judgement(exchange, made, judged, name)
    if not judged.allowed:
        raise visit.end(403, "", f"rbac_access_denied_matched_policy[{judged.policy or 'none'}]")


def tell_judgement(exchange: Exchange, config: RBAC, judged: rbac.Judgement, name: str) -> None:
    """Add the step of an authorization filter."""
    visit = exchange.visit
    action = ("ALLOW", "DENY", "LOG")[config.rules.action]
    origins = visit.mesh.origins.policy(judged.policy)
    caller = visit.peer.identity or "a caller without identity"
    if action == "LOG" or (action == "DENY" and judged.allowed):
        if not judged.policy:
            said = f"none of {len(config.rules.policies)} {action} rules matches"
            visit.say("authorization", action, said, setting=_setting(exchange, name))
            return
        said = "audited"
    elif judged.allowed:
        said = f"allowed for {caller}"
    elif action == "DENY":
        said = f"denied for {caller}"
        if judged.policy.endswith(_NO_PROVIDER):
            said += ": the mesh's settings define no such provider, and who cannot be asked lets nobody in"
            origins = (*visit.mesh.origins.provider(judged.policy), *origins)
    else:
        policies = sorted(config.rules.policies.items())
        failed = {key: rbac.failing(policy, visit.peer, exchange.message) for key, policy in policies}
        near = "; ".join(f"{_short(key)} does not hold in `{part}`" for key, part in list(failed.items())[:3])
        said = f"no ALLOW rule matches for {caller}" + (f" ({near})" if near else "")
        origins = visit.mesh.origins.refusing(visit.proxy.view, failed)
    visit.say(
        "authorization", judged.policy or action, said, origins, setting=_setting(exchange, name), passed=judged.allowed
    )


def _short(policy: str) -> str:
    return policy.replace("ns[", "").replace("]-policy[", "/").replace("]-rule[", " rule ").removesuffix("]")


def _shadow(exchange: Exchange, name: str, config: RBAC) -> None:
    """Rules that only leave a note: dry runs, and what an authorizer is to be asked about."""
    visit = exchange.visit
    try:
        judged = rbac.judge(config.shadow_rules, visit.peer, exchange.message)
    except Undecided as reason:
        visit.trail.doubt(f"authorization in dry run: {reason}")
        return
    noted = exchange.message.metadata.setdefault("envoy.filters.http.rbac", {})
    prefix = config.shadow_rules_stat_prefix
    noted[f"{prefix}shadow_effective_policy_id"] = judged.policy
    noted[f"{prefix}shadow_engine_result"] = "allowed" if judged.allowed else "denied"
    if prefix.startswith("istio_dry_run"):
        said = f"in dry run it would be {'allowed' if judged.allowed else 'denied'}"
        visit.say("authorization", judged.policy or "none", said, visit.mesh.origins.policy(judged.policy))


def _authenticate(exchange: Exchange, name: str, config: Any) -> None:
    made: JwtAuthentication = config
    visit, message = exchange.visit, exchange.message
    if made.bypass_cors_preflight and _is_preflight(exchange):
        return
    issuers = [made.providers[one].issuer for one in sorted(made.providers)]
    origins = visit.mesh.origins.tokens(visit.proxy.view)
    try:
        answer = jwt.verify(made, exchange.request, message, exchange.per_route(name, PerRouteConfig))
    except Undecided as reason:
        visit.trail.doubt(f"token: {reason}")
        visit.say("jwt", name, f"undecided: {reason}", origins)
        return
    if not answer.asked:
        return
    if answer.problem:
        said = f"{answer.problem} (issuers: {', '.join(issuers)})"
        field = {jwt.NOT_FOR_US: "audiences", jwt.UNKNOWN_ISSUER: "issuer"}.get(answer.problem)
        origins = (*visit.mesh.origins.each(origins, field), *origins) if field else origins
        visit.say("jwt", name, said, origins, setting=_setting(exchange, name), passed=False)
        status = 403 if answer.problem == jwt.NOT_FOR_US else 401
        raise visit.end(status, "", f"jwt_authn_access_denied{{{answer.problem.replace(' ', '_')}}}")
    for one in answer.providers:
        jwt.accepted(made, one, exchange.request.claims or {}, message)
        if made.providers[one].clear_route_cache:
            exchange.forget_route()
    if answer.providers:
        issuer = made.providers[answer.providers[0]].issuer
        visit.say("jwt", issuer, "the token is taken", visit.mesh.origins.tokens(visit.proxy.view, issuer))
    else:
        visit.say("jwt", name, "no token is shown, and none is asked for", origins)


def _is_preflight(exchange: Exchange) -> bool:
    message = exchange.message
    wanted = message.header("access-control-request-method")
    return message.method == "OPTIONS" and bool(wanted) and bool(message.header("origin"))


def _share(exchange: Exchange, name: str, config: Any) -> None:
    """Cross-origin requests: a preflight of an origin that is allowed is answered here."""
    policy = exchange.per_route(name, CorsPolicy)
    if policy is None or not _is_preflight(exchange):
        return
    visit = exchange.visit
    origin = exchange.message.header("origin") or ""
    known = any(one.exact == "*" or string_matches(one, origin) for one in policy.allow_origin_string_match)
    origins = child(exchange.origins(), "corsPolicy")
    if known:
        visit.say("filter", name, f"answers the preflight of {origin}", origins)
        raise visit.end(200, "", "cors_response")
    if policy.HasField("forward_not_matching_preflights") and not policy.forward_not_matching_preflights.value:
        visit.say("filter", name, f"answers the preflight of {origin}, which is not allowed", origins)
        raise visit.end(200, "", "cors_response")
    visit.say("filter", name, f"origin {origin} is not allowed: the preflight is forwarded", origins)


def _inject(exchange: Exchange, name: str, config: Any) -> None:
    """Faults: what happens to all requests is decided, what happens to some is told."""
    fault: HTTPFault = exchange.per_route(name, HTTPFault) or config
    visit = exchange.visit
    if not all(header_matches(one, exchange.message) for one in fault.headers):
        return
    origins = child(exchange.origins(), "fault")
    if fault.HasField("delay"):
        percent = _percent(fault.delay.percentage)
        if percent:
            seconds = fault.delay.fixed_delay.ToTimedelta().total_seconds()
            visit.delayed = percent >= 100
            visit.say("fault", "delay", f"{percent:g} % of requests wait {seconds:g} s", origins)
    if not fault.HasField("abort"):
        return
    percent = _percent(fault.abort.percentage)
    kind = fault.abort.WhichOneof("error_type")
    if kind == "http_status":
        status, what = fault.abort.http_status, f"status {fault.abort.http_status}"
    else:
        status, what = 200, f"gRPC status {fault.abort.grpc_status}"
    if percent >= 100:
        visit.say("fault", "abort", f"every request is answered with {what}", origins, passed=False)
        raise visit.end(status, "FI", "fault_filter_abort")
    if percent:
        visit.trail.doubt(f"{percent:g} % of requests are aborted with {what}")
        visit.say("fault", "abort", f"undecided: {percent:g} % of requests are answered with {what}", origins)


def _percent(said: FractionalPercent) -> float:
    whole = (100, 10_000, 1_000_000)[said.denominator]
    return 100 * said.numerator / whole


def _ask(exchange: Exchange, name: str, config: Any) -> None:
    """An external authorizer: whether it is asked can be known, not what it says."""
    made: ExtAuthz = config
    said = exchange.per_route(name, ExtAuthzPerRoute)
    if (said is not None and said.disabled) or exchange.leads_nowhere:
        return  # Envoy asks nobody about a request for which it has no route
    if made.HasField("filter_enabled_metadata") and not metadata_matches(
        made.filter_enabled_metadata, exchange.message.metadata
    ):
        return
    visit = exchange.visit
    asked = made.grpc_service.envoy_grpc.cluster_name or made.http_service.server_uri.cluster
    who = asked.rpartition("|")[2] or "an authorizer"
    visit.trail.doubt(f"external authorization by {who}")
    rules = exchange.message.metadata.get("envoy.filters.http.rbac", {})
    rule = next((str(value) for key, value in rules.items() if key.endswith("shadow_effective_policy_id")), "")
    origins = visit.mesh.origins.policy(rule) or visit.mesh.origins.policies(visit.proxy.view, "CUSTOM")
    said_so = f"undecided: {who} is asked; if it cannot be, the request is "
    visit.say("external authorization", who, said_so + ("allowed" if made.failure_mode_allow else "denied"), origins)


def _limit_here(exchange: Exchange, name: str, config: Any) -> None:
    made: LocalRateLimit = exchange.per_route(name, LocalRateLimit) or config
    visit = exchange.visit
    buckets = [one.token_bucket for one in made.descriptors]
    if made.HasField("token_bucket") and made.token_bucket.max_tokens != _EVERY:
        buckets.append(made.token_bucket)
    if not buckets:
        return
    rates = ", ".join(
        f"{one.max_tokens} in {one.fill_interval.ToTimedelta().total_seconds():g} s" for one in buckets[:3]
    )
    visit.say("rate limit", name, f"a first request passes; limits: {rates}", _rate_limits(exchange, name))


def _limit_there(exchange: Exchange, name: str, config: Any) -> None:
    visit = exchange.visit
    visit.trail.doubt(f"rate limit server of filter {name}")
    visit.say("rate limit", name, "undecided: a rate limit server is asked", _rate_limits(exchange, name))


def _rate_limits(exchange: Exchange, name: str) -> tuple[Origin, ...]:
    visit = exchange.visit
    found = visit.mesh.origins.extension(name)
    return found or visit.mesh.origins.patches(visit.proxy.view, LISTENER, visit.listener.name)


def _mutate(exchange: Exchange, name: str, config: Any) -> None:
    made: HeaderMutation = config
    removed = [one.remove for one in made.mutations.request_mutations if one.remove]
    added = [
        one.append
        for one in made.mutations.request_mutations
        if one.HasField("append") and one.append.header.key != PEER_HEADER
    ]
    said = change_headers(exchange.message, removed, added)
    if said:
        exchange.visit.say("filter", name, "; ".join(said))


Handler = Callable[[Exchange, str, Any], None]
HANDLERS: Mapping[str, Handler] = {
    "envoy.extensions.filters.http.rbac.v3.RBAC": _authorize,
    "envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication": _authenticate,
    "envoy.extensions.filters.http.cors.v3.Cors": _share,
    "envoy.extensions.filters.http.fault.v3.HTTPFault": _inject,
    "envoy.extensions.filters.http.ext_authz.v3.ExtAuthz": _ask,
    "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit": _limit_here,
    "envoy.extensions.filters.http.ratelimit.v3.RateLimit": _limit_there,
    "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation": _mutate,
}
"""What each filter makes of a request, by the type of its configuration."""
