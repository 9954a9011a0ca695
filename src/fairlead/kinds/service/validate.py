"""Kubernetes' validation of Service, and what this mesh does not do with one."""

from __future__ import annotations

import re
from collections.abc import Iterator

from fairlead.ir.elsewhere import platform_problems
from fairlead.ir.locality import CLOSENESS, NETWORK
from fairlead.kinds.service.lower import EXPORT_TO, export_to
from fairlead.kinds.service.spec import HEADLESS, Service, ServicePort
from fairlead.model.diagnostic import Problem, Severity
from fairlead.model.names import is_dns_label
from fairlead.model.object import Object
from fairlead.model.path import METADATA, SPEC, FieldPath
from fairlead.model.syntax import export_problems, is_ip, is_ip_or_cidr, label_problems, port_problems, wrong_fqdn

_PORT_NAME = re.compile(r"(?=.*[a-z])[a-z0-9](?:-?[a-z0-9])*\Z")
_PORTS = SPEC / "ports"
_FOREVER = 10800
"""Kubernetes fills this time in where nobody said one."""


def validate(obj: Object[Service]) -> Iterator[Problem]:
    """Name, ports, addresses, selector; then a warning for each setting that has no effect here."""
    spec = obj.spec
    if not is_dns_label(obj.meta.name) and obj.meta.name:
        remedy = "Use at most 63 lower-case letters, digits and '-'."
        yield Problem(METADATA / "name", f"{obj.meta.name!r} cannot be the name of a service", remedy=remedy)
    yield from _ports(spec)
    yield from label_problems(spec.selector, SPEC / "selector")
    yield from _external_name(spec)
    yield from _addresses(spec)
    yield from _affinity(spec)
    place = METADATA.child("annotations", EXPORT_TO)
    for problem in export_problems(export_to(obj.meta.annotations), obj.ref.namespace, place, none_allowed=True):
        yield Problem(place, problem.message, remedy=problem.remedy, reason=problem.reason)
    yield from platform_problems(obj.meta, METADATA)
    yield from _without_effect(spec, joins=bool(obj.meta.labels.get(NETWORK)))


def _ports(spec: Service) -> Iterator[Problem]:
    if not spec.ports and spec.type != "ExternalName" and spec.cluster_ip != HEADLESS:
        remedy = "List at least one port, or set clusterIP: None."
        yield Problem(_PORTS, "a service needs a port", remedy=remedy, reason="FieldValueRequired")
    names: set[str] = set()
    numbers: set[tuple[int, str]] = set()
    for at, port in enumerate(spec.ports):
        path = _PORTS / at
        if not port.name and len(spec.ports) > 1:
            remedy = "Name every port where there are several."
            yield Problem(path / "name", "required", remedy=remedy, code="FL0004", reason="FieldValueRequired")
        elif port.name and not is_dns_label(port.name):
            remedy = "Use lower-case letters, digits and '-'."
            yield Problem(path / "name", f"{port.name!r} is not a port name", remedy=remedy)
        if port.name and port.name in names:
            yield Problem(path / "name", f"port name {port.name!r} is used twice", reason="FieldValueDuplicate")
        if (port.port, port.protocol) in numbers:
            said = f"port {port.port}/{port.protocol} stands twice"
            yield Problem(path / "port", said, reason="FieldValueDuplicate")
        names.add(port.name)
        numbers.add((port.port, port.protocol))
        yield from _port(port, path)


def _port(port: ServicePort, path: FieldPath) -> Iterator[Problem]:
    yield from port_problems(port.port, path / "port")
    target = port.target_port
    if isinstance(target, int):
        yield from port_problems(target, path / "targetPort")
    elif target is not None and (len(target) > 15 or not _PORT_NAME.match(target)):
        remedy = "Use a number, or at most 15 lower-case letters, digits and '-' with at least one letter."
        yield Problem(path / "targetPort", f"{target!r} is not a port", remedy=remedy)
    if port.node_port:
        yield from port_problems(port.node_port, path / "nodePort")


