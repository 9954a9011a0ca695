"""Differences of listeners, in words: mutual TLS, authorization, and whose connections drain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from fairlead.effect.change import (
    AUTHORIZATION_WIDENED,
    CALLERS_DENIED,
    CERTIFICATE_LOST,
    DRAINS,
    MTLS_WEAKENED,
    PLAINTEXT_REFUSED,
    Change,
)
from fairlead.effect.naming import field, turned
from fairlead.envoy.difference import Difference
from fairlead.envoy.protojson import to_json, unpacked
from fairlead.envoy.settings import written

_CHAINS = ("filterChains", "defaultFilterChain", "filterChainMatcher")
"""What Envoy replaces inside of a listener that goes on (its filter-chain-only update)."""
_TOLD = ("envoy.filters.http.rbac", "envoy.filters.network.rbac", "shadowRules")
_MODES = ("DISABLE", "PERMISSIVE", "STRICT")
_ANYBODY = ("any", "andRules", "orRules", "andIds", "orIds", "rules", "ids")
_FEW = 4

Rules = Mapping[tuple[str, str], Any]
"""Authorization rules by action and name."""


def words(name: str, old: Any, new: Any, found: Sequence[Difference]) -> Iterator[Change]:
    """What differs between two listeners."""
    fields = tuple(field(one) for one in found)
    if old is None:
        yield Change("listener", f"listener {name} is new", fields=fields)
        return
    if new is None:
        yield Change("listener", f"listener {name} is gone: its connections drain", fields=fields, drains=name)
        return
    modes = list(_modes(old, new))
    yield from modes
    yield from _authorization(old, new)
    if not _is_inbound(new) and _ends_tls(old) and not _ends_tls(new):
        yield Change("filter chain", f"listener {name} ends no TLS any more", CERTIFICATE_LOST)
    chains = [one for one in found if one.path[0].partition("[")[0] in _CHAINS]
    others = [one for one in found if one not in chains]
    untold = tuple(dict.fromkeys(_short(one) for one in chains if not _is_told(one, modes)))
    if others:
        said = f"listener {name} changes as a whole ({'; '.join(turned(one) for one in others[:_FEW])})"
        more = (*(written(one.path) for one in others[_FEW:]), *untold)
        yield Change("listener drain", f"{said}: all its connections drain", DRAINS, (), fields, more, name)
    elif chains:
        said = f"listener {name}: {_chains(chains)}: their connections drain"
        yield Change("filter chain", said, "", (), fields, untold, name)


def _short(one: Difference) -> str:
    """A place without which chain it is in: chains of one listener mostly change alike."""
    rest = one.path[1:]
    sign = "+" if one.old is None else "-" if one.new is None else ""
    return f"{sign}{written(rest)}" if rest else f"{sign}{one.path[0]}"


def _chains(found: Sequence[Difference]) -> str:
    came = sum(1 for one in found if len(one.path) == 1 and one.old is None)
    went = sum(1 for one in found if len(one.path) == 1 and one.new is None)
    names = {one.path[0] for one in found if len(one.path) > 1}
    said = [(len(names), "changed"), (went, "gone"), (came, "new")]
    parts = [f"{count} {how}" for count, how in said if count]
    single = sum(count for count, _ in said) == 1
    return f"filter chain{'' if single else 's'} ({', '.join(parts)})"


def _is_told(one: Difference, modes: Sequence[Change]) -> bool:
    """Whether the sentences say of it: rules of authorization, and what a mode of mutual TLS brings with it."""
    if any(word in step for step in one.path for word in _TOLD):
        return True
    inside = one.path[1].partition("[")[0] if len(one.path) > 1 else ""
    return bool(modes) and inside in ("", "filterChainMatch", "transportSocket", "name", "filters")


def _modes(old: Any, new: Any) -> Iterator[Change]:
    """Ports whose mode of mutual TLS changes."""
    if old.name != "virtualInbound" and not _is_inbound(old):
        return
    before, after = _by_port(old), _by_port(new)
    for port in sorted({*before, *after}):
        was, now = before.get(port, before.get(0, "")), after.get(port, after.get(0, ""))
        if was == now or not was or not now:
            continue
        which = f"port {port}" if port else "all other ports"
        weaker = _MODES.index(now) < _MODES.index(was)
        says = {
            "STRICT": "takes mutual TLS of the mesh only",
            "PERMISSIVE": "takes plaintext, too",
            "DISABLE": "takes no mutual TLS",
        }
        said = f"{which} {says[now]}: mode {now} (was {was})"
        danger = MTLS_WEAKENED if weaker else PLAINTEXT_REFUSED if now == "STRICT" else ""
        yield Change("filter chain", said, danger, strict=port if now == "STRICT" else None)


def _is_inbound(listener: Any) -> bool:
    return bool(listener.traffic_direction == 1)


def _by_port(listener: Any) -> dict[int, str]:
    """The mode of mutual TLS by port; 0 is all others."""
    secure: dict[int, set[bool]] = {}
    for one in listener.filter_chains:
        match = one.filter_chain_match
        if one.name == "virtualInbound-blackhole":
            continue
        port = match.destination_port.value if match.HasField("destination_port") else 0
        secure.setdefault(port, set()).add(is_mutual(one))
    return {
        port: "PERMISSIVE" if len(found) == 2 else "STRICT" if True in found else "DISABLE"
        for port, found in secure.items()
    }


def _ends_tls(listener: Any) -> bool:
    """Whether some chain has a certificate of its own."""
    contexts: list[Any] = [unpacked(one.transport_socket.typed_config) for one in listener.filter_chains]
    return any(one.DESCRIPTOR.name == "DownstreamTlsContext" for one in contexts)


def is_mutual(chain: Any) -> bool:
    """Whether a filter chain takes mutual TLS only."""
    if not chain.HasField("transport_socket"):
        return False
    context: Any = unpacked(chain.transport_socket.typed_config)
    return context.DESCRIPTOR.name == "DownstreamTlsContext" and context.require_client_certificate.value


def _authorization(old: Any, new: Any) -> Iterator[Change]:
    """Rules of authorization that come, go and change."""
    before, after = _rules(old), _rules(new)
    for at in sorted({*before, *after}):
        action, policy = at
        if at not in after:
            danger = AUTHORIZATION_WIDENED if action == "DENY" else ""
            yield Change("filter chain", f"authorization: {action} {policy_name(policy)} is gone", danger)
        elif at not in before:
            danger = AUTHORIZATION_WIDENED if action == "ALLOW" and before and _everybody(after[at]) else ""
            who = " for everybody" if _everybody(after[at]) else ""
            yield Change("filter chain", f"authorization: {action}{who} {policy_name(policy)} is new", danger)
        elif before[at] != after[at]:
            widened = action == "ALLOW" and _everybody(after[at]) and not _everybody(before[at])
            how = "now allows everybody" if widened else "says something else"
            danger = AUTHORIZATION_WIDENED if widened else ""
            yield Change("filter chain", f"authorization: {action} {policy_name(policy)} {how}", danger)
    had, has = (any(action == "ALLOW" for action, _ in rules) for rules in (before, after))
    if had and not has:
        said = "authorization: no ALLOW policy any more: whatever no DENY forbids may pass"
        yield Change("filter chain", said, AUTHORIZATION_WIDENED)
    elif has and not had:
        yield Change("filter chain", "authorization: what no ALLOW rule names is denied from now on", CALLERS_DENIED)


def policy_name(name: str) -> str:
    """`ns[shop]-policy[web]-rule[0]` as `rule 0 of policy web in shop`."""
    parts = name.replace("]", "").replace("-policy[", "[").replace("-rule[", "[").split("[")
    return f"rule {parts[3]} of policy {parts[2]} in {parts[1]}" if len(parts) == 4 and parts[0] == "ns" else name


def _rules(listener: Any) -> dict[tuple[str, str], Any]:
    """The rules of all RBAC filters in a listener; those of dry runs are of the action `dry run`."""
    out: dict[tuple[str, str], Any] = {}
    for chain in listener.filter_chains:
        for rbac in rbac_filters(chain):
            out.update(_of(rbac))
    return out


def rbac_filters(chain: Any) -> Iterator[Any]:
    """The configurations of a filter chain's RBAC filters, of both sorts."""
    for one in chain.filters:
        config: Any = unpacked(one.typed_config)
        inner = config.http_filters if config.DESCRIPTOR.name == "HttpConnectionManager" else ()
        for rbac in (config, *(unpacked(each.typed_config) for each in inner)):
            if rbac.DESCRIPTOR.name == "RBAC":
                yield rbac


def _of(rbac: Any) -> Iterator[tuple[tuple[str, str], Any]]:
    for rules, dry in ((rbac.rules, ""), (rbac.shadow_rules, "dry run of ")):
        action = f"{dry}{rules.DESCRIPTOR.enum_types_by_name['Action'].values_by_number[rules.action].name}"
        for name in rules.policies:
            yield (action, name), to_json(rules.policies[name])


def _everybody(policy: Any) -> bool:
    """Whether a rule (JSON-shaped) lets every request of everybody match."""
    return all(any(_any(one) for one in policy.get(side, ())) for side in ("permissions", "principals"))


def _any(rule: Any) -> bool:
    if not isinstance(rule, dict):
        return rule is True
    held = cast("dict[str, Any]", rule)
    inner = [one for key, one in held.items() if key in _ANYBODY]
    return len(inner) == len(held) == 1 and all(
        all(_any(each) for each in cast("list[Any]", one)) if isinstance(one, list) else _any(one) for one in inner
    )
