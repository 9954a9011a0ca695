"""The spec of a VirtualService: every field of Istio's `networking.istio.io/v1` API."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from fairlead.model.object import Spec

Uint32 = Annotated[int, Meta(ge=0, le=4294967295)]
Int32 = Annotated[int, Meta(ge=-2147483648, le=2147483647)]


class StringMatch(Spec, frozen=True):
    """How a string is compared: exactly one of the three. None of them: the value only has to be present."""

    exact: Annotated[str | None, Meta(description="The whole value, case-sensitive.")] = None
    prefix: Annotated[str | None, Meta(description="How the value begins.")] = None
    regex: Annotated[str | None, Meta(description="RE2 expression that the whole value matches.")] = None


class HTTPMatchRequest(Spec, frozen=True):
    """Conditions on a request; all that are given must hold."""

    name: Annotated[str, Meta(description="Shown in route names, access logs and metrics.")] = ""
    uri: Annotated[StringMatch | None, Meta(description="The path (without the query).")] = None
    scheme: Annotated[StringMatch | None, Meta(description="http or https.")] = None
    method: Annotated[StringMatch | None, Meta(description="The HTTP method.")] = None
    authority: Annotated[StringMatch | None, Meta(description="The Host or :authority header.")] = None
    headers: Annotated[dict[str, StringMatch], Meta(description="Headers by lower-case name.")] = {}
    port: Annotated[Uint32, Meta(description="The port that the client called, or the gateway's server port.")] = 0
    source_labels: Annotated[dict[str, str], Meta(description="Labels of the calling workload. Not for gateways.")] = {}
    gateways: Annotated[
        tuple[str, ...], Meta(description="Proxies this match is for; replaces the top-level list.")
    ] = ()
    query_params: Annotated[dict[str, StringMatch], Meta(description="Query parameters by name.")] = {}
    ignore_uri_case: Annotated[bool, Meta(description="Compare exact and prefix paths without case.")] = False
    without_headers: Annotated[
        dict[str, StringMatch], Meta(description="Headers that must be absent or must not match.")
    ] = {}
    source_namespace: Annotated[str, Meta(description="Namespace of the calling workload.")] = ""
    stat_prefix: Annotated[str, Meta(description="Statistics of the matched route get this prefix.")] = ""


class PortSelector(Spec, frozen=True):
    """A port by number."""

    number: Annotated[Uint32, Meta(description="The port's number.")] = 0


class Destination(Spec, frozen=True):
    """Where requests or connections go."""

    host: Annotated[str, Meta(description="A service's name; without dots it is taken from the rule's own namespace.")]
    subset: Annotated[str, Meta(description="A subset that a DestinationRule of the host defines.")] = ""
    port: Annotated[PortSelector | None, Meta(description="Needed if the host has several ports.")] = None


class HeaderOperations(Spec, frozen=True):
    """Changes to headers. Values may use Envoy's %OPERATORS%; a literal percent sign is written %%."""

    set: Annotated[dict[str, str], Meta(description="Headers to overwrite.")] = {}
    add: Annotated[dict[str, str], Meta(description="Headers to append.")] = {}
    remove: Annotated[tuple[str, ...], Meta(description="Headers to remove.")] = ()


class Headers(Spec, frozen=True):
    """Header changes on the way to the destination and back."""

    request: Annotated[HeaderOperations, Meta(description="Before the request is forwarded.")] = HeaderOperations()
    response: Annotated[HeaderOperations, Meta(description="Before the response is returned.")] = HeaderOperations()


class HTTPRouteDestination(Spec, frozen=True):
    """A destination and its share of the requests."""

    destination: Annotated[Destination, Meta(description="Where to.")]
    weight: Annotated[Int32, Meta(description="Share relative to the sum of all weights.")] = 0
    headers: Annotated[Headers | None, Meta(description="Header changes for this destination.")] = None


class RouteDestination(Spec, frozen=True):
    """A destination and its share of the connections."""

    destination: Annotated[Destination, Meta(description="Where to.")]
    weight: Annotated[Int32, Meta(description="Share relative to the sum of all weights.")] = 0


class HTTPRedirect(Spec, frozen=True):
    """Answer with a redirect. What is not given stays as the request had it."""

    uri: Annotated[str, Meta(description="The new path, query included.")] = ""
    prefix_rewrite: Annotated[str, Meta(description="Replaces the matched prefix of the path.")] = ""
    authority: Annotated[str, Meta(description="The new host.")] = ""
    port: Annotated[Uint32 | None, Meta(description="The new port.")] = None
    derive_port: Annotated[
        Literal["FROM_PROTOCOL_DEFAULT", "FROM_REQUEST_PORT"] | None,
        Meta(description="The default port of the scheme, or the one that was called."),
    ] = None
    scheme: Annotated[str, Meta(description="http or https.")] = ""
    redirect_code: Annotated[Uint32, Meta(description="3xx; 301 if not given.")] = 0


