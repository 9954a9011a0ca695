"""Gateways: HTTP, TLS terminated with one and with two certificates, TLS passed through, redirects."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.e2e.conftest import World
from tests.e2e.mesh import Response, eventually, request

EDGE = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: front, namespace: edge}
spec:
  selector: {istio: ingressgateway}
  servers:
    - {port: {number: 18090, name: http, protocol: HTTP}, bind: GATEWAY, hosts: ["*.example"]}
    - port: {number: 18091, name: https, protocol: HTTPS}
      bind: GATEWAY
      hosts: [shop.example]
      tls: {mode: SIMPLE, credentialName: shop}
    - port: {number: 18091, name: https-other, protocol: HTTPS}
      bind: GATEWAY
      hosts: [other.example]
      tls: {mode: SIMPLE, credentialName: other, minProtocolVersion: TLSV1_3}
    - port: {number: 18092, name: mutual, protocol: HTTPS}
      bind: GATEWAY
      hosts: [shop.example]
      tls: {mode: MUTUAL, credentialName: mutual}
    - port: {number: 18093, name: tls, protocol: TLS}
      bind: GATEWAY
      hosts: [one.example, two.example]
      tls: {mode: PASSTHROUGH}
    - port: {number: 18094, name: redirected, protocol: HTTP}
      bind: GATEWAY
      hosts: [shop.example]
      tls: {httpsRedirect: true}
    - {port: {number: 18095, name: tcp, protocol: TCP}, bind: GATEWAY, hosts: ["*"]}
    - port: {number: 18096, name: https-files, protocol: HTTPS}
      bind: GATEWAY
      hosts: [files.example]
      tls:
        mode: MUTUAL
        tlsCertificates:
          - {serverCertificate: FILES/files.example.pem, privateKey: FILES/files.example.key}
          - {serverCertificate: FILES/files.example-rsa.pem, privateKey: FILES/files.example-rsa.key}
        caCertificates: FILES/edge-root.pem
        caCrl: FILES/revoked.pem
        ecdhCurves: [P-256]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: front, namespace: app}
spec:
  hosts: ["*.example"]
  gateways: [edge/front]
  http:
    - match: [{uri: {prefix: /v2}}]
      route: [{destination: {host: echo, subset: v2, port: {number: 18080}}}]
    - match: [{port: 18092}]
      directResponse: {status: 200, body: {string: mutual}}
    - route: [{destination: {host: echo, subset: v1, port: {number: 18080}}}]
  tls:
    - match: [{port: 18093, sniHosts: [one.example]}]
      route: [{destination: {host: echo, subset: v1, port: {number: 19443}}}]
    - match: [{port: 18093, sniHosts: [two.example]}]
      route: [{destination: {host: echo, subset: v2, port: {number: 19443}}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: front-tcp, namespace: app}
spec:
  hosts: ["*"]
  gateways: [edge/front]
  tcp:
    - match: [{port: 18095}]
      route: [{destination: {host: echo, subset: v2, port: {number: 19000}}}]
"""


def secret(world: World, name: str, *, root: bool = False) -> str:
    """A Secret with a fresh certificate."""
    cert, key = world.certificates.issue(f"{name}.example")
    data = {"tls.crt": cert, "tls.key": key, **({"ca.crt": world.certificates.root} if root else {})}
    kind = "Opaque" if root else "kubernetes.io/tls"
    meta = {"name": name, "namespace": "edge"}
    return json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "type": kind, "stringData": data})


def certificate_of(world: World, port: int, sni: str) -> bytes:
    """What the gateway shows."""
    with (
        socket.create_connection((world.gateway.address, port), timeout=10) as plain,
        world.certificates.client().wrap_socket(plain, server_hostname=sni) as stream,
    ):
        return stream.getpeercert(binary_form=True) or b""


@pytest.fixture(scope="module")
def edge(world: World) -> Iterator[World]:
    mutual_cert, mutual_key = world.certificates.issue("shop.example")
    mutual = json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "mutual", "namespace": "edge"},
            "stringData": {"tls.crt": mutual_cert, "tls.key": mutual_key, "ca.crt": world.certificates.root},
        }
    )
    files = world.certificates.directory
    for rsa_key in (False, True):
        world.certificates.files("files.example", rsa_key=rsa_key)
    revoked, _ = world.certificates.files("revoked.example")
    (files / "revoked.pem").write_text(world.certificates.revoke(revoked))
    text = "\n---\n".join((EDGE.replace("FILES", str(files)), secret(world, "shop"), secret(world, "other"), mutual))
    with world.mesh.config(text):
        yield world


def ask(world: World, port: int, host: str, path: str = "/", tls: ssl.SSLContext | None = None) -> Response:
    """A request to the gateway."""
    return request(world.gateway.address, port, path, host=host, tls=tls)


