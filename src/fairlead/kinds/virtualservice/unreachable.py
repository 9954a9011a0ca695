"""Rules and matches that can never decide, because an earlier one always does (Istio's IST0130 and IST0131)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from fairlead.kinds.virtualservice.spec import HTTPMatchRequest, HTTPRoute, StringMatch, TCPRoute, TLSRoute
from fairlead.model.diagnostic import Problem
from fairlead.model.findings import unused
from fairlead.model.path import FieldPath

_MOST = 500
"""Prefix matches that are compared with each other: enough for what people write, and quadratic."""


def unreachable(path: FieldPath, routes: Sequence[HTTPRoute | TLSRoute | TCPRoute]) -> Iterator[Problem]:
    """Warnings about one list of rules."""
    seen: dict[bytes, int] = {}
    catch_all: int | None = None
    prefixes: list[tuple[int, int, HTTPMatchRequest, str]] = []
    for at, route in enumerate(routes):
        if not route.match:
            if catch_all is not None:
                message = f"rule {_name(routes, at)} is not used: only the last rule can have no matches"
                yield unused(
                    path / at, message, f"Rule {_name(routes, catch_all)} takes everything: move or remove it."
                )
            catch_all = at
            continue
        repeated = 0
        for number, match in enumerate(route.match):
            key = _key(match)
            if key in seen:
                repeated += 1
                yield _ineffective(path, routes, (at, number), seen[key], "it is a duplicate")
            else:
                seen[key] = at
                if isinstance(match, HTTPMatchRequest) and match.uri is not None and match.uri.prefix:
                    prefixes.append((at, number, match, match.uri.prefix))
        if repeated == len(route.match):
            message = f"rule {_name(routes, at)} is not used: all matches used by prior rules"
            yield unused(path / at, message, "Remove it, or match something else.")
    yield from _covered(path, routes, prefixes[:_MOST])


def _covered(
    path: FieldPath,
    routes: Sequence[HTTPRoute | TLSRoute | TCPRoute],
    prefixes: list[tuple[int, int, HTTPMatchRequest, str]],
) -> Iterator[Problem]:
    for later, (at, number, match, prefix) in enumerate(prefixes):
        for before, _, other, shorter in prefixes[:later]:
            if shorter != prefix and prefix.startswith(shorter) and _covers(other, match):
                why = f"prefix {shorter} covers prefix {prefix}"
                yield _ineffective(path, routes, (at, number), before, why)
                break


def _ineffective(
    path: FieldPath,
    routes: Sequence[HTTPRoute | TLSRoute | TCPRoute],
    place: tuple[int, int],
    before: int,
    why: str,
) -> Problem:
    at, number = place
    message = (
        f"rule {_name(routes, at)} match #{number} is not used "
        f"(duplicate/overlapping match in rule {_name(routes, before)}): {why}"
    )
    return unused(path.child(at, "match", number), message, "Put the more specific rule first.")


def _covers(earlier: HTTPMatchRequest, later: HTTPMatchRequest) -> bool:
    """Whether every request that meets `later` meets `earlier`, given that the paths do."""
    plain = (
        (earlier.scheme, later.scheme),
        (earlier.method, later.method),
        (earlier.authority, later.authority),
        (earlier.port, later.port),
        (earlier.gateways, later.gateways),
        (earlier.source_namespace, later.source_namespace),
    )
    if any(one and one != other for one, other in plain):
        return False
    if later.ignore_uri_case and not earlier.ignore_uri_case:
        return False
    maps: tuple[tuple[Mapping[str, StringMatch | str], Mapping[str, StringMatch | str]], ...] = (
        (earlier.headers, later.headers),
        (earlier.without_headers, later.without_headers),
        (earlier.query_params, later.query_params),
        (earlier.source_labels, later.source_labels),
    )
    return all(other.get(name) == value for one, other in maps for name, value in one.items())


def _key(match: object) -> bytes:
    bare = msgspec.structs.replace(match, name="") if isinstance(match, HTTPMatchRequest) else match
    return msgspec.json.encode(bare, order="deterministic")


def _name(routes: Sequence[HTTPRoute | TLSRoute | TCPRoute], at: int) -> str:
    route = routes[at]
    return repr(route.name) if isinstance(route, HTTPRoute) and route.name else f"#{at}"
