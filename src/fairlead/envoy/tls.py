"""TLS that Envoy serves: mesh mTLS of sidecars, and certificates of gateways.

Keys never pass through here: a context names secrets, and Envoy fetches them over SDS. The workload's own identity
comes from its agent (cluster `sds-grpc`), gateway certificates from the control plane over ADS. Names and parameters
are Istio's.
"""

from __future__ import annotations

from collections.abc import Sequence

from envoy.config.core.v3.base_pb2 import TransportSocket
from envoy.extensions.transport_sockets.quic.v3.quic_transport_pb2 import QuicDownstreamTransport
from envoy.extensions.transport_sockets.tls.v3.common_pb2 import CertificateValidationContext, TlsParameters
from envoy.extensions.transport_sockets.tls.v3.common_pb2 import SubjectAltNameMatcher as NameMatcher
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import CommonTlsContext, DownstreamTlsContext
from envoy.type.matcher.v3.string_pb2 import StringMatcher
from google.protobuf.wrappers_pb2 import BoolValue

from fairlead.envoy import names
from fairlead.envoy.pack import pack
from fairlead.envoy.upstreamtls import Sources, agent_secret, credential_secret, restrict
from fairlead.ir.gateway import ServerTls
from fairlead.ir.mesh import TlsLimits

ALPN_HTTP = ("h2", "http/1.1")
ALPN_TCP = ("istio-peer-exchange", *ALPN_HTTP)
CIPHER_SUITES = (
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-GCM-SHA256",
)
_VERSIONS = {
    "TLSV1_0": TlsParameters.TLSv1_0,
    "TLSV1_1": TlsParameters.TLSv1_1,
    "TLSV1_2": TlsParameters.TLSv1_2,
    "TLSV1_3": TlsParameters.TLSv1_3,
}
_KINDS_OF_NAME = (NameMatcher.DNS, NameMatcher.URI, NameMatcher.EMAIL, NameMatcher.IP_ADDRESS)


_NO_LIMITS = TlsLimits()
_NO_SOURCES: Sources = {}


def transport_socket(context: DownstreamTlsContext) -> TransportSocket:
    """The filter chain's TLS."""
    return TransportSocket(name="envoy.transport_sockets.tls", typed_config=pack(context))


def quic_socket(context: DownstreamTlsContext) -> TransportSocket:
    """The same for QUIC, which has TLS 1.3 built in: what a server says of versions and ciphers is for TCP."""
    within = DownstreamTlsContext()
    within.CopyFrom(context)
    common = within.common_tls_context
    del common.alpn_protocols[:]
    common.alpn_protocols.append("h3")
    common.ClearField("tls_params")
    return TransportSocket(
        name="envoy.transport_sockets.quic", typed_config=pack(QuicDownstreamTransport(downstream_tls_context=within))
    )


def mesh_server(alpn: Sequence[str], limits: TlsLimits = _NO_LIMITS) -> DownstreamTlsContext:
    """Mesh mTLS: the workload's certificate, a client certificate of the mesh required, TLS 1.2 or newer.

    Any identity that the mesh's roots vouch for may connect; who may do what is authorization's question.
    """
    common = CommonTlsContext(
        alpn_protocols=alpn,
        tls_params=TlsParameters(
            tls_minimum_protocol_version=TlsParameters.TLSv1_2,
            tls_maximum_protocol_version=TlsParameters.TLSv1_3,
            cipher_suites=CIPHER_SUITES,
        ),
    )
    restrict(common.tls_params, limits)
    _use_identity(common)
    return DownstreamTlsContext(common_tls_context=common, require_client_certificate=BoolValue(value=True))


