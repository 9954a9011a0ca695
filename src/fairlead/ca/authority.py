"""The certificate authority: opens or makes the root, and signs what an authenticated workload asks for."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fairlead.ca.files import ensure_directory, write_atomic
from fairlead.model.identity import Identity

CA_CERT, CA_KEY, CERT_CHAIN, ROOT_CERT = "ca-cert.pem", "ca-key.pem", "cert-chain.pem", "root-cert.pem"

MAX_CSR_BYTES = 8192
MAX_TTL = timedelta(days=90)
DEFAULT_TTL = timedelta(hours=24)
ROOT_TTL = timedelta(days=3650)
SKEW = timedelta(minutes=2)
_SHORTEST = timedelta(minutes=1)

Clock = Callable[[], datetime]
PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey
SigningKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class AuthorityError(Exception):
    """The authority's own files cannot be used; the message names the file and the remedy."""


class RequestRefused(Exception):
    """A signing request is not granted. `denied`: the caller may not have it; otherwise the request is malformed."""

    def __init__(self, message: str, *, denied: bool = False) -> None:
        super().__init__(message)
        self.denied = denied


class Issued(msgspec.Struct, frozen=True):
    """A certificate just signed: PEM blocks from the leaf to the root, serial number in hex, times in UTC."""

    chain: tuple[str, ...]
    serial: str
    not_before: datetime
    not_after: datetime

    @property
    def presented(self) -> str:
        """What a TLS peer sends: the leaf and the intermediates, without the root."""
        return "".join(self.chain[:-1])


class ServerCertificate(msgspec.Struct, frozen=True):
    """A key and certificate chain (PEM) for one of the control plane's own ports."""

    key: bytes
    chain: bytes
    not_after: datetime


class Supplied(msgspec.Struct, frozen=True):
    """Files of an authority made elsewhere. `chain` holds the intermediates above `cert`, and may be absent."""

    cert: Path
    key: Path
    root: Path
    chain: Path | None = None


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _private_pem(key: SigningKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _digest(key: SigningKey) -> hashes.SHA256 | hashes.SHA384:
    big = isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.key_size > 256
    return hashes.SHA384() if big else hashes.SHA256()


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=False,
        key_encipherment=not ca,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


class Authority:
    """Signs certificates. `chain` runs from the signing certificate up to, but without, the roots.

    A self-signed root that signs itself has an empty chain. The clock returns aware UTC times.
    """

    def __init__(
        self,
        key: SigningKey,
        issuer: x509.Certificate,
        chain: Sequence[x509.Certificate],
        roots: Sequence[x509.Certificate],
        clock: Clock,
    ) -> None:
        self._key = key
        self._issuer = issuer
        self._chain = tuple(chain)
        self._roots = tuple(roots)
        self._root_pem = "".join(map(_pem, self._roots))
        self._clock = clock
        self.issuer_id = x509.SubjectKeyIdentifier.from_public_key(key.public_key()).digest.hex()
        """The key id of the signing key: what certificates signed here carry as their authority's."""
        self.not_after = min(item.not_valid_after_utc for item in (issuer, *chain, _anchor(issuer, chain, roots)))

    @property
    def issuer(self) -> x509.Certificate:
        """The signing certificate."""
        return self._issuer

    @property
    def intermediates(self) -> tuple[x509.Certificate, ...]:
        """What stands between the signing certificate and the roots."""
        return tuple(one for one in self._chain if one != self._issuer)

    @property
    def roots(self) -> tuple[x509.Certificate, ...]:
        """The trusted roots."""
        return self._roots

    @property
    def root_pem(self) -> str:
        """The trust bundle: every root, PEM. Asked for before each handshake."""
        return self._root_pem

    def issue(self, csr_pem: str | bytes, identity: Identity, ttl: timedelta | None = None) -> Issued:
        """Sign a workload's certificate. `ttl` None or not positive means 24 hours; at most 90 days, and never
        beyond the authority's own certificates. Raises RequestRefused.
        """
        csr, public = read_csr(csr_pem)
        wanted = _requested_names(csr)
        if any(name != str(identity) for name in wanted):
            raise RequestRefused(
                f"the signing request asks for {', '.join(wanted)}, but the caller is {identity}", denied=True
            )
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(str(identity))])
        return self._sign(public, names, x509.Name([]), ttl)

    def issue_server(self, names: Sequence[str], ttl: timedelta | None = None) -> ServerCertificate:
        """A fresh key and certificate for DNS names and IP addresses (of the control plane's own ports)."""
        alternatives: list[x509.GeneralName] = []
        for name in names:
            try:
                alternatives.append(x509.IPAddress(ipaddress.ip_address(name)))
            except ValueError:
                alternatives.append(x509.DNSName(name))
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
        issued = self._sign(key.public_key(), x509.SubjectAlternativeName(alternatives), subject, ttl)
        return ServerCertificate(_private_pem(key), issued.presented.encode(), issued.not_after)

    def _sign(
        self,
        public: PublicKey,
        names: x509.SubjectAlternativeName,
        subject: x509.Name,
        ttl: timedelta | None,
    ) -> Issued:
        now = self._clock().replace(microsecond=0)
        if self.not_after - now < _SHORTEST:
            raise RequestRefused(
                f"the certificate authority expired at {self.not_after:%Y-%m-%dT%H:%M:%SZ}; replace its root"
            )
        lifetime = ttl if ttl is not None and ttl > timedelta(0) else DEFAULT_TTL
        not_after = min(now + min(max(lifetime, _SHORTEST), MAX_TTL), self.not_after)
        not_before = max(now - SKEW, self._issuer.not_valid_before_utc)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._issuer.subject)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(not_before)
            .not_valid_after(not_after)
            # RFC 5280, 4.2.1.6: with an empty subject the alternative names are critical.
            .add_extension(names, critical=not subject.rdns)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(ca=False), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, _digest(self._key))
        )
        chain = (certificate, *self._chain, _anchor(self._issuer, self._chain, self._roots))
        return Issued(tuple(_pem(item) for item in chain), f"{certificate.serial_number:x}", not_before, not_after)


