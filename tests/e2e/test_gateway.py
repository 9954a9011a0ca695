"""Gateways: HTTP, TLS terminated with one and with two certificates, TLS passed through, redirects."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from fairlead.agent.proxy import find_envoy
from tests.e2e.conftest import World
from tests.e2e.mesh import Process, Response, eventually, request
from tests.e2e.test_services import settings
from tests.loopback import free_port

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


BROKEN = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: NAME, namespace: edge}
spec:
  selector: {istio: ingressgateway}
  servers:
    - port: {number: 18091, name: https-NAME, protocol: HTTPS}
      bind: GATEWAY
      hosts: [NAME.example]
      tls: {mode: MODE, credentialName: SECRET}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: NAME, namespace: app}
spec:
  hosts: [NAME.example]
  gateways: [edge/NAME]
  http: [{directResponse: {status: 200, body: {string: mended}}}]
---
"""


def broken(name: str, secret: str, mode: str = "SIMPLE") -> str:
    """A Gateway on the port of others, and its routes."""
    return BROKEN.replace("NAME", name).replace("SECRET", secret).replace("MODE", mode)


@pytest.mark.parametrize(
    ("mode", "name", "wrong"),
    [
        ("SIMPLE", "key-is-none", {"tls.key": "no key"}),
        ("SIMPLE", "certificate-is-none", {"tls.crt": "no certificate"}),
        ("SIMPLE", "of-another-key", {"tls.crt": "ANOTHER"}),
        ("SIMPLE", "without-key", {"tls.key": ""}),
        ("SIMPLE", "without-certificate", {"tls.crt": ""}),
        ("MUTUAL", "authority-is-none", {"ca.crt": "no certificate"}),
        ("MUTUAL", "without-authority", {"ca.crt": ""}),
        ("MUTUAL", "of-other-clients", {"ca.crt": "ANOTHER"}),
    ],
)
def test_a_credential_that_is_none_hurts_its_own_host_only(
    edge: World, mode: str, name: str, wrong: dict[str, str]
) -> None:
    right = json.loads(secret(edge, name, root=True))
    another, _ = edge.certificates.issue(f"{name}.example")
    data = {**right["stringData"], **{key: another if text == "ANOTHER" else text for key, text in wrong.items()}}
    bad = json.dumps({**right, "stringData": {key: text for key, text in data.items() if text}})
    tls = edge.certificates.client("visitor.example")
    with edge.mesh.config(broken(name, name, mode) + bad):
        assert ask(edge, 18091, "shop.example", tls=tls).status == 200
        with pytest.raises(OSError):
            ask(edge, 18091, f"{name}.example", tls=tls)
        edge.mesh.plane.api.apply(right)
        assert eventually(lambda: ask(edge, 18091, f"{name}.example", tls=tls)).text == "mended"
        assert ask(edge, 18091, "shop.example", tls=tls).status == 200


def test_a_host_that_shares_a_credential_that_is_none_is_served_once_that_is_mended(edge: World) -> None:
    # Envoy keeps what it has refused, and refuses the whole listener for another server that wants it.
    right = json.loads(secret(edge, "shared", root=True))
    bad = json.dumps({**right, "stringData": {**right["stringData"], "tls.crt": "no certificate"}})
    tls = edge.certificates.client()
    tls.check_hostname = False
    with edge.mesh.config(broken("first", "shared") + bad), edge.mesh.config(broken("second", "shared")):
        assert ask(edge, 18091, "shop.example", tls=tls).status == 200
        edge.mesh.plane.api.apply(right)
        for name in ("first", "second"):
            found = eventually(lambda name=name: ask(edge, 18091, f"{name}.example", tls=tls))
            assert found.text == "mended"


def test_a_credential_that_has_become_none_is_served_as_it_was_by_new_listeners_too(edge: World) -> None:
    right = json.loads(secret(edge, "lost", root=True))
    bad = {**right, "stringData": {**right["stringData"], "tls.crt": "no certificate"}}
    tls = edge.certificates.client()
    tls.check_hostname = False
    with edge.mesh.config(broken("before", "lost") + json.dumps(right)):
        assert eventually(lambda: ask(edge, 18091, "before.example", tls=tls)).text == "mended"
        edge.mesh.plane.api.apply(bad)
        eventually(lambda: edge.gateway.stat("sds.kubernetes_lost.update_rejected") > 0, "the gateway's refusal")
        with edge.mesh.config(broken("after", "lost")):
            for name in ("before", "after"):
                found = eventually(lambda name=name: ask(edge, 18091, f"{name}.example", tls=tls))
                assert found.text == "mended"


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