def test_http(edge: World) -> None:
    found = eventually(lambda: ask(edge, 18090, "shop.example"))
    assert (found.status, found.instance) == (200, "echo-1")
    assert "sa/gateway" in found.body["headers"]["x-forwarded-client-cert"]
    assert found.body["headers"]["x-forwarded-for"]
    assert ask(edge, 18090, "shop.example", "/v2").instance == "echo-2"
    assert ask(edge, 18090, "unknown.host").status == 404


def test_https_shows_the_certificate_of_each_name(edge: World) -> None:
    tls = edge.certificates.client()
    for host in ("shop.example", "other.example"):
        found = eventually(lambda host=host: ask(edge, 18091, host, tls=tls))
        assert (found.status, found.instance) == (200, "echo-1")
        assert found.body["headers"]["x-forwarded-proto"] == "https"
    old = edge.certificates.client()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    assert ask(edge, 18091, "shop.example", tls=old).status == 200
    with pytest.raises(OSError):
        ask(edge, 18091, "other.example", tls=old)
    with pytest.raises(OSError):
        ask(edge, 18091, "unknown.example", tls=tls)


def test_a_new_certificate_is_shown_without_a_restart(edge: World) -> None:
    before = eventually(lambda: certificate_of(edge, 18091, "shop.example"))
    changes = ("listener_modified", "listener_removed", "listener_in_place_updated")
    counted = {one: edge.gateway.stat(f"listener_manager.{one}") for one in changes}
    edge.mesh.plane.api.apply(json.loads(secret(edge, "shop")))
    eventually(lambda: certificate_of(edge, 18091, "shop.example") != before, "the new certificate")
    # No listener changed, so no connection was drained.
    assert {one: edge.gateway.stat(f"listener_manager.{one}") for one in changes} == counted


def test_mutual_tls_wants_a_certificate(edge: World) -> None:
    found = eventually(lambda: ask(edge, 18092, "shop.example", tls=edge.certificates.client("visitor.example")))
    assert found.text == "mutual"
    with pytest.raises(OSError):
        ask(edge, 18092, "shop.example", tls=edge.certificates.client())


def test_passthrough_leaves_tls_to_the_application(edge: World) -> None:
    for host, instance in (("one.example", "echo-1"), ("two.example", "echo-2")):
        found = eventually(lambda host=host: ask(edge, 18093, host, tls=edge.certificates.client()))
        assert found.instance == instance
    with pytest.raises(OSError):
        ask(edge, 18093, "legacy.example", tls=edge.certificates.client())


def test_https_redirect(edge: World) -> None:
    found = eventually(lambda: ask(edge, 18094, "shop.example", "/a?b=c"))
    assert (found.status, found.headers["location"]) == (301, "https://shop.example/a?b=c")


def test_tcp(edge: World) -> None:
    with socket.create_connection((edge.gateway.address, 18095), timeout=10) as stream:
        stream.sendall(b"hello\n")
        assert stream.recv(100) == b"echo-2 hello\n"


def test_a_missing_credential_does_not_stop_other_servers(edge: World) -> None:
    text = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: broken, namespace: edge}
spec:
  selector: {istio: ingressgateway}
  servers:
    - port: {number: 18096, name: https, protocol: HTTPS}
      bind: GATEWAY
      hosts: [late.example]
      tls: {mode: SIMPLE, credentialName: late}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: late, namespace: app}
spec:
  hosts: [late.example]
  gateways: [edge/broken]
  http: [{directResponse: {status: 200, body: {string: late}}}]
"""
    tls = edge.certificates.client()
    with edge.mesh.config(text):
        assert ask(edge, 18090, "shop.example").status == 200
        assert ask(edge, 18091, "other.example", tls=tls).status == 200
        with edge.mesh.config(secret(edge, "late")):
            assert eventually(lambda: ask(edge, 18096, "late.example", tls=tls)).text == "late"


def test_two_certificates_in_files_and_a_revocation_list(edge: World) -> None:
    tls = edge.certificates.client("caller.example")
    found = eventually(lambda: ask(edge, 18096, "files.example", tls=tls))
    assert (found.status, found.instance) == (200, "echo-1")
    shown: dict[str, bool] = {}
    for kind in ("ECDSA", "RSA"):
        one = edge.certificates.client("caller.example")
        one.maximum_version = ssl.TLSVersion.TLSv1_2
        one.set_ciphers(f"ECDHE-{kind}-AES128-GCM-SHA256")
        with (
            socket.create_connection((edge.gateway.address, 18096), timeout=10) as plain,
            one.wrap_socket(plain, server_hostname="files.example") as stream,
        ):
            der = stream.getpeercert(binary_form=True) or b""
        shown[kind] = isinstance(x509.load_der_x509_certificate(der).public_key(), rsa.RSAPublicKey)
    assert shown == {"ECDSA": False, "RSA": True}
    revoked = ssl.create_default_context(cafile=str(edge.certificates.root_file))
    directory = edge.certificates.directory
    revoked.load_cert_chain(directory / "revoked.example.pem", directory / "revoked.example.key")
    with pytest.raises(OSError):
        ask(edge, 18096, "files.example", tls=revoked)
