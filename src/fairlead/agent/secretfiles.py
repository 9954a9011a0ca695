"""Certificates and keys in files of the proxy's host: the secrets that they make, or what is wrong with them.

A secret's name says where its files are (`fairlead.envoy.names`): `file-cert:CERT~KEY`, `file-root:CA`, and with a list
of what has been revoked `file-crl:CA~CRL`. As CA, `system` is the authorities that the host itself trusts. Envoy gets
what is in the files, so that what has been judged here is what it runs with; and what it would refuse (Envoy
`ContextImpl`, `DefaultCertValidator`) it never gets.
"""

from __future__ import annotations

import binascii
import os
import re
import ssl
import stat
from hashlib import blake2b
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2
from envoy.service.discovery.v3 import discovery_pb2 as discovery

from fairlead.envoy.names import FILE_CERTIFICATE, FILE_REVOKED, FILE_ROOT, SYSTEM
from fairlead.envoy.resource import SECRET

MAX_BYTES = 4 << 20
"""Of one file; the authorities of a host are some 250,000."""
_LEAST_RSA_BITS = 2048
_CURVES = ("secp256r1", "secp384r1", "secp521r1")
_SYSTEM_ROOTS = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
"""Where Debian, Red Hat, SUSE and Alpine have it."""
_BLOCKS = {
    what: re.compile(rb"-----BEGIN (%b)%b-----([^-]*)(?P<end>-----END \1%b-----)?" % (before, label, label))
    for what, before, label in (
        ("certificate", b"X509 |TRUSTED |", b"CERTIFICATE"),
        ("revocation list", b"X509 ", b"CRL"),
    )
}
_SEQUENCE, _BITS = 0x30, 0x03


class FileProblem(Exception):
    """Why the files of a secret are none that Envoy would take; the text names the file."""


def paths(name: str, base: Path = Path()) -> tuple[Path, ...]:
    """The files of a secret: certificate and key, or certificates of authorities and, if there is one, the list of what
    they have revoked. `base` is where Envoy runs. Empty if the name is not one of files.

    Raises FileProblem where a host has no authorities.
    """
    if name.startswith(FILE_CERTIFICATE):
        certificate, _, key = name.removeprefix(FILE_CERTIFICATE).partition("~")
        return (base / certificate, base / key) if certificate and key else ()
    if name.startswith(FILE_REVOKED):
        roots, _, revoked = name.removeprefix(FILE_REVOKED).partition("~")
        return (_roots(roots, base), base / revoked) if roots and revoked else ()
    roots = name.removeprefix(FILE_ROOT)
    return (_roots(roots, base),) if name.startswith(FILE_ROOT) and roots else ()


def _roots(said: str, base: Path) -> Path:
    if said != SYSTEM:
        return base / said
    found = system_roots()
    if found is None:
        raise FileProblem("this host has no certificates of authorities: install ca-certificates")
    return found


def system_roots() -> Path | None:
    """The file of authorities that this host trusts, None if it has none: `SSL_CERT_FILE`, or where systems put it."""
    given = os.environ.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().openssl_cafile
    return next((path for path in map(Path, (given, *_SYSTEM_ROOTS)) if path.is_file()), None)


# Files.


def stamp(name: str, base: Path = Path()) -> tuple[object, ...]:
    """What changes when the files of a secret do, or when they come and go; cheap."""
    try:
        return tuple(_stamp(path) for path in paths(name, base))
    except FileProblem:
        return ()


def _stamp(path: Path) -> tuple[object, ...]:
    try:
        found = path.stat()
    except (OSError, ValueError) as error:
        return (type(error).__name__,)
    # ctime: a file that may be read from now on is another one.
    return str(path), found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def problem(name: str, base: Path = Path()) -> str:
    """Why Envoy would not take the files of a secret as they are now, "" if it would."""
    try:
        found = secret(name, base)
    except FileProblem as error:
        return str(error)
    return "" if found is not None else f"{name}: it does not say which files"


def secret(name: str, base: Path = Path()) -> discovery.Resource | None:
    """The secret of files as they are now, versioned by what is in them; None if the name is not one of files.

    Raises FileProblem if Envoy would not take it.
    """
    files = paths(name, base)
    if not files:
        return None
    made = secret_pb2.Secret(name=name)
    bodies = [_read(path) for path in files]
    if name.startswith(FILE_CERTIFICATE):
        _check_pair(bodies[0], bodies[1], files[0], files[1])
        made.tls_certificate.certificate_chain.inline_bytes = bodies[0]
        made.tls_certificate.private_key.inline_bytes = bodies[1]
        return resource(made)
    _check_blocks(bodies[0], files[0], "certificate")
    made.validation_context.trusted_ca.inline_bytes = bodies[0]
    if len(files) > 1 and bodies[1].strip():
        # Nobody has been revoked if it is empty. What is something else Envoy would take as well, and check nothing.
        _check_blocks(bodies[1], files[1], "revocation list")
        made.validation_context.crl.inline_bytes = bodies[1]
    return resource(made)


