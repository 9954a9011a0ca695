"""Action CUSTOM: RBAC filters that find the requests to ask about, and filters that ask an authorizer.

As Istio does it (`pilot/pkg/security/authz/builder`): an RBAC filter only evaluates the rules and leaves the name of
the one that matched in the dynamic metadata; the ext_authz filter asks where that name begins with the authorizer's.
Where there is nobody to ask, what the rules match is denied.
"""

from __future__ import annotations

from collections.abc import Sequence

from envoy.config.core.v3.base_pb2 import HeaderValue
from envoy.config.core.v3.config_source_pb2 import ApiVersion
from envoy.config.core.v3.grpc_service_pb2 import GrpcService
from envoy.config.core.v3.http_uri_pb2 import HttpUri
from envoy.extensions.filters.http.ext_authz.v3 import ext_authz_pb2 as http_pb2
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2 as http_rbac_pb2
from envoy.extensions.filters.network.ext_authz.v3 import ext_authz_pb2 as network_pb2
from envoy.extensions.filters.network.rbac.v3 import rbac_pb2 as network_rbac_pb2
from envoy.type.matcher.v3 import metadata_pb2, string_pb2, value_pb2
from envoy.type.v3.http_status_pb2 import HttpStatus

from fairlead.envoy import names
from fairlead.envoy.pack import seconds
from fairlead.envoy.rbac import (
    HTTP_RBAC,
    HTTP_TYPE,
    NETWORK_RBAC,
    NETWORK_TYPE,
    TCP_STAT_PREFIX,
    custom_prefix,
    custom_rules,
    refused_custom,
)
from fairlead.ir.authz import Authorizer, HttpCheck
from fairlead.ir.filters import Filter, Phase
from fairlead.ir.security import AccessPolicy

HTTP_AUTHZ = "envoy.filters.http.ext_authz"
NETWORK_AUTHZ = "envoy.filters.network.ext_authz"
HTTP_AUTHZ_TYPE = "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz"
NETWORK_AUTHZ_TYPE = "type.googleapis.com/envoy.extensions.filters.network.ext_authz.v3.ExtAuthz"
SHADOW_PREFIX = "istio_ext_authz_"
_ASKED = f"{SHADOW_PREFIX}shadow_effective_policy_id"
_FIRST = -1000
"""Custom filters stand before those of the other actions."""


def custom_filters(
    policies: Sequence[AccessPolicy], authorizer: Authorizer, *, tcp: bool, trust_domains: tuple[str, ...] = ()
) -> tuple[Filter, ...]:
    """The filters that ask one authorizer about what the policies match.

    An authorizer that is asked over HTTP cannot be asked about other connections: there are no filters for them.
    """
    if tcp and authorizer.http is not None:
        return ()
    rules = custom_rules(policies, authorizer.name, tcp=tcp, trust_domains=trust_domains)
    found: http_rbac_pb2.RBAC | network_rbac_pb2.RBAC
    found = network_rbac_pb2.RBAC(stat_prefix=TCP_STAT_PREFIX) if tcp else http_rbac_pb2.RBAC()
    found.shadow_rules.CopyFrom(rules)
    found.shadow_rules_stat_prefix = SHADOW_PREFIX
    asking = _network(authorizer) if tcp else _http(authorizer)
    kinds = (
        (NETWORK_RBAC, NETWORK_TYPE, NETWORK_AUTHZ, NETWORK_AUTHZ_TYPE)
        if tcp
        else (HTTP_RBAC, HTTP_TYPE, HTTP_AUTHZ, HTTP_AUTHZ_TYPE)
    )
    origins = tuple(one.origin for one in policies)
    return (
        Filter(kinds[0], kinds[1], found.SerializeToString(deterministic=True), Phase.AUTHZ, _FIRST, origins),
        Filter(kinds[2], kinds[3], asking.SerializeToString(deterministic=True), Phase.AUTHZ, _FIRST + 1, origins),
    )


