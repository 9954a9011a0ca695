"""The authority: what it signs, what it refuses, what it keeps on disk."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from fairlead.ca.authority import AuthorityError, RequestRefused, Supplied, open_authority
from fairlead.ca.identity import Identity

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
WHO = Identity("cluster.local", "shop", "cart")


def csr(key=None, uri: str | None = None, dns: str | None = None, digest: object = hashes.SHA256()) -> str:
    key = key or ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    names: list[x509.GeneralName] = []
    if uri:
        names.append(x509.UniformResourceIdentifier(uri))
    if dns:
        names.append(x509.DNSName(dns))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=True)
    return builder.sign(key, digest).public_bytes(serialization.Encoding.PEM).decode()


def leaf_of(chain: tuple[str, ...]) -> x509.Certificate:
    return x509.load_pem_x509_certificate(chain[0].encode())


def test_first_start_makes_a_private_root_that_the_second_start_reads(tmp_path: Path) -> None:
    first = open_authority(tmp_path / "ca", "cluster.local", lambda: NOW)
    second = open_authority(tmp_path / "ca", "cluster.local", lambda: NOW)
    assert first.root_pem == second.root_pem
    assert stat.S_IMODE((tmp_path / "ca").stat().st_mode) == 0o700
    for file in (tmp_path / "ca").iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    root = x509.load_pem_x509_certificate(first.root_pem.encode())
    assert root.not_valid_after_utc == NOW + timedelta(days=3650)


def test_leaf_carries_the_identity_and_nothing_of_the_request(tmp_path: Path) -> None:
    authority = open_authority(tmp_path, "cluster.local", lambda: NOW)
    issued = authority.issue(csr(uri=str(WHO)), WHO)
    leaf, root = leaf_of(issued.chain), x509.load_pem_x509_certificate(issued.chain[-1].encode())
    leaf.verify_directly_issued_by(root)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert names.critical
    assert names.value.get_values_for_type(x509.UniformResourceIdentifier) == ["spiffe://cluster.local/ns/shop/sa/cart"]
    assert leaf.not_valid_before_utc == NOW - timedelta(minutes=2)
    assert leaf.not_valid_after_utc == NOW + timedelta(hours=24) == issued.not_after
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_lifetime_is_bounded(tmp_path: Path) -> None:
    clock = [NOW]
    authority = open_authority(tmp_path, "cluster.local", lambda: clock[0])
    assert authority.issue(csr(), WHO, timedelta(days=400)).not_after == NOW + timedelta(days=90)
    assert authority.issue(csr(), WHO, timedelta(0)).not_after == NOW + timedelta(hours=24)
    clock[0] = NOW + timedelta(days=3649, hours=12)
    assert authority.issue(csr(), WHO).not_after == NOW + timedelta(days=3650)
    clock[0] = NOW + timedelta(days=3650)
    with pytest.raises(RequestRefused, match="authority expired"):
        authority.issue(csr(), WHO)


@pytest.mark.parametrize(
    ("request_pem", "message", "denied"),
    [
        (lambda: csr(uri="spiffe://cluster.local/ns/shop/sa/other"), "but the caller is", True),
        (lambda: csr(uri=str(WHO), dns="evil.example"), "evil.example", True),
        (lambda: csr(rsa.generate_private_key(65537, 1024)), "1024 bits", False),
        (lambda: csr(ec.generate_private_key(ec.SECP521R1())), "secp521r1", False),
        (lambda: csr(ed25519.Ed25519PrivateKey.generate(), digest=None), "neither ECDSA nor RSA", False),
        (lambda: "hello", "not a PEM certificate request", False),
        (lambda: "x" * 9000, "9000 bytes", False),
    ],
)
def test_bad_requests_are_refused_with_the_reason(tmp_path: Path, request_pem, message: str, denied: bool) -> None:
    authority = open_authority(tmp_path, "cluster.local", lambda: NOW)
    with pytest.raises(RequestRefused, match=message) as caught:
        authority.issue(request_pem(), WHO)
    assert caught.value.denied is denied


def test_a_request_signed_by_another_key_is_refused(tmp_path: Path) -> None:
    authority = open_authority(tmp_path, "cluster.local", lambda: NOW)
    good = x509.load_pem_x509_csr(csr().encode()).public_bytes(serialization.Encoding.DER)
    forged = x509.load_der_x509_csr(good[:-3] + bytes([good[-3] ^ 1]) + good[-2:])
    with pytest.raises(RequestRefused, match="own key"):
        authority.issue(forged.public_bytes(serialization.Encoding.PEM), WHO)


@pytest.mark.parametrize("key", [ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)])
def test_other_keys_that_envoy_loads_are_signed(tmp_path: Path, key) -> None:
    assert open_authority(tmp_path, "cluster.local", lambda: NOW).issue(csr(key), WHO).serial


def make_ca(name: str, issuer: tuple[ec.EllipticCurvePrivateKey, x509.Certificate] | None = None):
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    signer = issuer[0] if issuer else key
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[1].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=30 if issuer else 300))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(signer, hashes.SHA256())
    )
    return key, certificate


def write(path: Path, item) -> Path:
    if isinstance(item, x509.Certificate):
        path.write_bytes(item.public_bytes(serialization.Encoding.PEM))
    else:
        path.write_bytes(
            item.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
    return path


def test_supplied_intermediate_is_used_and_kept(tmp_path: Path) -> None:
    root = make_ca("root")
    middle = make_ca("middle", root)
    issuing = make_ca("issuing", middle)
    supplied = Supplied(
        cert=write(tmp_path / "c.pem", issuing[1]),
        key=write(tmp_path / "k.pem", issuing[0]),
        root=write(tmp_path / "r.pem", root[1]),
        chain=write(tmp_path / "m.pem", middle[1]),
    )
    open_authority(tmp_path / "ca", "cluster.local", lambda: NOW, supplied)
    authority = open_authority(tmp_path / "ca", "cluster.local", lambda: NOW)
    issued = authority.issue(csr(), WHO, timedelta(days=90))
    chain = [x509.load_pem_x509_certificate(pem.encode()) for pem in issued.chain]
    assert len(chain) == 4
    for child, parent in pairwise(chain):
        child.verify_directly_issued_by(parent)
    assert issued.presented.count("BEGIN CERTIFICATE") == 3
    assert issued.not_after == NOW + timedelta(days=30), "never beyond the issuer"


def test_supplied_files_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    root, other = make_ca("root"), make_ca("other")
    good = Supplied(
        write(tmp_path / "c.pem", root[1]), write(tmp_path / "k.pem", root[0]), write(tmp_path / "r.pem", root[1])
    )
    stranger = write(tmp_path / "o.pem", other[1])
    with pytest.raises(AuthorityError, match="is not signed by any"):
        open_authority(tmp_path / "ca", "td", lambda: NOW, Supplied(good.cert, good.key, stranger))
    with pytest.raises(AuthorityError, match="is not the key of"):
        open_authority(
            tmp_path / "ca", "td", lambda: NOW, Supplied(good.cert, write(tmp_path / "x.pem", other[0]), good.root)
        )
    with pytest.raises(AuthorityError, match="expired at"):
        open_authority(tmp_path / "ca", "td", lambda: NOW + timedelta(days=301), good)
    with pytest.raises(AuthorityError, match=r"nowhere\.pem cannot be read"):
        open_authority(tmp_path / "ca", "td", lambda: NOW, Supplied(tmp_path / "nowhere.pem", good.key, good.root))
    assert not list((tmp_path / "ca").iterdir()), "nothing half-kept"


def test_a_lost_key_is_said_and_not_replaced(tmp_path: Path) -> None:
    open_authority(tmp_path, "td", lambda: NOW)
    (tmp_path / "ca-key.pem").unlink()
    with pytest.raises(AuthorityError, match=r"ca-key.pem is missing"):
        open_authority(tmp_path, "td", lambda: NOW)


def test_server_certificate_names(tmp_path: Path) -> None:
    made = open_authority(tmp_path, "td", lambda: NOW).issue_server(["localhost", "127.0.0.1", "::1"])
    leaf = x509.load_pem_x509_certificate(made.chain)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]


def test_a_first_start_that_was_killed_is_finished_with_the_same_key(tmp_path: Path) -> None:
    open_authority(tmp_path, "td", lambda: NOW)
    key = (tmp_path / "ca-key.pem").read_bytes()
    (tmp_path / "root-cert.pem").unlink()
    (tmp_path / "cert-chain.pem").unlink()
    open_authority(tmp_path, "td", lambda: NOW)
    assert (tmp_path / "ca-key.pem").read_bytes() == key
