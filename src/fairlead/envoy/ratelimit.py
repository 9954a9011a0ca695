"""Rate limits: Envoy's local rate limit filter with a token bucket for each limit, and the filter that asks a server.

A limit is a descriptor: its name, then what its requests are told apart by. An entry without a value makes Envoy keep a
bucket for each value that it sees.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from envoy.config.core.v3.base_pb2 import RuntimeFractionalPercent
from envoy.config.core.v3.config_source_pb2 import ApiVersion
from envoy.config.core.v3.extension_pb2 import TypedExtensionConfig
from envoy.config.core.v3.grpc_service_pb2 import GrpcService
from envoy.config.ratelimit.v3.rls_pb2 import RateLimitServiceConfig
from envoy.config.route.v3.route_components_pb2 import HeaderMatcher
from envoy.config.route.v3.route_components_pb2 import RateLimit as Actions
from envoy.extensions.common.ratelimit.v3.ratelimit_pb2 import (
    LocalRateLimitDescriptor,
    RateLimitDescriptor,
    XRateLimitHeadersRFCVersion,
)
from envoy.extensions.filters.http.local_ratelimit.v3.local_rate_limit_pb2 import LocalRateLimit
from envoy.extensions.filters.http.ratelimit.v3.rate_limit_pb2 import RateLimit
from envoy.extensions.rate_limit_descriptors.expr.v3.expr_pb2 import Descriptor as Expression
from envoy.type.matcher.v3.regex_pb2 import RegexMatcher
from envoy.type.matcher.v3.string_pb2 import StringMatcher
from envoy.type.v3.http_status_pb2 import HttpStatus
from envoy.type.v3.percent_pb2 import FractionalPercent
from envoy.type.v3.token_bucket_pb2 import TokenBucket
from google.protobuf.wrappers_pb2 import UInt32Value

from fairlead.envoy import names
from fairlead.envoy.pack import pack, seconds
from fairlead.ir.filters import Filter, Phase
from fairlead.ir.ratelimit import Condition, Counted, Limit, LimitService, RatePolicy

LOCAL_TYPE = "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit"
GLOBAL_TYPE = "type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimit"
_KEY = "limit"
_EVERY = 4294967295
_BEHIND = 1000
"""Limits stand behind the mesh's own policies: what is denied does not count."""
_HEADERS = {"path": ":path", "method": ":method", "host": ":authority"}
_PRINCIPAL = "connection.uri_san_peer_certificate"


def local_filter(policy: RatePolicy) -> Filter:
    """The filter that counts by itself, for the local limits of one object."""
    made = LocalRateLimit(
        stat_prefix=_stat_prefix(policy),
        # What no limit is for is not limited, but Envoy wants a bucket; its interval divides all others.
        token_bucket=_bucket(_EVERY, _EVERY, 1),
        filter_enabled=_percent(100),
        filter_enforced=_percent(0 if policy.shadow else 100),
        rate_limits=[_actions(one) for one in policy.limits],
        descriptors=[_descriptor(one) for one in policy.limits],
        local_rate_limit_per_downstream_connection=policy.by_connection,
        rate_limited_as_resource_exhausted=True,
    )
    made.always_consume_default_token_bucket.value = False
    if policy.status != 429:
        made.status.CopyFrom(_status(policy.status))
    if policy.headers:
        made.enable_x_ratelimit_headers = XRateLimitHeadersRFCVersion.DRAFT_VERSION_03
    if policy.max_values:
        made.max_dynamic_descriptors.value = policy.max_values
    return _filter(policy, "local", LOCAL_TYPE, made.SerializeToString(deterministic=True))


def global_filter(policy: RatePolicy, service: LimitService) -> Filter:
    """The filter that asks a server, for the global limits of one object."""
    grpc = GrpcService.EnvoyGrpc(
        cluster_name=names.subset_key("outbound", service.port, "", service.host), authority=service.host
    )
    made = RateLimit(
        domain=service.domain,
        timeout=seconds(service.timeout),
        failure_mode_deny=not service.fail_open,
        rate_limited_as_resource_exhausted=True,
        rate_limit_service=RateLimitServiceConfig(
            grpc_service=GrpcService(envoy_grpc=grpc, timeout=seconds(service.timeout)),
            transport_api_version=ApiVersion.V3,
        ),
        rate_limits=[_actions(one) for one in service.limits],
        stat_prefix=_stat_prefix(policy),
        filter_enforced=_percent(0 if policy.shadow else 100),
    )
    if policy.status != 429:
        made.rate_limited_status.CopyFrom(_status(policy.status))
    if policy.headers:
        made.enable_x_ratelimit_headers = RateLimit.DRAFT_VERSION_03
    return _filter(policy, "global", GLOBAL_TYPE, made.SerializeToString(deterministic=True))