def refusing_filter(
    policies: Sequence[AccessPolicy], provider: str, position: int, *, tcp: bool, trust_domains: tuple[str, ...] = ()
) -> Filter:
    """The filter that denies what the policies would have asked a provider about; `position` orders several."""
    config: http_rbac_pb2.RBAC | network_rbac_pb2.RBAC
    config = network_rbac_pb2.RBAC(stat_prefix=TCP_STAT_PREFIX) if tcp else http_rbac_pb2.RBAC()
    config.rules.CopyFrom(refused_custom(policies, provider, tcp=tcp, trust_domains=trust_domains))
    name, type_url = (NETWORK_RBAC, NETWORK_TYPE) if tcp else (HTTP_RBAC, HTTP_TYPE)
    origins = tuple(one.origin for one in policies)
    return Filter(name, type_url, config.SerializeToString(deterministic=True), Phase.AUTHZ, _FIRST + position, origins)


def _cluster(authorizer: Authorizer) -> str:
    return names.subset_key("outbound", authorizer.port, "", authorizer.hostname)


def _grpc(authorizer: Authorizer) -> GrpcService:
    # The name of the cluster would be the authority otherwise, and `|` is not possible in one.
    return GrpcService(
        envoy_grpc=GrpcService.EnvoyGrpc(cluster_name=_cluster(authorizer), authority=authorizer.hostname),
        timeout=seconds(authorizer.timeout),
    )


def _network(authorizer: Authorizer) -> network_pb2.ExtAuthz:
    return network_pb2.ExtAuthz(
        stat_prefix=TCP_STAT_PREFIX,
        failure_mode_allow=authorizer.fail_open,
        transport_api_version=ApiVersion.V3,
        grpc_service=_grpc(authorizer),
        filter_enabled_metadata=_asked(NETWORK_RBAC, authorizer.name),
    )


def _http(authorizer: Authorizer) -> http_pb2.ExtAuthz:
    made = http_pb2.ExtAuthz(
        failure_mode_allow=authorizer.fail_open,
        clear_route_cache=authorizer.clear_route_cache,
        transport_api_version=ApiVersion.V3,
        filter_enabled_metadata=_asked(HTTP_RBAC, authorizer.name),
    )
    if authorizer.status_on_error:
        made.status_on_error.CopyFrom(HttpStatus(code=authorizer.status_on_error))  # type: ignore[arg-type]
    if authorizer.body is not None:
        made.with_request_body.CopyFrom(
            http_pb2.BufferSettings(
                max_request_bytes=authorizer.body.max_bytes,
                allow_partial_message=authorizer.body.partial,
                pack_as_bytes=authorizer.body.raw,
            )
        )
    if authorizer.http is None:
        made.grpc_service.CopyFrom(_grpc(authorizer))
    else:
        made.http_service.CopyFrom(_http_service(authorizer, authorizer.http))
        _headers(made.allowed_headers, authorizer.http.seen_headers)
    return made


def _http_service(authorizer: Authorizer, check: HttpCheck) -> http_pb2.HttpService:
    made = http_pb2.HttpService(
        path_prefix=check.path_prefix,
        server_uri=HttpUri(
            uri=f"http://{authorizer.hostname}", cluster=_cluster(authorizer), timeout=seconds(authorizer.timeout)
        ),
    )
    asked, answered = made.authorization_request, made.authorization_response
    asked.headers_to_add.extend(HeaderValue(key=key, value=value) for key, value in check.added_headers)
    _headers(answered.allowed_upstream_headers, check.upstream_headers)
    _headers(answered.allowed_client_headers, check.denied_headers)
    _headers(answered.allowed_client_headers_on_success, check.allowed_headers)
    return made


def _headers(into: string_pb2.ListStringMatcher, patterns: tuple[str, ...]) -> None:
    """Names of headers, in any case; nothing is set where there are none."""
    for pattern in patterns:
        made = into.patterns.add(ignore_case=True)
        if pattern.startswith("*"):
            made.suffix = pattern[1:]
        elif pattern.endswith("*"):
            made.prefix = pattern[:-1]
        else:
            made.exact = pattern


def _asked(rbac: str, provider: str) -> metadata_pb2.MetadataMatcher:
    """Whether a rule for this provider has matched."""
    name = string_pb2.StringMatcher(prefix=custom_prefix(provider).rstrip("-"))
    return metadata_pb2.MetadataMatcher(
        filter=rbac,
        path=[metadata_pb2.MetadataMatcher.PathSegment(key=_ASKED)],
        value=value_pb2.ValueMatcher(string_match=name),
    )
