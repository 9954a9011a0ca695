"""What Gateways ask of TLS: certificates of clients, where their authorities are, pins, versions, ciphers, curves."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.e2e.apps import Certificates
from tests.e2e.conftest import World
from tests.e2e.mesh import Response, eventually, request

HOST = "tls.example"
OPTIONAL, NAMED, SPLIT, SPKI, HASH, ALTERNATIVE, OLD, TWO, CURVE, MAPPED, OWN, LENIENT = range(18101, 18113)
KINDS = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: tls, namespace: app}
spec:
  hosts: [tls.example]
  gateways: [edge/tls]
  http: [{route: [{destination: {host: echo, subset: v1, port: {number: 18080}}}]}]
"""


class Edge:
    """The mesh with its gateway's servers, and the certificates of their clients: `ann` is the one that is pinned."""

    def __init__(self, world: World, directory: Path) -> None:
        self.world = world
        self.own = world.certificates
        (directory / "other").mkdir()
        self.other = Certificates(directory / "other")
        self.pinned, _ = self.own.files("ann.example")
        self.revoked, _ = self.own.files("gone.example")

    def client(self, name: str = "", authority: Certificates | None = None) -> ssl.SSLContext:
        """A client that knows the gateway's authority, with a certificate of the same name in files, or none."""
        context = ssl.create_default_context(cafile=str(self.own.root_file))
        if name:
            directory = (authority or self.own).directory
            context.load_cert_chain(directory / f"{name}.pem", directory / f"{name}.key")
        return context

    def ask(self, port: int, tls: ssl.SSLContext) -> Response:
        """A request over TLS."""
        return request(self.world.gateway.address, port, host=HOST, tls=tls)

    def refused(self, port: int, tls: ssl.SSLContext) -> bool:
        """Whether the gateway ends the connection for its TLS."""
        try:
            self.ask(port, tls)
        except OSError:
            return True
        return False

    def handshake(self, port: int, tls: ssl.SSLContext) -> tuple[str, str, bytes]:
        """Version, cipher and the gateway's certificate."""
        with (
            socket.create_connection((self.world.gateway.address, port), timeout=10) as plain,
            tls.wrap_socket(plain, server_hostname=HOST) as stream,
        ):
            cipher = stream.cipher()
            return stream.version() or "", cipher[0] if cipher else "", stream.getpeercert(binary_form=True) or b""


def secret(name: str, data: dict[str, str]) -> dict[str, Any]:
    """An Opaque Secret beside the gateway."""
    meta = {"name": name, "namespace": "edge"}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "type": "Opaque", "stringData": data}


def gateway(**servers: tuple[int, dict[str, Any]]) -> dict[str, Any]:
    """One Gateway with a server for each port and its TLS."""
    made = [
        {
            "port": {"number": port, "name": name, "protocol": "HTTPS"},
            "bind": "GATEWAY",
            "hosts": [HOST],
            "tls": tls,
        }
        for name, (port, tls) in servers.items()
    ]
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "tls", "namespace": "edge"},
        "spec": {"selector": {"istio": "ingressgateway"}, "servers": made},
    }


