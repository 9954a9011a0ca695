"""TLS to upstreams that are no mesh workloads."""

from __future__ import annotations

from envoy.extensions.transport_sockets.tls.v3.common_pb2 import SubjectAltNameMatcher, TlsParameters
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import UpstreamTlsContext

from fairlead.envoy.upstreamtls import origin_tls
from fairlead.ir.mesh import TlsLimits
from fairlead.ir.traffic import ClientTls


def params(limits: TlsLimits) -> tuple[int, int]:
    socket = origin_tls(ClientTls("SIMPLE"), http2=False, limits=limits)
    made = UpstreamTlsContext.FromString(socket.typed_config.value).common_tls_context.tls_params
    return made.tls_minimum_protocol_version, made.tls_maximum_protocol_version


def test_servers_that_speak_nothing_older_are_reached() -> None:
    """Envoy's own limit for clients is TLS 1.2."""
    assert params(TlsLimits()) == (TlsParameters.TLSv1_2, TlsParameters.TLSv1_3)
    assert params(TlsLimits("TLSV1_3")) == (TlsParameters.TLSv1_3, TlsParameters.TLSv1_3)


def test_names_of_every_kind_are_found() -> None:
    names = ("a.example.com", "10.0.0.1", "spiffe://a/b", "me@example.com")
    socket = origin_tls(ClientTls("SIMPLE", subject_alt_names=names), http2=False)
    context = UpstreamTlsContext.FromString(socket.typed_config.value).common_tls_context.combined_validation_context
    kinds = [one.san_type for one in context.default_validation_context.match_typed_subject_alt_names]
    wanted = SubjectAltNameMatcher
    assert kinds == [wanted.DNS, wanted.IP_ADDRESS, wanted.URI, wanted.EMAIL]