def gateway_server(
    tls: ServerTls, *, tcp: bool, limits: TlsLimits = _NO_LIMITS, sources: Sources = _NO_SOURCES
) -> DownstreamTlsContext:
    """TLS that a gateway's server terminates.

    `tcp` tells opaque TCP behind TLS from HTTP: the two offer different protocols to mesh clients.
    `limits` hold where the server does not say itself. `sources` are servers of secrets for the credentials that
    come from one.
    """
    istio = tls.mode == "ISTIO_MUTUAL"
    common = CommonTlsContext(alpn_protocols=tls.alpn or (ALPN_TCP if istio and tcp else ALPN_HTTP))
    required = tls.mode in ("MUTUAL", "ISTIO_MUTUAL")
    if istio:
        _use_identity(common, tls.subject_alt_names)
        if tls.ca_crl:
            common.combined_validation_context.default_validation_context.crl.filename = tls.ca_crl
    else:
        _use_certificates(common, tls, sources)
        if required or tls.mode == "OPTIONAL_MUTUAL":
            _verify_clients(common, tls, sources)
        if limits != _NO_LIMITS:
            restrict(common.tls_params, limits)
        _limit(common, tls)
    return DownstreamTlsContext(common_tls_context=common, require_client_certificate=BoolValue(value=required))


def _use_identity(common: CommonTlsContext, subject_alt_names: Sequence[str] = ()) -> None:
    common.tls_certificate_sds_secret_configs.append(agent_secret(names.IDENTITY_SECRET))
    common.combined_validation_context.default_validation_context.CopyFrom(_validation(subject_alt_names))
    common.combined_validation_context.validation_context_sds_secret_config.CopyFrom(agent_secret(names.ROOT_SECRET))


def _use_certificates(common: CommonTlsContext, tls: ServerTls, sources: Sources) -> None:
    if tls.credential_names:
        for name in tls.credential_names:
            common.tls_certificate_sds_secret_configs.append(credential_secret(name, sources))
    else:
        for certificate, key in tls.files:
            common.tls_certificate_sds_secret_configs.append(agent_secret(names.file_certificate(certificate, key)))


def _verify_clients(common: CommonTlsContext, tls: ServerTls, sources: Sources) -> None:
    if tls.ca_credential_name:
        roots = credential_secret(tls.ca_credential_name + names.CA_SUFFIX, sources)
    elif tls.credential_names:
        roots = credential_secret(tls.credential_names[0] + names.CA_SUFFIX, sources)
    else:
        roots = agent_secret(names.file_roots(tls.ca_certificates, tls.ca_crl))
    wanted = _validation(tls.subject_alt_names)
    if tls.ca_crl and tls.ca_credential_name and not tls.credential_names:
        wanted.crl.filename = tls.ca_crl
    wanted.verify_certificate_spki.extend(tls.spki_pins)
    wanted.verify_certificate_hash.extend(tls.certificate_hashes)
    if tls.accept_untrusted:
        wanted.trust_chain_verification = CertificateValidationContext.ACCEPT_UNTRUSTED
    common.combined_validation_context.default_validation_context.CopyFrom(wanted)
    common.combined_validation_context.validation_context_sds_secret_config.CopyFrom(roots)


def _limit(common: CommonTlsContext, tls: ServerTls) -> None:
    lowest, highest = _VERSIONS.get(tls.min_version.upper()), _VERSIONS.get(tls.max_version.upper())
    if lowest is not None:
        common.tls_params.tls_minimum_protocol_version = lowest
    if highest is not None:
        common.tls_params.tls_maximum_protocol_version = highest
    common.tls_params.SetInParent()  # as ever: a listener that changes for nothing drains
    restrict(common.tls_params, TlsLimits("", tls.cipher_suites, tls.curves))


def _validation(subject_alt_names: Sequence[str]) -> CertificateValidationContext:
    made = CertificateValidationContext()
    for name in subject_alt_names:
        matcher = StringMatcher(prefix=name[:-1]) if name.endswith("*") else StringMatcher(exact=name)
        for kind in _KINDS_OF_NAME:
            made.match_typed_subject_alt_names.append(NameMatcher(san_type=kind, matcher=matcher))
    return made
