"""Files of certificates and keys on a proxy's host: who names them, and what Envoy would not take."""

from __future__ import annotations

import asyncio
import datetime
import functools
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from envoy.config.bootstrap.v3.bootstrap_pb2 import Bootstrap
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2, tls_pb2

from fairlead.agent import secretfiles
from fairlead.agent.filereferences import named
from fairlead.agent.filewatch import FileWatch
from fairlead.agent.proxy import find_envoy
from fairlead.envoy.names import IDENTITY_SECRET, SYSTEM_ROOT, file_certificate, file_roots
from fairlead.envoy.upstreamtls import agent_secret, origin_tls, pack
from fairlead.ir.traffic import ClientTls
from tests.agent.world import until
from tests.e2e.apps import Certificates

LONG = "/" + "x" * 200


def downstream(*names: str) -> tls_pb2.DownstreamTlsContext:
    context = tls_pb2.DownstreamTlsContext()
    for name in names:
        context.common_tls_context.tls_certificate_sds_secret_configs.append(agent_secret(name))
    return context


def test_the_files_of_clusters_and_listeners_are_found() -> None:
    cluster = Cluster(name="a")
    tls = ClientTls("MUTUAL", ca_certificates=LONG, client_certificate="/c", private_key="/k")
    cluster.transport_socket.CopyFrom(origin_tls(tls, http2=False))
    assert named(cluster.SerializeToString()) == ("file-cert:/c~/k", f"file-root:{LONG}")
    cluster.transport_socket.CopyFrom(origin_tls(ClientTls("SIMPLE"), http2=True))
    assert named(cluster.SerializeToString()) == (SYSTEM_ROOT,)
    listener = Listener(name="a")
    for names in (("file-cert:/a~/b", "default"), ("file-cert:/c~/d", "file-cert:/a~/b")):
        listener.filter_chains.add().transport_socket.typed_config.CopyFrom(pack(downstream(*names)))
    assert named(listener.SerializeToString()) == ("file-cert:/a~/b", "file-cert:/c~/d")


def test_the_same_words_elsewhere_name_no_file() -> None:
    listener = Listener(name="file-root:/a")
    listener.filter_chains.add().name = "file-cert:/a~/b"
    other = agent_secret("file-root:/b")
    other.sds_config.ads.SetInParent()
    listener.filter_chains.add().transport_socket.typed_config.CopyFrom(
        pack(tls_pb2.UpstreamTlsContext(sni="file-root:/a"))
    )
    assert named(listener.SerializeToString() + other.SerializeToString()) == ()
    assert named(listener.SerializeToString() + b"\nfile-root:\n\x0bfile-root:\x12\x85\x80\x80\x80\x80") == ()
    assert named(pack(downstream(IDENTITY_SECRET)).SerializeToString()) == ()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


def problem_of(*files: Path) -> str:
    return secretfiles.problem(file_certificate(*map(str, files)) if len(files) == 2 else f"file-root:{files[0]}")


def test_good_files_are_sent(certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for rsa_key in (False, True):
        cert, key = certificates.files("a.example", rsa_key=rsa_key)
        made = secretfiles.secret(file_certificate(str(cert), str(key)))
        assert made is not None
        pair = secret_pb2.Secret.FromString(made.resource.value).tls_certificate
        assert pair.certificate_chain.inline_bytes == cert.read_bytes()
        assert pair.private_key.inline_bytes == key.read_bytes()
    root = Path(certificates.root_file)
    shutil.copy(root, tmp_path / "roots.pem")
    # With words about them, as hosts have them, in whatever language; twice; and where Envoy runs.
    (tmp_path / "roots.pem").write_bytes("# Wurzeln für alle\r\n".encode() + root.read_bytes() * 2)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "roots.pem"))
    for name in (SYSTEM_ROOT, f"file-root:{tmp_path}/roots.pem", "file-root:roots.pem"):
        made = secretfiles.secret(name, tmp_path)
        assert made is not None and made.name == name
        roots = secret_pb2.Secret.FromString(made.resource.value).validation_context
        assert roots.trusted_ca.inline_bytes == (tmp_path / "roots.pem").read_bytes()
    assert secretfiles.secret("default") is None
    assert secretfiles.problem("file-cert:/only") == "file-cert:/only: it does not say which files"


