"""Service to hosts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fairlead.inc import Reader
from fairlead.ir.host import HOSTS, Host, HostKey, HostPort, Resolution
from fairlead.ir.kind import Emission
from fairlead.ir.locality import TRAFFIC_DISTRIBUTION, closeness
from fairlead.ir.protocol import Protocol, port_protocol
from fairlead.ir.view import pairs
from fairlead.ir.visibility import DOMAIN_SUFFIX
from fairlead.ir.workload import ENDPOINTS, Endpoint, EndpointKey
from fairlead.kinds.service.spec import HEADLESS, Service
from fairlead.kinds.service.status import ServiceStatus
from fairlead.model.diagnostic import Origin
from fairlead.model.object import Object
from fairlead.model.path import SPEC

EXPORT_TO = "networking.istio.io/exportTo"
"""The annotation that limits who sees the service: `*`, `.`, `~` or namespaces, separated by commas."""


KUBERNETES_ACCOUNTS = "alpha.istio.io/kubernetes-serviceaccounts"
CANONICAL_ACCOUNTS = "alpha.istio.io/canonical-serviceaccounts"
"""Annotations with whom else a client may find behind the service: accounts of its namespace, and names as they are."""


def _listed(annotations: Mapping[str, str], name: str) -> tuple[str, ...]:
    return tuple(one.strip() for one in annotations.get(name, "").split(",") if one.strip())


def export_to(annotations: Mapping[str, str]) -> tuple[str, ...]:
    """The entries of the annotation; none if it is absent."""
    return _listed(annotations, EXPORT_TO)


def lower(_: Reader, obj: Object[Service]) -> Iterator[Emission]:
    """One host. An ExternalName service also has one endpoint: the name it stands for, looked up in DNS.

    (Where that is the name of another host, the compiler takes the service for a further name of it instead.)
    """
    spec, name = obj.spec, obj.ref.name
    key = HostKey(f"{name}.{obj.ref.namespace}.svc.{DOMAIN_SUFFIX}", obj.ref.namespace)
    alias = spec.type == "ExternalName"
    yield (
        HOSTS,
        key,
        Host(
            key=key,
            origin=Origin(obj.ref),
            ports=_ports(spec),
            resolution=_resolution(spec),
            addresses=_addresses(spec),
            external=alias,
            export_to=export_to(obj.meta.annotations),
            selector=pairs(spec.selector) if spec.selector and not alias else None,
            labels=pairs(obj.meta.labels),
            name=name,
            created=obj.meta.creation_timestamp or "",
            subject_alt_names=_listed(obj.meta.annotations, CANONICAL_ACCOUNTS),
            service_accounts=_listed(obj.meta.annotations, KUBERNETES_ACCOUNTS),
            publish_not_ready=spec.publish_not_ready_addresses,
            # The annotation stands before the field.
            locality=closeness(obj.meta.annotations.get(TRAFFIC_DISTRIBUTION) or spec.traffic_distribution or ""),
            sticky=spec.session_affinity == "ClientIP",
            outside=_outside(obj),
            alias=spec.external_name.rstrip(".") if alias else "",
        ),
    )
    if alias:
        at = EndpointKey(key, 0)
        yield ENDPOINTS, at, Endpoint(at, Origin(obj.ref, SPEC / "externalName"), spec.external_name)


def _outside(obj: Object[Service]) -> tuple[str, ...]:
    """Where it is reached from outside: its load balancer (by what the status says), and its external addresses."""
    status = obj.status if isinstance(obj.status, ServiceStatus) else ServiceStatus()
    return tuple(dict.fromkeys((*status.addresses, *obj.spec.external_ips)))


def _ports(spec: Service) -> tuple[HostPort, ...]:
    """The ports by number. One number may stand for UDP and TCP (DNS): the proxies serve the latter."""
    found: dict[int, HostPort] = {}
    for port in spec.ports:
        protocol = port_protocol(port.port, port.name, port.app_protocol, port.protocol)
        target = 0 if port.target_port in (None, port.port) else port.target_port
        kept = found.get(port.port)
        if kept is None or (kept.protocol is Protocol.UDP and protocol is not Protocol.UDP):
            found[port.port] = HostPort(port.port, port.name, protocol, target)
    return tuple(found.values())


def _resolution(spec: Service) -> Resolution:
    if spec.type == "ExternalName":
        return Resolution.DNS_LB
    return Resolution.PASSTHROUGH if spec.cluster_ip == HEADLESS else Resolution.CLIENT_SIDE_LB


def _addresses(spec: Service) -> tuple[str, ...]:
    """The virtual addresses; a service that was not given one yet has none."""
    if spec.type == "ExternalName":
        return ()
    listed = spec.cluster_ips or ((spec.cluster_ip,) if spec.cluster_ip else ())
    return tuple(one for one in listed if one != HEADLESS)