@pytest.fixture(scope="module")
def edge(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    made = Edge(world, tmp_path_factory.mktemp("tls"))
    own = made.own
    cert, key = own.issue(HOST)
    rsa_cert, rsa_key = own.issue(HOST, rsa_key=True)
    own.files("bob.example")
    made.other.files("stranger.example")
    certificate = x509.load_pem_x509_certificate(made.pinned.read_bytes())
    public = certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    digest = hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).hexdigest()
    mutual = {"mode": "MUTUAL", "credentialName": "tls-both"}
    servers = gateway(
        optional=(OPTIONAL, {"mode": "OPTIONAL_MUTUAL", "credentialName": "tls-both"}),
        lenient=(
            LENIENT,
            {"mode": "MUTUAL", "credentialName": "tls-both", "insecureSkipVerify": True, "alpnProtocols": ["http/1.1"]},
        ),
        named=(NAMED, {"mode": "MUTUAL", "credentialName": "tls-only", "caCertCredentialName": "tls-roots"}),
        mapped=(
            MAPPED,
            {
                "mode": "MUTUAL",
                "credentialName": "kubernetes-gateway://edge/tls-only",
                "caCertCredentialName": "configmap://edge/tls-roots",
            },
        ),
        own=(OWN, {"mode": "SIMPLE", "credentialName": "builtin://"}),
        split=(SPLIT, {"mode": "MUTUAL", "credentialName": "tls-only"}),
        spki=(SPKI, {**mutual, "verifyCertificateSpki": [base64.b64encode(hashlib.sha256(public).digest()).decode()]}),
        hash=(HASH, {**mutual, "verifyCertificateHash": [digest]}),
        alternative=(ALTERNATIVE, {**mutual, "subjectAltNames": ["ann.example"]}),
        old=(
            OLD,
            {
                "mode": "SIMPLE",
                "credentialName": "tls-only",
                "maxProtocolVersion": "TLSV1_2",
                "cipherSuites": ["ECDHE-ECDSA-AES256-GCM-SHA384"],
            },
        ),
        two=(TWO, {"mode": "SIMPLE", "credentialNames": ["tls-only", "tls-rsa"]}),
        curve=(CURVE, {"mode": "SIMPLE", "credentialName": "tls-only", "ecdhCurves": ["P-384"]}),
    )
    documents = [
        secret("tls-both", {"cert": cert, "key": key, "cacert": own.root}),
        secret("tls-only", {"tls.crt": cert, "tls.key": key}),
        secret("tls-only-cacert", {"ca.crt": own.root, "ca.crl": own.revoke(made.revoked)}),
        secret("tls-roots", {"cacert": made.other.root}),
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "tls-roots", "namespace": "edge"},
            "data": {"ca.crt": made.other.root},
        },
        secret("tls-rsa", {"cert": rsa_cert, "key": rsa_key}),
        servers,
    ]
    with world.mesh.config("\n---\n".join((*map(json.dumps, documents), KINDS))):
        yield made


def test_a_client_may_have_a_certificate_or_none(edge: Edge) -> None:
    """OPTIONAL_MUTUAL, with the keys of a generic Secret: cert, key, cacert."""
    bare = eventually(lambda: edge.ask(OPTIONAL, edge.client()))
    assert (bare.status, bare.instance) == (200, "echo-1")
    # The gateway itself is in the header that the sidecar adds.
    assert bare.body["headers"]["x-forwarded-client-cert"].count("Hash=") == 1
    known = edge.ask(OPTIONAL, edge.client("ann.example"))
    assert known.body["headers"]["x-forwarded-client-cert"].count("Hash=") == 2
    assert edge.refused(OPTIONAL, edge.client("stranger.example", edge.other))


def test_a_client_whose_certificate_cannot_be_verified_may_connect(edge: Edge) -> None:
    """insecureSkipVerify: the application gets the certificate and judges it; there must be one."""
    stranger = eventually(lambda: edge.ask(LENIENT, edge.client("stranger.example", edge.other)))
    assert stranger.body["headers"]["x-forwarded-client-cert"].count("Hash=") == 2
    assert edge.refused(LENIENT, edge.client())
    both = edge.client("ann.example")
    both.set_alpn_protocols(["h2", "http/1.1"])
    address = (edge.world.gateway.address, LENIENT)
    with socket.create_connection(address, 10) as plain, both.wrap_socket(plain, server_hostname=HOST) as stream:
        assert stream.selected_alpn_protocol() == "http/1.1"


def test_authorities_of_a_secret_that_is_named(edge: Edge) -> None:
    """caCertCredentialName: only its authority counts, not the one of the certificate."""
    for port in (NAMED, MAPPED):
        found = eventually(lambda port=port: edge.ask(port, edge.client("stranger.example", edge.other)))
        assert found.status == 200
        assert edge.refused(port, edge.client("ann.example"))
        assert edge.refused(port, edge.client())


