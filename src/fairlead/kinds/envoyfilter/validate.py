"""Istio's validation of EnvoyFilter (`pkg/config/validation/envoyfilter`), and that values are Envoy's messages."""

from __future__ import annotations

from collections.abc import Iterator

from fairlead import __version__
from fairlead.envoy.messages import UnreadableError, parse
from fairlead.envoy.patching import current_name
from fairlead.envoy.patchvalue import VALUES
from fairlead.ir.patch import ApplyTo
from fairlead.kinds.envoyfilter.spec import (
    INSERTS,
    UNORDERED,
    ConfigPatch,
    EnvoyFilter,
    FilterMatch,
    ListenerMatch,
    ObjectMatch,
    Patch,
)
from fairlead.model.diagnostic import Problem
from fairlead.model.findings import doubtful, forbidden, invalid, no_effect, required
from fairlead.model.object import Object
from fairlead.model.path import SPEC, FieldPath
from fairlead.model.regex import is_found, regex_fault
from fairlead.model.syntax import port_problems
from fairlead.model.target import chosen_problems, target_problems, unserved_targets

NOT_A_MESSAGE = "FL2401"
"""A patch's value is not the message of Envoy that it should be."""

_RELATIVE = ("INSERT_BEFORE", "INSERT_AFTER", "INSERT_FIRST", "REPLACE")
_POSSIBLE = {
    "LISTENER": ("MERGE", "MERGE_AND_REPLACE_LIST", "ADD", "REMOVE"),
    "FILTER_CHAIN": ("MERGE", "MERGE_AND_REPLACE_LIST", "ADD", "REMOVE"),
    "LISTENER_FILTER": ("MERGE", "MERGE_AND_REPLACE_LIST", "ADD", "REMOVE", *_RELATIVE),
    "NETWORK_FILTER": ("MERGE", "MERGE_AND_REPLACE_LIST", "ADD", "REMOVE", *_RELATIVE),
    "HTTP_FILTER": ("MERGE", "MERGE_AND_REPLACE_LIST", "ADD", "REMOVE", *_RELATIVE),
    "ROUTE_CONFIGURATION": ("MERGE", "MERGE_AND_REPLACE_LIST"),
    "VIRTUAL_HOST": ("MERGE", "MERGE_AND_REPLACE_LIST", "ADD", "REMOVE", "REPLACE"),
    "HTTP_ROUTE": ("MERGE", "MERGE_AND_REPLACE_LIST", "ADD", "REMOVE", "INSERT_BEFORE", "INSERT_AFTER", "INSERT_FIRST"),
    "CLUSTER": ("MERGE", "MERGE_AND_REPLACE_LIST", "ADD", "REMOVE"),
    "EXTENSION_CONFIG": ("ADD",),
    "BOOTSTRAP": ("MERGE", "MERGE_AND_REPLACE_LIST"),
}
_MATCHERS = {
    "listener": ("LISTENER", "FILTER_CHAIN", "LISTENER_FILTER", "NETWORK_FILTER", "HTTP_FILTER"),
    "route_configuration": ("ROUTE_CONFIGURATION", "VIRTUAL_HOST", "HTTP_ROUTE"),
    "cluster": ("CLUSTER",),
}
_JSON_NAME = {"listener": "listener", "route_configuration": "routeConfiguration", "cluster": "cluster"}
_CONFIGURED = ("typed_config", "typedConfig", "config_discovery", "configDiscovery")
_NAMED = ("LISTENER_FILTER", "NETWORK_FILTER", "HTTP_FILTER", "EXTENSION_CONFIG")


def validate(obj: Object[EnvoyFilter]) -> Iterator[Problem]:
    """Whom it is for, then its patches."""
    spec = obj.spec
    if spec.workload_selector is not None:
        if spec.target_refs:
            yield forbidden(SPEC, "only one of targetRefs or workloadSelector can be set", "Remove one.")
        path = SPEC / "workloadSelector"
        yield from chosen_problems(spec.workload_selector.labels, path, "labels")
    yield from target_problems(None, None, spec.target_refs)
    yield from unserved_targets(None, spec.target_refs)
    for at, patch in enumerate(spec.config_patches):
        yield from _config_patch(patch, spec.priority, SPEC.child("configPatches", at))


def _config_patch(said: ConfigPatch, priority: int, path: FieldPath) -> Iterator[Problem]:
    if said.apply_to == "INVALID":
        yield required(path / "applyTo", "missing applyTo", f"One of {', '.join(VALUES)}.")
        return
    if said.patch is None:
        yield required(path / "patch", "missing patch", "Say what to change.")
        return
    if said.patch.operation == "INVALID":
        yield required(path.child("patch", "operation"), "missing patch operation", "Say how to change it.")
        return
    yield from _match(said, path / "match")
    yield from _operation(said.apply_to, said.patch, path / "patch")
    yield from _value(said.apply_to, said.patch, path.child("patch", "value"))
    if said.patch.operation in _RELATIVE and said.patch.operation != "REPLACE" and priority == 0:
        where = path.child("patch", "operation")
        yield doubtful(where, "where this stands depends on the order of objects", "Give the object a priority.")


def _operation(apply_to: str, said: Patch, path: FieldPath) -> Iterator[Problem]:
    possible = _POSSIBLE[apply_to]
    where = path / "operation"
    if said.operation not in possible:
        remedy = f"With applyTo {apply_to} these are possible: {', '.join(possible)}."
        if said.operation in INSERTS and apply_to in UNORDERED and "ADD" in possible:
            yield doubtful(where, f"operation {said.operation} is the same as ADD on a {apply_to}", "Use ADD.")
        elif apply_to in ("ROUTE_CONFIGURATION", "FILTER_CHAIN", "HTTP_ROUTE", "CLUSTER", "VIRTUAL_HOST", "LISTENER"):
            yield doubtful(where, f"operation {said.operation} has no effect on a {apply_to}", remedy)
        else:
            yield invalid(where, f"operation {said.operation} is not possible with applyTo {apply_to}", remedy)
    if said.filter_class != "UNSPECIFIED" and (said.operation, apply_to) != ("ADD", "HTTP_FILTER"):
        yield doubtful(path / "filterClass", "counts only with ADD of an HTTP_FILTER", "Remove it.")


