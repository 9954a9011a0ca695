"""TLS towards upstreams: UpstreamTlsContext messages (envoy.extensions.transport_sockets.tls.v3)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from envoy.config.core.v3 import base_pb2, config_source_pb2
from envoy.extensions.transport_sockets.raw_buffer.v3 import raw_buffer_pb2
from envoy.extensions.transport_sockets.tls.v3 import common_pb2, secret_pb2, tls_pb2
from google.protobuf.any_pb2 import Any

from fairlead.envoy.names import (
    CA_SUFFIX,
    FILES,
    IDENTITY_SECRET,
    ROOT_SECRET,
    SYSTEM,
    file_certificate,
    file_roots,
)
from fairlead.envoy.tracing import grpc_service
from fairlead.ir.address import Address
from fairlead.ir.credential import read_name, resource_name
from fairlead.ir.mesh import TlsLimits
from fairlead.ir.traffic import ClientTls
from fairlead.model.syntax import is_ip

SDS_CLUSTER = "sds-grpc"
HTTP1_MESH_ALPN = ("istio-http/1.1", "istio", "http/1.1")
HTTP2_MESH_ALPN = ("istio-h2", "istio", "h2")
TCP_MESH_ALPN = ("istio-peer-exchange", "istio")
DETECTED_MESH_ALPN = ("istio-http/1.1", "istio")
"""For HTTP to a port whose protocol is detected: neither name settles the version, which the first bytes show."""
_TLS = "envoy.transport_sockets.tls"
_RAW = "envoy.transport_sockets.raw_buffer"


_NO_LIMITS = TlsLimits()


def pack(message: object) -> Any:
    """The message in an Any, serialised deterministically."""
    packed = Any()
    packed.Pack(message, deterministic=True)  # type: ignore[arg-type]
    return packed


def raw_buffer() -> base_pb2.TransportSocket:
    """Plain text."""
    return base_pb2.TransportSocket(name=_RAW, typed_config=pack(raw_buffer_pb2.RawBuffer()))


def agent_secret(name: str) -> secret_pb2.SdsSecretConfig:
    """A secret that the agent serves over its Unix socket: the workload's own identity and the mesh's roots."""
    config = secret_pb2.SdsSecretConfig(name=name)
    source = config.sds_config
    source.resource_api_version = config_source_pb2.ApiVersion.V3
    if not name.startswith(FILES):
        # For a file that is not there Envoy waits as long as it does by default: nothing else may wait with it.
        source.initial_fetch_timeout.seconds = 0
    api = source.api_config_source
    api.api_type = config_source_pb2.ApiConfigSource.GRPC
    api.transport_api_version = config_source_pb2.ApiVersion.V3
    api.set_node_on_first_message_only = True
    api.grpc_services.add().envoy_grpc.cluster_name = SDS_CLUSTER
    return config


Sources = Mapping[str, Address]
"""Servers of secrets for credentials (`sds://NAME`) that come from one."""
_NONE: Sources = MappingProxyType({})


def credential_secret(name: str, sources: Sources = _NONE) -> secret_pb2.SdsSecretConfig:
    """A credential: of a server of secrets, or the control plane serves it over ADS; the workload's own the agent."""
    server = sources.get(name.removesuffix(CA_SUFFIX))
    if server is not None:
        return _served_secret(read_name(name).name, server)
    if read_name(name).source == "own":
        return agent_secret(ROOT_SECRET if name.endswith(CA_SUFFIX) else IDENTITY_SECRET)
    config = secret_pb2.SdsSecretConfig(name=resource_name(name))
    config.sds_config.ads.SetInParent()
    config.sds_config.resource_api_version = config_source_pb2.ApiVersion.V3
    return config


def _served_secret(name: str, server: Address) -> secret_pb2.SdsSecretConfig:
    """Istio has such a server know the credential by its bare name."""
    config = secret_pb2.SdsSecretConfig(name=name)
    config.sds_config.resource_api_version = config_source_pb2.ApiVersion.V3
    api = config.sds_config.api_config_source
    api.api_type = config_source_pb2.ApiConfigSource.GRPC
    api.transport_api_version = config_source_pb2.ApiVersion.V3
    api.set_node_on_first_message_only = True
    api.grpc_services.add().CopyFrom(grpc_service(server))
    return config


