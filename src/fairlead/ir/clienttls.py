"""TLS towards servers: the fields that DestinationRule, MeshConfig and ProxyConfig share (Istio `ClientTLSSettings`).

What is wrong with them is what Istio's `validateTLS` says.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from msgspec import Meta

from fairlead.ir.traffic import ClientTls
from fairlead.model.diagnostic import Problem
from fairlead.model.findings import forbidden, no_effect, required
from fairlead.model.object import Spec
from fairlead.model.path import FieldPath


class ClientTLSSettings(Spec, frozen=True):
    """TLS towards the host."""

    mode: Annotated[
        Literal["DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL"],
        Meta(description="ISTIO_MUTUAL uses the mesh's certificates."),
    ] = "DISABLE"
    client_certificate: Annotated[str, Meta(description="File with the client's certificate (MUTUAL).")] = ""
    private_key: Annotated[str, Meta(description="File with the client's key (MUTUAL).")] = ""
    ca_certificates: Annotated[str, Meta(description="File with the authorities of the server.")] = ""
    credential_name: Annotated[str, Meta(description="Secret with certificate, key and authorities.")] = ""
    subject_alt_names: Annotated[tuple[str, ...], Meta(description="Names the server may have.")] = ()
    sni: Annotated[str, Meta(description="Server name to send.")] = ""
    insecure_skip_verify: Annotated[bool | None, Meta(description="Do not verify the server.")] = None
    ca_crl: Annotated[str, Meta(description="File with a revocation list.")] = ""


def client_tls(tls: ClientTLSSettings | None) -> ClientTls | None:
    """The fact of valid settings."""
    if tls is None:
        return None
    return ClientTls(
        mode=tls.mode,
        client_certificate=tls.client_certificate,
        private_key=tls.private_key,
        ca_certificates=tls.ca_certificates,
        ca_crl=tls.ca_crl,
        credential_name=tls.credential_name,
        subject_alt_names=tls.subject_alt_names,
        sni=tls.sni,
        insecure_skip_verify=bool(tls.insecure_skip_verify),
    )


def client_tls_problems(path: FieldPath, tls: ClientTLSSettings | None) -> Iterator[Problem]:
    """What is wrong with the settings, and which of them their mode makes nothing of."""
    if tls is None:
        return
    yield from _idle(path, tls)
    if tls.insecure_skip_verify and tls.mode in ("SIMPLE", "MUTUAL"):
        checks: list[tuple[str, object]] = [
            ("caCertificates", tls.ca_certificates),
            ("subjectAltNames", tls.subject_alt_names),
        ]
        if tls.mode == "SIMPLE":
            checks.append(("credentialName", tls.credential_name))
        for name, value in checks:
            if value:
                message = f"cannot specify {name} when insecureSkipVerify is set true"
                yield forbidden(path / name, message, "Verify the server: remove insecureSkipVerify.")
    if tls.mode in ("SIMPLE", "MUTUAL") and tls.credential_name:
        files = (tls.client_certificate, tls.ca_certificates, tls.private_key, tls.ca_crl)
        if any(files):
            message = "cannot specify client certificates or CA certificate or CA CRL if credentialName is set"
            yield forbidden(path / "credentialName", message, "Leave the Secret or the files.")
        return
    if tls.mode == "MUTUAL":
        needs = (("clientCertificate", tls.client_certificate), ("privateKey", tls.private_key))
        for name, value in needs:
            if not value:
                yield required(path / name, f"{name} required for mutual TLS", "Or set credentialName to a Secret.")


def _idle(path: FieldPath, tls: ClientTLSSettings) -> Iterator[Problem]:
    """Fields of which the mode makes nothing, as in Istio."""
    names, remedy = _IDLE.get(tls.mode, ((), ""))
    if tls.insecure_skip_verify and tls.mode in ("SIMPLE", "MUTUAL"):
        names, remedy = (*names, "ca_crl"), "Servers are not verified with insecureSkipVerify: remove one of them."
    encoded = dict(zip(tls.__struct_fields__, tls.__struct_encode_fields__, strict=True))
    for name in names:
        if getattr(tls, name):
            yield no_effect(path / encoded[name], remedy)


_OWN = ("client_certificate", "private_key")
_SERVER = ("ca_certificates", "ca_crl", "credential_name", "insecure_skip_verify")
_IDLE: dict[str, tuple[tuple[str, ...], str]] = {
    "DISABLE": ((*_OWN, *_SERVER, "subject_alt_names", "sni"), "With DISABLE there is no TLS: remove it."),
    "SIMPLE": (_OWN, "With SIMPLE clients have no certificate: use MUTUAL, or remove it."),
    "ISTIO_MUTUAL": ((*_OWN, *_SERVER), "With ISTIO_MUTUAL certificates and roots are the mesh's: remove it."),
}
