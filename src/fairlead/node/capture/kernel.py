"""Capture rules into the kernel over netlink: for hosts without an `nft` binary. Acts in the process's own namespace.

    python -m fairlead.node.capture.kernel NAMESPACE   (`CaptureRule`s as JSON on standard input; "" for this namespace)

Exit status 0, or 1 with one sentence on standard error. A table that is there is replaced.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import ipaddress
import pwd
import struct
import sys
from collections.abc import Iterator, Sequence
from typing import Any, cast

import msgspec
from pyroute2 import IPRoute, netns
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.nftables.main import NFTables

from fairlead.node.capture.netlink import Expression, data_of, expression
from fairlead.node.capture.nftables import HOOKS, TABLES, table_name
from fairlead.node.capture.rules import SOURCE_V6, CaptureRule, Match, chains, needs_source

_INET = 1
_EQUAL, _NOT_EQUAL = 0, 1
_META = {"mark": 3, "iif": 6, "oif": 7, "uid": 10, "gid": 11, "nfproto": 15, "protocol": 16}
_CT = {"ctstate": 0, "ctmark": 3, "zone": 17}
_STATES = {"invalid": 1, "established": 2, "related": 4, "new": 8}
_PROTOCOLS = {"tcp": 6, "udp": 17}
_FAMILIES = {"ip": 2, "ip6": 10}
_VERDICTS = {"accept": 1, "drop": 0, "return": -5}
_JUMP = -3
_NETWORK, _TRANSPORT = 1, 2
_MAX_INPUT = 1 << 20


def ordered(rules: Sequence[CaptureRule], chain: str) -> list[CaptureRule]:
    """The rules of one chain (of one table) as they stand when all have been added."""
    out: list[CaptureRule] = []
    for rule in rules:
        if rule.chain == chain:
            out.insert(len(out) if rule.position is None else min(rule.position, len(out)), rule)
    return out


def expressions(rule: CaptureRule) -> list[Expression]:
    """The rule as nf_tables expressions. Raises KeyError for a user or group that this host does not know."""
    out: list[Expression] = []
    if rule.family:
        out += _meta("nfproto", bytes([_FAMILIES[rule.family]]))
    for one in rule.matches:
        out += _condition(one)
    if rule.action.kind != "tproxy":
        out.append(expression("counter"))
    return [*out, *_action(rule)]


def _compare(value: bytes, *, negate: bool = False) -> Expression:
    return expression("cmp", sreg=1, op=_NOT_EQUAL if negate else _EQUAL, data=data_of(value))


def _meta(key: str, value: bytes, *, negate: bool = False) -> list[Expression]:
    return [expression("meta", dreg=1, key=_META[key]), _compare(value, negate=negate)]


def _condition(match: Match) -> Iterator[Expression]:
    value, negate = match.values[0], match.negate
    match match.kind:
        case "iif" | "oif":
            yield from _meta(match.kind, value.encode().ljust(16, b"\0"), negate=negate)
        case "protocol":
            yield from _meta("protocol", bytes([_PROTOCOLS[value]]))
        case "source" | "destination":
            yield from _network(value, source=match.kind == "source", negate=negate)
        case "dport" | "sport":
            yield from _meta("protocol", bytes([_PROTOCOLS[match.protocol]]))
            yield expression("payload", dreg=1, base=_TRANSPORT, offset=2 if match.kind == "dport" else 0, len=2)
            # With `negate` none of the values may hold: one comparison after the other on the same register.
            for port in match.values:
                yield _compare(struct.pack("!H", int(port)), negate=negate)
        case "uid" | "gid":
            number = _user(value) if match.kind == "uid" else _group(value)
            yield from _meta(match.kind, struct.pack("=I", number), negate=negate)
        case "mark":
            yield from _meta("mark", struct.pack("=I", int(value)), negate=negate)
        case "ctmark":
            yield expression("ct", dreg=1, key=_CT["ctmark"])
            yield _compare(struct.pack("=I", int(value)), negate=negate)
        case "ctstate":
            states = struct.pack("=I", sum(_STATES[one] for one in match.values))
            yield expression("ct", dreg=1, key=_CT["ctstate"])
            yield expression("bitwise", sreg=1, dreg=1, len=4, mask=data_of(states), xor=data_of(bytes(4)))
            yield _compare(bytes(4), negate=True)


def _network(text: str, *, source: bool, negate: bool) -> Iterator[Expression]:
    network = ipaddress.ip_interface(text).network
    size = network.max_prefixlen // 8
    first = 12 if network.version == 4 else 8
    yield expression("payload", dreg=1, base=_NETWORK, offset=first if source else first + size, len=size)
    mask = data_of(network.netmask.packed)
    yield expression("bitwise", sreg=1, dreg=1, len=size, mask=mask, xor=data_of(bytes(size)))
    yield _compare(network.network_address.packed, negate=negate)


def _user(name: str) -> int:
    return int(name) if name.isdecimal() else pwd.getpwnam(name).pw_uid


def _group(name: str) -> int:
    return int(name) if name.isdecimal() else grp.getgrnam(name).gr_gid


def _verdict(code: int, chain: str = "") -> Expression:
    attributes: list[tuple[str, object]] = [("NFTA_VERDICT_CODE", code)]
    if chain:
        attributes.append(("NFTA_VERDICT_CHAIN", chain))
    return expression("immediate", dreg=0, data={"attrs": [("NFTA_DATA_VERDICT", {"attrs": attributes})]})


def _load(value: bytes) -> Expression:
    return expression("immediate", dreg=1, data=data_of(value))


def _set_mark(mark: str) -> list[Expression]:
    return [_load(struct.pack("=I", int(mark))), expression("meta", sreg=1, key=_META["mark"])]


def _action(rule: CaptureRule) -> list[Expression]:
    action = rule.action
    match action.kind:
        case "jump":
            return [_verdict(_JUMP, action.to)]
        case "redirect":
            return [_load(struct.pack("!H", int(action.to))), expression("redir", reg_proto_min=1)]
        case "tproxy":
            to = [_load(struct.pack("!H", int(action.to)))]
            to.append(expression("tproxy", family=_FAMILIES[rule.family], reg_port=1))
            return [*to, *_set_mark(action.mark), expression("counter"), _verdict(_VERDICTS["accept"])]
        case "mark":
            return _set_mark(action.to)
        case "zone":
            return [_load(struct.pack("=H", int(action.to))), expression("ct", sreg=1, key=_CT["zone"])]
        case "save-mark":
            return [expression("meta", dreg=1, key=_META["mark"]), expression("ct", sreg=1, key=_CT["ctmark"])]
        case "restore-mark":
            return [expression("ct", dreg=1, key=_CT["ctmark"]), expression("meta", sreg=1, key=_META["mark"])]
        case kind:
            return [_verdict(_VERDICTS[kind])]


def install(rules: Sequence[CaptureRule]) -> None:
    """Put the rules into the namespace that this process is in. Raises OSError or NetlinkError."""
    if needs_source(rules):
        _add_source()
    nft: Any = NFTables(nfgen_family=_INET)
    try:
        for table in TABLES:
            name = table_name(table)
            own = [rule for rule in rules if rule.table == table]
            with contextlib.suppress(NetlinkError):
                nft.table("del", name=name)
            if not own:
                continue
            nft.table("add", name=name)
            found = chains(own, table)
            for chain in found:
                kind = HOOKS.get((table, chain))
                hook: dict[str, Any] = (
                    {"hook": chain, "type": kind[0], "priority": int(kind[1]), "policy": 1} if kind else {}
                )
                nft.chain("add", table=name, name=chain, **hook)
            for chain in found:
                for rule in ordered(own, chain):
                    nft.rule("add", table=name, chain=chain, expressions=[expressions(rule)])
    finally:
        nft.close()


def _add_source() -> None:
    """Give the loopback interface the address from which Envoy dials applications over IPv6 (Istio's init container
    does so, too); one that has it already is left alone."""
    address, _, size = SOURCE_V6.partition("/")
    with IPRoute() as routes:
        netlink: Any = routes
        lo = cast("list[int]", netlink.link_lookup(ifname="lo"))[0]
        try:
            netlink.addr("add", index=lo, address=address, prefixlen=int(size))
        except NetlinkError as error:
            if error.code != errno.EEXIST:
                raise


def main(arguments: list[str]) -> int:
    """The command line of this module (see above)."""
    try:
        rules = msgspec.json.decode(sys.stdin.buffer.read(_MAX_INPUT), type=tuple[CaptureRule, ...])
        if arguments[0]:
            shell: Any = netns
            shell.setns(arguments[0], flags=0)
        install(rules)
    except (OSError, NetlinkError, KeyError, msgspec.DecodeError) as error:
        reason = error.args[1] if len(error.args) > 1 else error
        print(reason, file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