def _value(apply_to: ApplyTo, said: Patch, path: FieldPath) -> Iterator[Problem]:
    if said.value is None:
        if said.operation != "REMOVE":
            yield required(path, "missing patch value", "Give Envoy's message, in its JSON form.")
        return
    if said.operation == "REMOVE":
        yield doubtful(path, "a value does not count with REMOVE", "Remove it.")
    if apply_to in _NAMED and said.operation not in ("MERGE", "MERGE_AND_REPLACE_LIST", "REMOVE"):
        if not said.value.get("name"):
            yield doubtful(path / "name", "Envoy takes no filter without a name", "Name the filter.")
        if apply_to != "LISTENER_FILTER" and not set(_CONFIGURED) & set(said.value):
            wrong = "Envoy takes no filter without configuration"
            yield doubtful(path / "typed_config", wrong, "Give the filter's configuration.")
    try:
        parse(VALUES[apply_to], said.value)
    except UnreadableError as error:
        for step in error.field.replace("[", ".").replace("]", "").split("."):
            if step:
                path = path / (int(step) if step.isdecimal() else step)
        remedy = f"It must be the JSON form of {VALUES[apply_to].DESCRIPTOR.full_name}."
        yield Problem(path, f"Envoy cannot read this: {error}", remedy=remedy, code=NOT_A_MESSAGE)


def _match(said: ConfigPatch, path: FieldPath) -> Iterator[Problem]:
    match = said.match
    if match is None:
        return
    if match.context == "WAYPOINT" or match.waypoint is not None:
        yield no_effect(path / ("waypoint" if match.waypoint is not None else "context"), "There are no waypoints.")
    for_waypoint = match.context == "WAYPOINT"
    if for_waypoint != (match.waypoint is not None):
        wrong = "only waypoint can be matched when context is WAYPOINT, and only then"
        yield forbidden(path, wrong, "Set both, or neither.")
    if match.waypoint is not None and match.waypoint.port_number:
        yield from port_problems(match.waypoint.port_number, path.child("waypoint", "portNumber"))
    given = [name for name in _MATCHERS if getattr(match, name) is not None]
    if len(given) > 1:
        yield forbidden(path, f"only one of {', '.join(_JSON_NAME[one] for one in given)} can be set", "Keep one.")
    for name in given:
        if said.apply_to not in _MATCHERS[name]:
            where = _JSON_NAME[name]
            wrong = f"applyTo for {where} class objects cannot be {said.apply_to}"
            yield invalid(path / where, wrong, f"It can be {', '.join(_MATCHERS[name])}.")
    if match.proxy is not None and match.proxy.proxy_version:
        yield from _version(match.proxy.proxy_version, path.child("proxy", "proxyVersion"))
    if match.listener is not None:
        yield from _listener(said, match, match.listener, path / "listener")


def _version(expression: str, path: FieldPath) -> Iterator[Problem]:
    wrong = regex_fault(expression)
    if wrong:
        yield invalid(path, f"invalid regex for proxy version: {wrong}")
    elif not is_found(expression, __version__):
        said = f"{expression[:60]!r} is not found in {__version__}, the version of the mesh's proxies"
        yield doubtful(path, f"{said}: they do not get this patch", "Remove it, unless it is for proxies to come.")


def _listener(said: ConfigPatch, match: ObjectMatch, listener: ListenerMatch, path: FieldPath) -> Iterator[Problem]:
    if listener.port_name:
        yield no_effect(path / "portName", "Use portNumber or name.")
    chain = listener.filter_chain
    if chain is None:
        return
    if chain.sni and match.context == "SIDECAR_INBOUND":
        yield invalid(path.child("filterChain", "sni"), "filter chain match with sni is not possible inbound")
    if chain.filter is None:
        return
    where = path.child("filterChain", "filter")
    if said.apply_to in ("LISTENER", "FILTER_CHAIN", "LISTENER_FILTER"):
        yield doubtful(where, f"a filter does not count with applyTo {said.apply_to}", "Remove it.")
    yield from _filter(said, chain.filter, where)


def _filter(said: ConfigPatch, match: FilterMatch, path: FieldPath) -> Iterator[Problem]:
    sub_filter = match.sub_filter
    if not match.name:
        yield required(path / "name", "the filter match has no name to match on", "Name the network filter.")
    elif sub_filter is not None and said.apply_to != "HTTP_FILTER":
        wrong = "subfilter match can be used with applyTo HTTP_FILTER only"
        yield invalid(path / "subFilter", wrong, "Remove it.")
    elif sub_filter is not None and current_name(match.name) != _MANAGER:
        yield invalid(path / "name", "only a connection manager has sub filters", f"Use {_MANAGER}.")
    elif sub_filter is not None and not sub_filter.name:
        yield required(path.child("subFilter", "name"), "the sub filter match has no name to match on", "Name it.")
    for where, name in ((path, match.name), (path / "subFilter", sub_filter.name if sub_filter is not None else "")):
        if current_name(name) != name:
            yield doubtful(where / "name", f"{name} is an old name of the filter", f"Use {current_name(name)}.")


_MANAGER = "envoy.filters.network.http_connection_manager"