def _anchor(
    issuer: x509.Certificate, chain: Sequence[x509.Certificate], roots: Sequence[x509.Certificate]
) -> x509.Certificate:
    """The root that the signing chain ends in."""
    top = chain[-1] if chain else issuer
    return next((root for root in roots if root == top or _signed_by(top, root)), roots[0])


def read_csr(pem: str | bytes) -> tuple[x509.CertificateSigningRequest, PublicKey]:
    """Read and check a signing request and its key: size, syntax, own signature, kind. Raises RequestRefused.

    P-256, P-384 and RSA from 2048 bits are what Envoy loads.
    """
    data = pem.encode() if isinstance(pem, str) else pem
    if len(data) > MAX_CSR_BYTES:
        raise RequestRefused(f"the signing request has {len(data)} bytes; at most {MAX_CSR_BYTES} are read")
    try:
        csr = x509.load_pem_x509_csr(data)
        valid = csr.is_signature_valid
        key = csr.public_key()
    except (ValueError, UnsupportedAlgorithm, InvalidSignature) as error:
        raise RequestRefused(f"the signing request is not a PEM certificate request: {error}") from error
    if not valid:
        raise RequestRefused("the signing request is not signed by its own key")
    if isinstance(key, ec.EllipticCurvePublicKey):
        if key.curve.name not in ("secp256r1", "secp384r1"):
            raise RequestRefused(f"the key is on curve {key.curve.name}; use P-256 or P-384")
    elif isinstance(key, rsa.RSAPublicKey):
        if not 2048 <= key.key_size <= 8192:
            raise RequestRefused(f"the RSA key has {key.key_size} bits; use 2048 to 8192")
    else:
        raise RequestRefused("the key is neither ECDSA nor RSA, which is all that Envoy loads; use ECDSA P-256")
    return csr, key


def _requested_names(csr: x509.CertificateSigningRequest) -> list[str]:
    try:
        names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    except (ValueError, x509.DuplicateExtension) as error:
        raise RequestRefused(f"the extensions of the signing request cannot be read: {error}") from error
    return [str(getattr(name, "value", name)) for name in names]


def open_authority(directory: Path, trust_domain: str, clock: Clock, supplied: Supplied | None = None) -> Authority:
    """The authority kept in `directory`; made on the first start, or taken over from `supplied` files.

    The files have the names of Istio's `cacerts` secret: ca-cert.pem, ca-key.pem, cert-chain.pem, root-cert.pem.
    Raises AuthorityError with the file and the remedy.
    """
    ensure_directory(directory)
    if supplied is not None:
        content = {
            CA_CERT: _read(supplied.cert),
            CERT_CHAIN: _read(supplied.chain) if supplied.chain else b"",
            ROOT_CERT: _read(supplied.root),
            CA_KEY: _read(supplied.key),
        }
        authority = assemble(content, str(supplied.cert.parent), clock)
        _keep(directory, content)
        return authority
    if not (directory / ROOT_CERT).exists():
        _keep(directory, _new_root(directory, trust_domain, clock))
    return assemble(read_authority(directory), str(directory), clock)