def test_the_gateways_own_certificate(edge: Edge) -> None:
    """`builtin://` is the identity of the mesh, which no client from outside knows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    shown = x509.load_der_x509_certificate(eventually(lambda: edge.handshake(OWN, context))[2])
    names = shown.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "/ns/edge/sa/" in names.get_values_for_type(x509.UniformResourceIdentifier)[0]


def test_authorities_and_revocations_of_the_secret_beside(edge: Edge) -> None:
    """The Secret `NAME-cacert` has the authority, and a revocation list."""
    assert eventually(lambda: edge.ask(SPLIT, edge.client("ann.example"))).status == 200
    assert edge.refused(SPLIT, edge.client("gone.example"))
    assert edge.refused(SPLIT, edge.client("stranger.example", edge.other))


@pytest.mark.parametrize("port", [SPKI, HASH, ALTERNATIVE], ids=["key", "certificate", "name"])
def test_one_client_out_of_those_of_an_authority(edge: Edge, port: int) -> None:
    assert eventually(lambda: edge.ask(port, edge.client("ann.example"))).status == 200
    assert edge.refused(port, edge.client("bob.example"))


def test_versions_and_ciphers(edge: Edge) -> None:
    version, cipher, _ = eventually(lambda: edge.handshake(OLD, edge.client()))
    assert (version, cipher) == ("TLSv1.2", "ECDHE-ECDSA-AES256-GCM-SHA384")
    new = edge.client()
    new.minimum_version = ssl.TLSVersion.TLSv1_3
    assert edge.refused(OLD, new)
    other = edge.client()
    other.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
    assert edge.refused(OLD, other)


def test_certificates_of_two_kinds(edge: Edge) -> None:
    shown: dict[str, bool] = {}
    for kind in ("ECDSA", "RSA"):
        tls = edge.client()
        tls.maximum_version = ssl.TLSVersion.TLSv1_2
        tls.set_ciphers(f"ECDHE-{kind}-AES128-GCM-SHA256")
        _, _, der = eventually(lambda tls=tls: edge.handshake(TWO, tls))
        shown[kind] = isinstance(x509.load_der_x509_certificate(der).public_key(), rsa.RSAPublicKey)
    assert shown == {"ECDSA": False, "RSA": True}


def test_curves(edge: Edge) -> None:
    same, other = edge.client(), edge.client()
    same.set_ecdh_curve("secp384r1")
    other.set_ecdh_curve("prime256v1")
    assert eventually(lambda: edge.ask(CURVE, same)).status == 200
    assert edge.refused(CURVE, other)
    assert edge.ask(OPTIONAL, other).status == 200


def test_another_authority_takes_its_place_without_a_drain(edge: Edge) -> None:
    """The Secret changes, no listener does: a connection that is open goes on."""
    gateway_ = edge.world.gateway
    stranger = edge.client("stranger.example", edge.other)
    eventually(lambda: edge.ask(SPKI, edge.client("ann.example")).status == 200)
    assert edge.refused(OPTIONAL, stranger)
    changes = ("listener_modified", "listener_removed", "listener_in_place_updated")
    counted = {one: gateway_.stat(f"listener_manager.{one}") for one in changes}
    cert, key = edge.own.issue(HOST)
    before = secret("tls-both", {"cert": cert, "key": key, "cacert": edge.own.root})
    with (
        socket.create_connection((gateway_.address, OPTIONAL), timeout=10) as plain,
        edge.client().wrap_socket(plain, server_hostname=HOST) as stream,
    ):
        edge.world.mesh.plane.api.apply(secret("tls-both", {"cert": cert, "key": key, "cacert": edge.other.root}))
        try:
            eventually(lambda: edge.ask(OPTIONAL, stranger).status == 200, "the other authority counts")
            assert edge.refused(OPTIONAL, edge.client("ann.example"))
            stream.sendall(f"GET / HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n".encode())
            assert stream.recv(100).startswith(b"HTTP/1.1 200")
        finally:
            edge.world.mesh.plane.api.apply(before)
            eventually(lambda: edge.refused(OPTIONAL, stranger), "the first authority is back")
    assert {one: gateway_.stat(f"listener_manager.{one}") for one in changes} == counted