def mesh_tls(sans: Iterable[str], sni: str, alpn: Iterable[str]) -> base_pb2.TransportSocket:
    """Mesh mTLS: the workload's certificate, the mesh's roots, and the identities that the peer may have."""
    context = tls_pb2.UpstreamTlsContext(sni=sni)
    common = context.common_tls_context
    _current(common.tls_params)
    common.alpn_protocols.extend(alpn)
    common.tls_certificate_sds_secret_configs.append(agent_secret(IDENTITY_SECRET))
    combined = common.combined_validation_context
    combined.default_validation_context.SetInParent()
    _require_names(combined.default_validation_context, sans)
    combined.validation_context_sds_secret_config.CopyFrom(agent_secret(ROOT_SECRET))
    return base_pb2.TransportSocket(name=_TLS, typed_config=pack(context))


def _current(params: common_pb2.TlsParameters) -> None:
    """Envoy as a client offers no more than TLS 1.2 unless it is told to."""
    params.tls_minimum_protocol_version = common_pb2.TlsParameters.TLSv1_2
    params.tls_maximum_protocol_version = common_pb2.TlsParameters.TLSv1_3


def restrict(params: common_pb2.TlsParameters, limits: TlsLimits) -> None:
    """Have TLS use no more than this; what the limits do not say stays as it is."""
    if limits.min_version:
        _current(params)
        if limits.min_version == "TLSV1_3":
            params.tls_minimum_protocol_version = common_pb2.TlsParameters.TLSv1_3
    if limits.cipher_suites:
        params.ClearField("cipher_suites")
        params.cipher_suites.extend(limits.cipher_suites)
    if limits.curves:
        params.ClearField("ecdh_curves")
        params.ecdh_curves.extend(limits.curves)


def origin_tls(
    tls: ClientTls, *, http2: bool, limits: TlsLimits = _NO_LIMITS, sources: Sources = _NONE
) -> base_pb2.TransportSocket:
    """TLS that the application's own peer terminates: DestinationRule modes SIMPLE and MUTUAL.

    Without CA certificates the system's are used, unless verification is switched off (Istio since 1.20). Where no
    server name is said, that of the request is (`fairlead.envoy.cluster`), and for bytes the one of the endpoint. Files
    come over SDS, so that they are read again when they are replaced.
    """
    context = tls_pb2.UpstreamTlsContext(sni=tls.sni)
    common = context.common_tls_context
    _current(common.tls_params)
    restrict(common.tls_params, limits)
    if http2:
        common.alpn_protocols.append("h2")
    if tls.mode == "MUTUAL":
        _client_certificate(common, tls, sources)
    if not tls.sni:
        context.auto_host_sni = True
    if tls.insecure_skip_verify:
        return base_pb2.TransportSocket(name=_TLS, typed_config=pack(context))
    combined = common.combined_validation_context
    combined.default_validation_context.SetInParent()
    _require_names(combined.default_validation_context, tls.subject_alt_names)
    if tls.credential_name:
        roots = credential_secret(tls.credential_name + CA_SUFFIX, sources)
    else:
        roots = agent_secret(file_roots(tls.ca_certificates or SYSTEM, tls.ca_crl))
    combined.validation_context_sds_secret_config.CopyFrom(roots)
    if checks_host(tls):
        context.auto_sni_san_validation = True
    return base_pb2.TransportSocket(name=_TLS, typed_config=pack(context))


def checks_host(tls: ClientTls) -> bool:
    """Whether a server must have the name that it is called by, as nobody says which names it may have."""
    return not tls.sni and not tls.subject_alt_names and not tls.insecure_skip_verify


def _client_certificate(common: tls_pb2.CommonTlsContext, tls: ClientTls, sources: Sources) -> None:
    if tls.credential_name:
        found = credential_secret(tls.credential_name, sources)
    else:
        found = agent_secret(file_certificate(tls.client_certificate, tls.private_key))
    common.tls_certificate_sds_secret_configs.append(found)


def _require_names(context: common_pb2.CertificateValidationContext, sans: Iterable[str]) -> None:
    for san in sans:
        matcher = context.match_typed_subject_alt_names.add(san_type=_kind(san))
        matcher.matcher.exact = san


def _kind(san: str) -> common_pb2.SubjectAltNameMatcher.SanType.ValueType:
    """Which kind of name in a certificate a name is."""
    if "://" in san:
        return common_pb2.SubjectAltNameMatcher.URI
    if "@" in san:
        return common_pb2.SubjectAltNameMatcher.EMAIL
    return common_pb2.SubjectAltNameMatcher.IP_ADDRESS if is_ip(san) else common_pb2.SubjectAltNameMatcher.DNS
