"""What the control plane promises: a bad object hurts only itself, identity, renewal, life without it."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from envoy.service.discovery.v3 import discovery_pb2 as discovery
from google.protobuf import struct_pb2

from fairlead.agent import identity, messages
from fairlead.agent.certificates import channel
from fairlead.envoy.resource import CLUSTER, LISTENER
from tests.e2e.conftest import World
from tests.e2e.mesh import Json, Mesh, Process, Refused, Workload, eventually, request

ADS = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: judged, namespace: app}
spec:
  selector: {app: echo}
  ports: [{name: http, port: 18080}]
---
"""
REFUSED = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: judged, namespace: app}
spec:
  host: judged
  trafficPolicy:
    loadBalancer: {simple: ROUND_ROBIN}
    tls: {mode: SIMPLE, caCertificates: FILE}
"""


def condition(mesh: Mesh, document: Json, kind: str) -> Json:
    """A condition of a stored object, {} if it has none."""
    status = mesh.plane.api.get(document).get("status") or {}
    return next((one for one in status.get("conditions") or [] if one["type"] == kind), {})


def refused(mesh: Mesh, document: Json) -> Json:
    """The condition that a proxy refuses an object, {} if it has none."""
    found = condition(mesh, document, "Programmed")
    return found if found.get("status") == "False" else {}


def test_what_only_envoy_refuses_is_marked_and_hurts_nobody_else(world: World) -> None:
    mesh = world.mesh
    good = SERVICE + REFUSED.replace("tls: {mode: SIMPLE, caCertificates: FILE}", "tls: {mode: DISABLE}")
    with mesh.config(good) as found:
        rule = found[-1]
        assert eventually(lambda: world.client.get("judged:18080")).status == 200
        # Valid for everyone but an Envoy: no such file on its host.
        bad = mesh.documents(REFUSED.replace("FILE", "/nowhere/roots.pem"))[0]
        mesh.plane.api.apply(bad)
        said = eventually(lambda: refused(mesh, rule), "the condition")
        assert "/nowhere/roots.pem" in said["message"]
        # The last good version is kept, and everyone else proceeds.
        assert world.client.get("judged:18080").status == 200
        assert "x-forwarded-client-cert" not in world.client.get("judged:18080").body["headers"]
        other = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: after, namespace: app}
spec: {host: second, trafficPolicy: {loadBalancer: {simple: RANDOM}}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: after, namespace: app}
spec:
  hosts: [second]
  http: [{directResponse: {status: 200, body: {string: after}}}]
"""
        with mesh.config(other) as others:
            assert world.client.get("second:18080").text == "after"
            assert condition(mesh, others[0], "Programmed").get("status") != "False"
        entries = world.mesh.proxies()["client"]["types"]["CDS"]
        assert entries["state"] == "NACKED"
        # Put right, it is taken and the mark goes.
        mesh.apply(good)
        eventually(lambda: condition(mesh, rule, "Programmed").get("status") == "True")
        assert world.mesh.proxies()["client"]["types"]["CDS"]["state"] == "SYNCED"


def test_what_was_never_good_is_marked_too(world: World) -> None:
    text = SERVICE + REFUSED.replace("FILE", "/nowhere/roots.pem")
    with world.mesh.config(text) as found:
        assert eventually(lambda: refused(world.mesh, found[-1]))
        assert world.client.get("echo:18080").status == 200


def threads(process: Process | None) -> set[str]:
    """The names of a process's threads."""
    assert process is not None
    return {one.read_text().strip() for one in Path(f"/proc/{process.popen.pid}/task").glob("*/comm")}


def test_no_thread_of_grpc_runs_in_the_control_plane_which_forks(world: World) -> None:
    grpcs = threads(world.client.process) - threads(world.mesh.plane.process)
    assert grpcs > {"event_engine", "grpc_global_tim"}


def test_what_a_failed_test_leaves_is_put_right(world: World) -> None:
    mesh, standing = world.mesh, world.echo2.process
    mark = mesh.mark()
    left = mesh.documents(SERVICE)[0]
    mesh.plane.api.apply(left)
    mesh.add("forgotten")
    assert mesh.plane.process is not None and standing is not None
    os.kill(standing.popen.pid, signal.SIGSTOP)
    mesh.plane.stop(signal.SIGKILL)
    mesh.restore(mark)
    with pytest.raises(Refused, match="judged"):
        mesh.plane.api.get(left)
    assert "forgotten" not in mesh.workloads and world.echo2.ready()
    assert world.client.get("echo:18080").status == 200


