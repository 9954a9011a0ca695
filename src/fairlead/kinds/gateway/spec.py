"""The spec of a Gateway: every field of Istio's `networking.istio.io/v1` API."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from fairlead.model.object import Spec

Uint32 = Annotated[int, Meta(ge=0, le=4294967295)]
TlsVersion = Literal["TLS_AUTO", "TLSV1_0", "TLSV1_1", "TLSV1_2", "TLSV1_3"]


class Port(Spec, frozen=True):
    """A port that the gateway listens on."""

    number: Annotated[Uint32, Meta(description="The port's number.")] = 0
    protocol: Annotated[
        str, Meta(description="HTTP, HTTPS, GRPC, GRPC-WEB, HTTP2, MONGO, MYSQL, REDIS, TCP or TLS.")
    ] = ""
    name: Annotated[str, Meta(description="A name, unique in the gateway.")] = ""
    target_port: Annotated[Uint32, Meta(description="Deprecated; not for gateways.")] = 0


class TLSCertificate(Spec, frozen=True):
    """A server certificate in files."""

    server_certificate: Annotated[str, Meta(description="File with the certificate.")] = ""
    private_key: Annotated[str, Meta(description="File with the key.")] = ""
    ca_certificates: Annotated[str, Meta(description="File with the authorities of clients.")] = ""


class ServerTLSSettings(Spec, frozen=True):
    """TLS of a server."""

    https_redirect: Annotated[bool, Meta(description="Answer plain HTTP with a redirect to HTTPS.")] = False
    mode: Annotated[
        Literal["PASSTHROUGH", "SIMPLE", "MUTUAL", "AUTO_PASSTHROUGH", "ISTIO_MUTUAL", "OPTIONAL_MUTUAL"],
        Meta(description="Who terminates TLS, and whether clients need a certificate."),
    ] = "PASSTHROUGH"
    server_certificate: Annotated[str, Meta(description="File with the certificate.")] = ""
    private_key: Annotated[str, Meta(description="File with the key.")] = ""
    ca_certificates: Annotated[str, Meta(description="File with the authorities of clients.")] = ""
    ca_crl: Annotated[str, Meta(description="File with a revocation list.")] = ""
    credential_name: Annotated[str, Meta(description="Secret with certificate and key.")] = ""
    credential_names: Annotated[
        tuple[str, ...],
        Meta(min_length=1, max_length=2, description="Secrets with certificates of two kinds, RSA and ECDSA."),
    ] = ()
    ca_cert_credential_name: Annotated[str, Meta(description="Secret with the authorities of clients.")] = ""
    tls_certificates: Annotated[
        tuple[TLSCertificate, ...],
        Meta(min_length=1, max_length=2, description="Certificates of two kinds, RSA and ECDSA, in files."),
    ] = ()
    subject_alt_names: Annotated[tuple[str, ...], Meta(description="Names that clients may have.")] = ()
    verify_certificate_spki: Annotated[tuple[str, ...], Meta(description="SHA-256 of keys of clients, base64.")] = ()
    verify_certificate_hash: Annotated[
        tuple[str, ...], Meta(description="SHA-256 of certificates of clients, hexadecimal.")
    ] = ()
    min_protocol_version: Annotated[TlsVersion, Meta(description="Lowest TLS version; 1.2 by default.")] = "TLS_AUTO"
    max_protocol_version: Annotated[TlsVersion, Meta(description="Highest TLS version.")] = "TLS_AUTO"
    cipher_suites: Annotated[tuple[str, ...], Meta(description="Cipher suites in OpenSSL's names.")] = ()
    ecdh_curves: Annotated[tuple[str, ...], Meta(description="Curves of the key exchange.")] = ()
    alpn_protocols: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=255)], ...],
        Meta(description="Protocols that are offered; h2 and http/1.1 by default."),
    ] = ()
    insecure_skip_verify: Annotated[
        bool, Meta(description="Clients whose certificate cannot be verified may connect, too.")
    ] = False


class Server(Spec, frozen=True):
    """A port and the hosts it serves."""

    port: Annotated[Port | None, Meta(description="The port.")] = None
    bind: Annotated[
        str, Meta(description="Address to listen at, or a Unix socket (unix:///PATH); all addresses by default.")
    ] = ""
    hosts: Annotated[
        tuple[str, ...], Meta(description="Host names, `namespace/host` to limit whose VirtualServices may bind.")
    ] = ()
    tls: Annotated[ServerTLSSettings | None, Meta(description="TLS of this server.")] = None
    default_endpoint: Annotated[str, Meta(description="Where traffic goes by default; not implemented by Istio.")] = ""
    name: Annotated[str, Meta(description="A name, for people.")] = ""


class GatewaySpec(Spec, frozen=True):
    """Servers at the edge of the mesh."""

    servers: Annotated[tuple[Server, ...], Meta(description="What to listen for.")] = ()
    selector: Annotated[dict[str, str], Meta(description="Labels of the proxies; empty: all gateways.")] = {}
