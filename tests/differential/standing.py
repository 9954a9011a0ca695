"""Has the compiled resources of a proxy stand on the loopback: nothing else about them is changed.

Routes, endpoints and secrets are put in where they are named, so that what Envoy has acknowledged is all there is.
Redirected connections are told by the PROXY protocol where they were going. Access logs say what a call met.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from envoy.config.accesslog.v3.accesslog_pb2 import AccessLog
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.base_pb2 import TransportSocket
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.listener.v3.listener_components_pb2 import FilterChain
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.access_loggers.file.v3.file_pb2 import FileAccessLog
from envoy.extensions.filters.listener.proxy_protocol.v3.proxy_protocol_pb2 import ProxyProtocol
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)
from envoy.extensions.filters.network.tcp_proxy.v3.tcp_proxy_pb2 import TcpProxy
from envoy.extensions.formatter.cel.v3.cel_pb2 import Cel
from envoy.extensions.transport_sockets.tls.v3.common_pb2 import TlsCertificate
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import (
    CommonTlsContext,
    DownstreamTlsContext,
    UpstreamTlsContext,
)

from fairlead.compiler.publish import Catalog
from fairlead.envoy import names
from fairlead.envoy.pack import pack
from fairlead.envoy.resource import CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET, Resource
from tests.differential import tokens
from tests.differential.topology import DENIED, Workload

_ORIGINAL_DST = "envoy.filters.listener.original_dst"
_TLS = "envoy.transport_sockets.tls"
FIELDS = {
    "pair": "%REQ(X-PAIR)%",
    "port": "%DOWNSTREAM_REMOTE_PORT%",
    "peer": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
    "code": "%RESPONSE_CODE%",
    "flags": "%RESPONSE_FLAGS%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "closed": "%CONNECTION_TERMINATION_DETAILS%",
    "chain": "%FILTER_CHAIN_NAME%",
    "route": "%ROUTE_NAME%",
    "host": "%CEL(xds.virtual_host_name)%",
    "cluster": "%UPSTREAM_CLUSTER_RAW%",
    "endpoint": "%UPSTREAM_HOST%",
    "local": "%UPSTREAM_LOCAL_ADDRESS%",
    "failure": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
    "refused": "%DOWNSTREAM_TRANSPORT_FAILURE_REASON%",
}


class Identity(msgspec.Struct, frozen=True):
    """What the agent of a proxy would serve to it: PEM."""

    chain: str
    key: str
    roots: str

    def secrets(self) -> dict[str, Secret]:
        """As Envoy's secrets."""
        own, roots = Secret(name=names.IDENTITY_SECRET), Secret(name=names.ROOT_SECRET)
        own.tls_certificate.certificate_chain.inline_string = self.chain
        own.tls_certificate.private_key.inline_string = self.key
        roots.validation_context.trusted_ca.inline_string = self.roots
        return {own.name: own, roots.name: roots}


