"""The workload's key and certificate: made here, kept here, and read back at a restart.

Key and chain share one file, so that they can never disagree.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fairlead.agent.files import write_private
from fairlead.model.launch import AgentConfig, ProxySettings

IDENTITY_FILE = "identity.pem"
ROOTS_FILE = "roots.pem"
BUNDLE_FILE = "bundle.pem"
ANCHORS_FILE = "anchors.json"
"""The trust bundle that the control plane last gave; from then on it takes the place of the file of roots."""
_MARK = b"-----BEGIN CERTIFICATE-----"


log = logging.getLogger("identity")


class IdentityError(Exception):
    """What the authority returned is not a certificate of this workload's key and identity."""


class Identity(msgspec.Struct, frozen=True):
    """A key (PEM), its certificate chain (PEM, leaf first), the roots to trust (PEM) and the leaf's times (epoch s).

    `issuer` is the key id (hex) of who signed it, empty where the certificate does not say.
    """

    key: bytes
    chain: bytes
    roots: bytes
    not_before: float
    not_after: float
    serial: str
    issuer: str = ""

    def valid(self, now: float) -> bool:
        """Whether the certificate can be shown at this time, with a little to spare."""
        return self.not_before - 300 <= now < self.not_after - 5


def spiffe_id(config: AgentConfig) -> str:
    """The identity this agent asks for."""
    return f"spiffe://{config.trust_domain}/ns/{config.namespace}/sa/{config.service_account}"


def new_key() -> ec.EllipticCurvePrivateKey:
    """A fresh ECDSA P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def signing_request(key: ec.EllipticCurvePrivateKey, identity: str) -> str:
    """A PEM signing request with the identity as its only (URI) name."""
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).add_extension(names, critical=True)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def accept(key: ec.EllipticCurvePrivateKey, wanted: str, certificates: Sequence[str], trusted: bytes) -> Identity:
    """The identity made of a key and the authority's answer (leaf first, root last). Raises IdentityError."""
    try:
        parsed = [x509.load_pem_x509_certificate(one.encode()) for one in certificates]
    except ValueError as error:
        raise IdentityError("the certificate authority returned something that is not a PEM certificate") from error
    if not parsed:
        raise IdentityError("the certificate authority returned no certificate")
    presented = [one for one in parsed if one.issuer != one.subject or one is parsed[0]]
    roots = [one for one in parsed[1:] if one.issuer == one.subject]
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    trust = _distinct([*_certificates(trusted), *(root.public_bytes(pem) for root in roots)])
    chain = b"".join(one.public_bytes(pem) for one in presented)
    return _identity(secret, chain, trust, wanted)


def load(directory: Path, wanted: str) -> Identity | None:
    """The identity kept on disk, or None if there is none that fits."""
    try:
        both = (directory / IDENTITY_FILE).read_bytes()
        roots = (directory / ROOTS_FILE).read_bytes()
        at = both.index(_MARK)
        return _identity(both[:at], both[at:], roots, wanted)
    except (OSError, ValueError, TypeError, IdentityError):
        return None


def save(directory: Path, identity: Identity) -> None:
    """Keep the identity for the next start. Raises OSError."""
    write_private(directory / ROOTS_FILE, identity.roots)
    write_private(directory / IDENTITY_FILE, identity.key + identity.chain)


def _identity(key: bytes, chain: bytes, roots: bytes, wanted: str) -> Identity:
    leaf = x509.load_pem_x509_certificates(chain)[0]
    loaded = serialization.load_pem_private_key(key, password=None)
    if leaf.public_key() != loaded.public_key():
        raise IdentityError("the certificate is for another key")
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        raise IdentityError("the certificate names nobody") from None
    found = names.get_values_for_type(x509.UniformResourceIdentifier)
    if found != [wanted]:
        raise IdentityError(f"the certificate is for {', '.join(found) or 'no SPIFFE identity'}, not for {wanted}")
    not_before, not_after = leaf.not_valid_before_utc.timestamp(), leaf.not_valid_after_utc.timestamp()
    return Identity(key, chain, roots, not_before, not_after, format(leaf.serial_number, "x"), _issuer(leaf))


def _issuer(leaf: x509.Certificate) -> str:
    try:
        found = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    except x509.ExtensionNotFound:
        return ""
    return found.hex() if found else ""


def load_bundle(directory: Path) -> bytes:
    """The trust bundle kept on disk, empty if there is none."""
    try:
        content = (directory / BUNDLE_FILE).read_bytes()
    except OSError:
        return b""
    return content if _certificates(content) else b""


def save_bundle(directory: Path, bundle: bytes) -> None:
    """Keep the trust bundle. Raises OSError, and IdentityError if it holds no certificate."""
    if not _certificates(bundle):
        raise IdentityError("the control plane sent a trust bundle without a certificate")
    write_private(directory / BUNDLE_FILE, bundle)


def load_anchors(directory: Path) -> dict[str, str]:
    """The further roots by trust domain that are kept on disk; none where there are none."""
    try:
        return msgspec.json.decode((directory / ANCHORS_FILE).read_bytes(), type=dict[str, str])
    except (OSError, msgspec.DecodeError):
        return {}


def save_anchors(directory: Path, anchors: Mapping[str, str]) -> None:
    """Keep further roots. Raises OSError."""
    write_private(directory / ANCHORS_FILE, msgspec.json.encode(anchors))


def further_roots(settings: ProxySettings) -> bytes:
    """The roots (PEM) that peers may come from beside the mesh's own; Envoy would refuse all for one unreadable one."""
    found: list[bytes] = []
    for text in (*(settings.mesh_certificates or ()), *(settings.ca_certificates or ())):
        certificates = _certificates(text.encode())
        if not certificates:
            log.error("a root certificate of the mesh's settings cannot be read: peers with it are refused")
        found.extend(certificates)
    return b"".join(b"\n" + one for one in dict.fromkeys(found))


def _certificates(bundle: bytes) -> list[bytes]:
    try:
        parsed = x509.load_pem_x509_certificates(bundle)
    except ValueError:
        return []
    return [one.public_bytes(serialization.Encoding.PEM) for one in parsed]


def _distinct(certificates: Iterable[bytes]) -> bytes:
    return b"".join(dict.fromkeys(certificates))
