"""Makes and removes network namespaces: run as a process of its own, because a namespace belongs to a thread.

    python -m fairlead.node.capture.netlink create NAME   (a `NetworkPlan` as JSON on standard input)
    python -m fairlead.node.capture.netlink remove NAME
    python -m fairlead.node.capture.netlink probe NAME    (create and remove, to learn whether it can be done)

Exit status 0, or 1 with one sentence on standard error. Everything goes through netlink and system calls.
"""

from __future__ import annotations

import contextlib
import ipaddress
import struct
import sys
from typing import Any, cast

import msgspec
from pyroute2 import IPRoute, netns
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.nftables.main import NFTables

from fairlead.node.capture.plan import TABLE, Chain, NetworkPlan, Rule

_PROTOCOLS = {"tcp": 6, "udp": 17}
_ACCEPT, _DROP = 1, 0
_META_L4PROTO = 16
_NETWORK_HEADER, _TRANSPORT_HEADER = 1, 2
_REJECT_ICMP, _REJECT_RESET = 0, 1
_ICMP_PORT_UNREACHABLE = 3
_RT_SCOPE_LINK = 253
_MAX_PLAN = 1 << 20

Expression = dict[str, Any]


def expression(name: str, **fields: object) -> Expression:
    """An nf_tables expression with its attributes."""
    attributes = [(f"NFTA_{name.upper()}_{field.upper()}", value) for field, value in fields.items()]
    return {"attrs": [("NFTA_EXPR_NAME", name), ("NFTA_EXPR_DATA", {"attrs": attributes})]}


def data_of(value: bytes) -> Expression:
    """A value as an attribute."""
    return {"attrs": [("NFTA_DATA_VALUE", value)]}


def _equals(value: bytes) -> Expression:
    return expression("cmp", sreg=1, op=0, data=data_of(value))


def _verdict(code: int) -> Expression:
    data = {"attrs": [("NFTA_DATA_VERDICT", {"attrs": [("NFTA_VERDICT_CODE", code)]})]}
    return expression("immediate", dreg=0, data=data)


def expressions(rule: Rule) -> list[Expression]:
    """The rule as nf_tables expressions: conditions load register 1 and compare it, then comes the action."""
    out: list[Expression] = []
    if rule.protocol:
        out.append(expression("meta", dreg=1, key=_META_L4PROTO))
        out.append(_equals(bytes([_PROTOCOLS[rule.protocol]])))
    if rule.network:
        network = ipaddress.IPv4Network(rule.network)
        out.append(expression("payload", dreg=1, base=_NETWORK_HEADER, offset=16, len=4))
        mask = data_of(network.netmask.packed)
        out.append(expression("bitwise", sreg=1, dreg=1, len=4, mask=mask, xor=data_of(bytes(4))))
        out.append(_equals(network.network_address.packed))
    if rule.port:
        out.append(expression("payload", dreg=1, base=_TRANSPORT_HEADER, offset=2, len=2))
        out.append(_equals(struct.pack("!H", rule.port)))
    if rule.action == "accept":
        out.append(_verdict(_ACCEPT))
    elif rule.action == "redirect":
        out.append(expression("immediate", dreg=1, data=data_of(struct.pack("!H", rule.to_port))))
        out.append(expression("redir", reg_proto_min=1))
    elif rule.protocol == "tcp":
        out.append(expression("reject", type=_REJECT_RESET, icmp_code=0))
    else:
        out.append(expression("reject", type=_REJECT_ICMP, icmp_code=_ICMP_PORT_UNREACHABLE))
    return out


def _add_chain(nft: Any, chain: Chain) -> None:
    nft.chain(
        "add",
        table=TABLE,
        name=chain.name,
        hook="output",
        type=chain.type,
        policy=_ACCEPT,
        priority=chain.priority,
    )
    for rule in chain.rules:
        nft.rule("add", table=TABLE, chain=chain.name, expressions=[expressions(rule)])


def _fill(plan: NetworkPlan) -> None:
    """Set up the namespace that this process is in."""
    with IPRoute() as routes:
        netlink: Any = routes
        lo = cast("list[int]", netlink.link_lookup(ifname="lo"))[0]
        netlink.link("set", index=lo, state="up")
        for address in plan.addresses:
            netlink.addr("add", index=lo, address=address, prefixlen=32)
        netlink.route("add", dst="0.0.0.0/0", oif=lo, scope=_RT_SCOPE_LINK, type="unicast")
    nft: Any = NFTables()
    try:
        nft.table("add", name=TABLE)
        for chain in plan.chains:
            _add_chain(nft, chain)
    finally:
        nft.close()


def create(name: str, plan: NetworkPlan) -> None:
    """Make namespace NAME and fill it; on failure nothing is left. Raises OSError or NetlinkError.

    Leaves the calling process inside the namespace.
    """
    shell: Any = netns
    shell.create(name)
    try:
        shell.setns(name)
        _fill(plan)
    except BaseException:
        with contextlib.suppress(OSError):
            shell.remove(name)
        raise


def remove(name: str) -> None:
    """Remove namespace NAME; one that does not exist is no error. It lives on while a process is in it."""
    shell: Any = netns
    with contextlib.suppress(FileNotFoundError):
        shell.remove(name)


def main(arguments: list[str]) -> int:
    """The command line of this module (see above)."""
    command, name = arguments
    try:
        if command == "remove":
            remove(name)
            return 0
        plan = msgspec.json.decode(sys.stdin.buffer.read(_MAX_PLAN), type=NetworkPlan)
        create(name, plan)
        if command == "probe":
            remove(name)
    except (OSError, NetlinkError) as error:
        # NetlinkError carries (errno, text); OSError likewise: the text is what a person needs.
        reason = error.args[1] if len(error.args) > 1 else error
        print(reason, file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
