"""Routes: which one takes a request, and what it does to it (envoy.config.route.v3)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from envoy.config.route.v3.route_components_pb2 import RedirectAction, Route, RouteAction, RouteMatch, VirtualHost

from fairlead.model.regex import matches_whole, replaced
from fairlead.simulate.matching import (
    Metadata,
    Undecided,
    all_of,
    header_matches,
    metadata_matches,
    query_matches,
)
from fairlead.simulate.message import Message

REDIRECT_CODES = {
    RedirectAction.MOVED_PERMANENTLY: 301,
    RedirectAction.FOUND: 302,
    RedirectAction.SEE_OTHER: 303,
    RedirectAction.TEMPORARY_REDIRECT: 307,
    RedirectAction.PERMANENT_REDIRECT: 308,
}


class Missed(NamedTuple):
    """A route that did not take the request, and the condition that failed."""

    at: int
    route: Route
    why: str


class Taken(NamedTuple):
    """The route that takes a request, its position, those before it that did not, and what could not be decided."""

    route: Route | None
    at: int
    missed: tuple[Missed, ...]
    undecided: tuple[str, ...]


def take(host: VirtualHost, message: Message) -> Taken:
    """The first route whose conditions hold. A route that is taken by chance is told, and passed over.

    Envoy looks at no route where the request has an empty `x-forwarded-proto`.
    """
    if message.header("x-forwarded-proto") == "":
        return Taken(None, -1, (), ())
    missed: list[Missed] = []
    undecided: list[str] = []
    for at, route in enumerate(host.routes):
        try:
            why = refusal(route.match, message, message.metadata)
        except Undecided as reason:
            undecided.append(f"route {route.name or at}: {reason}")
            why = str(reason)
        if not why:
            return Taken(route, at, tuple(missed), tuple(undecided))
        missed.append(Missed(at, route, why))
    return Taken(None, -1, tuple(missed), tuple(undecided))


def refusal(asked: RouteMatch, message: Message, metadata: Metadata) -> str:
    """The first condition that does not hold, in words; "" if all do. Raises Undecided."""
    if not path_matches(asked, message):
        return f"path is not {_path_words(asked)}"
    if asked.HasField("grpc") and not message.grpc:
        return "it is not gRPC"
    for one in asked.headers:
        if not header_matches(one, message):
            return f"header {one.name} does not match"
    query = message.query
    for one in asked.query_parameters:
        if not query_matches(one, query):
            return f"query parameter {one.name} does not match"
    if not all_of(asked.dynamic_metadata, lambda one: metadata_matches(one, metadata)):
        return "a claim of the token does not match"
    if asked.HasField("tls_context") or asked.filter_state:
        raise Undecided("a condition on the connection's TLS or filter state is not modelled")
    return _by_chance(asked)


def _by_chance(asked: RouteMatch) -> str:
    if not asked.HasField("runtime_fraction"):
        return ""
    fraction = asked.runtime_fraction.default_value
    whole = (100, 10_000, 1_000_000)[fraction.denominator]
    if fraction.numerator >= whole:
        return ""
    if not fraction.numerator:
        return "it takes 0 % of requests"
    raise Undecided(f"it takes {100 * fraction.numerator / whole:g} % of requests")


def path_matches(asked: RouteMatch, message: Message) -> bool:
    """Whether the path fulfils the match. Query and fragment do not count but for prefixes, as in Envoy."""
    kind = asked.WhichOneof("path_specifier")
    bare = _cased(asked, message.bare_path)
    match kind:
        case "prefix":
            return _cased(asked, message.path).startswith(_cased(asked, asked.prefix))
        case "path":
            return bare == _cased(asked, asked.path)
        case "safe_regex":
            return matches_whole(asked.safe_regex.regex, message.bare_path)
        case "path_separated_prefix":
            prefix = _cased(asked, asked.path_separated_prefix)
            return bare == prefix or bare.startswith(prefix + "/")
        case "connect_matcher":
            return message.method == "CONNECT"
        case _:
            raise Undecided(f"a path match of kind {kind} is not modelled")


def _cased(asked: RouteMatch, text: str) -> str:
    exact = not asked.HasField("case_sensitive") or asked.case_sensitive.value
    return text if exact else text.lower()


def _path_words(asked: RouteMatch) -> str:
    kind = asked.WhichOneof("path_specifier")
    return {
        "prefix": f"{asked.prefix}*",
        "path": asked.path,
        "safe_regex": f"~{asked.safe_regex.regex}",
        "path_separated_prefix": f"{asked.path_separated_prefix}[/*]",
        "connect_matcher": "CONNECT",
    }.get(str(kind), str(kind))


def match_words(asked: RouteMatch) -> str:
    """The conditions of a route in a few words."""
    parts = [_path_words(asked)]
    parts += [f"header {one.name}" for one in asked.headers]
    parts += [f"query {one.name}" for one in asked.query_parameters]
    if asked.dynamic_metadata:
        parts.append("claims")
    return ", ".join(parts)


class Share(NamedTuple):
    """A cluster to which requests may go, its weight of `total`, and its place among the weighted ones (-1: alone)."""

    cluster: str
    weight: int
    total: int
    at: int


def shares(action: RouteAction, message: Message, preferred: str = "") -> tuple[Share, ...]:
    """The clusters that may get the request, the one that gets most first; those of weight 0 get nothing.

    `preferred` comes before all, if it may get the request.
    """
    kind = action.WhichOneof("cluster_specifier")
    if kind == "cluster":
        return (Share(action.cluster, 1, 1, -1),)
    if kind == "cluster_header":
        return (Share(message.header(action.cluster_header.lower()) or "", 1, 1, -1),)
    if kind != "weighted_clusters":
        raise Undecided(f"a cluster specifier of kind {kind} is not modelled")
    found = [(at, one) for at, one in enumerate(action.weighted_clusters.clusters) if one.weight.value]
    total = sum(one.weight.value for _, one in found)
    made = [Share(one.name, one.weight.value, total, at) for at, one in found]
    return tuple(sorted(made, key=lambda one: (one.cluster != preferred, -one.weight, one.at)))


def rewritten(route: Route, message: Message) -> list[str]:
    """Rewrite path and authority as the route says; what was changed, in words."""
    said: list[str] = []
    action = route.route
    path = _rewritten_path(route.match, action, message)
    if path != message.path:
        said.append(f"path {message.path} becomes {path}")
        message.set("x-envoy-original-path", message.path)
        message.path = path
    host = action.host_rewrite_literal
    if action.host_rewrite_header:
        host = message.header(action.host_rewrite_header.lower()) or ""
    if action.HasField("host_rewrite_path_regex"):
        regex = action.host_rewrite_path_regex
        host = replaced(regex.pattern.regex, regex.substitution, message.bare_path)
    if host and host != message.authority:
        said.append(f"host {message.authority} becomes {host}")
        message.authority = host
    return said


def _rewritten_path(asked: RouteMatch, action: RouteAction, message: Message) -> str:
    bare, rest = message.bare_path, message.path[len(message.bare_path) :]
    if action.prefix_rewrite:
        kind = asked.WhichOneof("path_specifier")
        matched = len(getattr(asked, str(kind))) if kind in ("prefix", "path", "path_separated_prefix") else len(bare)
        return action.prefix_rewrite + bare[matched:] + rest
    if action.HasField("regex_rewrite"):
        rewrite = action.regex_rewrite
        return replaced(rewrite.pattern.regex, rewrite.substitution, bare) + rest
    if action.HasField("path_rewrite_policy"):
        raise Undecided(f"path rewrite {action.path_rewrite_policy.name} is not modelled")
    return message.path


def location(redirect: RedirectAction, asked: RouteMatch, message: Message) -> str:
    """Where a redirect leads. Without a new host the request's one stays, with its port where that is still right."""
    scheme = redirect.scheme_redirect or ("https" if redirect.https_redirect else message.scheme)
    host, _, port = message.authority.partition(":")
    default = {"http": "80", "https": "443"}.get(message.scheme)
    if redirect.host_redirect or (scheme != message.scheme and port == default):
        host, port = redirect.host_redirect or host, ""
    if redirect.port_redirect:
        port = str(redirect.port_redirect)
    path, mark, query = message.path.partition("?")
    if redirect.path_redirect:
        path = redirect.path_redirect
        mark, query = ("", "") if "?" in path else (mark, query)
    elif redirect.prefix_rewrite:
        kind = str(asked.WhichOneof("path_specifier"))
        matched = len(getattr(asked, kind)) if kind in ("prefix", "path", "path_separated_prefix") else len(path)
        path = redirect.prefix_rewrite + path[matched:]
    elif redirect.HasField("regex_rewrite"):
        path = replaced(redirect.regex_rewrite.pattern.regex, redirect.regex_rewrite.substitution, path)
    if redirect.strip_query:
        mark, query = "", ""
    return f"{scheme}://{host}{':' + port if port else ''}{path}{mark}{query}"


def hash_words(action: RouteAction) -> str:
    """What a consistent hash is computed from, in words; "" for nothing."""
    return ", ".join(_hash_sources(action))


def _hash_sources(action: RouteAction) -> Iterable[str]:
    for one in action.hash_policy:
        match one.WhichOneof("policy_specifier"):
            case "header":
                yield f"header {one.header.header_name}"
            case "cookie":
                yield f"cookie {one.cookie.name}"
            case "query_parameter":
                yield f"query parameter {one.query_parameter.name}"
            case "connection_properties":
                yield "the client's address"
            case other:
                yield str(other)
