"""Where calls go to hosts that a client does not see."""

from __future__ import annotations

from fairlead.compiler.hosts import NameKey, destination_name, host, host_named
from fairlead.compiler.sidecars import namespace_of, outbound_of
from fairlead.envoy import names
from fairlead.envoy.route import Unknown
from fairlead.inc import Reader, rule


@rule
def unknown(r: Reader, scope: str) -> Unknown:
    """Where HTTP requests go to hosts that a scope does not show, and other connections with them."""
    found = outbound_of(r, scope)
    if found.mode == "REGISTRY_ONLY":
        return Unknown("")
    if found.proxy is not None:
        name = destination_name(r, found.proxy.host)
        at = host_named(r, NameKey(namespace_of(scope), name))
        served = host(r, at) if at is not None else None
        only = served.ports[0].number if served is not None and len(served.ports) == 1 else 0
        cluster = names.subset_key("outbound", found.proxy.port or only, found.proxy.subset, name)
        return Unknown(cluster, cluster)
    if found.mode == "ALLOW_ANY_DYNAMIC_DNS":
        return Unknown(names.DYNAMIC_CLUSTER, names.PASSTHROUGH_CLUSTER)
    return Unknown(names.PASSTHROUGH_CLUSTER, names.PASSTHROUGH_CLUSTER)
