"""Routes that get fewer requests because of one that is tried before them (envoy.config.route.v3.RouteMatch).

Envoy takes the first route that matches. A route whose requests an earlier one takes all is *shadowed*; one that shares
some with an earlier one, where neither is the narrower of both, loses those: which of them was meant is open.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from envoy.config.route.v3 import route_components_pb2 as routes

_PATHS = ("prefix", "path", "path_separated_prefix", "safe_regex", "connect_matcher", "path_match_policy")
_EVERYTHING = (".*", "/.*")
_ANY = routes.RouteMatch(prefix="/")


def shadowed(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[tuple[str, str, bool]]:
    """Routes by label in their order, old and new: what is lost, to which route, and whether that is all of it.

    Told are routes that were there, and what an earlier route did not take from them before. A route that leads where
    the other one leads takes nothing from it. What stands behind a route that takes everything is not compiled at all.
    """
    last = list(after)[-1] if after else ""
    if last and covers(after[last].match, _ANY):
        order = list(before)
        behind = order[: order.index(last)] if last in before else order
        for label in behind:
            if label not in after and before[label].name == label and not _taken_over(before[label], after):
                yield label, last, True
    for at, (label, route) in enumerate(after.items()):
        old = before.get(label)
        if old is None or old.match != route.match:
            continue
        had = _takers(before, label)
        lost = [one for one in list(after)[:at] if one not in had]
        whole = next((one for one in lost if covers(after[one].match, route.match)), None)
        if whole is not None:
            yield label, whole, True
            continue
        for one in lost:
            if _differs(after[one], route) and _partly(after[one].match, route.match):
                yield label, one, False


def _taken_over(route: Any, after: Mapping[str, Any]) -> bool:
    """Whether another one has a route's match: it has been given another name."""
    return any(one.match == route.match for one in after.values())


def _takers(routes_of: Mapping[str, Any], label: str) -> set[str]:
    """The routes that stand before one, and already take something from it."""
    found: set[str] = set()
    for one, route in routes_of.items():
        if one == label:
            break
        if not disjoint(route.match, routes_of[label].match):
            found.add(one)
    return found


def _differs(one: Any, other: Any) -> bool:
    action = one.WhichOneof("action")
    return action != other.WhichOneof("action") or getattr(one, action or "route") != getattr(other, action or "route")


def _partly(earlier: Any, later: Any) -> bool:
    return not disjoint(earlier, later) and not covers(later, earlier) and not covers(earlier, later)


def covers(wide: Any, narrow: Any) -> bool:
    """Whether each request that fulfils the narrow match fulfils the wide one; False where that is not certain."""
    if wide == narrow:
        return True
    rest, other = routes.RouteMatch(), routes.RouteMatch()
    for held, match in ((rest, wide), (other, narrow)):
        held.CopyFrom(match)
        for field in (*_PATHS, "case_sensitive", "headers", "query_parameters"):
            held.ClearField(field)
    return (
        (rest == routes.RouteMatch() or rest == other)
        and all(one in narrow.headers for one in wide.headers)
        and all(one in narrow.query_parameters for one in wide.query_parameters)
        and _path_covers(wide, narrow)
    )


def disjoint(one: Any, other: Any) -> bool:
    """Whether no request can fulfil both; False where that is not certain."""
    exact = {each.name.lower(): text for each in one.headers if (text := _exact(each)) is not None}
    if any(exact.get(each.name.lower(), text) != text for each in other.headers if (text := _exact(each)) is not None):
        return True
    return _paths_disjoint(one, other) or _paths_disjoint(other, one)


def _exact(header: Any) -> str | None:
    """The only value that a header may have; None where it may have several."""
    text = header.string_match
    plain = not header.invert_match and text.WhichOneof("match_pattern") == "exact" and not text.ignore_case
    return text.exact if plain else None


def _path_covers(wide: Any, narrow: Any) -> bool:
    how, text = _path(wide)
    which, inner = _path(narrow)
    if how == "prefix" and text == "/" and which != "connect_matcher":
        return True
    if how == "safe_regex" and text in _EVERYTHING and which != "connect_matcher":
        return True
    if _is_sensitive(wide) and not _is_sensitive(narrow) and re.search("[A-Za-z]", text):
        return False
    if not _is_sensitive(wide):
        text, inner = text.lower(), inner.lower()
    if how == "prefix":
        return which in ("prefix", "path", "path_separated_prefix") and inner.startswith(text)
    if how == "path_separated_prefix":
        below = inner.startswith(f"{text}/")
        return below if which == "prefix" else which in ("path", "path_separated_prefix") and (below or inner == text)
    return how == which and text == inner and how in ("path", "safe_regex", "connect_matcher")


def _paths_disjoint(one: Any, other: Any) -> bool:
    how, text = _path(one)
    which, inner = _path(other)
    if "connect_matcher" in (how, which):
        return how != which
    if not (_is_sensitive(one) and _is_sensitive(other)):
        text, inner = text.lower(), inner.lower()
    ways = ("prefix", "path_separated_prefix")
    if how == "path" and which == "path":
        return text != inner
    if how == "path" and which == "prefix":
        return not text.startswith(inner)
    if how == "path" and which == "path_separated_prefix":
        return text != inner and not text.startswith(f"{inner}/")
    if how == "path" and which == "safe_regex":
        return False
    return how in ways and which in ways and not (text.startswith(inner) or inner.startswith(text))


def _path(match: Any) -> tuple[str, str]:
    how = match.WhichOneof("path_specifier") or ""
    if how == "safe_regex":
        return how, match.safe_regex.regex
    return how, getattr(match, how) if how in ("prefix", "path", "path_separated_prefix") else ""


def _is_sensitive(match: Any) -> bool:
    return not match.HasField("case_sensitive") or bool(match.case_sensitive.value)
