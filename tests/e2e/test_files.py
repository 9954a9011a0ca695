"""Certificates and keys in files of a proxy's host: not there yet, put right, renewed, gone."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path
from typing import Any

from tests.e2e.conftest import World
from tests.e2e.mesh import Json, eventually, request
from tests.e2e.test_control import condition, refused
from tests.e2e.test_destinations import originated

HOST = "filed.example"
PLAIN, FILED = 18121, 18122
EDGE = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: plain, namespace: edge}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 18121, name: http, protocol: HTTP}, bind: GATEWAY, hosts: [filed.example]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: filed, namespace: app}
spec:
  hosts: [filed.example]
  gateways: [edge/plain, edge/filed]
  http: [{route: [{destination: {host: echo, subset: v1, port: {number: 18080}}}]}]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: filed, namespace: edge}
spec:
  selector: {istio: ingressgateway}
  servers:
    - port: {number: 18122, name: https, protocol: HTTPS}
      bind: GATEWAY
      hosts: [filed.example]
      tls: {mode: SIMPLE, serverCertificate: FILES/tls.pem, privateKey: FILES/tls.key}
"""


def why(world: World, document: Json) -> str:
    """Why a proxy refuses an object, "" if none does."""
    return refused(world.mesh, document).get("message", "")


def said(world: World) -> str:
    """What the gateway's agent says of its host's files."""
    ailing: list[Json] = world.mesh.plane.api.request("GET", "/fairlead/v1/agents")["ailing"]
    return "; ".join(one["files"] for one in ailing if one["proxy"] == "gateway.edge")


def status(world: World, port: int) -> int:
    tls = world.certificates.client() if port == FILED else None
    return request(world.gateway.address, port, host=HOST, tls=tls).status


def shown(world: World) -> bytes:
    """The certificate that the gateway shows."""
    with (
        socket.create_connection((world.gateway.address, FILED), timeout=10) as plain,
        world.certificates.client().wrap_socket(plain, server_hostname=HOST) as stream,
    ):
        return stream.getpeercert(binary_form=True) or b""


def put(world: World, directory: Path) -> None:
    """A new certificate and its key, written over the old ones."""
    cert, key = world.certificates.issue(HOST)
    (directory / "tls.key").write_text(key)
    (directory / "tls.pem").write_text(cert)


def listeners(world: World) -> Any:
    """How many responses with listeners the gateway has been sent."""
    return world.mesh.proxies()["gateway"]["types"]["LDS"]["sent"]


def test_a_gateways_files_may_come_later_be_renewed_and_go(world: World, tmp_path: Path) -> None:
    with world.mesh.config(EDGE.replace("FILES", str(tmp_path))) as found:
        gateway = found[-1]
        message = eventually(lambda: why(world, gateway), "the condition")
        assert f"{tmp_path}/tls.pem: there is no such file" in message
        # Everything else is served, and belongs to somebody else.
        assert eventually(lambda: status(world, PLAIN) == 200)
        eventually(lambda: condition(world.mesh, found[0], "Programmed").get("status") == "True", "the other Gateway")
        # The certificate alone is not enough.
        (tmp_path / "tls.pem").write_text(world.certificates.issue(HOST)[0])
        eventually(lambda: f"{tmp_path}/tls.key: there is no such file" in why(world, gateway))
        _, other = world.certificates.issue(HOST)
        (tmp_path / "tls.key").write_text(other)
        eventually(lambda: "is not that of the certificate" in why(world, gateway))
        put(world, tmp_path)
        assert eventually(lambda: status(world, FILED) == 200, "the gateway's port")
        eventually(lambda: condition(world.mesh, gateway, "Programmed").get("status") == "True", "the condition")
        # Renewed in place, and as an agent of certificates does: by other files of the same names.
        sent, before = listeners(world), shown(world)
        put(world, tmp_path)
        eventually(lambda: shown(world) != before, "the renewed certificate")
        before = shown(world)
        (tmp_path / "next").mkdir()
        put(world, tmp_path / "next")
        for name in ("tls.key", "tls.pem"):
            (tmp_path / "next" / name).rename(tmp_path / name)
        eventually(lambda: shown(world) != before, "the certificate renewed again")
        assert listeners(world) == sent, "nobody pushes for that"
        # Gone, it is served with what was there, and somebody says so.
        kept = shown(world)
        (tmp_path / "tls.key").rename(tmp_path / "away")
        eventually(lambda: f"{tmp_path}/tls.key: there is no such file" in said(world), "what the agent says")
        assert shown(world) == kept
        assert condition(world.mesh, gateway, "Programmed")["status"] == "True"
        (tmp_path / "away").rename(tmp_path / "tls.key")
        eventually(lambda: not said(world), "that it is well again")


