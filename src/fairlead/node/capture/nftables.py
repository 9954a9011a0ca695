"""Capture rules as nftables text: what `nft -f` reads."""

from __future__ import annotations

from collections.abc import Sequence

from fairlead.node.capture.rules import OUTPUT, PREROUTING, CaptureRule, Match, Table, chains

TABLES: tuple[Table, ...] = ("nat", "mangle", "raw")
HOOKS = {
    ("nat", PREROUTING): ("nat", "-100"),
    ("nat", OUTPUT): ("nat", "-100"),
    ("mangle", PREROUTING): ("filter", "-150"),
    ("mangle", OUTPUT): ("route", "-150"),
    ("raw", PREROUTING): ("filter", "-300"),
    ("raw", OUTPUT): ("filter", "-300"),
}
"""Type and priority of base chains. Output of mangle is of type route: a changed mark must choose the route anew."""
_WORDS = {"iif": "iifname", "oif": "oifname", "mark": "mark", "ctmark": "ct mark", "protocol": "meta l4proto"}


def table_name(table: Table) -> str:
    """The name of our table, which is Istio's."""
    return f"istio-proxy-{table}"


def render(rules: Sequence[CaptureRule]) -> list[str]:
    """The commands, one a line. A table that is there is emptied first, so they may be given again."""
    lines: list[str] = []
    for table in TABLES:
        own = [rule for rule in rules if rule.table == table]
        if not own:
            continue
        name = table_name(table)
        lines += [f"add table inet {name}", f"flush table inet {name}"]
        for chain in chains(own, table):
            hook = HOOKS.get((table, chain))
            base = f" {{ type {hook[0]} hook {chain} priority {hook[1]} ; }}" if hook else ""
            lines.append(f"add chain inet {name} {chain}{base}")
        filled: dict[str, int] = {}
        for rule in own:
            count = filled.get(rule.chain, 0)
            filled[rule.chain] = count + 1
            # A position that no rule holds yet is the end: `insert` wants one to insert before.
            inserted = rule.position is not None and rule.position < count
            verb = f"insert rule inet {name} {rule.chain} index {rule.position}" if inserted else ""
            lines.append(f"{verb or f'add rule inet {name} {rule.chain}'} {statement(rule)}")
    return lines


def statement(rule: CaptureRule) -> str:
    """The conditions and the action of one rule."""
    # In table raw the owner is written out as `meta skuid`, which is the same.
    conditions = [_condition(one, rule.family or "ip", raw=rule.table == "raw") for one in rule.matches]
    return " ".join([*conditions, _action(rule)])


def _condition(match: Match, family: str, *, raw: bool) -> str:
    values = match.values[0] if len(match.values) == 1 else f"{{ {', '.join(match.values)} }}"
    value = f"!= {values}" if match.negate else values
    match match.kind:
        case "source" | "destination":
            return f"{family} {'saddr' if match.kind == 'source' else 'daddr'} {value}"
        case "dport" | "sport":
            return f"{match.protocol} {match.kind} {value}"
        case "uid" | "gid":
            return f"{'meta ' if raw else ''}sk{match.kind} {value}"
        case "ctstate":
            return f"ct state {','.join(match.values)}"
        case kind:
            return f"{_WORDS[kind]} {value}"


def _action(rule: CaptureRule) -> str:
    action = rule.action
    match action.kind:
        case "jump":
            return f"counter jump {action.to}"
        case "redirect":
            return f"counter redirect to :{action.to}"
        case "tproxy":
            return f"tproxy {rule.family} to :{action.to} meta mark set {action.mark} counter accept"
        case "mark":
            return f"counter meta mark set {action.to}"
        case "zone":
            return f"counter ct zone set {action.to}"
        case "save-mark":
            return "counter ct mark set mark"
        case "restore-mark":
            return "counter meta mark set ct mark"
        case kind:
            return f"counter {kind}"
