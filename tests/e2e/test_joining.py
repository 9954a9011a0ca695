"""Joining with a token of another issuer, whose keys are fetched over HTTPS, and moving to another trust domain."""

from __future__ import annotations

import asyncio
import json
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

    def __init__(self, mesh: Mesh, issuer: Issuer) -> None:
        self.mesh, self.issuer = mesh, issuer
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

    def respond(handler: Any, _: bytes) -> tuple[int, dict[str, str], bytes]:
        return (200, {}, json.dumps(issuer.jwks).encode()) if handler.path == "/keys" else (404, {}, b"")

    with serving("127.0.0.1", respond, certificates.server("localhost")) as port:
        rules = [{"claims": {"sub": "repo:shop/*"}, "namespace": "app", "serviceAccount": "deployer"}]
        trusted = {"issuer": CI, "audience": "mesh", "jwksUri": f"https://localhost:{port}/keys", "rules": rules}
        file = files / "issuers.yaml"
        file.write_text(json.dumps({"issuers": [trusted]}))
        with Mesh("--join-issuers", str(file), "--jwks-ca", str(certificates.root_file)) as mesh:
            made = Joining(mesh, issuer)
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
