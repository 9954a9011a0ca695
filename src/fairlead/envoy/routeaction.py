"""What a route does with a request: forward it, redirect it, or answer it."""

from __future__ import annotations

import re

import msgspec
from envoy.config.core.v3 import base_pb2
from envoy.config.route.v3 import route_components_pb2 as routes
from google.protobuf.wrappers_pb2 import BoolValue, UInt32Value

from fairlead.envoy.names import PEER_HEADER
from fairlead.envoy.routeretry import retry_policy
from fairlead.envoy.routevalues import duration, regex, runtime_fraction
from fairlead.ir.filters import Pairs
from fairlead.ir.route import DirectResponse, Headers, HttpRule, Redirect, Rewrite
from fairlead.ir.traffic import HashPolicy, RetryPolicy

_CODES = {
    301: routes.RedirectAction.MOVED_PERMANENTLY,
    302: routes.RedirectAction.FOUND,
    303: routes.RedirectAction.SEE_OTHER,
    307: routes.RedirectAction.TEMPORARY_REDIRECT,
    308: routes.RedirectAction.PERMANENT_REDIRECT,
}
_DEFAULT_PORTS = {"http": 80, "https": 443}


class Target(msgspec.Struct, frozen=True):
    """A cluster with its share of the requests; `hash` is what its load balancer hashes by.

    `external`: outside the mesh, where nobody must learn which workload calls, nor introduce himself as one.
    """

    cluster: str
    weight: int = 0
    headers: Headers = Headers()
    hash: HashPolicy | None = None
    external: bool = False


class MirrorTarget(msgspec.Struct, frozen=True):
    """A cluster that gets copies of a percentage of the requests."""

    cluster: str
    percent: float
    external: bool = False


class Forwarding(msgspec.Struct, frozen=True):
    """Where a rule's requests go, with clusters resolved. `retry` is the policy if the rule says none.

    `forwarded_host` tells servers in X-Forwarded-Host which host was asked for where it is rewritten.
    """

    targets: tuple[Target, ...]
    mirrors: tuple[MirrorTarget, ...] = ()
    retry: RetryPolicy | None = None
    gateway_api: bool = False
    forwarded_host: bool = False


class _Changes:
    """Header changes as Envoy takes them, and the authority that they set (Envoy has an own field for that)."""

    def __init__(self, headers: Headers) -> None:
        request, response = headers.request, headers.response
        self.request_add = [*_values(request.set, overwrite=True), *_values(request.add, overwrite=False)]
        self.request_remove = [name for name in request.remove if not _is_internal(name)]
        self.response_add = [*_values(response.set, overwrite=True), *_values(response.add, overwrite=False)]
        self.response_remove = [name for name in response.remove if not _is_internal(name)]
        self.authority = _authority(request.set) or _authority(request.add)

    def keep_inside(self) -> None:
        """Take the introduction of workloads away, on the way out and back."""
        self.request_remove.append(PEER_HEADER)
        self.response_remove.append(PEER_HEADER)

    def put(self, out: routes.Route | routes.WeightedCluster.ClusterWeight) -> None:
        out.request_headers_to_add.extend(self.request_add)
        out.request_headers_to_remove.extend(self.request_remove)
        out.response_headers_to_add.extend(self.response_add)
        out.response_headers_to_remove.extend(self.response_remove)


def set_headers(out: routes.Route, headers: Headers) -> str:
    """Put header changes onto a route; the authority that they ask for is returned ("" for none)."""
    changes = _Changes(headers)
    changes.put(out)
    return changes.authority


def forward(out: routes.Route, rule: HttpRule, to: Forwarding, authority: str) -> None:
    """Have a route forward to its targets; targets of weight 0 among several get nothing."""
    action = out.route
    set_timeout(action, rule.timeout)
    if to.gateway_api:
        action.cluster_not_found_response_code = routes.RouteAction.INTERNAL_SERVER_ERROR
    if rule.rewrite is not None:
        _rewrite(action, out.match, rule.rewrite, gateway_api=to.gateway_api)
        authority = rule.rewrite.authority or authority
    if authority:
        action.host_rewrite_literal = authority
        action.append_x_forwarded_host = to.forwarded_host
    for mirror in to.mirrors:
        copied = action.request_mirror_policies.add(
            cluster=mirror.cluster,
            runtime_fraction=runtime_fraction(mirror.percent),
            trace_sampled=BoolValue(value=False),
        )
        if mirror.external:
            copied.request_headers_mutations.add(remove=PEER_HEADER)
    targets = to.targets if len(to.targets) == 1 else tuple(one for one in to.targets if one.weight > 0)
    if len(to.targets) == 1:
        _single(out, targets[0])
    else:
        for target in targets:
            _weighted(action, target)
    for target in targets:
        if target.hash is not None:
            action.hash_policy.append(hash_policy(target.hash))
    retry = retry_policy(rule.retry or to.retry, hashed=len(to.targets) == 1 and targets[0].hash is not None)
    if retry is not None:
        action.retry_policy.CopyFrom(retry)


