"""Clusters whose servers get TLS that is not the mesh's."""

from __future__ import annotations

from msgspec.structs import replace

from fairlead.compiler.hosts import settings
from fairlead.envoy.cluster import ClusterPlan, cluster
from fairlead.envoy.resource import Resource
from fairlead.envoy.upstreamtls import origin_tls
from fairlead.inc import Reader
from fairlead.ir.traffic import ClientTls, Policy


def originating(r: Reader, plan: ClusterPlan, said: Policy, tls: ClientTls, *, http2: bool) -> Resource:
    """A cluster with TLS that is not the mesh's. Where names are looked up as requests name them, so does TLS."""
    if tls.mode == "DISABLE":
        return cluster(plan, said)
    named = plan.discovery == "FORWARD" and plan.http != "none"
    socket = origin_tls(tls, http2=http2, limits=settings(r).other_tls, by_request=named)
    return cluster(replace(plan, named_by=tls) if named else plan, said, tls=socket)