class Standing:
    """Makes the resources of one proxy; remembers what it made of each version of each."""

    def __init__(self, workload: Workload, prefix: str, identity: Identity, door: int) -> None:
        """`door`: the port at which redirected connections come."""
        self.workload = workload
        self._prefix = prefix
        self._own = identity.secrets()
        self._door = door
        self._made: dict[tuple[Any, ...], bytes] = {}

    def of(self, catalog: Catalog, stamp: str) -> tuple[dict[str, bytes], dict[str, bytes]]:
        """Clusters and listeners by name, serialised. Clusters change with `stamp`: connections are made anew."""
        secrets = {**self._own, names.SYSTEM_ROOT: _authorities()}
        for name, one in catalog[SECRET].items():
            secrets[name] = Secret.FromString(one.body)
        clusters = {
            name: self._cluster(one, catalog[ENDPOINT].get(_service(one)), secrets, stamp)
            for name, one in catalog[CLUSTER].items()
        }
        key = tuple((name, one.version) for name, one in sorted({**catalog[ROUTE], **catalog[SECRET]}.items()))
        made: dict[tuple[Any, ...], bytes] = {}
        listeners: dict[str, bytes] = {}
        for name, one in catalog[LISTENER].items():
            if not self._wanted(name):
                continue
            at = (name, one.version, key)
            made[at] = self._made.get(at) or self._listener(one, catalog[ROUTE], secrets)
            listeners[name] = made[at]
        self._made = made
        return clusters, listeners

    def _wanted(self, name: str) -> bool:
        """Nobody calls clients, and servers call nobody."""
        if self.workload.kind == "gateway":
            return True
        return (name == names.VIRTUAL_INBOUND) == (self.workload.kind in ("server", "redirected"))

    def _cluster(self, one: Resource, endpoints: Resource | None, secrets: Mapping[str, Secret], stamp: str) -> bytes:
        made = Cluster.FromString(one.body)
        if made.type == Cluster.EDS:
            made.type = Cluster.STATIC
            made.ClearField("eds_cluster_config")
            found = ClusterLoadAssignment(cluster_name=made.name)
            if endpoints is not None:
                found = ClusterLoadAssignment.FromString(endpoints.body)
            made.load_assignment.CopyFrom(found)
        for socket in (made.transport_socket, *(match.transport_socket for match in made.transport_socket_matches)):
            if socket.name == _TLS:
                context = UpstreamTlsContext.FromString(socket.typed_config.value)
                _put_in(context.common_tls_context, secrets)
                socket.typed_config.CopyFrom(pack(context))
        made.metadata.filter_metadata["differential"].update({"stamp": stamp})
        return made.SerializeToString(deterministic=True)

    def _listener(self, one: Resource, routes: Mapping[str, Resource], secrets: Mapping[str, Secret]) -> bytes:
        made = Listener.FromString(one.body)
        name = made.name
        bound = not made.HasField("bind_to_port") or made.bind_to_port.value
        where = made.address.socket_address
        kept = [one for one in made.listener_filters if one.name != _ORIGINAL_DST]
        del made.listener_filters[:]
        if self.workload.kind in ("client", "redirected") and bound:
            where.address, where.port_value = self._prefix + self.workload.at, self._door
            told = made.listener_filters.add(name="envoy.filters.listener.proxy_protocol")
            told.typed_config.CopyFrom(pack(ProxyProtocol()))
        elif self.workload.kind == "gateway":
            where.address = self._prefix + self.workload.at
        made.listener_filters.extend(kept)
        del made.access_log[:]
        made.access_log.append(_log(name, "listener"))
        chains = [*made.filter_chains]
        if made.HasField("default_filter_chain"):
            chains.append(made.default_filter_chain)
        for chain in chains:
            _stand(chain, name, routes, secrets)
        return made.SerializeToString(deterministic=True)


def _authorities() -> Secret:
    """What the host would trust: the applications' own certificate."""
    made = Secret(name=names.SYSTEM_ROOT)
    made.validation_context.trusted_ca.inline_string = tokens.server_certificate()[0]
    return made


def _service(one: Resource) -> str:
    return Cluster.FromString(one.body).eds_cluster_config.service_name or one.name


def _stand(chain: FilterChain, listener: str, routes: Mapping[str, Resource], secrets: Mapping[str, Secret]) -> None:
    for one in chain.filters:
        if one.typed_config.Is(HttpConnectionManager.DESCRIPTOR):
            manager = HttpConnectionManager.FromString(one.typed_config.value)
            named = manager.rds.route_config_name
            if named:
                config = RouteConfiguration(name=named)
                if named in routes:
                    config = RouteConfiguration.FromString(routes[named].body)
                manager.route_config.CopyFrom(config)
            manager.ClearField("tracing")
            del manager.access_log[:]
            manager.access_log.append(_log(listener, "http"))
            one.typed_config.CopyFrom(pack(manager))
        elif one.typed_config.Is(TcpProxy.DESCRIPTOR):
            proxy = TcpProxy.FromString(one.typed_config.value)
            del proxy.access_log[:]
            proxy.ClearField("access_log_options")
            proxy.access_log.append(_log(listener, "tcp"))
            one.typed_config.CopyFrom(pack(proxy))
    if chain.HasField("transport_socket"):
        context = DownstreamTlsContext.FromString(chain.transport_socket.typed_config.value)
        _put_in(context.common_tls_context, secrets)
        chain.transport_socket.CopyFrom(TransportSocket(name=_TLS, typed_config=pack(context)))