def sent(world: World) -> dict[str, dict[str, int]]:
    """How many responses each proxy was sent, by type."""
    listed = world.mesh.proxies()
    return {name: {kind: one.get("sent", 0) for kind, one in found["types"].items()} for name, found in listed.items()}


def test_an_edit_of_metadata_pushes_nothing(world: World) -> None:
    text = SERVICE + REFUSED.replace("SIMPLE, caCertificates: FILE", "DISABLE")
    with world.mesh.config(text) as found:
        world.mesh.barrier()
        before = sent(world)
        for at in range(5):
            for document in found:
                meta = {**document["metadata"], "annotations": {"note": f"edit {at}"}}
                world.mesh.plane.api.apply({**document, "metadata": meta})
        # The mark of the barrier is one change of routes (and of nothing else).
        world.mesh.barrier()
        eventually(lambda: all(t["RDS"] == before[n]["RDS"] + 1 for n, t in sent(world).items()))
        after = sent(world)
    for name, types in before.items():
        assert after[name] == {**types, "RDS": types["RDS"] + 1}, name


def test_a_change_goes_only_to_whom_it_concerns(world: World) -> None:
    text = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: narrow, namespace: app}
spec:
  selector: {matchLabels: {version: v1}}
  action: DENY
  rules: [{to: [{operation: {paths: [/narrow]}}]}]
"""
    world.mesh.barrier()
    before = sent(world)
    with world.mesh.config(text):
        eventually(lambda: sent(world)["echo-1"]["LDS"] > before["echo-1"]["LDS"])
        after = sent(world)
    for name in ("client", "outsider", "echo-2", "gateway"):
        assert after[name]["LDS"] == before[name]["LDS"], name
        assert after[name]["CDS"] == before[name]["CDS"], name


async def _ask(world: World, held: identity.Identity, node: dict[str, Any], kind: str) -> list[str]:
    """The names of the first answer to a proxy that says it is `node`. Raises AioRpcError if it is not let in."""
    message = discovery.DeltaDiscoveryRequest(type_url=kind)
    message.node.id = node.pop("ID")
    metadata = struct_pb2.Struct()
    metadata.update(node)
    message.node.metadata.CopyFrom(metadata)
    async with channel(world.mesh.plane.endpoints["xds"], held.roots, held) as opened, asyncio.timeout(10):
        call: Any = opened.stream_stream(ADS)()
        await call.write(message.SerializeToString())
        answer = discovery.DeltaDiscoveryResponse.FromString(await call.read())
        call.cancel()
        return [one.name for one in answer.resources]


def held_by(workload: Workload) -> identity.Identity:
    """The key and certificate that an agent keeps on disk."""
    found = identity.load(workload.directory, identity.spiffe_id(workload.config))
    assert found is not None
    return found


def test_a_node_gets_only_the_configuration_of_its_certificate(world: World) -> None:
    held = held_by(world.outsider)
    own: Json = {"ID": "sidecar~127.0.0.9~x.other~other.svc.cluster.local", "NAMESPACE": "other"}
    names = asyncio.run(_ask(world, held, {**own, "SERVICE_ACCOUNT": "outsider"}, CLUSTER))
    assert "outbound|18080||echo.app.svc.cluster.local" in names
    pretended: Json = {"ID": "sidecar~127.0.0.9~x.app~app.svc.cluster.local", "NAMESPACE": "app"}
    for node in (
        {**pretended, "SERVICE_ACCOUNT": "client"},
        {**own, "SERVICE_ACCOUNT": "client"},
        {**pretended, "SERVICE_ACCOUNT": "outsider"},
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            asyncio.run(_ask(world, held, node, LISTENER))
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert "its certificate is of" in (refused.value.details() or "")


async def _certificate(world: World, workload: Workload, wanted: str, seconds: int) -> identity.Identity:
    """A certificate for a workload's token, with a lifetime of our choice."""
    key = identity.new_key()
    roots = (world.mesh.plane.state / "ca" / "root-cert.pem").read_bytes()
    token = (workload.directory / "token").read_text()
    async with channel(world.mesh.plane.endpoints["join"], roots, None) as opened:
        call: Any = opened.unary_unary(messages.CREATE_CERTIFICATE)
        body = messages.certificate_request(identity.signing_request(key, wanted), seconds)
        answer = await call(body, metadata=(("authorization", f"Bearer {token}"),), timeout=10)
    return identity.accept(key, wanted, messages.certificate_chain(answer), roots)


