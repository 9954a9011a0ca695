"""Checks of HTTP rules, and of what they share with the other rules."""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain

from fairlead.kinds.virtualservice import spec as api
from fairlead.kinds.virtualservice.headers import check_headers, check_match_header, is_authority, is_claim
from fairlead.kinds.virtualservice.resilience import check_cors, check_fault, check_percent, check_retries, check_time
from fairlead.model.diagnostic import Problem
from fairlead.model.findings import deprecated, doubtful, duplicate, forbidden, invalid, required
from fairlead.model.names import is_dns_label
from fairlead.model.path import FieldPath
from fairlead.model.regex import regex_fault
from fairlead.model.syntax import is_name_label, label_problems, port_problems, wrong_fqdn, wrong_wildcard_domain

_LARGE, _TOO_LARGE = 100 * 1024, 1024 * 1024


def check_http(path: FieldPath, route: api.HTTPRoute, *, delegate: bool, gateway_only: bool) -> Iterator[Problem]:
    """One HTTP rule. `delegate`: the object has no hosts. `gateway_only`: no sidecar uses it."""
    yield from _action(path, route, delegate=delegate)
    for at, match in enumerate(route.match):
        yield from _match(path.child("match", at), match, gateway_only=gateway_only)
    yield from check_headers(path / "headers", route.headers)
    yield from check_cors(path / "corsPolicy", route.cors_policy)
    yield from check_fault(path / "fault", route.fault)
    yield from _mirrors(path, route)
    yield from _redirect(path, route)
    yield from _direct(path / "directResponse", route.direct_response)
    yield from check_retries(path / "retries", route.retries)
    yield from _rewrite(path, route)
    for at, one in enumerate(route.route):
        where = path.child("route", at)
        yield from check_destination(where / "destination", one.destination)
        yield from check_headers(where / "headers", one.headers)
    yield from check_weights(path / "route", [one.weight for one in route.route])
    yield from check_time(path / "timeout", route.timeout)


def _action(path: FieldPath, route: api.HTTPRoute, *, delegate: bool) -> Iterator[Problem]:
    if route.delegate is not None:
        where = path / "delegate"
        if delegate:
            yield forbidden(where, "a delegate HTTP route cannot contain delegate", "Delegate from the root only.")
            return
        for name, given in (
            ("redirect", route.redirect),
            ("route", route.route),
            ("directResponse", route.direct_response),
        ):
            if given:
                yield forbidden(path / name, f"a route with delegate must not specify {name}", "Leave one of them.")
        if not route.delegate.name:
            yield required(where / "name", "the delegate's name is missing")
        return
    answers = (("redirect", route.redirect), ("directResponse", route.direct_response))
    for name, answer in answers:
        if answer is None:
            continue
        others = (("route", route.route), ("fault", route.fault), ("rewrite", route.rewrite))
        for other, given in others:
            if given:
                yield forbidden(path / other, f"an HTTP route cannot contain both {other} and {name}", "Leave one.")
    if route.redirect is not None and route.direct_response is not None:
        yield forbidden(path / "directResponse", "an HTTP route cannot contain both directResponse and redirect")
    if not route.route and route.redirect is None and route.direct_response is None:
        message = "HTTP route, redirect or directResponse is required"
        yield required(path, message, "Say where the requests go: give route.")


def _match(path: FieldPath, match: api.HTTPMatchRequest, *, gateway_only: bool) -> Iterator[Problem]:
    for name, matches in (("headers", match.headers), ("withoutHeaders", match.without_headers)):
        for header, how in matches.items():
            where = path.child(name, header)
            yield from check_match_header(where, header)
            if is_claim(header) and not gateway_only:
                yield invalid(where, f"routing by JWT claim ({header}) is only supported for gateways")
            if name == "headers" or how.regex != "*":
                yield from _string(where, how, name)
    yield from _string(path / "uri", match.uri, "uri", empty_prefix=True)
    for name, how in (("scheme", match.scheme), ("method", match.method), ("authority", match.authority)):
        yield from _string(path / name, how, name)
    for name, how in match.query_params.items():
        yield from _string(path.child("queryParams", name), how, "queryParams")
    if match.port:
        yield from port_problems(match.port, path / "port")
    yield from label_problems(match.source_labels, path / "sourceLabels")
    yield from check_gateways(path / "gateways", match.gateways)
    if match.source_namespace and not is_dns_label(match.source_namespace):
        yield invalid(path / "sourceNamespace", f"{match.source_namespace!r} is not a namespace")