class HTTPBody(Spec, frozen=True):
    """The body of a direct response: one of the two."""

    string: Annotated[str | None, Meta(description="Text.")] = None
    bytes: Annotated[str | None, Meta(description="Any bytes, in base64.")] = None


class HTTPDirectResponse(Spec, frozen=True):
    """Answer without calling anything."""

    status: Annotated[Uint32, Meta(description="The response's status.")]
    body: Annotated[HTTPBody | None, Meta(description="The response's body.")] = None


class RegexRewrite(Spec, frozen=True):
    """Replace what a pattern matches in the path."""

    match: Annotated[str, Meta(description="RE2 expression.")] = ""
    rewrite: Annotated[str, Meta(description="The replacement; \\1 is the first group.")] = ""


class HTTPRewrite(Spec, frozen=True):
    """Change the path or the host before forwarding."""

    uri: Annotated[str, Meta(description="Replaces the path, or the prefix if a prefix was matched.")] = ""
    authority: Annotated[str, Meta(description="The new host.")] = ""
    uri_regex_rewrite: Annotated[RegexRewrite | None, Meta(description="Rewrite the path by pattern.")] = None


class HTTPRetry(Spec, frozen=True):
    """How failed requests are tried again."""

    attempts: Annotated[Int32, Meta(description="How many retries at most; 0 switches retries off.")] = 0
    per_try_timeout: Annotated[str | None, Meta(description="Time for each try, the first included.")] = None
    retry_on: Annotated[str, Meta(description="Envoy's retry conditions and status codes, comma-separated.")] = ""
    retry_remote_localities: Annotated[bool | None, Meta(description="Whether other localities are tried.")] = None
    retry_ignore_previous_hosts: Annotated[
        bool | None, Meta(description="Whether a retry avoids endpoints that were tried; the default.")
    ] = None
    backoff: Annotated[str | None, Meta(description="Shortest wait between tries.")] = None


class Percent(Spec, frozen=True):
    """0 to 100."""

    value: Annotated[float, Meta(description="The percentage.")] = 0.0


class FaultDelay(Spec, frozen=True):
    """Wait before forwarding."""

    percent: Annotated[Int32, Meta(description="Deprecated: use percentage.")] = 0
    fixed_delay: Annotated[str | None, Meta(description="How long.")] = None
    exponential_delay: Annotated[str | None, Meta(description="Not supported by Istio.")] = None
    percentage: Annotated[Percent | None, Meta(description="The share of requests; none if not given.")] = None


class FaultAbort(Spec, frozen=True):
    """Answer with an error instead of forwarding."""

    http_status: Annotated[Int32 | None, Meta(description="The HTTP status.")] = None
    grpc_status: Annotated[str | None, Meta(description="The gRPC status by name, such as UNAVAILABLE.")] = None
    http2_error: Annotated[str | None, Meta(description="Not supported by Istio.")] = None
    percentage: Annotated[Percent | None, Meta(description="The share of requests; none if not given.")] = None


class HTTPFaultInjection(Spec, frozen=True):
    """Errors and delays on purpose, to test callers."""

    delay: Annotated[FaultDelay | None, Meta(description="Slow requests down.")] = None
    abort: Annotated[FaultAbort | None, Meta(description="Let requests fail.")] = None


class HTTPMirrorPolicy(Spec, frozen=True):
    """Send a copy of requests somewhere and ignore the answers."""

    destination: Annotated[Destination | None, Meta(description="Where copies go.")] = None
    percentage: Annotated[Percent | None, Meta(description="The share of requests; all if not given.")] = None


class CorsPolicy(Spec, frozen=True):
    """Cross-origin resource sharing."""

    allow_origin: Annotated[tuple[str, ...], Meta(description="Deprecated: use allowOrigins.")] = ()
    allow_origins: Annotated[tuple[StringMatch, ...], Meta(description="Origins that may call.")] = ()
    allow_methods: Annotated[tuple[str, ...], Meta(description="Access-Control-Allow-Methods.")] = ()
    allow_headers: Annotated[tuple[str, ...], Meta(description="Access-Control-Allow-Headers.")] = ()
    expose_headers: Annotated[tuple[str, ...], Meta(description="Access-Control-Expose-Headers.")] = ()
    max_age: Annotated[str | None, Meta(description="How long a preflight answer may be cached, in seconds.")] = None
    allow_credentials: Annotated[bool | None, Meta(description="Access-Control-Allow-Credentials.")] = None
    unmatched_preflights: Annotated[
        Literal["UNSPECIFIED", "FORWARD", "IGNORE"],
        Meta(description="Whether preflights of other origins reach the destination."),
    ] = "UNSPECIFIED"


class Delegate(Spec, frozen=True):
    """Another VirtualService (without hosts) whose http rules stand here."""

    name: Annotated[str, Meta(description="Its name.")] = ""
    namespace: Annotated[str, Meta(description="Its namespace; the same if not given.")] = ""


