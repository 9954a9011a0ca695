"""External authorizers: services that are asked whether a request may pass (AuthorizationPolicy's action CUSTOM)."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from fairlead.ir.filters import Pairs
from fairlead.ir.providers import AuthzGrpc, AuthzHttp, AuthzRequestBody, ExtensionProvider, wrong_service
from fairlead.model.duration import is_duration, parse_duration

DEFAULT_TIMEOUT = 600.0
"""Seconds; Istio's. A DestinationRule of the service may say less."""
_STATUS = frozenset(
    (100, *range(200, 209), 226, *range(300, 309), *range(400, 419), *range(421, 430), 431, *range(500, 509), 510, 511)
) - {306, 418, 425, 427, 509}
"""What Envoy knows as status codes (envoy.type.v3.StatusCode)."""


class RequestBody(msgspec.Struct, frozen=True):
    """How much of a request's body the authorizer sees: bytes, whether a part is enough, whether as raw bytes."""

    max_bytes: int
    partial: bool = False
    raw: bool = False


class HttpCheck(msgspec.Struct, frozen=True):
    """What an authorizer that is asked over HTTP sees, and what of its answer goes where.

    Names of headers are exact, `prefix*` or `*suffix`.
    """

    path_prefix: str = ""
    seen_headers: tuple[str, ...] = ()
    added_headers: Pairs = ()
    upstream_headers: tuple[str, ...] = ()
    denied_headers: tuple[str, ...] = ()
    allowed_headers: tuple[str, ...] = ()


class Authorizer(msgspec.Struct, frozen=True):
    """An external authorizer by its name in MeshConfig. `namespace` is "" where the host alone tells.

    `http` is None where it speaks Envoy's gRPC protocol. `timeout` is in seconds. `problem` says why it cannot be used.
    """

    name: str
    namespace: str
    hostname: str
    port: int
    timeout: float = DEFAULT_TIMEOUT
    fail_open: bool = False
    clear_route_cache: bool = False
    status_on_error: int = 0
    body: RequestBody | None = None
    http: HttpCheck | None = None
    problem: str = ""


def authorizer_of(provider: ExtensionProvider) -> Authorizer | None:
    """The authorizer that an extension provider is, or None if it is something else."""
    said = provider.envoy_ext_authz_http or provider.envoy_ext_authz_grpc
    if said is None:
        return None
    namespace, _, hostname = said.service.rpartition("/")
    return Authorizer(
        name=provider.name,
        namespace=namespace,
        hostname=hostname,
        port=said.port,
        timeout=parse_duration(said.timeout) if is_duration(said.timeout) else DEFAULT_TIMEOUT,
        fail_open=said.fail_open,
        clear_route_cache=said.clear_route_cache,
        status_on_error=int(said.status_on_error) if _is_status(said.status_on_error) else 0,
        body=_body(said.include_request_body_in_check),
        http=_http(said) if isinstance(said, AuthzHttp) else None,
        problem="; ".join(_problems(said)),
    )


def _body(said: AuthzRequestBody | None) -> RequestBody | None:
    if said is None:
        return None
    return RequestBody(said.max_request_bytes, said.allow_partial_message, said.pack_as_bytes)


def _http(said: AuthzHttp) -> HttpCheck:
    return HttpCheck(
        path_prefix=said.path_prefix,
        # The first name is the newer one; where it is used the older has no effect.
        seen_headers=said.include_request_headers_in_check or said.include_headers_in_check,
        added_headers=tuple(sorted(said.include_additional_headers_in_check.items())),
        upstream_headers=said.headers_to_upstream_on_allow,
        denied_headers=said.headers_to_downstream_on_deny,
        allowed_headers=said.headers_to_downstream_on_allow,
    )


def _problems(said: AuthzHttp | AuthzGrpc) -> Iterator[str]:
    if wrong := wrong_service(said.service):
        yield f"service {wrong}"
    if not 1 <= said.port <= 65535:
        yield f"port {said.port} is not between 1 and 65535"
    if said.status_on_error and not _is_status(said.status_on_error):
        yield f"statusOnError {said.status_on_error!r} is not a status code that Envoy knows"
    if said.timeout and not (is_duration(said.timeout) and parse_duration(said.timeout) >= 0.001):
        yield f"timeout {said.timeout!r} is not a duration of at least 1ms"
    if said.include_request_body_in_check is not None and said.include_request_body_in_check.max_request_bytes < 1:
        yield "includeRequestBodyInCheck.maxRequestBytes must be greater than 0"
    if isinstance(said, AuthzHttp):
        if said.path_prefix and not said.path_prefix.startswith("/"):
            yield f"pathPrefix {said.path_prefix!r} does not begin with /"
        lists = (
            ("includeRequestHeadersInCheck", said.include_request_headers_in_check),
            ("includeHeadersInCheck", said.include_headers_in_check),
            ("headersToUpstreamOnAllow", said.headers_to_upstream_on_allow),
            ("headersToDownstreamOnDeny", said.headers_to_downstream_on_deny),
            ("headersToDownstreamOnAllow", said.headers_to_downstream_on_allow),
        )
        for field, names in lists:
            if "*" in names:
                yield f"{field}: '*' alone is not possible, write prefix* or *suffix"


def _is_status(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) == 3 and int(text) in _STATUS
