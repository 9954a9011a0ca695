"""Which of the callers that were seen a listener begins to deny (envoy.config.rbac.v3).

A caller is known by its identity alone. So it is denied for certain where no ALLOW rule can be for it, or where a DENY
rule is for it and for every request; and a DENY rule that is for it and for some requests may deny some of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from fairlead.effect.change import CALLERS_DENIED, Change
from fairlead.effect.listeners import is_mutual, policy_name, rbac_filters
from fairlead.effect.naming import some
from fairlead.effect.seen import Caller
from fairlead.simulate.matching import Undecided, string_matches

_BLACK_HOLE = "virtualInbound-blackhole"


def denials(old: Any, new: Any, callers: Sequence[Caller]) -> Iterator[Change]:
    """Callers that an inbound listener let in, and will not."""
    denied: dict[tuple[int, ...], list[str]] = {}
    partly: dict[str, list[str]] = {}
    all_ports = {port for port, _ in _by_port(new)}
    for caller in callers:
        was, now = _denied_on(old, caller), _denied_on(new, caller)
        newly = tuple(sorted(now - was))
        if newly:
            denied.setdefault(newly, []).append(caller.name)
        if not now:
            for name in sorted({*_deny_rules(new, caller)} - {*_deny_rules(old, caller)}):
                partly.setdefault(name, []).append(caller.name)
    for ports, names in sorted(denied.items()):
        where = "" if {*ports} == all_ports else f" on port {', '.join(str(one) if one else 'others' for one in ports)}"
        said = f"authorization: {some(sorted(names))} called it and will be denied{where}"
        yield Change("filter chain", said, CALLERS_DENIED)
    for name, names in sorted(partly.items()):
        said = (
            f"authorization: requests of {some(sorted(names))}, who called it, are denied where DENY {name} names them"
        )
        yield Change("filter chain", said, CALLERS_DENIED)


def _by_port(listener: Any) -> list[tuple[int, list[Any]]]:
    """Filter chains by port (0: all others); of those for callers with and without mutual TLS, the former."""
    found: dict[int, list[Any]] = {}
    for one in listener.filter_chains:
        if one.name != _BLACK_HOLE:
            match = one.filter_chain_match
            port = match.destination_port.value if match.HasField("destination_port") else 0
            found.setdefault(port, []).append(one)
    return [(port, [one for one in chains if is_mutual(one)] or chains) for port, chains in found.items()]


def _denied_on(listener: Any, caller: Caller) -> set[int]:
    """The ports on which the caller is denied for certain."""
    return {
        port
        for port, chains in _by_port(listener)
        if all(any(_denies(rbac.rules, caller) for rbac in rbac_filters(one)) for one in chains)
    }


def _denies(rules: Any, caller: Caller) -> bool:
    if not rules.policies and rules.action != rules.ALLOW:
        return False
    policies = list(rules.policies.values())
    if rules.action == rules.ALLOW:
        return all(_is_for(one, caller) is False for one in policies)
    return rules.action == rules.DENY and any(
        _is_for(one, caller) is True and any(map(_permits_all, one.permissions)) for one in policies
    )


def _permits_all(asked: Any) -> bool:
    """Whether every request fulfils a permission, as far as is plain from it."""
    kind = asked.WhichOneof("rule")
    if kind == "and_rules":
        return all(map(_permits_all, asked.and_rules.rules))
    if kind == "or_rules":
        return any(map(_permits_all, asked.or_rules.rules))
    return kind == "any"


def _deny_rules(listener: Any, caller: Caller) -> Iterator[str]:
    """The DENY rules that are for the caller, and for some requests."""
    for one in listener.filter_chains:
        for rbac in rbac_filters(one):
            if rbac.rules.action == rbac.rules.DENY:
                for name, policy in rbac.rules.policies.items():
                    if _is_for(policy, caller) is True:
                        yield policy_name(name)


def _is_for(policy: Any, caller: Caller) -> bool | None:
    """Whether a rule is for the caller; None where more than the identity decides."""
    return _any([_is(one, caller) for one in policy.principals])


def _is(asked: Any, caller: Caller) -> bool | None:
    kind = asked.WhichOneof("identifier")
    if kind == "any":
        return True
    if kind == "and_ids":
        return _not(_any([_not(_is(one, caller)) for one in asked.and_ids.ids]))
    if kind == "or_ids":
        return _any([_is(one, caller) for one in asked.or_ids.ids])
    if kind == "not_id":
        return _not(_is(asked.not_id, caller))
    if kind != "authenticated":
        return None
    if not asked.authenticated.HasField("principal_name"):
        return True
    try:
        return string_matches(asked.authenticated.principal_name, caller.identity)
    except Undecided:
        return None


def _any(found: list[bool | None]) -> bool | None:
    return True if True in found else None if None in found else False


def _not(one: bool | None) -> bool | None:
    return None if one is None else not one
