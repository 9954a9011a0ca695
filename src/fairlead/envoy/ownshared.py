"""What one workload says of routes and clusters, put into resources that workloads share."""

from __future__ import annotations

from typing import NamedTuple

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.protocol_pb2 import Http1ProtocolOptions
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.upstreams.http.v3.http_protocol_options_pb2 import HttpProtocolOptions

from fairlead.envoy import names
from fairlead.envoy.headercase import keep_case
from fairlead.envoy.pack import pack
from fairlead.envoy.resource import CLUSTER, ROUTE, Resource


class SharedHeaders(NamedTuple):
    """X-Envoy-Attempt-Count, X-Forwarded-Host where the host is rewritten, and whether headers keep their case."""

    attempts: bool
    forwarded_host: bool
    keep_case: bool


class Said(NamedTuple):
    """Headers, None where they are as the mesh says, and bytes that are kept of a connection to a server at most."""

    headers: SharedHeaders | None = None
    buffer: int | None = None


def with_said(resource: Resource, said: Said) -> Resource:
    """A route configuration or a cluster as it is for a workload that says this."""
    body = resource.body
    if resource.type_url == ROUTE:
        return Resource.of(ROUTE, resource.name, body if said.headers is None else _routes(body, said.headers))
    if said.headers is not None:
        body = _cluster(body, said.headers)
    if said.buffer is not None:
        body = _buffered(body, said.buffer)
    return Resource.of(CLUSTER, resource.name, body)


def _buffered(body: bytes, buffer: int) -> bytes:
    made = Cluster.FromString(body)
    made.per_connection_buffer_limit_bytes.value = buffer
    return made.SerializeToString(deterministic=True)


def _routes(body: bytes, said: SharedHeaders) -> bytes:
    made = RouteConfiguration.FromString(body)
    for host in made.virtual_hosts:
        host.include_request_attempt_count = said.attempts
        for one in host.routes:
            if one.route.WhichOneof("host_rewrite_specifier") == "host_rewrite_literal":
                one.route.append_x_forwarded_host = said.forwarded_host
    return made.SerializeToString(deterministic=True)


def _cluster(body: bytes, said: SharedHeaders) -> bytes:
    made = Cluster.FromString(body)
    options = HttpProtocolOptions()
    given = names.HTTP_OPTIONS in made.typed_extension_protocol_options
    if given:
        made.typed_extension_protocol_options[names.HTTP_OPTIONS].Unpack(options)
    http1 = _http1(options)
    # A cluster without options forwards bytes, or speaks HTTP/1.1: to the former these mean nothing.
    if http1 is None or (not given and not said.keep_case) or made.name == names.BLACKHOLE_CLUSTER:
        return body
    http1.ClearField("header_key_format")
    if said.keep_case:
        keep_case(http1)
    made.typed_extension_protocol_options[names.HTTP_OPTIONS].CopyFrom(pack(options))
    return made.SerializeToString(deterministic=True)


def _http1(options: HttpProtocolOptions) -> Http1ProtocolOptions | None:
    """The settings of HTTP/1.1; None for a cluster that does not speak it."""
    match options.WhichOneof("upstream_protocol_options"):
        case "use_downstream_protocol_config":
            return options.use_downstream_protocol_config.http_protocol_options
        case "auto_config":
            return options.auto_config.http_protocol_options
        case _:
            explicit = options.explicit_http_config
            return explicit.http_protocol_options if not explicit.HasField("http2_protocol_options") else None
