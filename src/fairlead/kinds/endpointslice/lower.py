"""EndpointSlice to endpoints of the Service that it names."""

from __future__ import annotations

from collections.abc import Iterator

from fairlead.inc import Reader
from fairlead.ir.host import HostKey
from fairlead.ir.kind import Emission
from fairlead.ir.visibility import DOMAIN_SUFFIX
from fairlead.ir.workload import ENDPOINTS, Endpoint, EndpointKey, slice_owner
from fairlead.kinds.endpointslice.spec import EndpointSliceSpec, SliceEndpoint
from fairlead.model.diagnostic import Origin
from fairlead.model.object import Object
from fairlead.model.path import ROOT

SERVICE = "kubernetes.io/service-name"
"""The label with the name of the Service whose instances these are."""


def lower(_: Reader, obj: Object[EndpointSliceSpec]) -> Iterator[Emission]:
    """One `Endpoint` for each address; names that would have to be looked up are left out, as Istio does."""
    service = obj.meta.labels.get(SERVICE, "")
    if not service or obj.spec.address_type == "FQDN":
        return
    host = HostKey(f"{service}.{obj.ref.namespace}.svc.{DOMAIN_SUFFIX}", obj.ref.namespace)
    ports = tuple((port.name, port.port or 0) for port in obj.spec.ports if port.protocol != "UDP")
    position = 0
    for at, one in enumerate(obj.spec.endpoints):
        for address in one.addresses:
            key = EndpointKey(host, position, slice_owner(obj.ref.name))
            origin = Origin(obj.ref, ROOT.child("endpoints", at))
            made = Endpoint(
                key, origin, address, ports=ports, only_named=True, healthy=is_ready(one), hostname=one.hostname
            )
            yield ENDPOINTS, key, made
            position += 1


def is_ready(one: SliceEndpoint) -> bool:
    """Whether an endpoint is ready: it is unless it is said not to be."""
    return one.conditions is None or one.conditions.ready is not False