def test_what_envoy_would_not_take_is_named(certificates: Certificates, tmp_path: Path) -> None:
    cert, key = certificates.files("a.example")
    other, _ = certificates.files("b.example", rsa_key=True)
    text = cert.read_text()

    def file(name: str, body: str | bytes) -> Path:
        (tmp_path / name).write_bytes(body.encode() if isinstance(body, str) else body)
        return tmp_path / name

    encrypted = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"password"),
    )
    os.mkfifo(tmp_path / "pipe")
    for files, why in (
        ((tmp_path / "nowhere.pem",), "no such file"),
        ((cert / "below",), "no such file"),
        ((tmp_path,), "not a regular file"),
        ((tmp_path / "pipe",), "not a regular file"),
        ((file("empty", ""),), "no certificate"),
        ((key,), "no certificate"),
        ((file("cut", text[: len(text) // 2]),), "certificate 1 of it is cut off"),
        ((file("second", text + text.replace("M", "A", 1)),), "certificate 2 of it is damaged"),
        ((file("odd", text.replace("M", "*", 1)),), "certificate 1 of it is damaged"),
        ((cert, tmp_path / "no.key"), "no such file"),
        ((cert, cert), "no private key"),
        ((cert, file("encrypted", encrypted)), "needs a password"),
        ((other, key), "is not that of the certificate in"),
        ((file("large", b"x" * (secretfiles.MAX_BYTES + 1)),), "more than"),
    ):
        said = problem_of(*files)
        assert why in said and any(str(one) in said for one in files), (said, why)


def pem(name: str, key: Any, *, first: bool = True) -> str:
    """A self-signed certificate of a key."""
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), 1 if first else 2)
        .not_valid_before(now - datetime.timedelta(days=3))
        .not_valid_after(now - datetime.timedelta(days=1))
        .sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM).decode()


def private(key: Any, style: str = "PKCS8", password: str = "") -> str:
    lock = serialization.BestAvailableEncryption(password.encode()) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, getattr(serialization.PrivateFormat, style), lock).decode()