def _string(
    path: FieldPath, match: api.StringMatch | None, where: str, *, empty_prefix: bool = False
) -> Iterator[Problem]:
    if match is None:
        return
    if sum(1 for one in (match.exact, match.prefix, match.regex) if one is not None) > 1:
        yield forbidden(path, "only one of exact, prefix and regex can be set", "Leave one.")
    if match.prefix == "" and not empty_prefix:
        yield invalid(path / "prefix", f"{where}: the prefix should not be empty", "Use {} to ask for presence.")
    if match.regex is not None and (fault := regex_fault(match.regex)):
        yield invalid(path / "regex", f"{where}: {fault}", "Regular expressions are RE2's.")


def check_gateways(path: FieldPath, names: Iterable[str]) -> Iterator[Problem]:
    """Names of gateways."""
    for at, name in enumerate(names):
        where = path / at
        namespace, slash, short = name.partition("/")
        if not slash:
            if fault := wrong_fqdn(name):
                yield invalid(where, f"invalid gateway name {name!r}: {fault}", "Write namespace/name.")
            elif "." in name:
                short, namespace = name.split(".")[:2]
                remedy = f"Write {namespace}/{short}."
                yield doubtful(where, f"{name!r} is the legacy format of gateway names", remedy)
        elif not is_name_label(namespace) and namespace != ".":
            yield invalid(where, f"invalid value for namespace: {namespace!r}", "Write namespace/name.")
        elif not is_name_label(short):
            yield invalid(where, f"invalid value for gateway name: {short!r}", "Write namespace/name.")


def check_destination(path: FieldPath, to: api.Destination | None) -> Iterator[Problem]:
    """A destination."""
    if to is None:
        return
    if to.host == "*":
        yield invalid(path / "host", "invalid destination host *", "Name one host.")
    elif fault := wrong_wildcard_domain(to.host):
        yield invalid(path / "host", fault)
    if to.subset and not is_name_label(to.subset):
        yield invalid(path / "subset", f"subset name is invalid: {to.subset}")
    if to.port is not None:
        yield from port_problems(to.port.number, path.child("port", "number"))


def check_weights(path: FieldPath, weights: list[int]) -> Iterator[Problem]:
    """The weights of one rule's destinations."""
    for at, weight in enumerate(weights):
        if weight < 0:
            yield invalid(path.child(at, "weight"), f"weight {weight} < 0")
    if len(weights) > 1 and sum(weights) == 0:
        yield invalid(path, "total destination weight = 0", "Give the destinations weights.")


def _mirrors(path: FieldPath, route: api.HTTPRoute) -> Iterator[Problem]:
    if route.mirror is not None and route.mirrors:
        yield forbidden(path / "mirror", "an HTTP route cannot contain both mirror and mirrors", "Use mirrors.")
    old = (("mirrorPercent", route.mirror_percent), ("mirror_percent", route.mirror_percent_alias))
    for name, percent in old:
        if percent is not None:
            if percent > 100:
                yield invalid(path / name, f"{percent} is above 100")
            yield deprecated(path / name, "mirrorPercentage")
    if all(percent is not None for _, percent in old):
        yield duplicate(path / "mirror_percent", "mirrorPercent and mirror_percent are one field", "Leave one.")
    yield from check_percent(path / "mirrorPercentage", route.mirror_percentage, smallest=0)
    yield from check_destination(path / "mirror", route.mirror)
    for at, one in enumerate(route.mirrors):
        where = path.child("mirrors", at)
        if one.destination is None:
            yield required(where / "destination", "destination is required for mirrors")
        yield from check_destination(where / "destination", one.destination)
        yield from check_percent(where / "percentage", one.percentage, smallest=0)


