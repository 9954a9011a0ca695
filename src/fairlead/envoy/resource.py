"""What is delivered to proxies: named xDS resources as serialised bytes."""

from __future__ import annotations

from hashlib import blake2b

import msgspec

_PREFIX = "type.googleapis.com/"
LISTENER = _PREFIX + "envoy.config.listener.v3.Listener"
ROUTE = _PREFIX + "envoy.config.route.v3.RouteConfiguration"
CLUSTER = _PREFIX + "envoy.config.cluster.v3.Cluster"
ENDPOINT = _PREFIX + "envoy.config.endpoint.v3.ClusterLoadAssignment"
SECRET = _PREFIX + "envoy.extensions.transport_sockets.tls.v3.Secret"
NAME_TABLE = _PREFIX + "istio.networking.nds.v1.NameTable"

MAKE_BEFORE_BREAK = (CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET)


class Resource(msgspec.Struct, frozen=True):
    """One named xDS resource: the serialised message (without the Any around it) and a hash of these bytes.

    Equal bytes make equal versions, whoever built them and whenever: a proxy that reconnects to another control
    plane is sent nothing that it already has.
    """

    type_url: str
    name: str
    version: str
    body: bytes

    @staticmethod
    def of(type_url: str, name: str, body: bytes) -> Resource:
        """A resource with its version computed."""
        return Resource(type_url, name, blake2b(body, digest_size=8).hexdigest(), body)
