"""The spec of a Sidecar: every field of Istio's `networking.istio.io/v1` API."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from fairlead.ir.poolspec import ConnectionPoolSettings
from fairlead.model.object import Spec

Uint32 = Annotated[int, Meta(ge=0, le=4294967295)]
Limit = Annotated[int, Meta(ge=0, le=2147483647)]
CaptureMode = Literal["DEFAULT", "IPTABLES", "NONE"]
TlsVersion = Literal["TLS_AUTO", "TLSV1_0", "TLSV1_1", "TLSV1_2", "TLSV1_3"]


class WorkloadSelector(Spec, frozen=True):
    """Workloads of the namespace."""

    labels: Annotated[dict[str, str], Meta(max_length=256, description="Labels that a workload must have.")] = {}


class SidecarPort(Spec, frozen=True):
    """A port that the proxy listens on."""

    number: Annotated[Uint32, Meta(description="The port's number.")] = 0
    protocol: Annotated[
        str, Meta(description="HTTP, HTTPS, GRPC, HTTP2, MONGO, MYSQL, REDIS, TCP or TLS; empty: detected.")
    ] = ""
    name: Annotated[str, Meta(description="A name.")] = ""
    target_port: Annotated[Uint32, Meta(description="Not for Sidecars.")] = 0


class TLSCertificate(Spec, frozen=True):
    """A server certificate in files."""

    server_certificate: Annotated[str, Meta(description="File with the certificate.")] = ""
    private_key: Annotated[str, Meta(description="File with the key.")] = ""
    ca_certificates: Annotated[str, Meta(description="File with the authorities of clients.")] = ""


class IngressTls(Spec, frozen=True):
    """TLS that the proxy terminates on a port for which mesh mTLS is switched off. Certificates are files."""

    mode: Annotated[
        Literal["PASSTHROUGH", "SIMPLE", "MUTUAL", "AUTO_PASSTHROUGH", "ISTIO_MUTUAL", "OPTIONAL_MUTUAL"],
        Meta(description="SIMPLE, or MUTUAL and OPTIONAL_MUTUAL to ask clients for a certificate."),
    ] = "PASSTHROUGH"
    server_certificate: Annotated[str, Meta(description="File with the certificate.")] = ""
    private_key: Annotated[str, Meta(description="File with the key.")] = ""
    ca_certificates: Annotated[str, Meta(description="File with the authorities of clients.")] = ""
    verify_certificate_spki: Annotated[tuple[str, ...], Meta(description="SHA-256 of keys of clients, base64.")] = ()
    verify_certificate_hash: Annotated[
        tuple[str, ...], Meta(description="SHA-256 of certificates of clients, hexadecimal.")
    ] = ()
    min_protocol_version: Annotated[TlsVersion, Meta(description="Lowest TLS version; 1.2 by default.")] = "TLS_AUTO"
    max_protocol_version: Annotated[TlsVersion, Meta(description="Highest TLS version.")] = "TLS_AUTO"
    cipher_suites: Annotated[tuple[str, ...], Meta(description="Cipher suites in OpenSSL's names.")] = ()
    insecure_skip_verify: Annotated[
        bool, Meta(description="Clients whose certificate cannot be verified may connect, too.")
    ] = False
    alpn_protocols: Annotated[tuple[str, ...], Meta(description="Not possible here.")] = ()
    ecdh_curves: Annotated[tuple[str, ...], Meta(description="Not possible here.")] = ()
    https_redirect: Annotated[bool, Meta(description="Not possible here.")] = False
    ca_crl: Annotated[str, Meta(description="Not possible here.")] = ""
    credential_name: Annotated[str, Meta(description="Not possible here: use files.")] = ""
    credential_names: Annotated[tuple[str, ...], Meta(min_length=1, description="Not possible here: use files.")] = ()
    ca_cert_credential_name: Annotated[str, Meta(description="Not possible here: use files.")] = ""
    tls_certificates: Annotated[tuple[TLSCertificate, ...], Meta(min_length=1, description="Not possible here.")] = ()
    subject_alt_names: Annotated[tuple[str, ...], Meta(description="Not possible here.")] = ()


class Ingress(Spec, frozen=True):
    """A port that the proxy serves for the application."""

    port: Annotated[SidecarPort | None, Meta(description="The port.")] = None
    bind: Annotated[str, Meta(description="Address to listen at, for captureMode NONE.")] = ""
    capture_mode: Annotated[
        CaptureMode, Meta(description="NONE: the proxy binds the port itself instead of getting redirected calls.")
    ] = "DEFAULT"
    default_endpoint: Annotated[
        str,
        Meta(
            description="Where the application listens: 127.0.0.1:PORT, 0.0.0.0:PORT (the workload's address), [::1] "
            "and [::] alike, :PORT as 127.0.0.1:PORT, or unix:///PATH. Empty: the address and port that were called."
        ),
    ] = ""
    tls: Annotated[IngressTls | None, Meta(description="TLS, where mesh mTLS is switched off for the port.")] = None
    connection_pool: Annotated[ConnectionPoolSettings | None, Meta(description="Limits for this port.")] = None


class Egress(Spec, frozen=True):
    """Hosts that the proxy sees."""

    port: Annotated[SidecarPort | None, Meta(description="Only on this port; without one: on all others.")] = None
    bind: Annotated[str, Meta(description="Address at which these hosts are called.")] = ""
    capture_mode: Annotated[
        CaptureMode, Meta(description="NONE: the proxy binds the port, and the application dials it.")
    ] = "DEFAULT"
    hosts: Annotated[
        tuple[str, ...],
        Meta(
            description="NAMESPACE/HOST; the namespace may be * or . (its own), the host *.SUFFIX. "
            "~NAMESPACE/HOST takes hosts out, ~/HOST those of all namespaces"
        ),
    ] = ()


class PortNumber(Spec, frozen=True):
    """A port by number."""

    number: Annotated[Uint32, Meta(description="The port's number.")] = 0


class EgressProxy(Spec, frozen=True):
    """A host that gets what is for hosts that the proxy does not see."""

    host: Annotated[str, Meta(description="Its full name.")] = ""
    subset: Annotated[str, Meta(description="A subset of it.")] = ""
    port: Annotated[PortNumber | None, Meta(description="Its port.")] = None


class OutboundTrafficPolicy(Spec, frozen=True):
    """What happens to calls to hosts that the proxy does not see."""

    mode: Annotated[
        Literal["REGISTRY_ONLY", "ALLOW_ANY", "ALLOW_ANY_DYNAMIC_DNS"],
        Meta(
            description="REGISTRY_ONLY: they fail. ALLOW_ANY: they go where they were going. ALLOW_ANY_DYNAMIC_DNS: "
            "HTTP requests go to the host that they name."
        ),
    ] = "REGISTRY_ONLY"
    egress_proxy: Annotated[EgressProxy | None, Meta(description="They go to this host (ALLOW_ANY).")] = None


class SidecarSpec(Spec, frozen=True):
    """What the proxies of some workloads see and serve."""

    workload_selector: Annotated[
        WorkloadSelector | None, Meta(description="The workloads; none: all that no other Sidecar chooses.")
    ] = None
    ingress: Annotated[tuple[Ingress, ...], Meta(description="Ports to serve in place of the services' ports.")] = ()
    egress: Annotated[tuple[Egress, ...], Meta(description="Hosts to see; empty: all.")] = ()
    inbound_connection_pool: Annotated[
        ConnectionPoolSettings | None, Meta(description="Limits on connections to the application.")
    ] = None
    outbound_traffic_policy: Annotated[
        OutboundTrafficPolicy | None,
        Meta(description="Calls to hosts that are not seen; else as the mesh says."),
    ] = None