def _filter(policy: RatePolicy, sort: str, type_url: str, config: bytes) -> Filter:
    name = f"fairlead.ratelimit.{sort}.{policy.key.namespace}.{policy.key.name}"
    return Filter(name, type_url, config, Phase.AUTHZ, _BEHIND, (policy.origin,))


def _stat_prefix(policy: RatePolicy) -> str:
    return f"{policy.key.namespace}_{policy.key.name}".replace(".", "_")


def _status(code: int) -> HttpStatus:
    return HttpStatus(code=code)  # type: ignore[arg-type]


def _percent(value: int) -> RuntimeFractionalPercent:
    return RuntimeFractionalPercent(
        default_value=FractionalPercent(numerator=value, denominator=FractionalPercent.HUNDRED)
    )


def _bucket(most: int, fill: int, interval: int) -> TokenBucket:
    return TokenBucket(max_tokens=most, tokens_per_fill=UInt32Value(value=fill), fill_interval=seconds(interval))


def _descriptor(limit: Limit) -> LocalRateLimitDescriptor:
    entries = [RateLimitDescriptor.Entry(key=_KEY, value=limit.name)]
    entries += [RateLimitDescriptor.Entry(key=_name(one), value=_value(one)) for one in limit.per]
    return LocalRateLimitDescriptor(
        entries=entries, token_bucket=_bucket(limit.burst or limit.requests, limit.requests, limit.seconds)
    )


def _actions(limit: Limit) -> Actions:
    made = Actions()
    conditions = list(_matchers(limit.condition))
    if conditions:
        matched = made.actions.add().header_value_match
        matched.descriptor_key, matched.descriptor_value = _KEY, limit.name
        matched.headers.extend(conditions)
    else:
        named = made.actions.add().generic_key
        named.descriptor_key, named.descriptor_value = _KEY, limit.name
    for one in limit.per:
        _action(made.actions.add(), one)
    return made


def _action(made: Actions.Action, counted: Counted) -> None:
    key = _name(counted)
    if counted.by == "address":
        made.remote_address.SetInParent()
    elif counted.by == "query":
        made.query_parameters.query_parameter_name = counted.name
        made.query_parameters.descriptor_key = key
    elif counted.by == "principal":
        expression = Expression(descriptor_key=key, text=_PRINCIPAL)
        made.extension.CopyFrom(
            TypedExtensionConfig(name="envoy.rate_limit_descriptors.expr", typed_config=pack(expression))
        )
    else:
        made.request_headers.header_name = counted.name if counted.by == "header" else _HEADERS[counted.by]
        made.request_headers.descriptor_key = key


def _name(counted: Counted) -> str:
    if counted.by == "address":
        return "remote_address"  # The only key that Envoy gives it.
    return f"{counted.by}.{counted.name}" if counted.name else counted.by


def _value(counted: Counted) -> str:
    if counted.by == "principal" and counted.value and "://" not in counted.value:
        return f"spiffe://{counted.value}"
    return counted.value


def _matchers(condition: Condition) -> Iterable[HeaderMatcher]:
    if condition.methods:
        yield _header(":method", "|".join(_quoted(one) for one in condition.methods))
    if condition.paths:
        yield _header(":path", "|".join(_path(one) for one in condition.paths))
    for name, value in condition.headers:
        made = HeaderMatcher(name=name)
        if value == "*":
            made.present_match = True
        else:
            made.string_match.CopyFrom(StringMatcher(exact=value))
        yield made


def _header(name: str, regex: str) -> HeaderMatcher:
    return HeaderMatcher(name=name, string_match=StringMatcher(safe_regex=RegexMatcher(regex=f"(?:{regex})")))


def _path(text: str) -> str:
    """A regular expression of RE2 for a path, with any query."""
    if text.endswith("*"):
        return f"{_quoted(text[:-1])}.*"
    return rf"{_quoted(text)}(?:\?.*)?"


def _quoted(text: str) -> str:
    return re.sub(r"([^A-Za-z0-9/_-])", r"\\\1", text)
