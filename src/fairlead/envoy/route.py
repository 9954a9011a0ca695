"""Route configurations: routes, virtual hosts, and their joining from serialised parts.

A repeated field of a serialised message is a sequence of framed elements, so a message can be put together from the
bytes of its parts without building it again. The parts here are framed when they are made and joined by concatenation.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec
from envoy.config.route.v3 import route_components_pb2 as routes
from envoy.config.route.v3 import route_pb2
from google.protobuf.struct_pb2 import Struct
from google.protobuf.wrappers_pb2 import BoolValue, UInt32Value

from fairlead.envoy import names
from fairlead.envoy.pack import framed
from fairlead.envoy.routeaction import Forwarding, Target, direct, forward, redirect, set_headers, set_timeout
from fairlead.envoy.routefilters import set_filters
from fairlead.envoy.routematch import is_catch_all, path_pattern, route_match
from fairlead.ir.route import HttpMatch, HttpRule
from fairlead.ir.traffic import RetryPolicy
from fairlead.model.diagnostic import Origin
from fairlead.model.ref import Ref

DEFAULT_ROUTE = "default"
CONNECT_ROUTE = "connect"
MAX_DIRECT_RESPONSE = 1024 * 1024
"""Bytes; the size up to which bodies are admitted (Envoy's own default is 4 KiB)."""

_VIRTUAL_HOST_ROUTES = routes.VirtualHost.ROUTES_FIELD_NUMBER
_CONFIG_VIRTUAL_HOSTS = route_pb2.RouteConfiguration.VIRTUAL_HOSTS_FIELD_NUMBER
_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_NO_RULE = HttpRule(origin=Origin(Ref("", "", "", "")))


class Serving(msgspec.Struct, frozen=True):
    """For which port a rule is built, whether clients of the port speak TLS, and the object's name and origin."""

    port: int
    tls: bool
    name: str
    origin: Origin
    whole_segments: bool = False


class RouteList(msgspec.Struct, frozen=True):
    """Framed routes of a virtual host; what takes every request is kept apart, since it must come last."""

    guarded: bytes = b""
    catch_all: bytes = b""

    @property
    def empty(self) -> bool:
        """Whether there is no route at all."""
        return not (self.guarded or self.catch_all)


def http_route(rule: HttpRule, match: HttpMatch | None, at: Serving, to: Forwarding | None) -> routes.Route:
    """The route for one rule under one of its matches; `to` is None for rules that do not forward."""
    out = routes.Route(name=rule.name, match=route_match(match, whole_segments=at.whole_segments))
    if match is not None and match.name:
        out.name = f"{rule.name}.{match.name}"
    if match is not None and match.stat_prefix:
        out.stat_prefix = match.stat_prefix
    out.metadata.filter_metadata["istio"].CopyFrom(_config_metadata(at.origin))
    authority = set_headers(out, rule.headers)
    if rule.redirect is not None:
        redirect(out, rule.redirect, at.port, tls=at.tls)
    elif rule.direct is not None:
        direct(out, rule.direct)
    elif to is not None and (len(to.targets) == 1 or any(one.weight > 0 for one in to.targets)):
        forward(out, rule, to, authority)
    else:
        # Backends that all weigh nothing: the Gateway API asks for this answer.
        out.direct_response.status = 500
    out.decorator.operation = _operation(out, at)
    set_filters(out, rule.fault, rule.cors)
    return out


def default_route(host: str, port: int, target: Target, retry: RetryPolicy | None = None) -> routes.Route:
    """The route to a host about which no rule says anything."""
    out = routes.Route(name=DEFAULT_ROUTE, match=route_match(None))
    forward(out, _NO_RULE, Forwarding((target,), retry=retry), "")
    out.decorator.operation = f"{host}:{port}/*"
    return out


def route_list(made: Iterable[routes.Route]) -> RouteList:
    """Serialise routes in order, up to the first one that takes every request."""
    guarded: list[bytes] = []
    for one in made:
        body = framed(_VIRTUAL_HOST_ROUTES, one.SerializeToString(deterministic=True))
        if is_catch_all(one.match):
            return RouteList(b"".join(guarded), body)
        guarded.append(body)
    return RouteList(b"".join(guarded))


def virtual_host(
    name: str,
    domains: Iterable[str],
    lists: Iterable[RouteList],
    *,
    require_tls: bool = False,
    http3: int = 0,
    attempts: bool = True,
) -> bytes:
    """A virtual host, framed for `route_configuration`; of several lists, all that is guarded comes first.

    `http3` is the UDP port at which clients are told that they may come over QUIC, 0 for none. `attempts` tells servers
    in X-Envoy-Attempt-Count which attempt a request is.
    """
    parts = list(lists)
    head = routes.VirtualHost(
        name=name,
        domains=domains,
        include_request_attempt_count=attempts,
        require_tls=routes.VirtualHost.ALL if require_tls else routes.VirtualHost.NONE,
    )
    if http3:
        told = head.response_headers_to_add.add()
        told.header.key, told.header.value = "alt-svc", f'h3=":{http3}"; ma=86400'
        told.append_action = told.OVERWRITE_IF_EXISTS_OR_ADD
    body = (
        head.SerializeToString(deterministic=True)
        + b"".join(one.guarded for one in parts)
        + b"".join(one.catch_all for one in parts)
    )
    return framed(_CONFIG_VIRTUAL_HOSTS, body)


def connect_route(cluster: str) -> RouteList:
    """The route for CONNECT to a host: what comes through the tunnel goes to a cluster as it is."""
    out = routes.Route(name=CONNECT_ROUTE)
    out.match.connect_matcher.SetInParent()
    out.route.cluster = cluster
    _terminate(out)
    return route_list([out])


class Unknown(msgspec.Struct, frozen=True):
    """The clusters for hosts that a client does not see: of its HTTP requests, and of all else; "": nowhere."""

    http: str
    tcp: str = ""


def unknown_hosts(policy: Unknown, *, connect: bool = False, attempts: bool = True) -> bytes:
    """The virtual host of requests to hosts that the mesh does not know, framed; `connect`: tunnels to them, too."""
    made = [_unknown(policy)]
    if connect:
        tunnel = _unknown(policy)
        tunnel.match.connect_matcher.SetInParent()
        if policy.http:
            _terminate(tunnel)
        made.insert(0, tunnel)
    return virtual_host(made[-1].name, ["*"], [route_list(made)], attempts=attempts)


def _terminate(out: routes.Route) -> None:
    """Have a route for CONNECT end the request here, and forward what the client sends afterwards."""
    out.route.timeout.SetInParent()
    out.route.upgrade_configs.add(upgrade_type="CONNECT").connect_config.SetInParent()


def unknown_route(policy: Unknown) -> routes.Route:
    """The route of requests to hosts that the mesh does not know."""
    return _unknown(policy)


def _unknown(policy: Unknown) -> routes.Route:
    out = routes.Route(match=route_match(None))
    if policy.http:
        out.name = names.ALLOW_ANY
        out.route.cluster = policy.http
        set_timeout(out.route, 0)
        out.request_headers_to_remove.append(names.PEER_HEADER)
        out.response_headers_to_remove.append(names.PEER_HEADER)
    else:
        out.name = names.BLOCK_ALL
        out.direct_response.status = 502
    return out


def configuration_head(name: str, *, ignore_port: bool = True) -> bytes:
    """What a serialised RouteConfiguration has beside its virtual hosts: those, framed, follow it.

    `ignore_port`: a request's `Host: name:port` is compared without its port.
    """
    head = route_pb2.RouteConfiguration(
        name=name,
        validate_clusters=BoolValue(value=False),
        max_direct_response_body_size_bytes=UInt32Value(value=MAX_DIRECT_RESPONSE),
        ignore_port_in_host_matching=ignore_port,
    )
    return head.SerializeToString(deterministic=True)


def route_configuration(name: str, hosts: Iterable[bytes]) -> bytes:
    """A serialised RouteConfiguration of framed virtual hosts."""
    return configuration_head(name) + b"".join(hosts)


def _operation(route: routes.Route, at: Serving) -> str:
    """What traces call the operation: the destination if there is only one, else the object's name."""
    path = path_pattern(route.match)
    parts = route.route.cluster.split("|")
    if len(parts) == 4:
        return f"{parts[3]}:{parts[1]}{path}"
    return f"{at.name}:{at.port}{path}"


def _config_metadata(origin: Origin) -> Struct:
    """Istio's note of the object behind a route, as the path of its API resource."""
    ref = origin.ref
    kind = _WORD_START.sub("-", ref.kind).lower()
    out = Struct()
    out["config"] = f"/apis/{ref.group}/v1/namespaces/{ref.namespace}/{kind}/{ref.name}"
    return out