def test_a_token_is_good_for_its_own_account_only(world: World) -> None:
    with pytest.raises((grpc.aio.AioRpcError, identity.IdentityError)):
        wanted = identity.spiffe_id(world.echo1.config)
        asyncio.run(_certificate(world, world.outsider, wanted, 3600))


def test_a_certificate_renews_itself_without_a_token(world: World) -> None:
    workload = world.mesh.add("renewed", labels={"app": "renewed"})
    del world.mesh.workloads["renewed"]
    api = world.mesh.plane.api
    account = {"name": "renewed", "namespace": "app"}
    api.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account})
    workload.join()
    # Most of its life is over: the authority dates certificates back by two minutes, and this one lives for one.
    old = asyncio.run(_certificate(world, workload, identity.spiffe_id(workload.config), 60))
    identity.save(workload.directory, old)
    (workload.directory / "token").unlink()
    try:
        api.apply(workload.entry())
        workload.start()
        eventually(workload.ready, "ready with the certificate on disk", 60)
        renewed = eventually(
            lambda: (s := workload.status()["certificate"])["serial"] != old.serial and s, "a new certificate", 30
        )
        assert renewed["not_after"] > old.not_after + 3600
        # Envoy was told: a server sees the new one.
        assert eventually(lambda: renewed["serial"] in workload.admin("/certs").replace("-", "").lower())
        assert workload.get("echo:18080").status == 200
    finally:
        workload.stop()
        api.delete(workload.entry())


def test_life_without_the_control_plane(world: World) -> None:
    mesh = world.mesh
    mesh.barrier()
    text = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: kept, namespace: app}
spec:
  hosts: [second]
  http: [{directResponse: {status: 200, body: {string: kept}}}]
"""
    with mesh.config(text):
        mesh.plane.stop(signal.SIGKILL)
        try:
            assert world.client.get("echo:18080").status == 200
            # An agent that starts anew finds its certificate and its configuration on disk.
            world.client.stop()
            world.client.start()
            eventually(world.client.ready, "ready without a control plane", 60)
            assert world.client.get("second:18080").text == "kept"
            assert eventually(lambda: world.client.get("echo:18080").status == 200)
            assert world.client.status()["xds"]["connected"] is False
        finally:
            mesh.plane.start()
        eventually(lambda: len(mesh.proxies()) == len(mesh.workloads), "all proxies are back", 60)
        assert world.client.get("second:18080").text == "kept"
        mesh.barrier()
        eventually(lambda: world.client.status()["xds"]["connected"])


def test_a_killed_envoy_comes_back_with_its_configuration(world: World) -> None:
    before = world.outsider.status()
    os.kill(before["pid_envoy"], signal.SIGKILL)
    eventually(lambda: world.outsider.status()["pid_envoy"] not in (0, before["pid_envoy"]))
    eventually(lambda: world.outsider.get("echo.app:18080").status == 200, seconds=40)


def test_an_endpoint_drains_before_it_ends(world: World) -> None:
    workload = world.echo2
    try:
        assert workload.process is not None
        workload.process.popen.send_signal(signal.SIGTERM)
        codes = {world.client.get("echo:18080").status for _ in range(60)}
        assert codes == {200}
        workload.process.popen.wait(30)
        assert {world.client.get("echo:18080").instance for _ in range(8)} == {"echo-1"}
    finally:
        workload.start()
        eventually(workload.ready, "echo-2 is back", 60)
        eventually(lambda: world.client.get("echo:18080").instance == "echo-2")


def test_who_is_not_of_the_mesh_does_not_hear_the_names_of_workloads(world: World) -> None:
    world.mesh.barrier()
    found = request(world.echo1.address, 18080, host="echo")
    assert (found.status, found.instance) == (200, "echo-1")
    assert [name for name in found.headers if "peer" in name] == []


def test_merged_metrics_count_requests(world: World) -> None:
    def total(workload: Workload, reporter: str) -> float:
        page = request(workload.address, 15020, "/stats/prometheus").text
        wanted = [
            one
            for one in page.splitlines()
            if one.startswith("istio_requests_total{")
            and f'reporter="{reporter}"' in one
            and "/ns/app/sa/client" in one
        ]
        return sum(float(one.rpartition(" ")[2]) for one in wanted)

    servers = (world.echo1, world.echo2)
    before = total(world.client, "source"), sum(total(one, "destination") for one in servers)
    for _ in range(25):
        assert world.client.get("echo:18080").status == 200
    eventually(lambda: sum(total(one, "destination") for one in servers) == before[1] + 25)
    assert total(world.client, "source") == before[0] + 25
