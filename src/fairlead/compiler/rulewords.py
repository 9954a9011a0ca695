"""Rules in few words, for descriptions: what a rule is for, and what it does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fairlead.ir.route import Destination, HttpMatch, HttpRule, L4Match, L4Rule, StringMatch, WeightedDestination
from fairlead.ir.security import AccessRule, Condition, Operation, Source

_FEW = 4
_FORMS = {"exact": "{}", "prefix": "{}*", "regex": "~{}", "present": "any"}
_OR = " or "


def access(rule: AccessRule) -> str:
    """`from principals a; to methods GET, paths /x*; when request.headers[x] b`, or `every request`."""
    parts = (
        ("from", _OR.join(filter(None, map(_lists, rule.sources)))),
        ("to", _OR.join(filter(None, map(_lists, rule.operations)))),
        ("when", " and ".join(map(_condition, rule.conditions))),
    )
    return "; ".join(f"{word} {said}" for word, said in parts if said) or "every request"


def http(rule: HttpRule) -> str:
    """`path /beta*: to reviews v2 (90%), reviews v1 (10%); timeout 5s`."""
    when = _OR.join(dict.fromkeys(map(_http_match, rule.matches))) or "every request"
    name = f"`{rule.name}` " if rule.name else ""
    return f"{name}{when}: {'; '.join(_http_does(rule))}"


def layer4(rule: L4Rule) -> str:
    """`server names a.example: to db`."""
    when = _OR.join(dict.fromkeys(map(_l4_match, rule.matches))) or "every connection"
    return f"{when}: {_destinations(rule.routes)}"


def _lists(of: Source | Operation) -> str:
    return ", ".join(
        f"{name.replace('_', ' ')} {some(getattr(of, name))}" for name in of.__struct_fields__ if getattr(of, name)
    )


def _condition(of: Condition) -> str:
    said = some(of.values) if of.values else ""
    excluded = f"not {some(of.not_values)}" if of.not_values else ""
    return " ".join(part for part in (of.key, said, excluded) if part)


def some(values: Iterable[str]) -> str:
    """A few of them, and how many more there are."""
    listed = list(values)
    more = f" and {len(listed) - _FEW} more" if len(listed) > _FEW else ""
    return ", ".join(listed[:_FEW]) + more


def _text(of: StringMatch) -> str:
    return _FORMS[of.kind].format(of.value)


def _http_match(of: HttpMatch) -> str:
    single = (("path", of.uri), ("method", of.method), ("scheme", of.scheme), ("host", of.authority))
    parts = [f"{what} {_text(match)}" for what, match in single if match is not None]
    parts += [f"header {name} {_text(match)}" for name, match in of.headers]
    parts += [f"without header {name} {_text(match)}" for name, match in of.without_headers]
    parts += [f"query {name} {_text(match)}" for name, match in of.query]
    parts += _elsewhere(of)
    return ", ".join(parts) or "every request"


def _l4_match(of: L4Match) -> str:
    parts = [f"server names {some(of.sni_hosts)}"] if of.sni_hosts else []
    parts += [f"addresses {some(of.destination_subnets)}"] if of.destination_subnets else []
    parts += _elsewhere(of)
    return ", ".join(parts) or "every connection"


def _elsewhere(of: HttpMatch | L4Match) -> Iterator[str]:
    if of.port:
        yield f"port {of.port}"
    if of.source_labels:
        yield f"from {some(f'{key}={value}' for key, value in of.source_labels)}"
    if of.source_namespace:
        yield f"from namespace {of.source_namespace}"
    if of.gateways:
        yield f"at {some(of.gateways)}"


def _http_does(rule: HttpRule) -> Iterator[str]:
    if rule.redirect is not None:
        yield f"redirected with {rule.redirect.code}"
    elif rule.direct is not None:
        yield f"answered with {rule.direct.status}"
    elif rule.delegate is not None:
        yield f"as {rule.delegate} says"
    else:
        yield _destinations(rule.routes)
    if rule.timeout is not None:
        yield f"timeout {rule.timeout:g}s"
    if rule.retry is not None:
        yield f"{rule.retry.attempts} retries" if rule.retry.attempts else "no retries"
    if rule.fault is not None:
        yield "faults"
    if rule.rewrite is not None:
        yield "rewritten"
    if rule.mirrors:
        yield f"mirrored to {some(_name(one.destination) for one in rule.mirrors)}"


def _destinations(routes: tuple[WeightedDestination, ...]) -> str:
    total = sum(one.weight for one in routes)
    if len(routes) == 1 or not total:
        return f"to {some(_name(one.destination) for one in routes)}" if routes else "to nobody"
    return "to " + some(f"{_name(one.destination)} ({round(100 * one.weight / total)}%)" for one in routes)


def _name(of: Destination) -> str:
    port = f":{of.port}" if of.port else ""
    return f"{of.host}{port}{f' {of.subset}' if of.subset else ''}"
