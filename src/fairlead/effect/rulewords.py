"""What a rule of authorization asks of a request beside the caller's identity, in words (envoy.config.rbac.v3)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from fairlead.effect.naming import some

_PSEUDO = {":method": "methods", ":authority": "hosts"}
_FORMS = {"exact": "{}", "prefix": "{}*", "suffix": "*{}", "contains": "*{}*"}
Asked = tuple[str, str]
"""What is looked at (`methods`, `not paths`, `header x-a`), and a value; no value where it says little."""


def asked(policy: Any) -> str:
    """`methods GET, HEAD; paths /a, /b* or methods POST, with header x-a`; "" if the identity alone decides."""
    said = " or ".join(dict.fromkeys(filter(None, (_joined(_of_permission(one, "")) for one in policy.permissions))))
    who = _joined(_of_principals(policy.principals))
    return ", ".join(part for part in (said, f"with {who}" if who else "") if part)


def _joined(found: Iterable[Asked]) -> str:
    values: dict[str, list[str]] = {}
    for what, value in found:
        values.setdefault(what, []).extend([value] if value else [])
    return "; ".join(f"{what} {some(list(dict.fromkeys(each)))}" if each else what for what, each in values.items())


def _of_permission(one: Any, sign: str) -> Iterator[Asked]:
    kind = one.WhichOneof("rule")
    match kind:
        case "any":
            return
        case "and_rules" | "or_rules":
            for each in getattr(one, kind).rules:
                yield from _of_permission(each, sign)
        case "not_rule":
            yield from _of_permission(one.not_rule, "" if sign else "not ")
        case "header":
            yield _of_header(one.header, sign)
        case "url_path":
            yield f"{sign}paths", _text(one.url_path.path)
        case "uri_template":
            yield f"{sign}paths", "of a template"
        case "destination_port":
            yield f"{sign}ports", str(one.destination_port)
        case "requested_server_name":
            yield f"{sign}server names", _text(one.requested_server_name)
        case "destination_ip":
            yield f"{sign}destination addresses", _range(one.destination_ip)
        case _:
            yield f"{sign}what else it asks for", ""


def _of_principals(principals: Any) -> Iterator[Asked]:
    for one in principals:
        kind = one.WhichOneof("identifier")
        match kind:
            case "any" | "authenticated":
                continue
            case "and_ids" | "or_ids":
                yield from _of_principals(getattr(one, kind).ids)
            case "not_id":
                yield from ((f"not {what}", value) for what, value in _of_principals([one.not_id]))
            case "header":
                yield _of_header(one.header, "")
            case "direct_remote_ip" | "remote_ip" | "source_ip":
                yield "addresses", _range(getattr(one, kind))
            case "metadata" | "sourced_metadata":
                yield "a token", ""
            case _:
                yield "what else it asks of the caller", ""


def _of_header(one: Any, sign: str) -> Asked:
    if one.name in _PSEUDO:
        return f"{sign}{_PSEUDO[one.name]}", _text(one.string_match)
    return f"{sign}header {one.name}", ""


def _text(asked: Any) -> str:
    kind = asked.WhichOneof("match_pattern")
    if kind == "safe_regex":
        return str(asked.safe_regex.regex)
    return _FORMS.get(kind or "", "...").format(getattr(asked, kind) if kind in _FORMS else "")


def _range(cidr: Any) -> str:
    return f"{cidr.address_prefix}/{cidr.prefix_len.value}"
