"""VirtualService to `RouteSet`."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterable, Mapping

from fairlead.inc import Reader
from fairlead.ir import route as ir
from fairlead.ir.filters import Pairs
from fairlead.ir.kind import Emission
from fairlead.ir.traffic import RetryPolicy
from fairlead.ir.visibility import DOMAIN_SUFFIX, full_name
from fairlead.kinds.virtualservice import spec as api
from fairlead.model.diagnostic import Origin
from fairlead.model.duration import parse_duration
from fairlead.model.object import Object
from fairlead.model.path import SPEC, FieldPath
from fairlead.model.ref import NamespacedName, Ref


def lower(_: Reader, obj: Object[api.VirtualServiceSpec]) -> Iterable[Emission]:
    """One `RouteSet`; one without hosts for a delegate, which only another one may refer to."""
    spec = obj.spec
    key = NamespacedName(obj.ref.namespace, obj.ref.name)
    scope = _Scope(obj.ref)
    routes = ir.RouteSet(
        key=key,
        origin=Origin(obj.ref),
        hosts=tuple(scope.host(host) for host in spec.hosts),
        gateways=scope.gateways(spec.gateways) or (ir.MESH,),
        http=tuple(scope.http(route, SPEC.child("http", at)) for at, route in enumerate(spec.http)),
        tls=tuple(scope.tls(route, SPEC.child("tls", at)) for at, route in enumerate(spec.tls)),
        tcp=tuple(scope.tcp(route, SPEC.child("tcp", at)) for at, route in enumerate(spec.tcp)),
        export_to=spec.export_to,
        created=obj.meta.creation_timestamp or "",
    )
    yield ir.WRITTEN_ROUTES, key, routes


def gateway_name(name: str, namespace: str) -> str:
    """`namespace/name` of a gateway as objects of `namespace` name it; `mesh` stays.

    Istio's `resolveGatewayName`: `name`, `./name`, `namespace/name`, or the old `name.namespace.svc.cluster.local`.
    """
    if name == ir.MESH:
        return name
    where, slash, short = name.partition("/")
    if slash:
        return f"{namespace if where == '.' else where}/{short}"
    short, dot, rest = name.partition(".")
    return f"{rest.partition('.')[0]}/{short}" if dot else f"{namespace}/{name}"


class _Scope:
    """The object whose names are resolved and whose fields are the origins of rules."""

    def __init__(self, ref: Ref) -> None:
        self._ref = ref

    def host(self, host: str) -> str:
        return full_name(host, self._ref.namespace, DOMAIN_SUFFIX)

    def gateways(self, names: Iterable[str]) -> tuple[str, ...]:
        return tuple(gateway_name(name, self._ref.namespace) for name in names)

    def http(self, route: api.HTTPRoute, path: FieldPath) -> ir.HttpRule:
        return ir.HttpRule(
            origin=Origin(self._ref, path),
            name=route.name,
            matches=tuple(self._match(match) for match in route.match),
            routes=tuple(
                ir.WeightedDestination(
                    self._destination(one.destination),
                    one.weight,
                    _headers(one.headers),
                    Origin(self._ref, path.child("route", at)),
                )
                for at, one in enumerate(route.route)
            ),
            redirect=_redirect(route.redirect),
            direct=_direct(route.direct_response),
            rewrite=_rewrite(route.rewrite),
            headers=_headers(route.headers),
            timeout=seconds(route.timeout),
            retry=_retry(route.retries),
            fault=_fault(route.fault),
            mirrors=self._mirrors(route),
            cors=_cors(route.cors_policy),
            delegate=self._delegate(route.delegate),
        )

    def _delegate(self, to: api.Delegate | None) -> NamespacedName | None:
        return None if to is None else NamespacedName(to.namespace or self._ref.namespace, to.name)

    def tls(self, route: api.TLSRoute, path: FieldPath) -> ir.L4Rule:
        matches = tuple(
            ir.L4Match(
                sni_hosts=match.sni_hosts,
                destination_subnets=match.destination_subnets,
                port=match.port,
                source_labels=_pairs(match.source_labels),
                source_namespace=match.source_namespace,
                gateways=self.gateways(match.gateways),
            )
            for match in route.match
        )
        return ir.L4Rule(Origin(self._ref, path), matches, self._l4_routes(route.route, path))

    def tcp(self, route: api.TCPRoute, path: FieldPath) -> ir.L4Rule:
        matches = tuple(
            ir.L4Match(
                destination_subnets=match.destination_subnets,
                port=match.port,
                source_labels=_pairs(match.source_labels),
                source_namespace=match.source_namespace,
                gateways=self.gateways(match.gateways),
            )
            for match in route.match
        )
        return ir.L4Rule(Origin(self._ref, path), matches, self._l4_routes(route.route, path))

    def _l4_routes(self, routes: Iterable[api.RouteDestination], path: FieldPath) -> tuple[ir.WeightedDestination, ...]:
        return tuple(
            ir.WeightedDestination(
                self._destination(one.destination), one.weight, origin=Origin(self._ref, path.child("route", at))
            )
            for at, one in enumerate(routes)
        )

    def _match(self, match: api.HTTPMatchRequest) -> ir.HttpMatch:
        return ir.HttpMatch(
            name=match.name,
            uri=_string(match.uri),
            ignore_uri_case=match.ignore_uri_case,
            scheme=_string(match.scheme),
            method=_string(match.method),
            authority=_string(match.authority),
            headers=_strings(match.headers),
            without_headers=_strings(match.without_headers),
            query=_strings(match.query_params),
            port=match.port,
            source_labels=_pairs(match.source_labels),
            source_namespace=match.source_namespace,
            gateways=self.gateways(match.gateways),
            stat_prefix=match.stat_prefix,
        )

    def _destination(self, to: api.Destination) -> ir.Destination:
        return ir.Destination(self.host(to.host), to.subset, to.port.number if to.port else 0)

    def _mirrors(self, route: api.HTTPRoute) -> tuple[ir.Mirror, ...]:
        if route.mirror is not None:
            if route.mirror_percentage is not None:
                percent = route.mirror_percentage.value
            else:
                old = (route.mirror_percent, route.mirror_percent_alias)
                percent = float(next((one for one in old if one is not None), 100))
            return (ir.Mirror(self._destination(route.mirror), percent),) if percent > 0 else ()
        return tuple(
            ir.Mirror(self._destination(one.destination), 100.0 if one.percentage is None else one.percentage.value)
            for one in route.mirrors
            if one.destination is not None and (one.percentage is None or one.percentage.value > 0)
        )


def seconds(text: str | None) -> float | None:
    """A checked duration in seconds; None stays."""
    return None if text is None else parse_duration(text)


def _pairs(values: Mapping[str, str]) -> Pairs:
    return tuple(sorted(values.items()))


def _string(match: api.StringMatch | None) -> ir.StringMatch | None:
    if match is None:
        return None
    if match.exact is not None:
        return ir.StringMatch("exact", match.exact)
    if match.prefix is not None:
        return ir.StringMatch("prefix", match.prefix)
    return ir.StringMatch("regex", match.regex) if match.regex is not None else None


def _strings(matches: Mapping[str, api.StringMatch]) -> tuple[tuple[str, ir.StringMatch], ...]:
    """Header and parameter matches. No comparison at all, and the regex `*`, ask only for presence, as in Istio."""
    return tuple((name, _present(match)) for name, match in sorted(matches.items()))


def _present(match: api.StringMatch) -> ir.StringMatch:
    found = _string(match)
    if found is None or (found.kind == "regex" and found.value == "*"):
        return ir.StringMatch("present")
    return found


def _headers(headers: api.Headers | None) -> ir.Headers:
    if headers is None:
        return ir.Headers()
    return ir.Headers(_operations(headers.request), _operations(headers.response))


def _operations(operations: api.HeaderOperations) -> ir.HeaderOperations:
    return ir.HeaderOperations(_pairs(operations.set), _pairs(operations.add), operations.remove)


def _redirect(redirect: api.HTTPRedirect | None) -> ir.Redirect | None:
    if redirect is None:
        return None
    return ir.Redirect(
        uri=redirect.uri,
        prefix_rewrite=redirect.prefix_rewrite,
        authority=redirect.authority,
        scheme=redirect.scheme,
        port=redirect.port or 0,
        derive_port=redirect.derive_port or "",
        code=redirect.redirect_code or 301,
    )


def _direct(response: api.HTTPDirectResponse | None) -> ir.DirectResponse | None:
    if response is None:
        return None
    body = b""
    if response.body is not None:
        text, coded = response.body.string, response.body.bytes
        body = text.encode() if text is not None else b64decode(coded or "")
    return ir.DirectResponse(response.status, body)


def _rewrite(rewrite: api.HTTPRewrite | None) -> ir.Rewrite | None:
    if rewrite is None:
        return None
    pattern = rewrite.uri_regex_rewrite or api.RegexRewrite()
    return ir.Rewrite(rewrite.uri, rewrite.authority, pattern.match, pattern.rewrite)


def _retry(retries: api.HTTPRetry | None) -> RetryPolicy | None:
    if retries is None:
        return None
    return RetryPolicy(
        attempts=retries.attempts,
        retry_on=retries.retry_on,
        per_try_timeout=seconds(retries.per_try_timeout),
        backoff=seconds(retries.backoff),
        retry_remote_localities=bool(retries.retry_remote_localities),
        ignore_previous_hosts=retries.retry_ignore_previous_hosts is not False,
    )


def _fault(fault: api.HTTPFaultInjection | None) -> ir.Fault | None:
    """Faults. A fault without a percentage hits no request: Istio's rule."""
    if fault is None:
        return None
    delay, abort = fault.delay or api.FaultDelay(), fault.abort or api.FaultAbort()
    return ir.Fault(
        delay=seconds(delay.fixed_delay) or 0,
        delay_percent=delay.percentage.value if delay.percentage is not None else float(delay.percent),
        abort_status=abort.http_status or 0,
        abort_grpc=abort.grpc_status or "",
        abort_percent=abort.percentage.value if abort.percentage is not None else 0,
    )


def _cors(policy: api.CorsPolicy | None) -> ir.Cors | None:
    if policy is None:
        return None
    origins = [found for one in policy.allow_origins if (found := _string(one)) is not None]
    if not policy.allow_origins:
        origins = [ir.StringMatch("exact", one) for one in policy.allow_origin]
    forward = {"UNSPECIFIED": None, "FORWARD": True, "IGNORE": False}
    return ir.Cors(
        origins=tuple(origins),
        methods=policy.allow_methods,
        headers=policy.allow_headers,
        expose=policy.expose_headers,
        max_age=seconds(policy.max_age),
        credentials=policy.allow_credentials,
        forward_unmatched_preflights=forward[policy.unmatched_preflights],
    )
