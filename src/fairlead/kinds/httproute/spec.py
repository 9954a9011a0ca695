"""The spec of an HTTPRoute: the fields of `gateway.networking.k8s.io/v1` (standard and experimental channel)."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from fairlead.model.object import Spec

Port = Annotated[int, Meta(ge=1, le=65535)]
Path = Annotated[str, Meta(max_length=1024)]


class ParentReference(Spec, frozen=True):
    """What the route is attached to."""

    name: Annotated[str, Meta(description="Name of the Service.")]
    group: Annotated[str, Meta(description='API group; "" for Services.')] = "gateway.networking.k8s.io"
    kind: Annotated[str, Meta(description="Service.")] = "Gateway"
    namespace: Annotated[str, Meta(description="Its namespace; the route's own if not given.")] = ""
    section_name: Annotated[str, Meta(description="Name of one port.")] = ""
    port: Annotated[Port | None, Meta(description="One port; all if not given.")] = None


class PathMatch(Spec, frozen=True):
    """How the path is compared."""

    type: Annotated[
        Literal["Exact", "PathPrefix", "RegularExpression"], Meta(description="PathPrefix covers whole segments.")
    ] = "PathPrefix"
    value: Annotated[str, Meta(max_length=1024, description="The path, its beginning, or an RE2 expression.")] = "/"


class ValueMatch(Spec, frozen=True):
    """How a header or query parameter is compared."""

    name: Annotated[str, Meta(min_length=1, max_length=256, description="Its name.")]
    value: Annotated[str, Meta(max_length=4096, description="Its value, or an RE2 expression.")]
    type: Annotated[Literal["Exact", "RegularExpression"], Meta(description="How it is compared.")] = "Exact"


class RouteMatch(Spec, frozen=True):
    """Conditions on a request; all must hold."""

    path: Annotated[PathMatch, Meta(description="The path.")] = PathMatch()
    headers: Annotated[tuple[ValueMatch, ...], Meta(description="Headers.")] = ()
    query_params: Annotated[tuple[ValueMatch, ...], Meta(description="Query parameters.")] = ()
    method: Annotated[
        Literal["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"] | None,
        Meta(description="The method."),
    ] = None


class NamedValue(Spec, frozen=True):
    """A header and its value."""

    name: Annotated[str, Meta(min_length=1, max_length=256, description="The header's name.")]
    value: Annotated[str, Meta(max_length=4096, description="Its value.")]


class HeaderFilter(Spec, frozen=True):
    """Changes to headers."""

    set: Annotated[tuple[NamedValue, ...], Meta(description="Replace or add.")] = ()
    add: Annotated[tuple[NamedValue, ...], Meta(description="Add to what is there.")] = ()
    remove: Annotated[tuple[str, ...], Meta(description="Remove.")] = ()


class PathModifier(Spec, frozen=True):
    """A change of the path."""

    type: Annotated[Literal["ReplaceFullPath", "ReplacePrefixMatch"], Meta(description="What is replaced.")]
    replace_full_path: Annotated[Path | None, Meta(description="The new path.")] = None
    replace_prefix_match: Annotated[Path | None, Meta(description="In place of the match.")] = None


class RedirectFilter(Spec, frozen=True):
    """Answer with a redirect. What is not given stays as it was."""

    scheme: Annotated[Literal["http", "https"] | None, Meta(description="The new scheme.")] = None
    hostname: Annotated[str, Meta(description="The new host.")] = ""
    path: Annotated[PathModifier | None, Meta(description="The new path.")] = None
    port: Annotated[Port | None, Meta(description="The new port.")] = None
    status_code: Annotated[Literal[301, 302, 303, 307, 308], Meta(description="The status.")] = 302


class RewriteFilter(Spec, frozen=True):
    """Changes before forwarding."""

    hostname: Annotated[str, Meta(description="The new host.")] = ""
    path: Annotated[PathModifier | None, Meta(description="The new path.")] = None


class BackendReference(Spec, frozen=True):
    """A Service, or (group networking.istio.io, kind Hostname) any host of the mesh."""

    name: Annotated[str, Meta(description="Name of the Service, or the host.")]
    group: Annotated[str, Meta(description='API group; "" for Services.')] = ""
    kind: Annotated[str, Meta(description="Service, or Hostname.")] = "Service"
    namespace: Annotated[str, Meta(description="Its namespace; the route's own if not given.")] = ""
    port: Annotated[Port | None, Meta(description="The port that clients call.")] = None


class Fraction(Spec, frozen=True):
    """A share."""

    numerator: Annotated[int, Meta(ge=0, description="Above the line.")]
    denominator: Annotated[int, Meta(ge=1, description="Below the line.")] = 100


class MirrorFilter(Spec, frozen=True):
    """Copies of requests, whose answers are thrown away."""

    backend_ref: Annotated[BackendReference, Meta(description="Where to.")]
    percent: Annotated[Annotated[int, Meta(ge=0, le=100)] | None, Meta(description="Which share.")] = None
    fraction: Annotated[Fraction | None, Meta(description="Which share.")] = None


class CorsFilter(Spec, frozen=True):
    """Cross-origin resource sharing."""

    allow_origins: Annotated[tuple[str, ...], Meta(description="Origins; * for all, scheme://*.suffix for many.")] = ()
    allow_credentials: Annotated[bool | None, Meta(description="Whether credentials may be sent.")] = None
    allow_methods: Annotated[tuple[str, ...], Meta(description="Methods.")] = ()
    allow_headers: Annotated[tuple[str, ...], Meta(description="Request headers.")] = ()
    expose_headers: Annotated[tuple[str, ...], Meta(description="Response headers that scripts see.")] = ()
    max_age: Annotated[int, Meta(ge=1, description="Seconds for which an answer holds.")] = 5


class LocalReference(Spec, frozen=True):
    """An object of the route's namespace."""

    group: Annotated[str, Meta(description="API group.")]
    kind: Annotated[str, Meta(description="Kind.")]
    name: Annotated[str, Meta(description="Name.")]


