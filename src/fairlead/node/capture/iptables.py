"""Capture rules as text of `iptables-restore` and `ip6tables-restore`, for hosts without nftables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from fairlead.node.capture.rules import OUTPUT, PREROUTING, CaptureRule, Match, Table

TABLES: tuple[Table, ...] = ("mangle", "nat", "raw")
_OPTIONS = {"iif": "-i", "oif": "-o", "source": "-s", "destination": "-d"}


def render(rules: Sequence[CaptureRule], family: Literal["ip", "ip6"]) -> list[str]:
    """The lines for one family; none where it has no rule."""
    lines: list[str] = []
    for table in TABLES:
        own = [rule for rule in rules if rule.table == table and rule.family in ("", family)]
        if not own:
            continue
        lines.append(f"*{table}")
        made = dict.fromkeys(rule.chain for rule in own if rule.chain not in (PREROUTING, OUTPUT))
        lines += [f"-N {chain_name(chain)}" for chain in made]
        for rule in own:
            at = "-A" if rule.position is None else "-I"
            number = "" if rule.position is None else f" {rule.position + 1}"
            lines.append(
                " ".join([f"{at} {chain_name(rule.chain)}{number}", *_conditions(rule.matches), _action(rule)])
            )
        lines.append("COMMIT")
    return lines


def chain_name(chain: str) -> str:
    """The name that iptables knows: ISTIO_OUTPUT for istio-output."""
    return chain.upper().replace("-", "_")


def _conditions(matches: tuple[Match, ...]) -> list[str]:
    protocols = {one.values[0] for one in matches if one.kind == "protocol"}
    protocols |= {one.protocol for one in matches if one.kind in ("dport", "sport")}
    # iptables takes ports only beside their protocol, and names it once.
    return [
        *(f"-p {one}" for one in sorted(protocols)),
        *(_condition(one) for one in matches if one.kind != "protocol"),
    ]


def _condition(match: Match) -> str:
    no = "! " if match.negate else ""
    values = ",".join(match.values)
    match match.kind:
        case "dport" | "sport":
            return f"-m multiport {no}--{match.kind}s {values}" if "," in values else f"{no}--{match.kind} {values}"
        case "uid" | "gid":
            return f"-m owner {no}--{match.kind}-owner {values}"
        case "mark":
            return f"-m mark {no}--mark {values}"
        case "ctmark":
            return f"-m connmark {no}--mark {values}"
        case "ctstate":
            return f"-m conntrack --ctstate {values.upper()}"
        case kind:
            return f"{no}{_OPTIONS[kind]} {values}"


def _action(rule: CaptureRule) -> str:
    action = rule.action
    match action.kind:
        case "jump":
            return f"-j {chain_name(action.to)}"
        case "redirect":
            return f"-j REDIRECT --to-ports {action.to}"
        case "tproxy":
            return f"-j TPROXY --tproxy-mark {action.mark}/0xffffffff --on-port {action.to}"
        case "mark":
            return f"-j MARK --set-mark {action.to}"
        case "zone":
            return f"-j CT --zone {action.to}"
        case "save-mark":
            return "-j CONNMARK --save-mark"
        case "restore-mark":
            return "-j CONNMARK --restore-mark"
        case kind:
            return f"-j {kind.upper()}"
