"""Secrets: Secret messages (envoy.extensions.transport_sockets.tls.v3), delivered over SDS."""

from __future__ import annotations

from envoy.extensions.transport_sockets.tls.v3 import secret_pb2

from fairlead.envoy.resource import SECRET, Resource


def certificate_secret(name: str, chain: bytes, key: bytes, ocsp_staple: bytes = b"") -> Resource:
    """A certificate chain and its private key, PEM, and what OCSP says of the certificate, which clients are told."""
    message = secret_pb2.Secret(name=name)
    message.tls_certificate.certificate_chain.inline_bytes = chain
    message.tls_certificate.private_key.inline_bytes = key
    if ocsp_staple:
        message.tls_certificate.ocsp_staple.inline_bytes = ocsp_staple
    return Resource.of(SECRET, name, message.SerializeToString(deterministic=True))


def validation_secret(name: str, roots: bytes, crl: bytes = b"") -> Resource:
    """Certificates that peers' chains must lead to, PEM, and optionally a revocation list."""
    message = secret_pb2.Secret(name=name)
    message.validation_context.trusted_ca.inline_bytes = roots
    if crl:
        message.validation_context.crl.inline_bytes = crl
    return Resource.of(SECRET, name, message.SerializeToString(deterministic=True))