class RouteFilter(Spec, frozen=True):
    """One change to requests or answers; the field that `type` names."""

    type: Annotated[
        Literal[
            "RequestHeaderModifier",
            "ResponseHeaderModifier",
            "RequestMirror",
            "RequestRedirect",
            "URLRewrite",
            "CORS",
            "ExtensionRef",
            "ExternalAuth",
        ],
        Meta(description="What it does."),
    ]
    request_header_modifier: Annotated[HeaderFilter | None, Meta(description="Changes to request headers.")] = None
    response_header_modifier: Annotated[HeaderFilter | None, Meta(description="Changes to response headers.")] = None
    request_mirror: Annotated[MirrorFilter | None, Meta(description="Copies of requests.")] = None
    request_redirect: Annotated[RedirectFilter | None, Meta(description="A redirect.")] = None
    url_rewrite: Annotated[RewriteFilter | None, Meta(description="Changes of host and path.")] = None
    cors: Annotated[CorsFilter | None, Meta(description="Cross-origin sharing.")] = None
    extension_ref: Annotated[LocalReference | None, Meta(description="Not served.")] = None


class HTTPBackendReference(BackendReference, frozen=True):
    """A backend and its share."""

    weight: Annotated[int, Meta(ge=0, le=1000000, description="Share of the requests; 1 if not given.")] = 1
    filters: Annotated[tuple[RouteFilter, ...], Meta(description="Header changes for this backend.")] = ()


class Timeouts(Spec, frozen=True):
    """Times; 0s is none."""

    request: Annotated[str | None, Meta(description="For the whole exchange.")] = None
    backend_request: Annotated[str | None, Meta(description="For each attempt.")] = None


class Retry(Spec, frozen=True):
    """Retries."""

    codes: Annotated[tuple[Annotated[int, Meta(ge=400, le=599)], ...], Meta(description="Statuses to retry.")] = ()
    attempts: Annotated[Annotated[int, Meta(ge=0)] | None, Meta(description="How often; 2 if not given.")] = None
    backoff: Annotated[str | None, Meta(description="Time before the first one.")] = None


class SessionPersistence(Spec, frozen=True):
    """Requests of a session go to one endpoint."""

    session_name: Annotated[str, Meta(description="Name of the cookie or header.")] = ""
    absolute_timeout: Annotated[str | None, Meta(description="Lifetime of a session.")] = None
    idle_timeout: Annotated[str | None, Meta(description="Lifetime without requests.")] = None
    type: Annotated[Literal["Cookie", "Header"], Meta(description="What carries it.")] = "Cookie"
    cookie_config: Annotated[dict[str, str], Meta(description="lifetimeType of the cookie.")] = {}


class RouteRule(Spec, frozen=True):
    """If any match holds, do this."""

    name: Annotated[str, Meta(description="A name, unique in the route.")] = ""
    matches: Annotated[tuple[RouteMatch, ...], Meta(max_length=64, description="Conditions; none: every request.")] = ()
    filters: Annotated[tuple[RouteFilter, ...], Meta(max_length=16, description="Changes.")] = ()
    backend_refs: Annotated[
        tuple[HTTPBackendReference, ...], Meta(max_length=16, description="Where requests go.")
    ] = ()
    timeouts: Annotated[Timeouts | None, Meta(description="Times.")] = None
    retry: Annotated[Retry | None, Meta(description="Retries.")] = None
    session_persistence: Annotated[SessionPersistence | None, Meta(description="Sessions.")] = None


class HTTPRouteSpec(Spec, frozen=True):
    """Routing rules for services."""

    parent_refs: Annotated[tuple[ParentReference, ...], Meta(max_length=32, description="What it is for.")] = ()
    hostnames: Annotated[tuple[str, ...], Meta(max_length=16, description="Hosts, for Gateways only.")] = ()
    rules: Annotated[tuple[RouteRule, ...], Meta(max_length=16, description="The rules.")] = ()
    use_default_gateways: Annotated[str, Meta(description="Default Gateways: of which there are none.")] = ""