def set_timeout(action: routes.RouteAction, timeout: float | None) -> None:
    """The time that a whole exchange may take, gRPC or not; none by default, and then gRPC clients' own timeouts hold.

    Where `max_stream_duration` is set, whatever it says, Envoy does not look at `timeout` any more: never both. Istio
    sets `max_grpc_timeout` beside the timeout, of which Envoy warns by now; all it adds is that the proxy, too, ends
    an exchange at a shorter timeout of a gRPC client.
    """
    action.timeout.CopyFrom(duration(timeout or 0))
    if not timeout:
        action.max_stream_duration.max_stream_duration.CopyFrom(duration(0))
        action.max_stream_duration.grpc_timeout_header_max.CopyFrom(duration(0))


def redirect(out: routes.Route, to: Redirect, port: int, *, tls: bool) -> None:
    """Answer with a redirect. `port` is the one the request came to; a scheme's own port is never spelled out."""
    action = out.redirect
    action.host_redirect = to.authority
    if to.prefix_rewrite:
        action.prefix_rewrite = to.prefix_rewrite
    else:
        action.path_redirect = to.uri
    if to.scheme:
        action.scheme_redirect = to.scheme
    wanted = port if to.derive_port == "FROM_REQUEST_PORT" else to.port
    if wanted and wanted != _DEFAULT_PORTS.get(to.scheme or ("https" if tls else "http")):
        action.port_redirect = wanted
    action.response_code = _CODES.get(to.code, routes.RedirectAction.MOVED_PERMANENTLY)


def direct(out: routes.Route, answer: DirectResponse) -> None:
    """Answer without an upstream."""
    out.direct_response.status = answer.status
    if answer.body:
        try:
            out.direct_response.body.inline_string = answer.body.decode()
        except UnicodeDecodeError:
            out.direct_response.body.inline_bytes = answer.body


def hash_policy(said: HashPolicy) -> routes.RouteAction.HashPolicy:
    """What a consistent hash is computed from."""
    out = routes.RouteAction.HashPolicy()
    if said.header:
        out.header.header_name = said.header
    elif said.cookie:
        out.cookie.name = said.cookie
        out.cookie.path = said.cookie_path
        for name, value in said.cookie_attributes:
            out.cookie.attributes.add(name=name, value=value)
        if said.cookie_ttl is not None:
            out.cookie.ttl.CopyFrom(duration(said.cookie_ttl))
    elif said.query:
        out.query_parameter.name = said.query
    else:
        out.connection_properties.source_ip = said.source_ip
    return out


def _single(out: routes.Route, target: Target) -> None:
    action = out.route
    action.cluster = target.cluster
    changes = _Changes(target.headers)
    if target.external:
        changes.keep_inside()
    changes.put(out)
    if changes.authority and action.WhichOneof("host_rewrite_specifier") is None:
        action.host_rewrite_literal = changes.authority


def _weighted(action: routes.RouteAction, target: Target) -> None:
    made = action.weighted_clusters.clusters.add(name=target.cluster, weight=UInt32Value(value=target.weight))
    changes = _Changes(target.headers)
    if target.external:
        changes.keep_inside()
    changes.put(made)
    if changes.authority:
        made.host_rewrite_literal = changes.authority


def _rewrite(action: routes.RouteAction, match: routes.RouteMatch, to: Rewrite, *, gateway_api: bool) -> None:
    if to.regex:
        action.regex_rewrite.pattern.CopyFrom(regex(to.regex))
        action.regex_rewrite.substitution = to.substitution
    elif to.uri == "/" and gateway_api and match.WhichOneof("path_specifier") == "path_separated_prefix":
        # Replacing "/a" in "/a/b" by "/" would leave "//b".
        action.regex_rewrite.pattern.CopyFrom(regex(f"^{_quoted(match.path_separated_prefix)}(/?)(.*)"))
        action.regex_rewrite.substitution = r"/\2"
    elif to.uri:
        action.prefix_rewrite = to.uri


def _quoted(text: str) -> str:
    """The text as an RE2 pattern; RE2 knows no escape of `/`, `-` or other plain characters as Python writes them."""
    return re.sub(r"([.+*?()|\[\]{}^$\\])", r"\\\1", text)


def _values(pairs: Pairs, *, overwrite: bool) -> list[base_pb2.HeaderValueOption]:
    action = (
        base_pb2.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
        if overwrite
        else base_pb2.HeaderValueOption.APPEND_IF_EXISTS_OR_ADD
    )
    return [
        base_pb2.HeaderValueOption(header=base_pb2.HeaderValue(key=name, value=value), append_action=action)
        for name, value in sorted(pairs)
        if not _is_internal(name)
    ]


def _authority(pairs: Pairs) -> str:
    found = [value for name, value in pairs if name.lower() in (":authority", "host")]
    return found[-1] if found else ""


def _is_internal(name: str) -> bool:
    """Whether Envoy refuses to change this header like others."""
    return name.startswith(":") or name.lower() == "host"
