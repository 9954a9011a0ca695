"""What the Gateway API's own schema says of an HTTPRoute, and what of it is not served here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from fairlead.kinds.httproute import spec as api
from fairlead.kinds.httproute.lower import HOSTNAME, backend_host
from fairlead.model.diagnostic import Problem
from fairlead.model.findings import duplicate, forbidden, invalid, no_effect, required
from fairlead.model.object import Object
from fairlead.model.path import SPEC, FieldPath
from fairlead.model.regex import regex_fault
from fairlead.model.syntax import wrong_duration

_FIELDS = {
    "RequestHeaderModifier": "requestHeaderModifier",
    "ResponseHeaderModifier": "responseHeaderModifier",
    "RequestMirror": "requestMirror",
    "RequestRedirect": "requestRedirect",
    "URLRewrite": "urlRewrite",
    "CORS": "cors",
    "ExtensionRef": "extensionRef",
}
_BAD_PATHS = ("//", "/./", "/../", "%2f", "%2F", "#")


def validate(obj: Object[api.HTTPRouteSpec]) -> Iterator[Problem]:
    """Errors and warnings of an HTTPRoute."""
    spec = obj.spec
    for at, parent in enumerate(spec.parent_refs):
        path = SPEC.child("parentRefs", at)
        if (parent.group, parent.kind) not in (("", "Service"), ("core", "Service")):
            yield no_effect(path, f"Routes are for Services: set group: '' and kind: Service, not {parent.kind}.")
        elif parent.section_name:
            yield no_effect(path / "sectionName", "Use port.")
    if not spec.parent_refs:
        yield no_effect(SPEC / "parentRefs", "Name a Service: without a parent the route is for nobody.")
    if spec.hostnames:
        yield no_effect(SPEC / "hostnames", "They are for Gateways; a Service has its own names.")
    if spec.use_default_gateways:
        yield no_effect(SPEC / "useDefaultGateways", "Name a Service in parentRefs.")
    names = Counter(rule.name for rule in spec.rules if rule.name)
    for at, rule in enumerate(spec.rules):
        path = SPEC.child("rules", at)
        if names[rule.name] > 1:
            yield duplicate(path / "name", f"two rules are called {rule.name!r}", "Give each a name of its own.")
        yield from _rule(path, rule, obj.ref.namespace)


def _rule(path: FieldPath, rule: api.RouteRule, namespace: str) -> Iterator[Problem]:
    for at, match in enumerate(rule.matches):
        yield from _match(path.child("matches", at), match)
    prefixes = all(one.path.type == "PathPrefix" for one in rule.matches)
    yield from _filters(path / "filters", rule.filters, prefixes=prefixes)
    kinds = {one.type for one in rule.filters}
    if "RequestRedirect" in kinds and rule.backend_refs:
        yield forbidden(path / "backendRefs", "a redirect has no backends", "Remove one of the two.")
    for at, to in enumerate(rule.backend_refs):
        where = path.child("backendRefs", at)
        yield from _backend(where, to, namespace)
        for position, one in enumerate(to.filters):
            if one.type not in ("RequestHeaderModifier", "ResponseHeaderModifier"):
                yield no_effect(where.child("filters", position), f"Move the filter {one.type} to the rule.")
        yield from _filters(where / "filters", to.filters, prefixes=prefixes)
    yield from _times(path, rule)
    if rule.session_persistence is not None:
        yield no_effect(path / "sessionPersistence", "Use a consistent hash in a DestinationRule.")


def _match(path: FieldPath, match: api.RouteMatch) -> Iterator[Problem]:
    value, where = match.path.value, path.child("path", "value")
    if match.path.type == "RegularExpression":
        if fault := regex_fault(value):
            yield invalid(where, fault, "Regular expressions are RE2's.")
    elif not value.startswith("/"):
        yield invalid(where, "value must be an absolute path", "Begin with '/'.")
    elif any(part in value for part in _BAD_PATHS) or value.endswith(("/.", "/..")):
        yield invalid(where, f"{value!r} is no normal path", "Write it without '//', '.', '..', '#' or %2F.")
    for name, given in (("headers", match.headers), ("queryParams", match.query_params)):
        for at, one in enumerate(given):
            if one.type == "RegularExpression" and (fault := regex_fault(one.value)):
                yield invalid(path.child(name, at, "value"), fault, "Regular expressions are RE2's.")


def _filters(path: FieldPath, filters: Iterable[api.RouteFilter], *, prefixes: bool) -> Iterator[Problem]:
    given = tuple(filters)
    times = Counter(one.type for one in given)
    for at, one in enumerate(given):
        where = path / at
        if times[one.type] > 1 and one.type not in ("RequestMirror", "ExtensionRef"):
            yield duplicate(where / "type", f"{one.type} filter cannot be repeated", "Join them.")
        present = {name for name in _FIELDS.values() if getattr(one, _attribute(name)) is not None}
        wanted = _FIELDS.get(one.type, "")
        if wanted and wanted not in present:
            yield required(where / wanted, f"filter {one.type} needs {wanted}")
        for name in sorted(present - {wanted}):
            yield forbidden(where / name, f"filter {one.type} must not have {name}", "Remove it.")
        if one.type in ("ExtensionRef", "ExternalAuth"):
            yield no_effect(where, "The rule's requests are answered with 500: remove the filter.")
        for name, said in (("requestRedirect", one.request_redirect), ("urlRewrite", one.url_rewrite)):
            if said is not None and said.path is not None:
                yield from _modifier(where.child(name, "path"), said.path, prefixes=prefixes)
        if one.request_mirror is not None and one.request_mirror.percent is not None and one.request_mirror.fraction:
            yield forbidden(where.child("requestMirror", "fraction"), "percent is given, too", "Leave one.")
    if times["RequestRedirect"] and times["URLRewrite"]:
        yield forbidden(path, "a rule has either a redirect or a rewrite", "Leave one.")


def _modifier(path: FieldPath, said: api.PathModifier, *, prefixes: bool) -> Iterator[Problem]:
    full = said.type == "ReplaceFullPath"
    wanted, other = (
        (said.replace_full_path, said.replace_prefix_match)
        if full
        else (said.replace_prefix_match, said.replace_full_path)
    )
    if wanted is None:
        yield required(path / ("replaceFullPath" if full else "replacePrefixMatch"), f"type {said.type} needs it")
    if other is not None:
        yield forbidden(path / ("replacePrefixMatch" if full else "replaceFullPath"), f"type is {said.type}")
    if not full and not prefixes:
        yield invalid(path, "replacePrefixMatch needs matches of type PathPrefix", "Use replaceFullPath.")


def _backend(path: FieldPath, to: api.HTTPBackendReference, namespace: str) -> Iterator[Problem]:
    if not backend_host(to, namespace):
        yield no_effect(path, f"{to.kind} of group {to.group!r} is no backend here: use a Service or a Hostname.")
    elif to.port is None and (to.group, to.kind) != HOSTNAME:
        yield required(path / "port", "must have port for Service reference")


def _times(path: FieldPath, rule: api.RouteRule) -> Iterator[Problem]:
    times = rule.timeouts or api.Timeouts()
    given = [
        (path.child("timeouts", "request"), times.request),
        (path.child("timeouts", "backendRequest"), times.backend_request),
        (path.child("retry", "backoff"), rule.retry.backoff if rule.retry is not None else None),
    ]
    for where, text in given:
        if text is not None and (fault := wrong_duration(text, zero=True)):
            yield invalid(where, fault, "Durations look like 1h, 30s or 250ms.")


def _attribute(name: str) -> str:
    return "".join(f"_{one.lower()}" if one.isupper() else one for one in name)
