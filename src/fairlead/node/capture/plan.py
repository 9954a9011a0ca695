"""What a captured workload's network namespace holds: addresses, routes and nftables rules, as data.

The application sees a network in which every address is reachable: the loopback interface carries a default route,
so that any connect() finds a way out, and the rules turn what leaves towards the proxy, which listens in the namespace
on 127.0.0.1. There is no other interface: what the rules do not turn is refused at once instead of timing out.
"""

from __future__ import annotations

from typing import Literal

import msgspec

OUTBOUND_PORT = 15001
"""Where Envoy's virtualOutbound listens (Istio's number)."""
DNS_PORT = 15053
"""Where the agent or Envoy answers DNS (Istio's number)."""
SOURCE_ADDRESS = "169.254.66.1"
"""The application's source address towards the world. Link-local: it is never seen outside the namespace."""
TABLE = "fairlead"


class Rule(msgspec.Struct, frozen=True, omit_defaults=True):
    """One nftables rule of the IPv4 family. Empty conditions match everything; networks are CIDRs.

    redirect: to `to_port` of the local host, the original destination kept in conntrack (SO_ORIGINAL_DST).
    accept: this chain leaves the packet alone. reject: TCP gets a reset, everything else "port unreachable".
    """

    action: Literal["redirect", "accept", "reject"]
    protocol: Literal["", "tcp", "udp"] = ""
    network: str = ""
    port: int = 0
    to_port: int = 0


class Chain(msgspec.Struct, frozen=True):
    """A base chain at the output hook; `priority` is netfilter's (-100: destination NAT, 0: filter)."""

    name: str
    type: Literal["nat", "filter"]
    priority: int
    rules: tuple[Rule, ...]


class NetworkPlan(msgspec.Struct, frozen=True):
    """A namespace: addresses on its loopback interface beside 127.0.0.1, and its chains."""

    addresses: tuple[str, ...]
    chains: tuple[Chain, ...]


def network_plan(block: str, own_dns: bool = False) -> NetworkPlan:
    """The plan for one workload.

    `block` (CIDR) is the node's loopback block: addresses of other workloads, which are in 127.0.0.0/8 but are not
    this workload's own loopback. DNS is taken wherever it is sent to, because a resolv.conf often names 127.0.0.53;
    with `own_dns` (the application itself serves port 53) only where it leaves the loopback.
    """
    dns = tuple(Rule("redirect", protocol, port=53, to_port=DNS_PORT) for protocol in ("udp", "tcp"))
    own = (Rule("accept", network="127.0.0.0/8"), Rule("accept", network=f"{SOURCE_ADDRESS}/32"))
    others = Rule("redirect", "tcp", network=block, to_port=OUTBOUND_PORT)
    rest = Rule("redirect", "tcp", to_port=OUTBOUND_PORT)
    head = (others, *own, *dns) if own_dns else (*dns, others, *own)
    return NetworkPlan(
        addresses=(SOURCE_ADDRESS,),
        chains=(
            Chain("output", "nat", -100, (*head, rest)),
            Chain("strays", "filter", 0, (*own, Rule("reject", "tcp"), Rule("reject"))),
        ),
    )