def read_authority(directory: Path) -> dict[str, bytes]:
    """The files of an authority, by name. Raises AuthorityError."""
    for name in (CA_KEY, CA_CERT):
        if not (directory / name).exists():
            raise AuthorityError(f"{directory / name} is missing beside {ROOT_CERT}: restore it from a backup")
    content = {name: _read(directory / name) for name in (CA_CERT, ROOT_CERT, CA_KEY)}
    content[CERT_CHAIN] = _read(directory / CERT_CHAIN) if (directory / CERT_CHAIN).exists() else b""
    return content


def _keep(directory: Path, content: dict[str, bytes]) -> None:
    # The root is last: until it is there, the first start has not ended and is done again with the same key.
    for name in (CA_KEY, CA_CERT, CERT_CHAIN, ROOT_CERT):
        write_atomic(directory / name, content[name])


def _new_root(directory: Path, trust_domain: str, clock: Clock) -> dict[str, bytes]:
    if (directory / CA_KEY).exists():
        key = _load_key(_read(directory / CA_KEY), str(directory))
    else:
        key = ec.generate_private_key(ec.SECP256R1())
    now = clock().replace(microsecond=0)
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, trust_domain),
            x509.NameAttribute(NameOID.COMMON_NAME, "Fairlead root"),
        ]
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(now + ROOT_TTL)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_usage(ca=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, _digest(key))
    )
    pem = _pem(certificate).encode()
    return {CA_CERT: pem, ROOT_CERT: pem, CERT_CHAIN: b"", CA_KEY: _private_pem(key)}


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > 1 << 20:
            raise AuthorityError(f"{path} is larger than 1 MiB: it is not a PEM file of an authority")
        return path.read_bytes()
    except OSError as error:
        raise AuthorityError(f"{path} cannot be read: {error.strerror}") from error


def _certificates(content: bytes, name: str, where: str) -> list[x509.Certificate]:
    if not content.strip():
        return []
    try:
        return x509.load_pem_x509_certificates(content)
    except ValueError as error:
        raise AuthorityError(f"{where}/{name} holds no PEM certificates: {error}") from error


def _signed_by(child: x509.Certificate, parent: x509.Certificate) -> bool:
    try:
        child.verify_directly_issued_by(parent)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _load_key(content: bytes, where: str) -> SigningKey:
    try:
        key = serialization.load_pem_private_key(content, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise AuthorityError(f"{where}/{CA_KEY} is not an unencrypted PEM private key: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise AuthorityError(f"{where}/{CA_KEY} is neither an ECDSA nor an RSA key")
    return key


def assemble(content: dict[str, bytes], where: str, clock: Clock) -> Authority:
    """An authority of the content of its files, by name, if they belong together. Raises AuthorityError."""
    issuers = _certificates(content[CA_CERT], CA_CERT, where)
    roots = _certificates(content[ROOT_CERT], ROOT_CERT, where)
    if not issuers or not roots:
        raise AuthorityError(f"{where}: {CA_CERT if not issuers else ROOT_CERT} is empty")
    issuer = issuers[0]
    path = [issuer]
    for item in (*issuers[1:], *_certificates(content[CERT_CHAIN], CERT_CHAIN, where)):
        # Istio's cert-chain.pem repeats the signing certificate and often the root: take the path only.
        if item not in path and item not in roots:
            path.append(item)
    key = _load_key(content[CA_KEY], where)
    if key.public_key() != issuer.public_key():
        raise AuthorityError(f"{where}: {CA_KEY} is not the key of {CA_CERT}")
    for child, parent in pairwise(path):
        if not _signed_by(child, parent):
            raise AuthorityError(f"{where}: {child.subject.rfc4514_string()} is not signed by the next in {CERT_CHAIN}")
    if path[-1] not in roots and not any(_signed_by(path[-1], root) for root in roots):
        raise AuthorityError(f"{where}: {path[-1].subject.rfc4514_string()} is not signed by any in {ROOT_CERT}")
    if not _may_sign(issuer):
        raise AuthorityError(f"{where}/{CA_CERT} is not a certificate authority (basicConstraints, keyCertSign)")
    if issuer.not_valid_after_utc <= clock():
        raise AuthorityError(f"{where}/{CA_CERT} expired at {issuer.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}")
    chain = [item for item in path if item not in roots]
    return Authority(key, issuer, chain, roots, clock)


def _may_sign(certificate: x509.Certificate) -> bool:
    try:
        basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (x509.ExtensionNotFound, ValueError):
        return False
    try:
        return basic.ca and certificate.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    except x509.ExtensionNotFound:
        return basic.ca
