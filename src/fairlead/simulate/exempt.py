"""What capture rules leave to itself: connections that meet no proxy because of a workload's annotations, or its user.

The rules are those of `fairlead capture rules`, judged in their order: the same settings, from the annotations of the
workload's WorkloadEntry (of a pod in files, the pod's) over what Istio's injector asks for. Only proxies whose traffic
the host's own rules redirect have such rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address, ip_interface
from typing import NamedTuple

from fairlead.compiler.model import OBJECTS
from fairlead.ir.workload import WORKLOADS_BY_ADDRESS
from fairlead.model.capturing import (
    ANNOTATIONS,
    INJECTED,
    PROXY_PORTS,
    CaptureError,
    CaptureSettings,
    of_annotations,
    settings,
)
from fairlead.model.diagnostic import Origin
from fairlead.model.path import METADATA
from fairlead.model.ref import Ref
from fairlead.simulate.mesh import Mesh, Proxy

_ENTRIES = "networking.istio.io"
_FIELDS = {field: annotation for annotation, field in ANNOTATIONS.items()}


class Exempt(NamedTuple):
    """Why a connection is not redirected: in words, and the annotation that says so (None: the rules themselves).

    `undecided`: whether it is depends on an address that only DNS knows.
    """

    said: str
    origin: Origin | None = None
    undecided: bool = False


class _Rules(NamedTuple):
    settings: CaptureSettings
    ref: Ref | None
    annotations: Mapping[str, str]

    def exempt(self, said: str, field: str, *, undecided: bool = False) -> Exempt:
        annotation = _FIELDS.get(field, "")
        if self.ref is None or annotation not in self.annotations:
            return Exempt(said, None, undecided)
        return Exempt(said, Origin(self.ref, METADATA.child("annotations", annotation)), undecided)


def outbound(mesh: Mesh, proxy: Proxy, address: str, port: int, user: str) -> Exempt | None:
    """Why a connection of the application to an address is not redirected; None where it is.

    `address` is "" where only DNS knows it; `user` the application's, "" for one that no rule speaks of.
    """
    if proxy.view.capture.mode != "redirect":
        return None
    rules = _rules(mesh, proxy)
    made = rules.settings
    number = str(port)
    if number in made.outbound_ports_exclude:
        return rules.exempt(f"port {number} is excluded from capture", "outbound_ports_exclude")
    if user and user in made.proxy_uid:
        return Exempt(f"the application runs as user {user}, whose traffic is taken for the proxy's own")
    if user and user in made.owner_groups_exclude:
        return Exempt(f"the traffic of {user} is excluded from capture")
    if number in made.outbound_ports_include and not made.outbound_ip_ranges_exclude:
        return None
    return _by_address(rules, address, number)


def _by_address(rules: _Rules, address: str, number: str) -> Exempt | None:
    made = rules.settings
    everything = made.outbound_ip_ranges_include == ("*",)
    if not address:
        if everything and not made.outbound_ip_ranges_exclude:
            return None
        field = "outbound_ip_ranges_exclude" if everything else "outbound_ip_ranges_include"
        return rules.exempt("whether its address is captured, only DNS knows", field, undecided=True)
    for network in made.outbound_ip_ranges_exclude:
        if _within(address, network):
            return rules.exempt(f"{address} is in {network}, excluded from capture", "outbound_ip_ranges_exclude")
    if number in made.outbound_ports_include or everything:
        return None
    if any(_within(address, network) for network in made.outbound_ip_ranges_include):
        return None
    included = ", ".join(made.outbound_ip_ranges_include) or "nothing"
    return rules.exempt(f"{address} is outside of what is captured ({included})", "outbound_ip_ranges_include")


def inbound(mesh: Mesh, proxy: Proxy, port: int) -> Exempt | None:
    """Why a connection to a port of the workload is not redirected to its proxy; None where it is."""
    if proxy.view.capture.mode != "redirect" or proxy.view.type != "sidecar":
        return None
    rules = _rules(mesh, proxy)
    made, number = rules.settings, str(port)
    if made.inbound_ports_include == ("*",):
        if number in PROXY_PORTS and number in made.inbound_ports_exclude:
            return Exempt(f"port {number} is the proxy's own, and excluded from capture")
        if number in made.inbound_ports_exclude:
            return rules.exempt(f"port {number} is excluded from capture", "inbound_ports_exclude")
        return None
    if number in made.inbound_ports_include:
        return None
    included = ", ".join(made.inbound_ports_include) or "none"
    return rules.exempt(f"port {number} is not among those that are captured ({included})", "inbound_ports_include")


def _rules(mesh: Mesh, proxy: Proxy) -> _Rules:
    engine = mesh.model.engine
    for key in engine.find(WORKLOADS_BY_ADDRESS, proxy.address):
        ref = Ref(_ENTRIES, key.kind, key.namespace, key.name)
        entry = engine.get(OBJECTS, ref)
        if entry is None or not any(name in ANNOTATIONS for name in entry.meta.annotations):
            continue
        try:
            made = settings(of_annotations(entry.meta.annotations))
        except CaptureError:
            continue  # no rules can be made of these: the analysis says which is wrong
        return _Rules(made, ref, entry.meta.annotations)
    return _Rules(_INJECTED, None, {})


def _within(address: str, network: str) -> bool:
    at, net = ip_address(address), ip_interface(network).network
    return at.version == net.version and at in net


_INJECTED = settings(INJECTED)
