"""Joining with a token of another issuer, whose keys are fetched over HTTPS, and moving to another trust domain."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from fairlead.agent import identity
from fairlead.agent.certificates import CertificateError, GrpcCertificates
from tests.e2e.apps import App, Certificates
from tests.e2e.issuers import Issuer, serving
from tests.e2e.mesh import Mesh, Workload, documents, eventually

CI, PORT = "https://ci.example", 18080
OLD, NEW = "cluster.local", "new.domain"
OBJECTS = """
apiVersion: v1
kind: Namespace
metadata: {name: app}
---
apiVersion: v1
kind: Namespace
metadata: {name: istio-system}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: app}
spec: {selector: {app: web}, ports: [{name: http, port: 18080}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: web, namespace: app}
spec:
  selector: {matchLabels: {app: web}}
  rules: [{from: [{source: {principals: [cluster.local/ns/app/sa/deployer]}}]}]
"""
ALIASES = """
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data: {mesh: "{trustDomain: new.domain, trustDomainAliases: [cluster.local]}"}
"""


class Joining:
    """A mesh that trusts an issuer, and a server in it."""

    def __init__(self, mesh: Mesh, issuer: Issuer, partner: Certificates, bundle: str) -> None:
        self.mesh, self.issuer = mesh, issuer
        self.partner, self.bundle = partner, bundle
        """An authority of another trust domain, and where its bundle is."""
        self.web = mesh.add("web", labels={"app": "web"}, ports={"http": PORT})

    def apply(self, text: str) -> None:
        for one in documents(text):
            self.mesh.plane.api.apply(one)

    def findings(self) -> list[str]:
        return self.mesh.plane.api.request("GET", "/fairlead/v1/diagnostics")["diagnostics"]

    def give(self, workload: Workload, token: str) -> None:
        """Put a token where the agent looks for it."""
        workload.directory.mkdir(exist_ok=True, mode=0o700)
        file = workload.directory / "token"
        file.touch(0o600)
        file.write_text(token)

    def status(self, identity: str) -> int:
        """What the server answers to a peer with a certificate of the partner's authority; 0: its TLS is refused."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["istio-http/1.1", "istio", "http/1.1"])
        for place, text in zip(("peer.pem", "peer.key"), self.partner.issue(identity), strict=True):
            (self.partner.directory / place).write_text(text)
        context.load_cert_chain(self.partner.directory / "peer.pem", self.partner.directory / "peer.key")
        try:
            with (
                socket.create_connection((self.web.address, PORT), timeout=10) as plain,
                context.wrap_socket(plain, server_hostname="web") as stream,
            ):
                stream.sendall(b"GET / HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n")
                head = stream.recv(64).split(b" ")
        except OSError:
            return 0
        return int(head[1]) if len(head) > 1 else 0

    def refusal(self, workload: Workload, token: str) -> str:
        """What the agent would say of the token."""
        self.give(workload, token)
        request = identity.signing_request(identity.new_key(), identity.spiffe_id(workload.config))
        with pytest.raises(CertificateError) as error:
            asyncio.run(GrpcCertificates(workload.config).sign(request, None))
        return str(error.value)


@pytest.fixture(scope="module")
def joining(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Joining]:
    issuer = Issuer(CI, curve=True)
    files = tmp_path_factory.mktemp("issuer")
    certificates = Certificates(files)

    (files / "partner").mkdir()
    partner = Certificates(files / "partner")
    root = ssl.PEM_cert_to_DER_cert(partner.root)
    bundle = {"keys": [{"kty": "EC", "use": "x509-svid", "x5c": [base64.b64encode(root).decode()]}]}
    served = {"/keys": issuer.jwks, "/bundle": bundle}

    def respond(handler: Any, _: bytes) -> tuple[int, dict[str, str], bytes]:
        found = served.get(handler.path)
        return (200, {}, json.dumps(found).encode()) if found is not None else (404, {}, b"")

    with serving("127.0.0.1", respond, certificates.server("localhost")) as port:
        rules = [{"claims": {"sub": "repo:shop/*"}, "namespace": "app", "serviceAccount": "deployer"}]
        trusted = {"issuer": CI, "audience": "mesh", "jwksUri": f"https://localhost:{port}/keys", "rules": rules}
        file = files / "issuers.yaml"
        file.write_text(json.dumps({"issuers": [trusted]}))
        with Mesh("--join-issuers", str(file), "--jwks-ca", str(certificates.root_file)) as mesh:
            made = Joining(mesh, issuer, partner, f"https://localhost:{port}/bundle")
            app = App("web", made.web.app).serve_http(PORT)
            try:
                made.apply(OBJECTS)
                mesh.start(made.web)
                yield made
            finally:
                app.close()


def test_a_token_of_another_issuer_starts_an_identity(joining: Joining) -> None:
    issuer = joining.issuer
    member = joining.mesh.add("deployer", entry="")
    old = issuer.token("repo:shop/x", aud="mesh", lasts=-600)
    eventually(lambda: "has expired" in joining.refusal(member, old), "the keys are there")
    for token, words in (
        (issuer.token("repo:shop/x", aud="other"), "is meant for other, not for mesh: ask the issuer"),
        (issuer.token("repo:else/x", aud="mesh"), "says whom a token of 'repo:else/x' stands for"),
        (
            Issuer("https://else.example", curve=True).token("x", aud="mesh"),
            "not trusted: trusted are https://fairlead-",
        ),
        (Issuer(CI, curve=True).token("repo:shop/x", aud="mesh"), "has no key"),
    ):
        found = joining.refusal(member, token)
        assert "refused the join token" in found and words in found, found
    joining.give(member, issuer.token("repo:shop/x", aud="mesh"))
    member.start()
    eventually(member.ready, "the member is ready", 60)
    found = eventually(lambda: (one := member.get("web:18080")).status == 200 and one, "it may call")
    assert f"URI=spiffe://{OLD}/ns/app/sa/deployer" in found.body["headers"]["x-forwarded-client-cert"]


def test_peers_of_another_trust_domain_are_judged_by_the_roots_of_its_bundle(joining: Joining) -> None:
    theirs, ours, others = (f"spiffe://{one}/ns/a/sa/b" for one in ("partner.example", OLD, "else.example"))
    assert joining.status(theirs) == 0
    roots = {"caCertificates": [{"spiffeBundleUrl": joining.bundle, "trustDomains": ["partner.example"]}]}
    settings = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio", "namespace": "istio-system"}}
    joining.apply(json.dumps({**settings, "data": {"mesh": json.dumps(roots)}}))
    # Its TLS is taken, and the policy of the server refuses it.
    assert eventually(lambda: joining.status(theirs)) == 403
    assert (joining.status(ours), joining.status(others)) == (0, 0), "the bundle is for no other domain"
    member = joining.mesh.workloads["deployer"]
    assert member.get("web:18080").status == 200, "the mesh's own peers are trusted as ever"
    unreached = {"caCertificates": [{"spiffeBundleUrl": joining.bundle + "/none", "trustDomains": ["partner.example"]}]}
    joining.apply(json.dumps({**settings, "data": {"mesh": json.dumps(unreached)}}))
    eventually(lambda: any("FL2605" in one and "status 404" in one for one in joining.findings()), "it is told")
    joining.apply(json.dumps({**settings, "data": {"mesh": "{}"}}))
    eventually(lambda: joining.status(theirs) == 0, "the root is not trusted any more")


def test_a_mesh_moves_to_another_trust_domain(joining: Joining) -> None:
    mesh, member = joining.mesh, joining.mesh.workloads["deployer"]
    serial = member.status()["certificate"]["serial"]
    mesh.plane.stop()
    mesh.plane.options = (*mesh.plane.options, "--trust-domain", NEW, "--trust-domain-alias", OLD)
    mesh.plane.start()
    assert any("FL2604" in one for one in joining.findings())
    joining.apply(ALIASES)
    eventually(lambda: not any("FL2604" in one for one in joining.findings()), "the mesh's settings agree")
    moved = mesh.add("moved", entry="", service_account="deployer", trust_domain=NEW)
    mesh.start(moved)

    def caller(workload: Workload) -> str:
        answer = workload.get("web:18080")
        assert answer.status == 200, answer
        return answer.body["headers"]["x-forwarded-client-cert"].rpartition("URI=")[2]

    # Server and one caller are of the old domain, one caller of the new; the policy names the old one only.
    eventually(lambda: caller(moved) == f"spiffe://{NEW}/ns/app/sa/deployer", "who has moved is let in")
    assert eventually(lambda: caller(member), "the old ones still talk") == f"spiffe://{OLD}/ns/app/sa/deployer"
    # Then the server moves, and one of the old domain renews nothing meanwhile: it just goes on.
    joining.web.stop()
    joining.web.config = replace(joining.web.config, trust_domain=NEW)
    mesh.start(joining.web)
    for workload, domain in ((moved, NEW), (member, OLD)):
        eventually(lambda who=workload, of=domain: caller(who) == f"spiffe://{of}/ns/app/sa/deployer", "all are let in")
    assert f"spiffe://{NEW}/ns/app/sa/web" in joining.web.admin("/certs")
    assert member.status()["certificate"]["serial"] == serial