class HTTPRoute(Spec, frozen=True):
    """One rule for HTTP; the first whose match holds decides.

    Exactly one of route, redirect, directResponse and delegate says what is done.
    """

    name: Annotated[str, Meta(description="Shown in route names, access logs and metrics.")] = ""
    match: Annotated[
        tuple[HTTPMatchRequest, ...], Meta(description="One of them must hold; none given: every request.")
    ] = ()
    route: Annotated[tuple[HTTPRouteDestination, ...], Meta(description="Forward to these, by weight.")] = ()
    redirect: Annotated[HTTPRedirect | None, Meta(description="Answer with a redirect.")] = None
    direct_response: Annotated[HTTPDirectResponse | None, Meta(description="Answer with a fixed response.")] = None
    delegate: Annotated[Delegate | None, Meta(description="Let another VirtualService decide.")] = None
    rewrite: Annotated[HTTPRewrite | None, Meta(description="Change path or host before forwarding.")] = None
    timeout: Annotated[
        str | None, Meta(description="For the whole request, retries included; no limit by default.")
    ] = None
    retries: Annotated[HTTPRetry | None, Meta(description="Retry policy; the mesh's default if not given.")] = None
    fault: Annotated[HTTPFaultInjection | None, Meta(description="Injected delays and errors.")] = None
    mirror: Annotated[Destination | None, Meta(description="Send a copy here.")] = None
    mirrors: Annotated[tuple[HTTPMirrorPolicy, ...], Meta(description="Send copies to several destinations.")] = ()
    mirror_percent: Annotated[Uint32 | None, Meta(description="Deprecated: use mirrorPercentage.")] = None
    mirror_percent_alias: Annotated[Uint32 | None, Meta(description="Another way to write mirrorPercent.")] = field(
        default=None, name="mirror_percent"
    )
    mirror_percentage: Annotated[Percent | None, Meta(description="Share of requests that mirror gets.")] = None
    cors_policy: Annotated[CorsPolicy | None, Meta(description="Cross-origin resource sharing.")] = None
    headers: Annotated[Headers | None, Meta(description="Header changes for all destinations.")] = None


class TLSMatchAttributes(Spec, frozen=True):
    """Conditions on a TLS connection that is not terminated here."""

    sni_hosts: Annotated[tuple[str, ...], Meta(description="Server names; each a subset of the hosts.")] = ()
    destination_subnets: Annotated[tuple[str, ...], Meta(description="Addresses that were called.")] = ()
    port: Annotated[Uint32, Meta(description="The port that was called.")] = 0
    source_labels: Annotated[dict[str, str], Meta(description="Labels of the calling workload.")] = {}
    gateways: Annotated[tuple[str, ...], Meta(description="Proxies this match is for.")] = ()
    source_namespace: Annotated[str, Meta(description="Namespace of the calling workload.")] = ""


class TLSRoute(Spec, frozen=True):
    """One rule for TLS connections, by server name."""

    match: Annotated[tuple[TLSMatchAttributes, ...], Meta(description="One of them must hold.")] = ()
    route: Annotated[tuple[RouteDestination, ...], Meta(description="Forward to these, by weight.")] = ()


class L4MatchAttributes(Spec, frozen=True):
    """Conditions on a TCP connection."""

    destination_subnets: Annotated[tuple[str, ...], Meta(description="Addresses that were called.")] = ()
    port: Annotated[Uint32, Meta(description="The port that was called.")] = 0
    source_subnet: Annotated[str, Meta(description="Address of the caller.")] = ""
    source_labels: Annotated[dict[str, str], Meta(description="Labels of the calling workload.")] = {}
    gateways: Annotated[tuple[str, ...], Meta(description="Proxies this match is for.")] = ()
    source_namespace: Annotated[str, Meta(description="Namespace of the calling workload.")] = ""


class TCPRoute(Spec, frozen=True):
    """One rule for TCP connections."""

    match: Annotated[
        tuple[L4MatchAttributes, ...], Meta(description="One of them must hold; none given: every connection.")
    ] = ()
    route: Annotated[tuple[RouteDestination, ...], Meta(description="Forward to these, by weight.")] = ()


class VirtualServiceSpec(Spec, frozen=True):
    """Routing rules for hosts: which requests and connections go where."""

    hosts: Annotated[
        tuple[str, ...], Meta(description="Hosts that clients call; none for a delegate VirtualService.")
    ] = ()
    gateways: Annotated[
        tuple[str, ...], Meta(description="Gateways (namespace/name) and `mesh` for all sidecars, the default.")
    ] = ()
    http: Annotated[tuple[HTTPRoute, ...], Meta(description="Rules for HTTP ports, in order.")] = ()
    tls: Annotated[tuple[TLSRoute, ...], Meta(description="Rules for TLS that is passed through, in order.")] = ()
    tcp: Annotated[tuple[TCPRoute, ...], Meta(description="Rules for TCP ports, in order.")] = ()
    export_to: Annotated[
        tuple[str, ...], Meta(description="Namespaces that see it: `*`, `.` or names; everybody by default.")
    ] = ()