@functools.cache
def pairs() -> list[tuple[str, str]]:
    """Certificates and keys of all sorts."""
    curve, other = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    strong = rsa.generate_private_key(65537, 2048)
    own = pem("a", curve)
    made = [
        (own, private(curve)),  # expired: that is no reason
        (own, private(curve, "TraditionalOpenSSL")),
        ("words before\n" + own + "\n\nwords after\n", "words\n" + private(curve)),
        (own + pem("b", other), private(curve)),
        (pem("b", other) + own, private(curve)),
        (own.replace("\n", "\r\n"), private(curve)),
        (own + own[: len(own) // 2], private(curve)),
        (own + "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", private(curve)),
        (own, private(other)),
        (own, private(strong)),
        (own, private(curve, password="secret")),
        (own, ""),
        ("", private(curve)),
        (private(curve), own),
        (pem("c", strong), private(strong)),
        (pem("c", strong), private(strong, "TraditionalOpenSSL")),
        (own + private(curve), own + private(curve)),
    ]
    for kind in (ec.SECP384R1(), ec.SECP521R1(), ec.SECP224R1(), ec.SECP256K1()):
        key = ec.generate_private_key(kind)
        made.append((pem("d", key), private(key)))
    weak, edwards = rsa.generate_private_key(65537, 1024), ed25519.Ed25519PrivateKey.generate()
    return [*made, (pem("e", weak), private(weak)), (pem("f", edwards), private(edwards))]


def takes(directory: Path, common: Any) -> str:
    """Why Envoy does not take a cluster with this TLS, "" if it does."""
    cluster = Cluster(name="a")
    cluster.connect_timeout.seconds = 1
    context = tls_pb2.UpstreamTlsContext(common_tls_context=common)
    cluster.transport_socket.name = "envoy.transport_sockets.tls"
    cluster.transport_socket.typed_config.CopyFrom(pack(context))
    made = Bootstrap()
    made.static_resources.clusters.append(cluster)
    file = directory / "bootstrap.pb"
    file.write_bytes(made.SerializeToString())
    command = [find_envoy(""), "--mode", "validate", "-c", str(file), "-l", "error"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


@pytest.mark.parametrize("number", range(len(pairs())))
def test_envoy_and_we_agree_on_pairs(number: int, tmp_path: Path) -> None:
    files = tmp_path / "c.pem", tmp_path / "k.pem"
    chain, key = pairs()[number]
    files[0].write_text(chain)
    files[1].write_text(key)
    common = tls_pb2.CommonTlsContext()
    pair = common.tls_certificates.add()
    pair.certificate_chain.inline_string, pair.private_key.inline_string = chain, key
    said, refused = problem_of(*files), takes(tmp_path, common)
    assert bool(said) == bool(refused), (said, refused)


@functools.cache
def roots() -> list[str]:
    """What may stand in a file of authorities."""
    key = ec.generate_private_key(ec.SECP256R1())
    one, two = pem("a", key), pem("b", key, first=False)
    block = "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n"
    return [
        one,
        f"# Wurzeln für alle\n{one}\n# more\n{two}",
        one.replace("\n", "\r\n"),
        one.replace("CERTIFICATE", "X509 CERTIFICATE"),
        one + private(key),
        "",
        "words",
        private(key),
        one[: len(one) // 2],
        one + two[: len(two) // 2],
        one + block.format("AAAA"),
        one + block.format("????"),
        one + block.format(""),
        one.replace("END CERTIFICATE", "END X"),
    ]


@pytest.mark.parametrize("number", range(len(roots())))
def test_envoy_and_we_agree_on_authorities(number: int, tmp_path: Path) -> None:
    file = tmp_path / "roots.pem"
    file.write_text(roots()[number])
    common = tls_pb2.CommonTlsContext()
    common.validation_context.trusted_ca.inline_string = roots()[number]
    said, refused = problem_of(file), takes(tmp_path, common)
    assert bool(said) == bool(refused), (said, refused)


def revoked_by(key: Any) -> str:
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a")])
    # Over since long: Envoy minds when it verifies.
    day = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    made = x509.CertificateRevocationListBuilder(subject, day, day + datetime.timedelta(days=1))
    return made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


@functools.cache
def lists() -> list[str]:
    """What may stand in a file of what has been revoked."""
    key = ec.generate_private_key(ec.SECP256R1())
    one = revoked_by(key)
    return [
        one,
        f"words\n{one}\n{one}",
        one + pem("a", key),
        "",
        one[: len(one) // 2],
        one + one[: len(one) // 2],
        one + "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n",
    ]


@pytest.mark.parametrize("number", range(len(lists())))
def test_envoy_and_we_agree_on_revocation_lists(number: int, tmp_path: Path) -> None:
    (tmp_path / "roots.pem").write_text(roots()[0])
    (tmp_path / "list.pem").write_text(lists()[number])
    common = tls_pb2.CommonTlsContext()
    common.validation_context.trusted_ca.inline_string = roots()[0]
    common.validation_context.crl.inline_string = lists()[number]
    name = file_roots(str(tmp_path / "roots.pem"), str(tmp_path / "list.pem"))
    said, refused = secretfiles.problem(name), takes(tmp_path, common)
    assert bool(said) == bool(refused), (said, refused)
    if not said:
        made = secretfiles.secret(name)
        assert made is not None
        context = secret_pb2.Secret.FromString(made.resource.value).validation_context
        assert (context.trusted_ca.inline_bytes, context.crl.inline_bytes) == tuple(
            (tmp_path / one).read_bytes() for one in ("roots.pem", "list.pem")
        )


def test_a_file_without_a_list_revokes_nobody_and_is_not_taken_for_one(tmp_path: Path) -> None:
    """Envoy takes anything, and lets everybody in."""
    (tmp_path / "roots.pem").write_text(roots()[0])
    (tmp_path / "list.pem").write_text(roots()[0])
    name = file_roots(str(tmp_path / "roots.pem"), str(tmp_path / "list.pem"))
    assert "list.pem: it has no revocation list" in secretfiles.problem(name)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_what_the_agent_may_not_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "roots.pem").touch(0o000)
    assert "cannot read it: Permission denied" in problem_of(tmp_path / "roots.pem")


def test_a_host_without_authorities_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secretfiles, "system_roots", lambda: None)
    assert "install ca-certificates" in secretfiles.problem(SYSTEM_ROOT)
    assert secretfiles.stamp(SYSTEM_ROOT) == ()


def test_files_are_watched_as_long_as_they_matter(certificates: Certificates, tmp_path: Path) -> None:
    async def run() -> None:
        file = tmp_path / "roots.pem"
        name = f"file-root:{file}"
        told: list[str] = []
        changes: list[int] = []
        wanted = {name}
        watch = FileWatch(tmp_path, lambda _, problem: told.append(problem), lambda: wanted)
        watch.changed = lambda: changes.append(len(told))
        watch.look(name)
        await until(lambda: told, "the first look")
        assert "no such file" in told[0] and not changes
        shutil.copy(certificates.root_file, tmp_path / "new")
        (tmp_path / "new").rename(file)
        await until(lambda: told[-1] == "", "the file")
        assert len(changes) == 1
        file.write_bytes(file.read_bytes() * 2)
        await until(lambda: len(changes) == 2, "the replaced file")
        file.unlink()
        await until(lambda: "no such file" in told[-1], "its end")
        wanted.clear()
        await until(lambda: not [one for one in asyncio.all_tasks() if one.get_name() == "files of secrets"], "rest")
        await watch.close()

    asyncio.run(run())