def test_a_revocation_list_counts_as_soon_as_it_is_there(world: World, tmp_path: Path) -> None:
    put(world, tmp_path)
    cert, _ = world.certificates.files("ann.example")
    other, _ = world.certificates.files("bob.example")
    more = f"mode: MUTUAL, caCertificates: {world.certificates.root_file}, caCrl: FILES/revoked.pem"
    text = EDGE.replace("mode: SIMPLE", more).replace("FILES", str(tmp_path))
    tls = world.certificates.client("ann.example")

    def revoke(*certificates: Path) -> None:
        (tmp_path / "new.pem").write_text(world.certificates.revoke(*certificates))
        (tmp_path / "new.pem").rename(tmp_path / "revoked.pem")

    def let_in() -> bool:
        try:
            return request(world.gateway.address, FILED, host=HOST, tls=tls).status == 200
        except OSError as error:
            assert "revoked" in str(error) or isinstance(error, ConnectionError), error
            return False

    with world.mesh.config(text) as found:
        message = eventually(lambda: why(world, found[-1]), "the condition")
        assert f"{tmp_path}/revoked.pem: there is no such file" in message
        revoke(other)
        assert eventually(let_in, "whom nobody has revoked")
        sent = listeners(world)
        revoke(other, cert)
        assert eventually(lambda: not let_in(), "the new list")
        revoke()
        assert eventually(let_in, "whom nobody has revoked any more")
        assert listeners(world) == sent, "nobody pushes for that"


def test_a_file_that_envoy_reads_itself_may_come_later(world: World, tmp_path: Path) -> None:
    text = EDGE.replace(
        "mode: SIMPLE, serverCertificate: FILES/tls.pem, privateKey: FILES/tls.key", "mode: ISTIO_MUTUAL"
    )
    with world.mesh.config(text.replace("ISTIO_MUTUAL", f"ISTIO_MUTUAL, caCrl: {tmp_path}/revoked.pem")) as found:
        message = eventually(lambda: why(world, found[-1]), "the condition")
        assert f"{tmp_path}/revoked.pem" in message
        (tmp_path / "revoked.pem").write_text(world.certificates.revoke())
        eventually(lambda: condition(world.mesh, found[-1], "Programmed").get("status") == "True", "the condition")


def test_authorities_of_a_server_may_come_later(world: World, tmp_path: Path) -> None:
    roots = tmp_path / "roots.pem"
    text = originated(world, 19443, f"{{mode: SIMPLE, caCertificates: {roots}, sni: legacy.example}}")
    with world.mesh.config(text) as found:
        assert str(roots) in eventually(lambda: why(world, found[-1]), "the condition")
        roots.write_text(world.certificates.root[:-50])
        eventually(lambda: "is cut off" in why(world, found[-1]), "the new reason")
        shutil.copy(world.certificates.root_file, tmp_path / "whole.pem")
        (tmp_path / "whole.pem").rename(roots)
        eventually(lambda: world.client.get("legacy.example:18085").instance == "legacy", "the server")
        eventually(lambda: condition(world.mesh, found[-1], "Programmed").get("status") == "True", "the condition")