def quic_client(world: World, local: int) -> str:
    """The configuration of an Envoy that takes plain HTTP at a local port to the gateway by HTTP/3 and no other way."""
    kinds = "type.googleapis.com/envoy.extensions"
    options, quic = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions", "envoy.transport_sockets.quic"
    trusted = {"trusted_ca": {"filename": str(world.certificates.root_file)}}
    transport = {
        "@type": f"{kinds}.transport_sockets.quic.v3.QuicUpstreamTransport",
        "upstream_tls_context": {"sni": "shop.example", "common_tls_context": {"validation_context": trusted}},
    }
    at = {"socket_address": {"protocol": "UDP", "address": world.gateway.address, "port_value": 18091}}
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": at}}]}]
    http3 = {"@type": f"type.googleapis.com/{options}", "explicit_http_config": {"http3_protocol_options": {}}}
    cluster = {
        "name": "gateway",
        "load_assignment": {"cluster_name": "gateway", "endpoints": endpoints},
        "typed_extension_protocol_options": {options: http3},
        "transport_socket": {"name": quic, "typed_config": transport},
    }
    route = {"match": {"prefix": "/"}, "route": {"cluster": "gateway"}}
    router = {"@type": f"{kinds}.filters.http.router.v3.Router"}
    manager: dict[str, Any] = {
        "@type": f"{kinds}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "client",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": router}],
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    here = {"socket_address": {"address": "127.0.0.1", "port_value": local}}
    listener = {"name": "here", "address": here, "filter_chains": [{"filters": filters}]}
    return json.dumps({"static_resources": {"listeners": [listener], "clusters": [cluster]}})


def test_http3_is_served_beside_https(edge: World, tmp_path: Path) -> None:
    tls = edge.certificates.client()
    assert "alt-svc" not in eventually(lambda: ask(edge, 18091, "shop.example", tls=tls)).headers
    config, local = tmp_path / "client.json", free_port()
    config.write_text(quic_client(edge, local))
    with edge.mesh.config(settings("fairlead: {http3: true}")):
        told = eventually(lambda: ask(edge, 18091, "shop.example", tls=tls).headers.get("alt-svc"))
        assert told == 'h3=":18091"; ma=86400'
        command = [find_envoy(""), "-c", str(config), "--use-dynamic-base-id", "--concurrency", "1"]
        client = Process(command, tmp_path / "client.log")

        def over_quic() -> Response:
            client.check()
            found = request("127.0.0.1", local, host="shop.example")
            assert found.status == 200, found.text
            return found

        try:
            found = eventually(over_quic, "an answer by HTTP/3")
        finally:
            client.stop()
        assert found.instance == "echo-1"
        assert found.body["headers"]["x-forwarded-proto"] == "https"
        # HTTP over TCP goes on beside it.
        assert ask(edge, 18091, "shop.example", tls=tls).status == 200


def test_what_stands_before_a_gateway_is_believed(edge: World) -> None:
    """gatewayTopology: certificates that another proxy has seen, and the PROXY protocol."""
    seen = {"x-forwarded-client-cert": "Hash=1234"}

    def forwarded() -> str:
        found = request(edge.gateway.address, 18090, host="shop.example", headers=seen)
        return str(found.body["headers"]["x-forwarded-client-cert"])

    assert "Hash=1234" not in eventually(forwarded)
    said = "defaultConfig: {gatewayTopology: {forwardClientCertDetails: ALWAYS_FORWARD_ONLY}}"
    with edge.mesh.config(settings(said)):
        eventually(lambda: forwarded().startswith("Hash=1234,"), "the header passes")

    def proxied() -> bool:
        with socket.create_connection((edge.gateway.address, 18090), timeout=5) as stream:
            stream.sendall(b"PROXY TCP4 9.8.7.6 127.0.0.1 4444 80\r\n")
            stream.sendall(b"GET / HTTP/1.1\r\nhost: shop.example\r\nconnection: close\r\n\r\n")
            with stream.makefile("rb") as answer:
                return b'"x-forwarded-for": "9.8.7.6"' in answer.read()

    # No mark is waited for: the test's own requests to the gateway have no such header.
    found = edge.mesh.documents(settings("defaultConfig: {gatewayTopology: {proxyProtocol: {}}}"))[0]
    edge.mesh.plane.api.apply(found)
    try:
        eventually(proxied, "the client's address comes from the PROXY protocol")
    finally:
        edge.mesh.plane.api.delete(found)
    edge.mesh.barrier()
