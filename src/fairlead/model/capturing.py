"""Settings of traffic capture: Istio's flags and annotations, checked. No I/O."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec

from fairlead.model.names import nearest

ANNOTATIONS = {
    "traffic.sidecar.istio.io/includeInboundPorts": "inbound_ports_include",
    "traffic.sidecar.istio.io/excludeInboundPorts": "inbound_ports_exclude",
    "traffic.sidecar.istio.io/includeOutboundPorts": "outbound_ports_include",
    "traffic.sidecar.istio.io/excludeOutboundPorts": "outbound_ports_exclude",
    "traffic.sidecar.istio.io/includeOutboundIPRanges": "outbound_ip_ranges_include",
    "traffic.sidecar.istio.io/excludeOutboundIPRanges": "outbound_ip_ranges_exclude",
    "traffic.sidecar.istio.io/kubevirtInterfaces": "reroute_virtual_interfaces",
    "istio.io/reroute-virtual-interfaces": "reroute_virtual_interfaces",
    "traffic.sidecar.istio.io/excludeInterfaces": "exclude_interfaces",
    "sidecar.istio.io/interceptionMode": "inbound_interception_mode",
}
"""Annotations of pods, and the setting that each one is."""

PROXY_PORTS = ("15090", "15021", "15020")
"""Ports of the proxy itself, which no pod's annotation puts under capture."""

INJECTED: dict[str, object] = {
    "inbound_ports_include": "*",
    "inbound_ports_exclude": ",".join(PROXY_PORTS),
    "outbound_ip_ranges_include": "*",
}
"""What Istio's injector asks for where a pod says nothing: all, but for ports of the proxy itself."""

_REROUTED = ("traffic.sidecar.istio.io/kubevirtInterfaces", "istio.io/reroute-virtual-interfaces")
"""Two annotations for one setting; the second is the one to use, and stands where both are said."""

_MAX_GROUPS = 64
"""Groups whose traffic is captured stand as conditions in one rule, and iptables bounds how many."""

Good = Callable[[str], bool]

_PORT = re.compile(r"[0-9]{1,5}\Z")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}\Z")
_INTERFACE = re.compile(r"[A-Za-z0-9_.:@+-]{1,15}\Z")


class CaptureError(ValueError):
    """A setting cannot be used; the text names it, the value and the remedy."""


class CaptureSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """What is captured. Defaults are Istio's: outbound nothing but what is included, inbound no port.

    Ports are numbers, `*` means all (alone in its list). `owner_groups_*` are group ids or names of the applications
    whose outbound traffic is captured. With TPROXY the application sees the caller's address, and the host needs a
    routing rule for the mark.
    """

    proxy_port: int = 15001
    inbound_capture_port: int = 15006
    inbound_tunnel_port: int = 15008
    proxy_uid: tuple[str, ...] = ("1337",)
    proxy_gid: tuple[str, ...] = ("1337",)
    inbound_interception_mode: Literal["REDIRECT", "TPROXY"] = "REDIRECT"
    inbound_tproxy_mark: str = "1337"
    inbound_tproxy_route_table: str = "133"
    inbound_ports_include: tuple[str, ...] = ()
    inbound_ports_exclude: tuple[str, ...] = ()
    outbound_ports_include: tuple[str, ...] = ()
    outbound_ports_exclude: tuple[str, ...] = ()
    outbound_ip_ranges_include: tuple[str, ...] = ()
    outbound_ip_ranges_exclude: tuple[str, ...] = ()
    owner_groups_include: tuple[str, ...] = ("*",)
    owner_groups_exclude: tuple[str, ...] = ()
    reroute_virtual_interfaces: tuple[str, ...] = ()
    exclude_interfaces: tuple[str, ...] = ()
    redirect_dns: bool = False
    capture_all_dns: bool = False
    dns_servers_v4: tuple[str, ...] = ()
    dns_servers_v6: tuple[str, ...] = ()
    drop_invalid: bool = False
    enable_ipv6: bool = False
    host_ipv4_loopback_cidr: str = "127.0.0.1/32"

    def checked(self) -> CaptureSettings:
        """Itself. Raises CaptureError for a value that means nothing."""
        for name in ("proxy_port", "inbound_capture_port", "inbound_tunnel_port"):
            _check(name, (str(getattr(self, name)),), _port, "a port, 1 to 65535")
        for name in ("inbound_ports_exclude", "outbound_ports_include", "outbound_ports_exclude"):
            _check(name, getattr(self, name), _port, "a port, 1 to 65535")
        if self.inbound_ports_include != ("*",):
            _check("inbound_ports_include", self.inbound_ports_include, _port, "a port, or * alone")
        for name in ("proxy_uid", "proxy_gid", "owner_groups_exclude"):
            _check(name, getattr(self, name), _matches(_NAME), "a number or a name")
        if self.owner_groups_include != ("*",):
            _check("owner_groups_include", self.owner_groups_include, _matches(_NAME), "a group, or * alone")
        if len(self.owner_groups_include) > _MAX_GROUPS:
            many = f"{len(self.owner_groups_include)} groups are more than {_MAX_GROUPS}"
            raise CaptureError(f"owner-groups-include: {many}; exclude groups instead")
        for name in ("reroute_virtual_interfaces", "exclude_interfaces"):
            _check(name, getattr(self, name), _matches(_INTERFACE), "the name of a network interface")
        for name in ("inbound_tproxy_mark", "inbound_tproxy_route_table"):
            _check(name, (getattr(self, name),), str.isdecimal, "a number")
        _check("dns_servers_v4", self.dns_servers_v4, _address(4), "an IPv4 address")
        _check("dns_servers_v6", self.dns_servers_v6, _address(6), "an IPv6 address")
        _check("host_ipv4_loopback_cidr", (self.host_ipv4_loopback_cidr,), _loopback, "within 127.0.0.0/8")
        if self.outbound_ip_ranges_include != ("*",):
            _check("outbound_ip_ranges_include", self.outbound_ip_ranges_include, _network, "a network, or * alone")
        _check("outbound_ip_ranges_exclude", self.outbound_ip_ranges_exclude, _network, "a network such as 10.0.0.0/8")
        return self