def _redirect(path: FieldPath, route: api.HTTPRoute) -> Iterator[Problem]:
    redirect, where = route.redirect, path / "redirect"
    if redirect is None:
        return
    to = (redirect.uri, redirect.prefix_rewrite, redirect.authority, redirect.scheme)
    if not any(to) and redirect.port is None and redirect.derive_port is None:
        yield required(where, "redirect must specify URI, authority, scheme, or port")
    if redirect.redirect_code and not 300 <= redirect.redirect_code <= 399:
        message = f"{redirect.redirect_code} is not a valid redirect code, must be 3xx"
        yield invalid(where / "redirectCode", message, "Use 301, 302, 303, 307 or 308.")
    if redirect.scheme not in ("", "http", "https"):
        yield invalid(where / "scheme", 'invalid redirect scheme, must be "http" or "https"')
    if redirect.port:
        yield from port_problems(redirect.port, where / "port")
    if redirect.port is not None and redirect.derive_port is not None:
        yield forbidden(where / "derivePort", "only one of port and derivePort can be set")
    if redirect.prefix_rewrite:
        if redirect.uri:
            yield forbidden(where / "prefixRewrite", "only one of uri and prefixRewrite can be set")
        if not route.match or any(one.uri is None or one.uri.prefix is None for one in route.match):
            message = "prefixRewrite needs every match to have a uri prefix"
            yield invalid(where / "prefixRewrite", message, "Match uri by prefix, or use uri.")


def _direct(path: FieldPath, response: api.HTTPDirectResponse | None) -> Iterator[Problem]:
    if response is None:
        return
    if not 200 <= response.status <= 600:
        yield invalid(path / "status", f"HTTP status {response.status} is not in range 200-599")
    if response.body is None:
        return
    where, size = path / "body", len((response.body.string or "").encode())
    if response.body.string is not None and response.body.bytes is not None:
        yield forbidden(where, "only one of string and bytes can be set")
    if response.body.bytes is not None:
        try:
            size = len(b64decode(response.body.bytes, validate=True))
        except (binascii.Error, ValueError):
            yield invalid(where / "bytes", "is not base64")
    if size > _TOO_LARGE:
        yield invalid(where, "a direct response must be smaller than 1 MiB")
    elif size > _LARGE:
        yield doubtful(where, "large direct responses may impact control plane performance")


def _rewrite(path: FieldPath, route: api.HTTPRoute) -> Iterator[Problem]:
    yield from _one_authority(path, route)
    rewrite, where = route.rewrite, path / "rewrite"
    if rewrite is None:
        return
    pattern = rewrite.uri_regex_rewrite
    if rewrite.uri and pattern is not None:
        yield forbidden(where, "rewrite may only contain one of uri and uriRegexRewrite", "Leave one.")
    if not rewrite.uri and pattern is None and not rewrite.authority:
        yield required(where, "rewrite must specify at least one of uri, uriRegexRewrite, or authority")
    if pattern is None:
        return
    for name, value in (("match", pattern.match), ("rewrite", pattern.rewrite)):
        if not value:
            yield required(where.child("uriRegexRewrite", name), "uriRegexRewrite requires both rewrite and match")
    if pattern.match and (fault := regex_fault(pattern.match)):
        yield invalid(where.child("uriRegexRewrite", "match"), fault, "Regular expressions are RE2's.")


def _one_authority(path: FieldPath, route: api.HTTPRoute) -> Iterator[Problem]:
    current = route.rewrite.authority if route.rewrite else ""
    request = route.headers.request if route.headers else api.HeaderOperations()
    places: list[tuple[str, Mapping[str, str]]] = [("set", request.set), ("add", request.add)]
    for name, key, value in chain.from_iterable(((place, *item) for item in given.items()) for place, given in places):
        if not is_authority(key):
            continue
        if current:
            message = f"authority header cannot be set multiple times: have {current!r}, attempting to set {value!r}"
            yield forbidden(path.child("headers", "request", name, key), message, "Set it in one place.")
        current = value
