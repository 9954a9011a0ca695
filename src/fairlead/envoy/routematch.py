"""Which requests a route takes: conditions of a rule as an Envoy route match (Istio `TranslateRouteMatch`)."""

from __future__ import annotations

import re

from envoy.config.route.v3 import route_components_pb2 as routes
from envoy.type.matcher.v3 import metadata_pb2, value_pb2
from google.protobuf.wrappers_pb2 import BoolValue

from fairlead.envoy.routevalues import is_present, regex, string_matcher
from fairlead.ir.route import HttpMatch, StringMatch

_SEGMENTS = re.compile(r"[^?#]+[^?#/]")
"""What Envoy takes as a prefix of whole segments (RouteMatch.path_separated_prefix)."""
_CLAIMS = "@request.auth.claims"
_JWT_FILTER = "envoy.filters.http.jwt_authn"
_JWT_PAYLOAD = "payload"


def route_match(match: HttpMatch | None, *, whole_segments: bool = False) -> routes.RouteMatch:
    """The match for one set of conditions; None matches every request.

    In the Gateway API a prefix covers whole path segments only; in Istio's API it is a prefix of the string.
    """
    out = routes.RouteMatch(prefix="/")
    if match is None:
        return out
    _path(out, match.uri, whole_segments=whole_segments)
    out.case_sensitive.CopyFrom(BoolValue(value=not match.ignore_uri_case))
    for name, value in sorted(match.headers, key=_name):
        claims = claim_path(name)
        if claims:
            out.dynamic_metadata.append(_claim(claims, value))
        else:
            out.headers.append(_header(name, value))
    for name, value in sorted(match.without_headers, key=_name):
        claims = claim_path(name)
        if claims:
            out.dynamic_metadata.append(_claim(claims, value, invert=True))
        else:
            out.headers.append(_without(name, value))
    for name, pseudo in ((":method", match.method), (":authority", match.authority), (":scheme", match.scheme)):
        if pseudo is not None:
            out.headers.append(_header(name, pseudo))
    for name, value in sorted(match.query, key=_name):
        made = out.query_parameters.add(name=name)
        if is_present(value):
            made.present_match = True
        else:
            made.string_match.CopyFrom(string_matcher(value))
    return out


def is_catch_all(match: routes.RouteMatch) -> bool:
    """Whether every request matches, so that no later route can be reached."""
    path = match.WhichOneof("path_specifier")
    everything = (path == "prefix" and match.prefix == "/") or (path == "safe_regex" and match.safe_regex.regex == ".*")
    return everything and not (match.headers or match.query_parameters or match.dynamic_metadata)


def path_pattern(match: routes.RouteMatch) -> str:
    """The path as an operation name shows it: `/reviews*` for a prefix."""
    path = match.WhichOneof("path_specifier")
    if path == "prefix":
        return match.prefix + "*"
    if path == "path":
        return match.path
    return match.safe_regex.regex if path == "safe_regex" else "/*"


def claim_path(header: str) -> tuple[str, ...]:
    """The claim that a pseudo header `@request.auth.claims.a.b` or `@request.auth.claims[a][b]` names, else ()."""
    if not header.lower().startswith(_CLAIMS):
        return ()
    rest = header[len(_CLAIMS) :]
    if rest.startswith(".") and len(rest) > 1:
        return tuple(rest[1:].split("."))
    if rest.startswith("[") and rest.endswith("]") and len(rest) > 2:
        return tuple(rest[1:-1].split("]["))
    return ()


def _name(pair: tuple[str, StringMatch]) -> str:
    return pair[0]


def _path(out: routes.RouteMatch, uri: StringMatch | None, *, whole_segments: bool) -> None:
    if uri is None or uri.kind == "present":
        return
    if uri.kind == "exact":
        out.path = uri.value
    elif uri.kind == "regex":
        out.safe_regex.CopyFrom(regex(uri.value))
    elif whole_segments and _SEGMENTS.fullmatch(uri.value.rstrip("/")):
        out.path_separated_prefix = uri.value.rstrip("/")
    else:
        out.prefix = uri.value


def _header(name: str, value: StringMatch) -> routes.HeaderMatcher:
    if is_present(value):
        return routes.HeaderMatcher(name=name, present_match=True)
    return routes.HeaderMatcher(name=name, string_match=string_matcher(value))


def _without(name: str, value: StringMatch) -> routes.HeaderMatcher:
    out = _header(name, value)
    out.invert_match = True
    # A request that lacks the header satisfies "not this value"; Envoy refuses the setting on a presence match.
    out.treat_missing_header_as_empty = not is_present(value)
    return out


def _claim(claims: tuple[str, ...], value: StringMatch, *, invert: bool = False) -> metadata_pb2.MetadataMatcher:
    """A JWT claim, be it a string or a list that holds the string."""
    one = value_pb2.ValueMatcher(string_match=string_matcher(value))
    among = value_pb2.ValueMatcher(list_match=value_pb2.ListMatcher(one_of=one))
    return metadata_pb2.MetadataMatcher(
        filter=_JWT_FILTER,
        path=[metadata_pb2.MetadataMatcher.PathSegment(key=key) for key in (_JWT_PAYLOAD, *claims)],
        value=value_pb2.ValueMatcher(or_match=value_pb2.OrMatcher(value_matchers=[among, one])),
        invert=invert,
    )
