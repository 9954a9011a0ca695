"""Envoy's RBAC: which policy of a filter matches a request or connection (envoy.config.rbac.v3)."""

from __future__ import annotations

from typing import Any

import msgspec
from envoy.config.rbac.v3.rbac_pb2 import RBAC, Permission, Policy, Principal
from envoy.extensions.path.match.uri_template.v3.uri_template_match_pb2 import UriTemplateMatchConfig

from fairlead.model.regex import matches_whole
from fairlead.simulate.matching import (
    Undecided,
    all_of,
    any_of,
    header_matches,
    in_range,
    metadata_matches,
    string_matches,
    unpacked,
)
from fairlead.simulate.message import Message


class Peer(msgspec.Struct, frozen=True):
    """What RBAC sees of a connection. `identity` is the URI of the client's verified certificate, "" without one.

    `source` is the address of whoever made the connection, `remote` the client's behind trusted proxies.
    """

    address: str
    port: int
    source: str = ""
    remote: str = ""
    identity: str = ""
    mtls: bool = False
    sni: str = ""


class Judgement(msgspec.Struct, frozen=True):
    """Whether a request may pass, and the policy that matched ("" for none)."""

    allowed: bool
    policy: str = ""


class _Facts(msgspec.Struct, frozen=True):
    """What policies look at; without a message it is a connection that is no HTTP."""

    peer: Peer
    message: Any = None
    metadata: Any = None


def judge(rules: RBAC, peer: Peer, message: Message | None, metadata: Any = None) -> Judgement:
    """What the rules say. Raises Undecided where something decides that is not known."""
    facts = _Facts(peer, message, metadata if metadata is not None else message.metadata if message else {})
    found = ""
    unknown: Undecided | None = None
    for name in sorted(rules.policies):
        try:
            if _matches(rules.policies[name], facts):
                found = name
                break
        except Undecided as reason:
            unknown = unknown or Undecided(f"{name}: {reason}")
    if not found and unknown is not None:
        raise unknown
    if rules.action == RBAC.ALLOW:
        return Judgement(bool(found), found)
    return Judgement(not found or rules.action == RBAC.LOG, found)


def failing(policy: Policy, peer: Peer, message: Message | None) -> str:
    """Which part of a policy does not hold: `permissions` (the request) or `principals` (the caller), or both."""
    facts = _Facts(peer, message, message.metadata if message else {})
    out: list[str] = []
    for name, holds in (
        ("to", lambda: any_of(policy.permissions, lambda one: _permits(one, facts))),
        ("from", lambda: any_of(policy.principals, lambda one: _is(one, facts))),
    ):
        try:
            if not holds():
                out.append(name)
        except Undecided:
            continue
    return " and ".join(out)


def _matches(policy: Policy, facts: _Facts) -> bool:
    if policy.HasField("condition") or policy.HasField("checked_condition"):
        raise Undecided("a CEL condition is not modelled")
    return any_of(policy.permissions, lambda one: _permits(one, facts)) and any_of(
        policy.principals, lambda one: _is(one, facts)
    )


def _permits(asked: Permission, facts: _Facts) -> bool:
    kind = asked.WhichOneof("rule")
    match kind:
        case "any":
            return True
        case "and_rules":
            return all_of(asked.and_rules.rules, lambda one: _permits(one, facts))
        case "or_rules":
            return any_of(asked.or_rules.rules, lambda one: _permits(one, facts))
        case "not_rule":
            return not _permits(asked.not_rule, facts)
        case "destination_ip":
            return in_range(asked.destination_ip, facts.peer.address)
        case "destination_port":
            return asked.destination_port == facts.peer.port
        case "destination_port_range":
            return asked.destination_port_range.start <= facts.peer.port < asked.destination_port_range.end
        case "metadata":
            return metadata_matches(asked.metadata, facts.metadata)  # pyright: ignore[reportDeprecated]
        case "requested_server_name":
            return string_matches(asked.requested_server_name, facts.peer.sni)
        case _:
            return _request(asked, str(kind), facts)


def _request(asked: Permission, kind: str, facts: _Facts) -> bool:
    """Rules about HTTP, which hold for no other connection."""
    message: Message | None = facts.message
    if kind not in ("header", "url_path", "uri_template"):
        raise Undecided(f"a permission of kind {kind} is not modelled")
    if message is None:
        return False
    if kind == "header":
        return header_matches(asked.header, message)
    if kind == "url_path":
        return string_matches(asked.url_path.path, message.bare_path)
    template = unpacked(asked.uri_template.typed_config, UriTemplateMatchConfig).path_template
    return matches_whole(template_pattern(template), message.bare_path)


def template_pattern(template: str) -> str:
    """A URI template as a regular expression: `*` is one segment, `**` any number, `{name=...}` a named part."""
    out: list[str] = []
    at = 0
    while at < len(template):
        if template.startswith("**", at):
            out.append(r"[A-Za-z0-9\-._~%!$&'()+,;:@=*/]*")
            at += 2
        elif template[at] == "*":
            out.append(r"[A-Za-z0-9\-._~%!$&'()+,;:@=*]+")
            at += 1
        elif template[at] == "{":
            end = template.index("}", at)
            _, _, inner = template[at + 1 : end].partition("=")
            out.append(template_pattern(inner or "*"))
            at = end + 1
        else:
            letter = template[at]
            out.append(letter if letter.isalnum() or letter in "/_-~" else "\\" + letter)
            at += 1
    return "".join(out)


def _is(asked: Principal, facts: _Facts) -> bool:
    kind = asked.WhichOneof("identifier")
    match kind:
        case "any":
            return True
        case "and_ids":
            return all_of(asked.and_ids.ids, lambda one: _is(one, facts))
        case "or_ids":
            return any_of(asked.or_ids.ids, lambda one: _is(one, facts))
        case "not_id":
            return not _is(asked.not_id, facts)
        case "authenticated":
            return _authenticated(asked.authenticated, facts.peer)
        case "direct_remote_ip" | "source_ip":
            return in_range(getattr(asked, kind), facts.peer.source)
        case "remote_ip":
            return in_range(asked.remote_ip, facts.peer.remote or facts.peer.source)
        case "metadata":
            return metadata_matches(asked.metadata, facts.metadata)  # pyright: ignore[reportDeprecated]
        case "header":
            return facts.message is not None and header_matches(asked.header, facts.message)
        case "url_path":
            return facts.message is not None and string_matches(asked.url_path.path, facts.message.bare_path)
        case _:
            raise Undecided(f"a principal of kind {kind} is not modelled")


def _authenticated(asked: Principal.Authenticated, peer: Peer) -> bool:
    if not peer.mtls:
        return False
    if not asked.HasField("principal_name"):
        return True
    # Envoy compares the URIs of the certificate, else its DNS names, else its subject.
    return string_matches(asked.principal_name, peer.identity)