def _put_in(common: CommonTlsContext, secrets: Mapping[str, Secret]) -> None:
    """Secrets where their names were. One that nobody has is left to be waited for, as in a mesh."""
    certificates: list[TlsCertificate] = []
    for one in common.tls_certificate_sds_secret_configs:
        if one.name in secrets:
            certificates.append(secrets[one.name].tls_certificate)
    if certificates:
        common.ClearField("tls_certificate_sds_secret_configs")
        common.tls_certificates.extend(certificates)
    if common.HasField("combined_validation_context"):
        combined = common.combined_validation_context
        name = combined.validation_context_sds_secret_config.name
        if name in secrets:
            context = combined.default_validation_context
            context.MergeFrom(secrets[name].validation_context)
            common.validation_context.CopyFrom(context)


def _log(listener: str, kind: str) -> AccessLog:
    said = FileAccessLog(path="/dev/stdout")
    said.log_format.json_format.update({**FIELDS, "listener": listener, "kind": kind})
    said.log_format.formatters.add(name="envoy.formatter.cel").typed_config.CopyFrom(pack(Cel()))
    return AccessLog(name="envoy.access_loggers.file", typed_config=pack(said))


def backends(prefix: str, ends: Iterable[str], ports: Iterable[int]) -> dict[str, Any]:
    """The bootstrap of an Envoy that is all applications: it says at which address it was called, and with what."""
    return {
        "node": {"id": "applications", "cluster": "applications"},
        "stats_config": {"stats_matcher": {"reject_all": True}, "use_all_default_tags": False},
        "static_resources": {"listeners": [_application(prefix + end, tuple(ports)) for end in ends]},
    }


def _application(address: str, ports: tuple[int, ...]) -> dict[str, Any]:
    sockets = [{"socket_address": {"address": address, "port_value": port}} for port in ports]
    types = "type.googleapis.com/envoy.extensions.filters"
    headers = {"x-saw-path": "%REQ(:PATH)%", "x-saw-host": "%REQ(:AUTHORITY)%", "x-saw-method": "%REQ(:METHOD)%"}
    told = [{"header": {"key": key, "value": value}} for key, value in {**headers, "x-instance": address}.items()]
    direct = {"match": {"prefix": "/"}, "direct_response": {"status": 200}, "response_headers_to_add": told}
    denied = {"match": {"prefix": DENIED}, "direct_response": {"status": 403}}
    manager = {
        "@type": f"{types}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "application",
        "codec_type": "AUTO",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [denied, direct]}]},
        "http_filters": [
            {"name": "router", "typed_config": {"@type": f"{types}.http.router.v3.Router"}},
        ],
    }
    echo = {"@type": f"{types}.network.echo.v3.Echo"}
    socket = {"@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"}
    certificate, key = tokens.server_certificate()
    shown = {"certificate_chain": {"inline_string": certificate}, "private_key": {"inline_string": key}}
    context = {**socket, "common_tls_context": {"tls_certificates": [shown], "alpn_protocols": ["h2", "http/1.1"]}}
    return {
        "name": address,
        "address": sockets[0],
        "additional_addresses": [{"address": one} for one in sockets[1:]],
        "listener_filters": [
            {
                "name": "envoy.filters.listener.tls_inspector",
                "typed_config": {"@type": f"{types}.listener.tls_inspector.v3.TlsInspector"},
            },
            {
                "name": "envoy.filters.listener.http_inspector",
                "typed_config": {"@type": f"{types}.listener.http_inspector.v3.HttpInspector"},
            },
        ],
        "filter_chains": [
            {
                "filter_chain_match": {"transport_protocol": "tls"},
                "transport_socket": {"name": _TLS, "typed_config": context},
                "filters": [{"name": "http", "typed_config": manager}],
            },
            {
                "filter_chain_match": {"application_protocols": ["http/1.0", "http/1.1", "h2c"]},
                "filters": [{"name": "http", "typed_config": manager}],
            },
            {"filters": [{"name": "echo", "typed_config": echo}]},
        ],
    }
