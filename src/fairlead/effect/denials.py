"""Which of the callers that were seen a listener begins to deny (envoy.config.rbac.v3).

A caller is known by its identity alone; which requests it makes nobody has recorded. So it is denied for certain where
no ALLOW rule can be for it, or where a DENY rule is for it and for every request. A DENY rule that is for it and for
some requests may deny some of its own, and so may ALLOW rules that let it in with some requests only, where nothing
limited it before: then it is told what these rules ask for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from fairlead.effect.change import CALLERS_DENIED, Change
from fairlead.effect.listeners import is_mutual, policy_name, rbac_filters
from fairlead.effect.naming import some
from fairlead.effect.rulewords import asked
from fairlead.effect.seen import Caller
from fairlead.simulate.matching import Undecided, string_matches

_UNRECORDED = "which ones they make is not recorded"
_BLACK_HOLE = "virtualInbound-blackhole"


def denials(old: Any, new: Any, callers: Sequence[Caller]) -> Iterator[Change]:
    """Callers that an inbound listener let in, and will not, or will not with every request."""
    denied: dict[tuple[int, ...], list[str]] = {}
    partly: dict[str, list[str]] = {}
    all_ports = {port for port, _ in _by_port(new)}
    for caller in callers:
        was, now = _denied_on(old, caller), _denied_on(new, caller)
        newly = tuple(sorted(now - was))
        if newly:
            denied.setdefault(newly, []).append(caller.name)
        if not now:
            before = {name for name, _ in _deny_rules(old, caller)}
            for name, asks in dict(_deny_rules(new, caller)).items():
                if name not in before:
                    partly.setdefault(f"where DENY {name} names them{asks}", []).append(caller.name)
        for said in _limits(old, new, caller):
            partly.setdefault(said, []).append(caller.name)
    for ports, names in sorted(denied.items()):
        where = "" if {*ports} == all_ports else f" on port {', '.join(str(one) if one else 'others' for one in ports)}"
        said = f"authorization: {some(sorted(names))} called it and will be denied{where}"
        yield Change("filter chain", said, CALLERS_DENIED)
    for where, names in sorted(partly.items()):
        said = f"authorization: requests of {some(sorted(names))}, who called it, are denied {where}; {_UNRECORDED}"
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
        if all(any(_denies(rbac.rules, caller, port) for rbac in rbac_filters(one)) for one in chains)
    }


def _denies(rules: Any, caller: Caller, port: int) -> bool:
    if not rules.policies and rules.action != rules.ALLOW:
        return False
    policies = list(rules.policies.values())
    if rules.action == rules.ALLOW:
        return all(_lets(one, caller, port) is False for one in policies)
    return rules.action == rules.DENY and any(_lets(one, caller, port) is True for one in policies)


def _lets(policy: Any, caller: Caller, port: int) -> bool | None:
    """Whether a rule is for the caller with every request to a port; False: with none, None: more decides."""
    return _not(_any([_not(_is_for(policy, caller)), _not(_any([_permits(one, port) for one in policy.permissions]))]))


def _permits(rule: Any, port: int) -> bool | None:
    """Whether requests to a port (0: any other one) fulfil a permission: all, none, or some (None)."""
    kind = rule.WhichOneof("rule")
    if kind == "any":
        return True
    if kind == "and_rules":
        return _not(_any([_not(_permits(one, port)) for one in rule.and_rules.rules]))
    if kind == "or_rules":
        return _any([_permits(one, port) for one in rule.or_rules.rules])
    if kind == "not_rule":
        return _not(_permits(rule.not_rule, port))
    if kind == "destination_port" and port:
        return bool(rule.destination_port == port)
    return None


def _deny_rules(listener: Any, caller: Caller) -> Iterator[tuple[str, str]]:
    """The DENY rules that are for the caller and for some requests, and what these are."""
    for one in listener.filter_chains:
        for rbac in rbac_filters(one):
            if rbac.rules.action == rbac.rules.DENY:
                for name, policy in rbac.rules.policies.items():
                    if _is_for(policy, caller) is True:
                        yield policy_name(name), _bracketed(asked(policy))


def _limits(old: Any, new: Any, caller: Caller) -> Iterator[str]:
    """ALLOW rules that let the caller in with some requests only, on ports where nothing limited it."""
    before = dict(_limited(old, caller))
    found: dict[str, set[int]] = {}
    limited = dict(_limited(new, caller))
    for port, rules in limited.items():
        if rules and not before.get(port, before.get(0, "")) and port not in _denied_on(old, caller):
            found.setdefault(rules, set()).add(port)
    for rules, ports in sorted(found.items()):
        where = (
            "" if len(ports) == len(limited) else f" on port {', '.join(str(one or 'others') for one in sorted(ports))}"
        )
        yield f"{where.lstrip()}{' ' if where else ''}unless {rules} names them"


def _limited(listener: Any, caller: Caller) -> Iterator[tuple[int, str]]:
    """By port, the ALLOW rules that decide by more than who calls; "" where none does, or all is denied anyway."""
    for port, chains in _by_port(listener):
        said: list[str] = []
        for rbac in (each for one in chains for each in rbac_filters(one)):
            rules = rbac.rules
            if rules.action != rules.ALLOW or not rules.policies:
                continue
            lets = {name: _lets(one, caller, port) for name, one in rules.policies.items()}
            if True not in lets.values():
                said += [
                    f"ALLOW {policy_name(name)}{_bracketed(asked(rules.policies[name]))}"
                    for name in sorted(lets)
                    if lets[name] is None
                ]
        yield port, " or ".join(dict.fromkeys(said))


def _bracketed(text: str) -> str:
    return f" ({text})" if text else ""


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