def resource(made: secret_pb2.Secret) -> discovery.Resource:
    """A secret as it is sent; its version is a hash of it."""
    body = made.SerializeToString(deterministic=True)
    out = discovery.Resource(name=made.name, version=blake2b(body, digest_size=8).hexdigest())
    out.resource.type_url, out.resource.value = SECRET, body
    return out


def _read(path: Path) -> bytes:
    try:
        # Not to wait for whoever writes into a pipe.
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        raise FileProblem(f"{path}: there is no such file on the proxy's host") from None
    except (OSError, ValueError) as error:
        raise FileProblem(f"{path}: the proxy's agent cannot read it: {_why(error)}") from None
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise FileProblem(f"{path}: it is not a regular file")
        with os.fdopen(handle, "rb", closefd=False) as file:
            body = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise FileProblem(f"{path}: the proxy's agent cannot read it: {_why(error)}") from None
    finally:
        os.close(handle)
    if len(body) > MAX_BYTES:
        raise FileProblem(f"{path}: it has more than {MAX_BYTES} bytes")
    return body


def _why(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


# What is in them. Pure.


def _check_blocks(body: bytes, path: Path, what: Literal["certificate", "revocation list"]) -> None:
    """Raises FileProblem unless there is one of those, and none that is damaged.

    Only their outer form is looked at: hosts trust certificates that stricter readers than Envoy's do not read.
    """
    found = 0
    for match in _BLOCKS[what].finditer(body):
        found += 1
        if match["end"] is None:
            raise FileProblem(f"{path}: {what} {found} of it is cut off")
        if match[1] != b"TRUSTED " and not _is_signed(_decoded(match[2])):
            raise FileProblem(f"{path}: {what} {found} of it is damaged")
    if not found:
        raise FileProblem(f"{path}: it has no {what} (PEM)")


def _decoded(text: bytes) -> bytes:
    try:
        return binascii.a2b_base64(b"".join(text.split()), strict_mode=True)
    except binascii.Error:
        return b""


def _is_signed(der: bytes) -> bool:
    """Whether this has the form of RFC 5280's Certificate and CertificateList: what is signed, algorithm, signature."""
    whole = _element(der, 0)
    if whole is None or whole[0] != _SEQUENCE or whole[2] != len(der):
        return False
    at, tags = whole[1], list[int]()
    while at < len(der):
        part = _element(der, at)
        if part is None:
            return False
        tags.append(part[0])
        at = part[2]
    return tags == [_SEQUENCE, _SEQUENCE, _BITS]


def _element(der: bytes, at: int) -> tuple[int, int, int] | None:
    """Tag, begin and end of the content of what stands there in DER; None if it reaches beyond the end."""
    if at + 2 > len(der):
        return None
    tag, size, begin = der[at], der[at + 1], at + 2
    if size & 0x80:
        more = size & 0x7F
        size, begin = int.from_bytes(der[begin : begin + more], "big"), begin + more
    return (tag, begin, begin + size) if begin + size <= len(der) else None


def _check_pair(chain: bytes, key: bytes, chain_path: Path, key_path: Path) -> None:
    """Raises FileProblem unless these are a chain of certificates and the key of its first."""
    _check_blocks(chain, chain_path, "certificate")
    try:
        leaf = x509.load_pem_x509_certificate(chain).public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise FileProblem(f"{chain_path}: its first certificate is damaged, or has a key of a kind unknown") from None
    _check_strength(leaf, chain_path)
    try:
        private = load_pem_private_key(key, None)
    except TypeError:
        raise FileProblem(f"{key_path}: the private key needs a password, for which there is no field") from None
    except (ValueError, UnsupportedAlgorithm):
        raise FileProblem(f"{key_path}: it has no private key (PEM) that can be read") from None
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if private.public_key().public_bytes(*form) != leaf.public_bytes(*form):
        raise FileProblem(f"{key_path}: the private key is not that of the certificate in {chain_path}")


def _check_strength(leaf: object, path: Path) -> None:
    """Raises FileProblem for keys that Envoy takes for too weak (`ContextImpl`)."""
    if isinstance(leaf, rsa.RSAPublicKey) and leaf.key_size < _LEAST_RSA_BITS:
        raise FileProblem(f"{path}: its RSA key has {leaf.key_size} bits; at least {_LEAST_RSA_BITS} are needed")
    if isinstance(leaf, ec.EllipticCurvePublicKey) and leaf.curve.name not in _CURVES:
        raise FileProblem(f"{path}: its key is of the curve {leaf.curve.name}; Envoy knows P-256, P-384 and P-521")