def _external_name(spec: Service) -> Iterator[Problem]:
    path = SPEC / "externalName"
    if spec.type != "ExternalName":
        return
    said = wrong_fqdn(spec.external_name)
    if said:
        remedy = "Name a DNS host, such as db.example.com."
        reason = "FieldValueInvalid" if spec.external_name else "FieldValueRequired"
        yield Problem(path, said, remedy=remedy, reason=reason)
    if spec.cluster_ip:
        remedy = "Remove clusterIP."
        said = "an ExternalName service has no address"
        yield Problem(SPEC / "clusterIP", said, remedy=remedy, reason="FieldValueForbidden")


def _addresses(spec: Service) -> Iterator[Problem]:
    path = SPEC / "clusterIP"
    if spec.cluster_ip and spec.cluster_ip != HEADLESS and not is_ip(spec.cluster_ip):
        remedy = "Use an IP address, None (headless), or leave it out to be given one."
        yield Problem(path, f"{spec.cluster_ip!r} is not an IP address", remedy=remedy)
    if spec.cluster_ip == HEADLESS and spec.type in ("NodePort", "LoadBalancer"):
        remedy = "Use type: ClusterIP."
        yield Problem(path, f"a {spec.type} service cannot be headless", remedy=remedy)
    ips = spec.cluster_ips
    for at, address in enumerate(ips):
        if not is_ip(address) and not (address == HEADLESS and len(ips) == 1):
            yield Problem(SPEC.child("clusterIPs", at), f"{address!r} is not an IP address")
    if ips and spec.cluster_ip and ips[0] != spec.cluster_ip:
        yield Problem(SPEC.child("clusterIPs", 0), "the first of clusterIPs must be clusterIP")
    if len(ips) > 2 or (len(ips) == 2 and (":" in ips[0]) == (":" in ips[1])):
        yield Problem(SPEC / "clusterIPs", "at most one address of each family is possible")
    for at, address in enumerate(spec.external_ips):
        if not is_ip(address):
            yield Problem(SPEC.child("externalIPs", at), f"{address!r} is not an IP address")
    for at, address in enumerate(spec.load_balancer_source_ranges):
        if not is_ip_or_cidr(address.strip()):
            yield Problem(SPEC.child("loadBalancerSourceRanges", at), f"{address!r} is not a network")


def _affinity(spec: Service) -> Iterator[Problem]:
    config = spec.session_affinity_config
    client = config.client_ip if config is not None else None
    path = SPEC / "sessionAffinityConfig"
    if config is not None and spec.session_affinity == "None":
        remedy = "Set sessionAffinity: ClientIP."
        yield Problem(path, "not possible without session affinity", remedy=remedy, reason="FieldValueForbidden")
    if client is not None and client.timeout_seconds is not None and not 0 < client.timeout_seconds <= 86400:
        yield Problem(path.child("clientIP", "timeoutSeconds"), "must be 1 to 86400")
    elif client is not None and client.timeout_seconds not in (None, _FOREVER):
        said = "timeoutSeconds has no effect: a client keeps its workload as long as that is there"
        where = path.child("clientIP", "timeoutSeconds")
        yield Problem(where, said, Severity.WARNING, "Remove it.", code="FL0100")


def _without_effect(spec: Service, *, joins: bool) -> Iterator[Problem]:
    """One warning for each field that is kept but not acted on; `joins`: the service leads into a network."""
    ports = "Publish the service through a gateway (Gateway and VirtualService)."
    local = "Use localityLbSetting of a DestinationRule."
    settings: tuple[tuple[str, bool, str], ...] = (
        ("externalIPs", bool(spec.external_ips) and not joins, ports),
        ("type", spec.type in ("NodePort", "LoadBalancer"), ports),
        ("trafficDistribution", (spec.traffic_distribution or "") not in ("", *CLOSENESS), local),
        ("internalTrafficPolicy", spec.internal_traffic_policy == "Local", local),
    )
    for field, is_set, remedy in settings:
        if is_set:
            said = "nothing listens on the nodes for this service" if field == "type" else f"{field} has no effect"
            yield Problem(SPEC / field, said, Severity.WARNING, remedy, code="FL0100")