class Ranges(msgspec.Struct, frozen=True):
    """Networks by family; `everything` stands for `*`. `has_loopback`: one of them begins on a loopback address."""

    everything: bool
    v4: tuple[str, ...]
    v6: tuple[str, ...]
    has_loopback: bool

    def of(self, family: str) -> tuple[str, ...]:
        """The networks of `ip` or `ip6`."""
        return self.v6 if family == "ip6" else self.v4


def ranges(networks: tuple[str, ...]) -> Ranges:
    """Sort checked networks by family."""
    if networks == ("*",):
        return Ranges(everything=True, v4=(), v6=(), has_loopback=False)
    found = [ipaddress.ip_interface(one) for one in networks]
    return Ranges(
        everything=False,
        v4=tuple(str(one) for one in found if one.version == 4),
        v6=tuple(str(one) for one in found if one.version == 6),
        has_loopback=any(one.ip.is_loopback for one in found),
    )


def settings(values: Mapping[str, object]) -> CaptureSettings:
    """Settings from field names in camelCase, snake_case or as Istio's flags (`outbound-ports-exclude`).

    Lists may be given as text with commas. Raises CaptureError.
    """
    fields = {info.name.replace("_", ""): info for info in msgspec.structs.fields(CaptureSettings)}
    made: dict[str, Any] = {}
    for name, value in values.items():
        plain = re.sub(r"[^a-z0-9]", "", name.lower())
        info = fields.get(plain)
        if info is None:
            near = nearest(plain, fields)
            hint = f" Did you mean '{fields[near].encode_name}'?" if near else ""
            raise CaptureError(f"unknown setting '{name}'.{hint}")
        listed = info.type == tuple[str, ...] and isinstance(value, str)
        made[info.encode_name] = split(value) if listed and isinstance(value, str) else value
    try:
        return msgspec.convert(made, CaptureSettings, strict=False).checked()
    except msgspec.ValidationError as error:
        raise CaptureError(str(error)) from None


def of_annotations(annotations: Mapping[str, str]) -> dict[str, object]:
    """The settings of an injected pod with these annotations, by field name: what they leave out is as in `INJECTED`.

    Raises CaptureError for a misspelt one of the family.
    """
    found = dict(INJECTED)
    for key, value in sorted(annotations.items(), key=lambda one: one[0] == _REROUTED[1]):
        if key in ANNOTATIONS:
            found[ANNOTATIONS[key]] = value
        elif key.startswith("traffic.sidecar.istio.io/"):
            near = nearest(key, ANNOTATIONS)
            raise CaptureError(f"annotation {key} is not known." + (f" Did you mean '{near}'?" if near else ""))
    excluded = split(str(found["inbound_ports_exclude"]))
    found["inbound_ports_exclude"] = ",".join(dict.fromkeys((*excluded, *PROXY_PORTS)))
    return found


def split(text: str) -> tuple[str, ...]:
    """A list with commas; empty items are none."""
    return tuple(part for one in text.split(",") if (part := one.strip()))


def _check(name: str, values: tuple[str, ...], good: Good, what: str) -> None:
    for value in values:
        if not good(value):
            raise CaptureError(f"{name.replace('_', '-')}: {value!r} is not {what}")


def _port(text: str) -> bool:
    return bool(_PORT.match(text)) and 0 < int(text) < 65536


def _matches(pattern: re.Pattern[str]) -> Good:
    return lambda text: bool(pattern.match(text))


def _address(version: int) -> Good:
    def good(text: str) -> bool:
        try:
            return ipaddress.ip_address(text).version == version
        except ValueError:
            return False

    return good


def _loopback(text: str) -> bool:
    if not _network(text):
        return False
    found = ipaddress.ip_interface(text)
    return found.version == 4 and found.ip.is_loopback and found.network.prefixlen >= 8


def _network(text: str) -> bool:
    try:
        ipaddress.ip_interface(text)
    except ValueError:
        return False
    return "/" in text
