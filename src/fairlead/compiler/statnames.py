"""Names in statistics that MeshConfig forms (`outboundClusterStatName`, `inboundClusterStatName`), as Istio does.

A pattern may name the service (`%SERVICE%`: its short name for a Service, else the host), `%SERVICE_NAME%`,
`%SERVICE_FQDN%`, `%SERVICE_PORT%`, `%SERVICE_PORT_NAME%`, `%SUBSET_NAME%` and, for clusters of the workload's own
ports, `%TARGET_PORT%`.
"""

from __future__ import annotations

from fairlead.compiler.hosts import NameKey, host, host_named, settings
from fairlead.compiler.inboundports import InboundPort
from fairlead.inc import Reader
from fairlead.ir.host import Host


def outbound_stat_name(r: Reader, found: Host, number: int, subset: str) -> str:
    """The name of an outbound cluster in statistics; "" where it is that of the cluster."""
    pattern = settings(r).outbound_stat_name
    return _formed(pattern, found, number, {"%SUBSET_NAME%": subset}) if pattern else ""


def inbound_stat_name(r: Reader, namespace: str, port: InboundPort) -> str:
    """The name of the cluster of a workload's own port; "" where it is the cluster's, or no host serves the port."""
    pattern = settings(r).inbound_stat_name
    at = host_named(r, NameKey(namespace, port.hostname)) if pattern and port.hostname else None
    found = host(r, at) if at is not None else None
    if found is None:
        return ""
    return _formed(pattern, found, port.service_port, {"%SUBSET_NAME%": "", "%TARGET_PORT%": str(port.port)})


def _formed(pattern: str, found: Host, number: int, more: dict[str, str]) -> str:
    port, hostname = found.port(number), found.key.hostname
    values = {
        "%SERVICE%": f"{found.name}.{found.key.namespace}" if found.kubernetes else hostname,
        "%SERVICE_NAME%": found.name if found.kubernetes else hostname,
        "%SERVICE_FQDN%": hostname,
        "%SERVICE_PORT%": str(number),
        "%SERVICE_PORT_NAME%": port.name if port is not None else "",
        **more,
    }
    for variable, value in values.items():
        pattern = pattern.replace(variable, value)
    return pattern
