"""Differences of route configurations, in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from fairlead.effect.change import HOST_LOST, SHADOWED, Change
from fairlead.effect.naming import destination, field, host, some, turned, value
from fairlead.effect.shadowing import shadowed
from fairlead.envoy.difference import ORDER, Difference, matched
from fairlead.envoy.settings import callers, written

_QUIET = ("metadata", "decorator", "statPrefix", "name")
"""Steps of what no request notices."""
_IMPLIED = "default"
"""The route of a host for which no object has rules."""
_NOBODY = ("allow_any", "block_all")
_MOST = 4
_AIMS = ("cluster", "weightedClusters", "clusterHeader")


def words(name: str, old: Any, new: Any, found: Sequence[Difference]) -> Iterator[Change]:
    """What differs between two route configurations."""
    if old is None or new is None:
        there: Any = old if new is None else new
        hosts = [host(one.name) for one in there.virtual_hosts if one.name not in _NOBODY]
        said = f"route configuration {name} {'is new' if old is None else 'is gone'}, for {some(hosts) or 'no host'}"
        danger = HOST_LOST if new is None and hosts else ""
        yield Change("route", said, danger, fields=tuple(field(one) for one in found))
        return
    before, after = _hosts(old), _hosts(new)
    for step, inside in _by_step(found, 0):
        if step.startswith("virtualHosts["):
            label = step[len("virtualHosts[") : -1]
            name_of = label.removeprefix("+")
            old_host = before.get(label) if name_of == label else None
            yield from _host(name_of, old_host, after.get(name_of), inside)
        else:
            yield _plainly(f"route configuration {name}", inside, 0)


def _hosts(configuration: Any) -> dict[str, Any]:
    hosts = list(configuration.virtual_hosts)
    return dict(zip(callers(hosts), hosts, strict=True))


def _by_step(found: Iterable[Difference], at: int) -> list[tuple[str, list[Difference]]]:
    """Differences by the step of their paths at a place, in the order in which they come."""
    out: dict[str, list[Difference]] = {}
    for one in found:
        out.setdefault(one.path[at] if len(one.path) > at else "", []).append(one)
    return list(out.items())


def _plainly(what: str, found: Sequence[Difference], below: int) -> Change:
    told = [one for one in found if not set(one.path) & set(_QUIET)]
    said = "; ".join(turned(one, below) for one in told[:_MOST]) or "only names and metadata change"
    if len(told) > _MOST:
        said += f"; {len(told) - _MOST} more"
    return Change(
        "route",
        f"{what}: {said}",
        fields=tuple(field(one) for one in found),
        untold=tuple(written(one.path[below:]) for one in told[_MOST:]),
    )


def _host(name: str, old: Any, new: Any, found: Sequence[Difference]) -> Iterator[Change]:
    if old is None or new is None:
        whole = tuple(field(one) for one in found)
        if new is None:
            yield Change("route", f"requests for {host(name)} are not routed any more", HOST_LOST, (), whole)
        else:
            to = some([_summary(one) for one in new.routes])
            yield Change("route", f"requests for {host(name)} are routed: {to}", "", (), whole)
        return
    yield from _shadowed(host(name), _routes(old), _routes(new))
    had, has = _routes(old), _successors(old, new)
    for step, inside in _by_step(found, 1):
        label = step.partition("[")[2][:-1]
        if step.startswith("routes["):
            if len(inside[0].path) == 2:
                yield _whole_route(host(name), label, inside[0])
            else:
                yield _route(host(name), label, had[label], has[label], inside)
        elif step == "routes" and inside[0].path[-1] == ORDER:
            order = some([str(one) for one in inside[0].new])
            said = f"requests for {host(name)}: the rules are tried in another order: {order}"
            yield Change("route", said, fields=tuple(field(one) for one in inside))
        else:
            yield _plainly(f"requests for {host(name)}", inside, 1)


def _routes(of: Any) -> dict[str, Any]:
    found = list(of.routes)
    return dict(zip(callers(found), found, strict=True))


def _successors(old: Any, new: Any) -> dict[str, Any]:
    """What each route of the old host, by what it is called there, has become."""
    before, after = list(old.routes), list(new.routes)
    labels = callers(before)
    pairs = matched(before, after)
    return {labels[left]: after[right] for left, right in pairs if left is not None and right is not None}


def _whole_route(name: str, label: str, one: Difference) -> Change:
    if one.old is None:
        called = f" `{one.new.name}`" if one.new.name else ""
        return Change("route", f"requests for {name} {_summary(one.new)} (new route{called})", fields=(field(one),))
    said = f"requests for {name}: route `{label}` is gone (requests {_summary(one.old)})"
    return Change("route", said, fields=(field(one),))


def _route(name: str, label: str, old: Any, new: Any, found: Sequence[Difference]) -> Change:
    said: list[str] = []
    told = [one for one in found if not set(one.path[2:]) & set(_QUIET)]
    if any(_aims(one) for one in told):
        said.append(f"now {_action(new)} (they went {_action(old).removeprefix('go ')})")
        told = [one for one in told if not _aims(one)]
    if any(one.path[2] == "match" for one in told):
        said.append(f"this route takes requests {_match(new.match) or 'of all sorts'} now")
        told = [one for one in told if one.path[2] != "match" or _is_nested(one)]
    said += [turned(one, 2).removeprefix("route/") for one in told[:_MOST]]
    match = _match(old.match)
    what = f"requests for {name}{' ' if match else ''}{match} (route `{label}`)"
    more = tuple(written(one.path[2:]) for one in told[_MOST:])
    text = "; ".join(said) or "only names and metadata change"
    return Change("route", f"{what}: {text}", "", (), tuple(field(one) for one in found), more)


def _is_nested(one: Difference) -> bool:
    """Whether the words about a match leave this part of it out."""
    return len(one.path) > 3 and one.path[3].partition("[")[0] in ("headers", "queryParameters", "caseSensitive")


def _aims(one: Difference) -> bool:
    return len(one.path) > 3 and one.path[2] == "route" and one.path[3].partition("[")[0] in _AIMS


def _summary(route: Any) -> str:
    match = _match(route.match)
    return f"{match}{' ' if match else ''}{_action(route)}"


def _action(route: Any) -> str:
    what = route.WhichOneof("action")
    if what == "route":
        to = route.route
        if to.WhichOneof("cluster_specifier") == "weighted_clusters":
            parts = [f"{one.weight.value} % to {destination(one.name)}" for one in to.weighted_clusters.clusters]
            return "go " + some(parts)
        return f"go to {destination(to.cluster or to.cluster_header)}"
    if what == "redirect":
        to = route.redirect
        where = to.host_redirect or "the same host"
        path = to.path_redirect or to.prefix_rewrite
        return f"are redirected to {where}{path}"
    if what == "direct_response":
        return f"are answered with {route.direct_response.status}"
    return f"meet {what or 'no action'}"


def _match(match: Any) -> str:
    """Which requests a match takes; empty for all."""
    said: list[str] = []
    how = match.WhichOneof("path_specifier")
    if how == "prefix" and match.prefix != "/":
        said.append(f"with path {match.prefix}*")
    elif how == "path":
        said.append(f"with path {match.path}")
    elif how == "path_separated_prefix":
        said.append(f"with path {match.path_separated_prefix} or below")
    elif how == "safe_regex":
        said.append(f"with path like {value(match.safe_regex.regex)}")
    elif how == "connect_matcher":
        said.append("by CONNECT")
    for one in match.headers:
        said.append(f"{'without' if one.invert_match else 'with'} header {one.name}{_string(one)}")
    said += [f"with parameter {one.name}" for one in match.query_parameters]
    return " and ".join(said)


def _string(header: Any) -> str:
    if header.WhichOneof("header_match_specifier") != "string_match":
        return ""
    text = header.string_match
    how = text.WhichOneof("match_pattern")
    if how == "safe_regex":
        return f" like {value(text.safe_regex.regex)}"
    return f" {'' if how == 'exact' else f'{how} '}{getattr(text, how)}" if how else ""


def _shadowed(name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Change]:
    """Routes that get fewer requests, or none; what no object has rules for is meant to get the rest."""
    for label, by, whole in shadowed(before, after):
        if label == _IMPLIED or after[by].name == _IMPLIED:
            continue
        match = _match(after[by].match)
        if whole:
            what = f"`{by}` before it takes {'all of them' if match else 'every request'}"
            yield Change("route", f"requests for {name}: route `{label}` gets none any more: {what}", SHADOWED)
        else:
            what = f"`{by}` before it takes those {match}, and neither is the narrower"
            yield Change("route", f"requests for {name}: route `{label}` loses some: {what}", SHADOWED)


def clusters_of(of: Any) -> Iterator[str]:
    """The clusters to which the routes of a virtual host lead."""
    for one in of.routes:
        if one.WhichOneof("action") == "route":
            if one.route.cluster:
                yield one.route.cluster
            yield from (each.name for each in one.route.weighted_clusters.clusters)
            yield from (each.cluster for each in one.route.request_mirror_policies if each.cluster)
