"""HTTPRoute to `RouteSet`s: one for each service that is a parent, and each port of it that parents name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fairlead.inc import Reader
from fairlead.ir import route as ir
from fairlead.ir.kind import Emission
from fairlead.ir.traffic import RetryPolicy
from fairlead.ir.visibility import DOMAIN_SUFFIX
from fairlead.kinds.httproute import spec as api
from fairlead.model.diagnostic import Origin
from fairlead.model.duration import parse_duration
from fairlead.model.object import Object
from fairlead.model.path import SPEC, FieldPath
from fairlead.model.ref import NamespacedName, Ref

HOSTNAME = ("networking.istio.io", "Hostname")
_ATTEMPTS = 2
_RETRIED = "connect-failure,refused-stream,unavailable,cancelled"


def lower(_: Reader, obj: Object[api.HTTPRouteSpec]) -> Iterable[Emission]:
    """The rules for the services that are parents. Parents of other kinds are left out.

    Each parent has a set of its own: a Sidecar that shows one of them shows no rules for the others.
    """
    parents: dict[tuple[int, str], str] = {}
    for parent in obj.spec.parent_refs:
        if (parent.group, parent.kind) in (("", "Service"), ("core", "Service")):
            namespace = parent.namespace or obj.ref.namespace
            parents[parent.port or 0, f"{namespace}~{parent.name}"] = f"{parent.name}.{namespace}.svc.{DOMAIN_SUFFIX}"
    for (port, parent), host in sorted(parents.items()):
        # No object can have this name, so the rules never take the place of a VirtualService's.
        key = NamespacedName(obj.ref.namespace, f"{obj.ref.name}~httproute~{port}~{parent}")
        routes = ir.RouteSet(
            key=key,
            origin=Origin(obj.ref),
            hosts=(host,),
            http=tuple(_rules(obj, port)),
            created=obj.meta.creation_timestamp or "",
            gateway_api=True,
        )
        yield ir.WRITTEN_ROUTES, key, routes


def backend_host(to: api.BackendReference, namespace: str) -> str:
    """The full name of a backend, "" for kinds that are none."""
    if (to.group, to.kind) == HOSTNAME:
        return to.name
    if (to.group, to.kind) in (("", "Service"), ("core", "Service")):
        return f"{to.name}.{to.namespace or namespace}.svc.{DOMAIN_SUFFIX}"
    return ""


def _rules(obj: Object[api.HTTPRouteSpec], port: int) -> Iterator[ir.HttpRule]:
    for at, rule in enumerate(obj.spec.rules or (api.RouteRule(),)):
        yield _rule(obj.ref, SPEC.child("rules", at), rule, port)


def _rule(ref: Ref, path: FieldPath, rule: api.RouteRule, port: int) -> ir.HttpRule:
    filters = {one.type: one for one in rule.filters}
    refused = "ExtensionRef" in filters or "ExternalAuth" in filters
    redirect = None if refused else _redirect(filters.get("RequestRedirect"))
    routes = () if refused or redirect is not None else tuple(_backends(ref, path, rule))
    return ir.HttpRule(
        origin=Origin(ref, path),
        name=rule.name,
        matches=tuple(_match(one, port) for one in rule.matches or (api.RouteMatch(),)),
        routes=routes,
        redirect=redirect,
        # Without a backend, or with a filter that nobody here knows, the Gateway API asks for an error.
        direct=ir.DirectResponse(500) if not routes and redirect is None else None,
        rewrite=_rewrite(filters.get("URLRewrite")),
        headers=_headers(rule.filters),
        timeout=_seconds(rule.timeouts.request) if rule.timeouts else None,
        retry=_retry(rule),
        mirrors=tuple(_mirrors(ref, rule.filters)),
        cors=_cors(filters["CORS"].cors) if "CORS" in filters else None,
    )


def _match(match: api.RouteMatch, port: int) -> ir.HttpMatch:
    kinds = {"Exact": "exact", "PathPrefix": "prefix", "RegularExpression": "regex"}
    uri = ir.StringMatch(kinds[match.path.type], match.path.value)  # type: ignore[arg-type]
    everything = match.path == api.PathMatch()
    return ir.HttpMatch(
        uri=None if everything else uri,
        method=ir.StringMatch("exact", match.method) if match.method is not None else None,
        headers=_values(match.headers, lower=True),
        query=_values(match.query_params, lower=False),
        port=port,
    )


def _values(matches: Iterable[api.ValueMatch], *, lower: bool) -> tuple[tuple[str, ir.StringMatch], ...]:
    """Of several matches for one name only the first counts (Gateway API)."""
    found: dict[str, ir.StringMatch] = {}
    for one in matches:
        name = one.name.lower() if lower else one.name
        found.setdefault(name, ir.StringMatch("regex" if one.type == "RegularExpression" else "exact", one.value))
    return tuple(sorted(found.items(), key=lambda pair: pair[0]))


def _backends(ref: Ref, path: FieldPath, rule: api.RouteRule) -> Iterator[ir.WeightedDestination]:
    for at, one in enumerate(rule.backend_refs):
        where = path.child("backendRefs", at)
        # A backend that cannot be is one without a name: what it would have got is answered with an error.
        host = backend_host(one, ref.namespace) if one.port or (one.group, one.kind) == HOSTNAME else ""
        to = ir.Destination(host or f"invalid.{one.name}", port=one.port or 0)
        yield ir.WeightedDestination(to, one.weight, _headers(one.filters), Origin(ref, where))


def _mirrors(ref: Ref, filters: Iterable[api.RouteFilter]) -> Iterator[ir.Mirror]:
    for one in filters:
        if one.request_mirror is None:
            continue
        to, share = one.request_mirror.backend_ref, one.request_mirror.fraction
        percent = 100.0 if one.request_mirror.percent is None else float(one.request_mirror.percent)
        if share is not None:
            percent = min(100.0, 100.0 * share.numerator / share.denominator)
        host = backend_host(to, ref.namespace)
        if host and percent > 0:
            yield ir.Mirror(ir.Destination(host, port=to.port or 0), percent)


def _headers(filters: Iterable[api.RouteFilter]) -> ir.Headers:
    request = response = ir.HeaderOperations()
    for one in filters:
        if one.request_header_modifier is not None:
            request = _operations(one.request_header_modifier)
        if one.response_header_modifier is not None:
            response = _operations(one.response_header_modifier)
    return ir.Headers(request, response)


def _operations(said: api.HeaderFilter) -> ir.HeaderOperations:
    return ir.HeaderOperations(
        set=tuple(sorted((one.name, one.value) for one in said.set)),
        add=tuple(sorted((one.name, one.value) for one in said.add)),
        remove=said.remove,
    )


def _redirect(said: api.RouteFilter | None) -> ir.Redirect | None:
    if said is None or said.request_redirect is None:
        return None
    to = said.request_redirect
    path = to.path
    return ir.Redirect(
        uri=(path.replace_full_path or "/") if path is not None and path.type == "ReplaceFullPath" else "",
        prefix_rewrite=(path.replace_prefix_match or "/") if path and path.type == "ReplacePrefixMatch" else "",
        authority=to.hostname,
        scheme=to.scheme or "",
        port=to.port or 0,
        # Without scheme and port the port of the request stays; with a scheme it is the scheme's own.
        derive_port="" if to.port else "FROM_PROTOCOL_DEFAULT" if to.scheme else "FROM_REQUEST_PORT",
        code=to.status_code,
    )


def _rewrite(said: api.RouteFilter | None) -> ir.Rewrite | None:
    if said is None or said.url_rewrite is None:
        return None
    to = said.url_rewrite
    if to.path is not None and to.path.type == "ReplaceFullPath":
        full = to.path.replace_full_path or "/"
        return ir.Rewrite(authority=to.hostname, regex="/.*", substitution=full.replace("\\", "\\\\"))
    return ir.Rewrite(uri=(to.path.replace_prefix_match or "/") if to.path else "", authority=to.hostname)


def _retry(rule: api.RouteRule) -> RetryPolicy | None:
    """Retries; a time for each attempt holds with the default policy, too."""
    each = _seconds(rule.timeouts.backend_request) if rule.timeouts else None
    if rule.retry is None:
        return RetryPolicy(attempts=_ATTEMPTS, per_try_timeout=each) if each else None
    codes = [str(one) for one in rule.retry.codes]
    return RetryPolicy(
        attempts=_ATTEMPTS if rule.retry.attempts is None else rule.retry.attempts,
        retry_on=",".join((_RETRIED, *codes)) if codes else "",
        per_try_timeout=each or None,
        backoff=_seconds(rule.retry.backoff),
    )


def _cors(said: api.CorsFilter | None) -> ir.Cors | None:
    if said is None:
        return None
    return ir.Cors(
        origins=tuple(_origin(one) for one in said.allow_origins),
        methods=said.allow_methods,
        headers=said.allow_headers,
        expose=said.expose_headers,
        max_age=float(said.max_age),
        credentials=said.allow_credentials,
    )


def _origin(text: str) -> ir.StringMatch:
    """An origin; a wildcard stands for one or more labels of the host."""
    if text == "*":
        return ir.StringMatch("regex", ".*")
    if "*" not in text:
        return ir.StringMatch("exact", text)
    return ir.StringMatch("regex", ".*".join(part.replace(".", "\\.") for part in text.split("*")))


def _seconds(text: str | None) -> float | None:
    return None if text is None else parse_duration(text)
