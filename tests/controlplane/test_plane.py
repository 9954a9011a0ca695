"""Start and stop, state, identity, addresses: one control plane in this process over real TLS."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import stat
from datetime import timedelta
from pathlib import Path

import pytest
import uvloop

from fairlead.apiserver.server import ServerError
from fairlead.cli.client import Client, Refused, read_kubeconfig
from fairlead.controlplane.state import StateDirectory, StateError
from fairlead.model.ref import Ref

from .running_plane import BASICS, CallEnded, Json, World, obj, routes, service, until, world


def test_start_writes_what_others_need_and_a_restart_keeps_everything(tmp_path: Path) -> None:
    state = tmp_path / "state"

    async def first() -> tuple[str, str, str]:
        async with world(state) as made:
            assert json.loads(made.state.endpoints.read_text()) == {
                "api": made.found.api,
                "xds": made.found.xds,
                "join": made.found.join,
            }
            assert len({one.rpartition(":")[2] for one in (made.found.api, made.found.xds, made.found.join)}) == 3
            for path in (made.state.kubeconfig, made.state.ca / "api-key.pem", made.state.store):
                assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
            assert stat.S_IMODE(state.stat().st_mode) == 0o700
            await made.apply(*BASICS, service("cart"), routes("cart"))
            await until(lambda: made.condition("VirtualService", "cart").get("status") == "True", "programmed")
            kept = await made.get(service("cart"))
            root = made.state.root_certificate.read_text()
            return kept["metadata"]["uid"], kept["spec"]["clusterIP"], root

    async def second(token: str) -> tuple[str, str, str]:
        async with world(state) as made:
            kept = await made.get(service("cart"))
            revision = made.plane.feed.revision
            # A token of the last run is still good, and status survived.
            access = read_kubeconfig(made.state.kubeconfig)
            client = Client(type(access)(access.host, access.port, token, access.ca))
            await asyncio.to_thread(client.request, "GET", "/api/v1/namespaces")
            client.close()
            assert made.condition("VirtualService", "cart")["status"] == "True"
            await made.apply(service("other"))
            await until(lambda: made.plane.feed.revision > revision, "the revision goes on from where it was")
            return kept["metadata"]["uid"], kept["spec"]["clusterIP"], made.state.root_certificate.read_text()

    before = uvloop.run(first())
    token = read_kubeconfig(state / "kubeconfig").token
    assert uvloop.run(second(token)) == before


def test_one_control_plane_a_directory(tmp_path: Path) -> None:
    one, other = StateDirectory(tmp_path), StateDirectory(tmp_path)
    one.lock()
    with pytest.raises(StateError, match=r"in use by another control plane \(process \d+\); stop it or choose"):
        other.lock()


def test_a_taken_port_is_named_and_everything_is_closed_again(tmp_path: Path) -> None:
    async def run() -> None:
        async with world(tmp_path / "a") as made:
            for name, port in (("api", made.found.api), ("xds", made.found.xds), ("join", made.found.join)):
                taken = int(port.rpartition(":")[2])
                with pytest.raises((ServerError, OSError), match=f"127.0.0.1:{taken}"):
                    async with world(tmp_path / name, **{f"{name}_port": taken}):
                        pass
            await made.api("GET", "/api")

    uvloop.run(run())


def test_who_may_do_what(tmp_path: Path) -> None:
    async def run() -> None:
        async with world(tmp_path) as made:
            await made.apply(*BASICS)
            access = read_kubeconfig(made.state.kubeconfig)
            for token, code in (("", 401), ("nonsense", 401), (access.token[:-3], 401)):
                client = Client(type(access)(access.host, access.port, token, access.ca))
                with pytest.raises(Refused) as refused:
                    await asyncio.to_thread(client.request, "GET", "/fairlead/v1/proxies")
                assert refused.value.code == code
                client.close()
            # A workload's own token opens the API to nobody but itself: neither objects nor proxies.
            token = made.plane.tokens.service_account("shop", "web", timedelta(hours=1), "fairlead")
            audience = made.plane.tokens.user("guest", timedelta(hours=1), ())
            for value in (token, audience):
                client = Client(type(access)(access.host, access.port, value, access.ca))
                for method, path in (
                    ("GET", "/fairlead/v1/proxies"),
                    ("GET", "/fairlead/v1/proxies/x"),
                    ("GET", "/fairlead/v1/diagnostics"),
                    ("POST", "/fairlead/v1/release"),
                    ("GET", "/api/v1/namespaces"),
                ):
                    with pytest.raises(Refused) as refused:
                        await asyncio.to_thread(client.request, method, path)
                    assert refused.value.code in (401, 403)
                client.close()

    uvloop.run(run())


def test_joining_by_token_and_only_as_oneself(tmp_path: Path) -> None:
    async def run() -> None:
        async with world(tmp_path) as made:
            await made.apply(*BASICS)
            with pytest.raises(Refused, match="not found"):
                await made.join("nobody")
            with pytest.raises(CallEnded, match=r"^16: "):
                await made.join(token="nonsense")
            # A token for the API does not join.
            with pytest.raises(CallEnded, match=r"^16: "):
                await made.join(token=read_kubeconfig(made.state.kubeconfig).token)
            pair = await made.join("web")
            async with made.proxy("web-1") as proxy:
                assert proxy.error == ""
            thief = made.connecting("cart-1", pair, SERVICE_ACCOUNT="cart")
            await thief.start()
            await until(lambda: thief.error, "refusal")
            assert thief.error.startswith("7: ")
            assert "certificate is of spiffe://cluster.local/ns/shop/sa/web" in thief.error
            await thief.stop()
            odd = made.connecting("web-2", pair, SERVICE_ACCOUNT="web", LABELS="none")
            await odd.start()
            await until(lambda: odd.error, "refusal")
            assert "the node cannot be understood" in odd.error
            await odd.stop()

    uvloop.run(run())


def test_addresses_of_services(tmp_path: Path) -> None:
    async def run() -> None:
        async with world(tmp_path, service_range="10.99.0.0/28") as made:
            await made.apply(*BASICS)
            (cart,) = await made.apply(service("cart"))
            address = cart["spec"]["clusterIP"]
            assert address.startswith("10.99.0.")
            (again,) = await made.apply(service("cart", ports=[{"port": 80, "name": "http"}]))
            assert again["spec"]["clusterIP"] == address
            with pytest.raises(Refused) as refused:
                await made.apply(service("thief", clusterIP=address))
            assert refused.value.code == 422
            assert [one["field"] for one in refused.value.causes] == ["spec.clusterIP"]
            (headless,) = await made.apply(service("headless", clusterIP="None"))
            assert headless["spec"]["clusterIP"] == "None"
            given = {address}
            with pytest.raises(Refused) as full:
                for at in range(20):
                    (one,) = await made.apply(service(f"s{at}"))
                    assert one["spec"]["clusterIP"] not in given
                    given.add(one["spec"]["clusterIP"])
            assert full.value.code in (422, 500, 507) and "10.99.0.0/28" in str(full.value)
            await made.api("DELETE", made.path(service("s0")))
            await made.apply(service("late"))

    uvloop.run(run())


def test_the_api_takes_its_renewed_certificate(tmp_path: Path) -> None:
    async def run() -> None:
        # A minute is the authority's shortest; half of it is too long for a test, so the clock is put forward.
        async with world(tmp_path, certificate_ttl=timedelta(minutes=1)) as made:
            host, port = "127.0.0.1", int(made.found.api.rpartition(":")[2])

            def serial() -> bytes:
                context = ssl.create_default_context(cafile=str(made.state.root_certificate))
                import socket

                with (
                    socket.create_connection((host, port)) as plain,
                    context.wrap_socket(plain, server_hostname=host) as tls,
                ):
                    found = tls.getpeercert(binary_form=True)
                    assert found
                    return found

            first = await asyncio.to_thread(serial)
            kept = Client(read_kubeconfig(made.state.kubeconfig))
            await asyncio.to_thread(kept.request, "GET", "/api")
            kubeconfig = made.state.kubeconfig.read_bytes()
            made.plane.renew()
            await until(lambda: made.state.kubeconfig.read_bytes() != kubeconfig, "a fresh kubeconfig")
            assert await asyncio.to_thread(serial) != first
            await asyncio.to_thread(kept.request, "GET", "/api")
            kept.close()
            assert stat.S_IMODE(made.state.kubeconfig.stat().st_mode) == 0o600

    uvloop.run(run())


def test_a_directory_of_something_else_is_left_alone(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "letters").mkdir()
    with pytest.raises(StateError, match="holds other things"):
        StateDirectory(tmp_path)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


def test_what_is_stored_but_not_valid_is_named(tmp_path: Path) -> None:
    async def run() -> None:
        async with world(tmp_path) as made:
            await made.apply(*BASICS, service("cart"))
            broken = routes("cart")
            broken["spec"]["http"][0]["retires"] = 3
            kind, _ = made.plane.model.kinds.identify(broken)
            assert kind is not None
            ref = kind.ref("shop", "cart")
            made.plane.store.create(ref, broken)
            await until(lambda: made.plane.feed.invalid, "noticed")
            said = (await made.api("GET", "/fairlead/v1/diagnostics")).document["diagnostics"]
            assert any("VirtualService shop/cart is stored but not valid any more" in one for one in said), said

    uvloop.run(run())
    assert obj("Namespace", "x")["metadata"] == {"name": "x"}


def test_an_object_at_which_the_mesh_does_not_look_says_so(tmp_path: Path) -> None:
    async def warned(made: World, document: Json) -> str:
        path = f"{made.path(document)}?fieldManager=test&force=true"
        (found,) = (await made.api("PATCH", path, document, "application/apply-patch+yaml")).warnings
        return re.sub(r"(, and|: no) .* \[", " [", found)

    async def check() -> None:
        async with world(tmp_path / "state") as made:
            await made.apply(*BASICS, service("cart"), service("other"))
            rule = routes("cart")
            rule["metadata"]["labels"] = {"istio.io/rev": "canary"}
            wanted = "metadata.labels[istio.io/rev]: the object is for revision canary [FL0105]"
            assert await warned(made, rule) == wanted
            said = await until(lambda: made.condition("VirtualService", "cart"), "a condition")
            assert (said["status"], said["reason"]) == ("False", "NotLookedAt")
            selectors = "discoverySelectors: [{matchLabels: {mesh: 'yes'}}]"
            meta = {"name": "istio", "namespace": "istio-system"}
            await made.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"mesh": selectors}})
            await until(lambda: made.plane.model.unseen(Ref("", "Service", "shop", "cart"), {}), "what the mesh sees")
            wanted = "metadata.namespace: the mesh does not look at namespace shop [FL0104]"
            assert await warned(made, routes("other")) == wanted
            said = await until(lambda: made.condition("VirtualService", "other"), "a condition")
            assert (said["status"], said["reason"]) == ("False", "NotLookedAt")

    uvloop.run(check())
