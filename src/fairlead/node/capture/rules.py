"""The capture rules of a pod or VM with a sidecar of its own: settings in, rules as data out. No I/O.

Names of settings, their defaults and what they mean are those of Istio's capture program (flags of `istio-iptables`,
`traffic.sidecar.istio.io` annotations). `nftables` and `iptables` write the rules as text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

import msgspec

from fairlead.model.capturing import CaptureSettings, Ranges, ranges

Table = Literal["nat", "mangle", "raw"]
Family = Literal["", "ip", "ip6"]

PREROUTING, OUTPUT = "prerouting", "output"
INBOUND, OUTBOUND, DNS = "istio-inbound", "istio-output", "istio-output-dns"
REDIRECT, IN_REDIRECT = "istio-redirect", "istio-in-redirect"
DIVERT, TPROXY, DROP = "istio-divert", "istio-tproxy", "istio-drop"

_CHAINS = (PREROUTING, OUTPUT, DROP, DIVERT, TPROXY, INBOUND, REDIRECT, IN_REDIRECT, OUTBOUND, DNS)

Backend = Literal["nftables", "iptables"]

DNS_PORT = 15053
OUTBOUND_MARK = "1338"
_MULTIPORT = 15
"""As many ports as the match `multiport` of iptables takes."""
SOURCE_V6 = "::6/128"
"""An address that the loopback interface must be given: of IPv6, unlike IPv4, it has one only."""
_OWN_SOURCE = {"ip": "127.0.0.6/32", "ip6": SOURCE_V6}
"""Where Envoy dials the application from, so that its connections are told from those of others."""


class Match(msgspec.Struct, frozen=True, omit_defaults=True):
    """One condition. `values` of `dport` are alternatives; with `negate` none of them may hold.

    iif oif: an interface; protocol; source destination: CIDRs; dport sport: of `protocol`; uid gid: the socket's owner;
    mark ctmark: of the packet and of its connection; ctstate.
    """

    kind: Literal[
        "iif",
        "oif",
        "protocol",
        "source",
        "destination",
        "dport",
        "sport",
        "uid",
        "gid",
        "mark",
        "ctmark",
        "ctstate",
    ]
    values: tuple[str, ...]
    negate: bool = False
    protocol: Literal["tcp", "udp"] = "tcp"


class Action(msgspec.Struct, frozen=True, omit_defaults=True):
    """What happens to a packet that meets all conditions; `to` is a chain, a port, a mark or a zone."""

    kind: Literal["return", "jump", "redirect", "tproxy", "mark", "accept", "drop", "zone", "save-mark", "restore-mark"]
    to: str = ""
    mark: str = ""


class CaptureRule(msgspec.Struct, frozen=True, omit_defaults=True):
    """One rule. Without `family` it holds for both. `position` counts from 0; None appends."""

    table: Table
    chain: str
    matches: tuple[Match, ...]
    action: Action
    family: Family = ""
    position: int | None = None


_RETURN = Action("return")
_TCP = Match("protocol", ("tcp",))
_LO = Match("oif", ("lo",))


def _jump(chain: str) -> Action:
    return Action("jump", chain)


def _port(number: str, protocol: Literal["tcp", "udp"] = "tcp") -> Match:
    return Match("dport", (number,), protocol=protocol)


class _Builder:
    def __init__(self, settings: CaptureSettings, backend: Backend) -> None:
        self._s = settings
        self._backend = backend
        self._families: tuple[Family, ...] = ("ip", "ip6") if settings.enable_ipv6 else ("ip",)
        self._include = ranges(settings.outbound_ip_ranges_include)
        self._exclude = ranges(settings.outbound_ip_ranges_exclude)
        # A nameserver must be known, or every query be meant: else the proxy's own queries would come back to it.
        self._dns = settings.redirect_dns and bool(
            settings.capture_all_dns or settings.dns_servers_v4 or settings.dns_servers_v6
        )
        self._tproxy = settings.inbound_interception_mode == "TPROXY"

    def _loopback(self, family: Family) -> str:
        return self._s.host_ipv4_loopback_cidr if family == "ip" else "::1/128"

    def _foreign(self, family: Family) -> Match:
        return Match("destination", (self._loopback(family),), negate=True)

    def _together(self, ports: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        """The ports in the groups that one rule names: iptables-restore takes no text of any length."""
        size = _MULTIPORT if self._backend == "iptables" else 1
        for start in range(0, len(ports), size):
            yield ports[start : start + size]

    def _owners(self) -> Iterator[Match]:
        for uid in self._s.proxy_uid:
            yield Match("uid", (uid,))
        for gid in self._s.proxy_gid:
            yield Match("gid", (gid,))

    def rules(self) -> Iterator[CaptureRule]:
        yield from self._interfaces()
        if self._s.drop_invalid:
            # Istio drops with iptables what is invalid in any protocol, and with nftables only TCP.
            which = (_TCP,) if self._backend == "nftables" else ()
            yield CaptureRule("mangle", PREROUTING, (*which, Match("ctstate", ("invalid",))), _jump(DROP))
            yield CaptureRule("mangle", DROP, (), Action("drop"))
        tunnel = _port(str(self._s.inbound_tunnel_port))
        yield CaptureRule("nat", INBOUND, (_TCP, tunnel), _RETURN)
        yield CaptureRule("nat", REDIRECT, (_TCP,), Action("redirect", str(self._s.proxy_port)))
        yield CaptureRule("nat", IN_REDIRECT, (_TCP,), Action("redirect", str(self._s.inbound_capture_port)))
        yield from self._inbound()
        yield CaptureRule("nat", OUTPUT, (), _jump(OUTBOUND))
        for ports in self._together(self._s.outbound_ports_exclude):
            yield CaptureRule("nat", OUTBOUND, (Match("dport", ports),), _RETURN)
            yield CaptureRule("nat", OUTBOUND, (Match("dport", ports, protocol="udp"),), _RETURN)
        for family in self._families:
            yield CaptureRule("nat", OUTBOUND, (_LO, Match("source", (_OWN_SOURCE[family],))), _RETURN, family)
        for owner in self._owners():
            yield from self._of_proxy(owner)
        yield from self._groups()
        if self._dns:
            yield from self._names()
        yield from self._outbound()
        if self._tproxy:
            yield from self._marks()

    def _interfaces(self) -> Iterator[CaptureRule]:
        tables: tuple[Table, ...] = ("nat", "mangle") if self._tproxy else ("nat",)
        for table in tables:
            for name in self._s.exclude_interfaces:
                yield CaptureRule(table, PREROUTING, (Match("iif", (name,)),), _RETURN)
                yield CaptureRule(table, OUTPUT, (Match("oif", (name,)),), _RETURN)
        for name in self._s.reroute_virtual_interfaces:
            yield CaptureRule("nat", PREROUTING, (Match("iif", (name,)),), _RETURN, position=0)

    def _inbound(self) -> Iterator[CaptureRule]:
        wanted = self._s.inbound_ports_include
        if not wanted:
            return
        table: Table = "mangle" if self._tproxy else "nat"
        if self._tproxy:
            yield from self._diversion()
        yield CaptureRule(table, PREROUTING, (_TCP,), _jump(INBOUND))
        if wanted == ("*",):
            for ports in self._together(self._s.inbound_ports_exclude):
                yield CaptureRule(table, INBOUND, (_TCP, Match("dport", ports)), _RETURN)
        for port in wanted:
            at = () if port == "*" else (_port(port),)
            if self._tproxy:
                known = (_TCP, Match("ctstate", ("related", "established")), *at)
                yield CaptureRule("mangle", INBOUND, known, _jump(DIVERT))
                yield CaptureRule("mangle", INBOUND, (_TCP, *at), _jump(TPROXY))
            else:
                yield CaptureRule("nat", INBOUND, (_TCP, *at), _jump(IN_REDIRECT))

    def _diversion(self) -> Iterator[CaptureRule]:
        """Packets of connections that a socket has already are only marked; a routing rule takes them to it."""
        mark = self._s.inbound_tproxy_mark
        yield CaptureRule("mangle", DIVERT, (), Action("mark", mark))
        yield CaptureRule("mangle", DIVERT, (), Action("accept"))
        action = Action("tproxy", str(self._s.inbound_capture_port), mark)
        for family in self._families:
            yield CaptureRule("mangle", TPROXY, (_TCP, self._foreign(family)), action, family)

    def _of_proxy(self, owner: Match) -> Iterator[CaptureRule]:
        """What the proxy itself sends: a call of the application to itself by its service comes in again; all else
        goes out. What others send to the loopback interface stays there, except to the nameserver."""
        names = self._dns and owner.kind == "uid"
        ports = (*(("53",) if names else ()), str(self._s.inbound_tunnel_port))
        for family in self._families:
            own = (_LO, _TCP, self._foreign(family), Match("dport", ports, negate=True), owner)
            yield CaptureRule("nat", OUTBOUND, own, _jump(IN_REDIRECT), family)
        if not self._include.has_loopback:
            other = msgspec.structs.replace(owner, negate=True)
            free = (_TCP, Match("dport", ("53",), negate=True)) if self._dns else ()
            yield CaptureRule("nat", OUTBOUND, (_LO, *free, other), _RETURN)
        yield CaptureRule("nat", OUTBOUND, (owner,), _RETURN)

    def _groups(self) -> Iterator[CaptureRule]:
        included = self._s.owner_groups_include
        if included == ("*",):
            for group in self._s.owner_groups_exclude:
                yield CaptureRule("nat", OUTBOUND, (Match("gid", (group,)),), _RETURN)
            return
        others = tuple(Match("gid", (group,), negate=True) for group in included)
        yield CaptureRule("nat", OUTBOUND, others, _RETURN)

    def _servers(self) -> Iterator[tuple[Family, str]]:
        for one in self._s.dns_servers_v4:
            yield "ip", f"{one}/32"
        for one in self._s.dns_servers_v6 if self._s.enable_ipv6 else ():
            yield "ip6", f"{one}/128"

    def _dns_families(self) -> tuple[Family, ...]:
        """Of which families queries are taken; ("",) for all."""
        if self._s.capture_all_dns:
            return ("",)
        found: set[Family] = {family for family, _ in self._servers()}
        return ("",) if len(found) == 2 or not self._s.enable_ipv6 else tuple(sorted(found))

    def _names(self) -> Iterator[CaptureRule]:
        """Queries go to the agent. The proxy's own and the application's are kept apart in conntrack, as both may use
        the same ports: zone 1 is between the agent and the nameserver, zone 2 between application and agent."""
        to_agent = Action("redirect", str(DNS_PORT))
        yield CaptureRule("raw", OUTPUT, (), _jump(DNS))
        for family in self._dns_families():
            yield CaptureRule("nat", OUTBOUND, (), _jump(DNS), family)
        protocols: tuple[Literal["tcp", "udp"], ...] = ("tcp", "udp")
        for protocol in protocols:
            if self._s.capture_all_dns:
                yield CaptureRule("nat", DNS, (_port("53", protocol),), to_agent)
                continue
            for family, server in self._servers():
                at = (Match("destination", (server,)), _port("53", protocol))
                yield CaptureRule("nat", DNS, at, to_agent, family)
        for owner in self._owners():
            answers = Match("sport", (str(DNS_PORT),), protocol="udp")
            yield CaptureRule("raw", DNS, (_port("53", "udp"), owner), Action("zone", "1"))
            yield CaptureRule("raw", DNS, (answers, owner), Action("zone", "2"))
        for family in self._dns_families():
            yield CaptureRule("raw", PREROUTING, (), _jump(INBOUND), family)
        query, answer = _port("53", "udp"), Match("sport", ("53",), protocol="udp")
        if self._s.capture_all_dns:
            yield CaptureRule("raw", DNS, (query,), Action("zone", "2"))
            yield CaptureRule("raw", INBOUND, (answer,), Action("zone", "1"))
            return
        for family, server in self._servers():
            yield CaptureRule("raw", DNS, (query, Match("destination", (server,))), Action("zone", "2"), family)
            yield CaptureRule("raw", INBOUND, (answer, Match("source", (server,))), Action("zone", "1"), family)

    def _outbound(self) -> Iterator[CaptureRule]:
        for family in self._families:
            local = Match("destination", (self._loopback(family),))
            yield CaptureRule("nat", OUTBOUND, (local,), _RETURN, family)
        for family in self._families:
            for network in self._exclude.of(family):
                yield CaptureRule("nat", OUTBOUND, (Match("destination", (network,)),), _RETURN, family)
        for port in self._s.outbound_ports_include:
            yield CaptureRule("nat", OUTBOUND, (_port(port),), _jump(REDIRECT))
        yield from self._included(self._include)

    def _included(self, include: Ranges) -> Iterator[CaptureRule]:
        interfaces = [Match("iif", (name,)) for name in self._s.reroute_virtual_interfaces]
        if include.everything:
            yield CaptureRule("nat", OUTBOUND, (), _jump(REDIRECT))
            for interface in interfaces:
                yield CaptureRule("nat", PREROUTING, (interface,), _jump(REDIRECT), position=0)
            return
        for family in self._families:
            for network in include.of(family):
                to = Match("destination", (network,))
                for interface in interfaces:
                    yield CaptureRule("nat", PREROUTING, (interface, to), _jump(REDIRECT), family, 0)
                yield CaptureRule("nat", OUTBOUND, (to,), _jump(REDIRECT), family)

    def _marks(self) -> Iterator[CaptureRule]:
        """With TPROXY the application sees the caller's own address: marks tell the proxy's packets from the others."""
        mark = self._s.inbound_tproxy_mark
        marked = Match("mark", (mark,))
        yield CaptureRule("mangle", PREROUTING, (_TCP, marked), Action("save-mark"))
        yield CaptureRule("mangle", OUTPUT, (_LO, _TCP, marked), _RETURN)
        for owner in self._owners():
            for family in self._families:
                own = (_LO, _TCP, self._foreign(family), owner)
                yield CaptureRule("mangle", OUTPUT, own, Action("mark", OUTBOUND_MARK), family)
        yield CaptureRule("mangle", OUTPUT, (_TCP, Match("ctmark", (mark,))), Action("restore-mark"))
        lo = Match("iif", ("lo",))
        yield CaptureRule("mangle", INBOUND, (_TCP, marked), _RETURN, position=0)
        for family in self._families:
            own_source = (lo, _TCP, Match("source", (_OWN_SOURCE[family],)))
            yield CaptureRule("mangle", INBOUND, own_source, _RETURN, family, 1)
        unmarked = Match("mark", (OUTBOUND_MARK,), negate=True)
        yield CaptureRule("mangle", INBOUND, (lo, _TCP, unmarked), _RETURN, position=2)


def capture_rules(settings: CaptureSettings, backend: Backend = "nftables") -> tuple[CaptureRule, ...]:
    """The rules of a workload, in the order in which they are added."""
    return tuple(_Builder(settings, backend).rules())


def needs_source(rules: Iterable[CaptureRule]) -> bool:
    """Whether the loopback interface must have `SOURCE_V6`."""
    return any(rule.family == "ip6" for rule in rules)


def chains(rules: Iterable[CaptureRule], table: Table) -> list[str]:
    """The chains of a table that hold a rule, in a fixed order: those with a hook first."""
    found = {rule.chain for rule in rules if rule.table == table}
    return [chain for chain in _CHAINS if chain in found]
