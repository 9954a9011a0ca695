"""`fairlead why` over a running control plane: as it is, as it would be, as it was."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import msgspec
import uvloop
from click.testing import CliRunner

from fairlead.cli.why import why
from fairlead.compiler.model import OBJECTS
from fairlead.controlplane.aside import Aside
from fairlead.controlplane.whyroutes import Walks
from fairlead.envoy.resource import CLUSTER
from fairlead.model.ref import Ref
from fairlead.simulate.mesh import Mesh

from .running_plane import BASICS, World, entry, obj, routes, service, until, world

DENY = {
    "apiVersion": "security.istio.io/v1",
    "kind": "AuthorizationPolicy",
    "metadata": {"name": "nobody", "namespace": "shop"},
    "spec": {"action": "DENY", "rules": [{"from": [{"source": {"principals": ["cluster.local/ns/shop/sa/web"]}}]}]},
}
CART = "http://cart:9080/"


async def asked(made: World, *arguments: str) -> tuple[int, dict[str, Any]]:
    """The command's exit status and what it answers as JSON."""

    def run() -> tuple[int, dict[str, Any]]:
        found = CliRunner().invoke(why, [*arguments, "--kubeconfig", str(made.state.kubeconfig), "-o", "json"])
        assert found.exit_code in (0, 1, 3), found.output
        return found.exit_code, json.loads(found.stdout)

    return await asyncio.to_thread(run)


def test_as_it_is_would_be_and_was(tmp_path: Path) -> None:
    uvloop.run(_as_it_is_would_be_and_was(tmp_path))


async def _as_it_is_would_be_and_was(tmp_path: Path) -> None:
    async with world(tmp_path / "state") as made:
        entries = (entry("web-0", "web", "10.0.0.1"), entry("cart-0", "cart", "10.0.0.2", "cart"))
        await made.apply(*BASICS, service("cart"), service("web"), *entries)
        web: dict[str, Any] = {"INSTANCE_IPS": "10.0.0.1", "WORKLOAD_NAME": "web", "LABELS": {"app": "web"}}
        cart: dict[str, Any] = {"INSTANCE_IPS": "10.0.0.2", "WORKLOAD_NAME": "cart", "LABELS": {"app": "cart"}}
        async with made.proxy("web-0", **web), made.proxy("cart-0", "cart", **cart):
            status, found = await asked(made, "--from", "web.shop", "--to", CART)
            assert (status, found["verdict"]["outcome"]) == (0, "passes")
            assert found["steps"][-1]["proxy"] == "cart-0.shop"

            with_file = tmp_path / "deny.yaml"
            with_file.write_bytes(msgspec.json.encode(DENY))
            status, found = await asked(made, "--from", "web-0", "--to", CART, "--with", str(with_file))
            assert status == 1
            policy = "rbac_access_denied_matched_policy[ns[shop]-policy[nobody]-rule[0]]"
            assert found["verdict"]["details"] == policy
            assert any("AuthorizationPolicy shop/nobody spec.rules[0]" in one["said"] for one in found["changes"])
            assert (await asked(made, "--from", "web", "--to", CART))[0] == 0, "nothing has been applied"

            # Conditions are written meanwhile, as commits of their own.
            before = made.plane.store.revision
            await made.apply(DENY, routes("cart", "/only"))
            status, found = await asked(made, "--from", "web", "--to", CART)
            assert found["verdict"]["details"] == "route_not_found"
            assert (await asked(made, "--from", "web", "--to", f"{CART}only"))[1]["verdict"]["details"] == policy
            assert (await asked(made, "--from", "web", "--to", CART, "--at", str(before)))[0] == 0
            assert (await asked(made, "--from", "web", "--to", CART))[0] == 1, "the head is as it was"

            proxies = await made.api("GET", "/fairlead/v1/proxies")
            assert {one["name"] for one in proxies.document["proxies"]} == {"web-0", "cart-0"}
            found = await asyncio.to_thread(
                lambda: CliRunner().invoke(
                    why, ["--from", "wep", "--to", CART, "--kubeconfig", str(made.state.kubeconfig)]
                )
            )
            assert found.exit_code == 2
            assert "did you mean 'web.shop'" in found.output


def test_new_services_are_supposed_with_an_address(tmp_path: Path) -> None:
    uvloop.run(_new_services(tmp_path))


async def _new_services(tmp_path: Path) -> None:
    async with world(tmp_path / "state") as made:
        await made.apply(*BASICS, entry("web-0", "web", "10.0.0.1"))
        web: dict[str, Any] = {"INSTANCE_IPS": "10.0.0.1", "WORKLOAD_NAME": "web", "LABELS": {"app": "web"}}
        async with made.proxy("web-0", **web):
            more = tmp_path / "more.json"
            more.write_bytes(msgspec.json.encode(service("cart")))
            _, found = await asked(made, "--from", "web", "--to", CART, "--with", str(more))
            assert found["verdict"]["flags"] == "UH"
            assert found["verdict"]["cluster"] == "outbound|9080||cart.shop.svc.cluster.local"
            wrong = tmp_path / "wrong.json"
            wrong.write_bytes(msgspec.json.encode(obj("Service", "x", spec={"prots": []})))
            refused = await asyncio.to_thread(
                lambda: CliRunner().invoke(
                    why,
                    ["--from", "web", "--to", CART, "--with", str(wrong), "--kubeconfig", str(made.state.kubeconfig)],
                )
            )
            assert refused.exit_code == 2
            assert "prots" in refused.output


def test_what_is_tried_for_an_answer_leaves_streams_where_they_were(tmp_path: Path) -> None:
    uvloop.run(_what_is_tried(tmp_path))


async def _what_is_tried(tmp_path: Path) -> None:
    seen = [{"hosts": ["./web.shop.svc.cluster.local"]}]
    hidden = obj(
        "Sidecar",
        "web",
        version="networking.istio.io/v1",
        spec={"egress": seen, "outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}},
    )
    async with world(tmp_path / "state") as made:
        entries = (entry("web-0", "web", "10.0.0.1"), entry("cart-0", "cart", "10.0.0.2", "cart"))
        await made.apply(*BASICS, service("cart"), service("web"), *entries, hidden)
        web: dict[str, Any] = {"INSTANCE_IPS": "10.0.0.1", "WORKLOAD_NAME": "web", "LABELS": {"app": "web"}}
        async with made.proxy("web-0", **web) as proxy:
            own = "outbound|9080||web.shop.svc.cluster.local"
            await until(lambda: own in proxy.have[CLUSTER], "its own cluster")
            _, found = await asked(made, "--from", "web.shop", "--to", CART)
            assert any("Sidecar" in str(one) for one in found["changes"]), found
            rule = obj(
                "DestinationRule", "web", spec={"host": "web", "subsets": [{"name": "v1", "labels": {"v": "1"}}]}
            )
            await made.apply(rule)
            await until(lambda: own.replace("||", "|v1|") in proxy.have[CLUSTER], "what is applied afterwards")


def test_the_loop_goes_on_while_a_walk_is_worked_on(tmp_path: Path) -> None:
    uvloop.run(_goes_on(tmp_path))


async def _goes_on(tmp_path: Path) -> None:
    async with world(tmp_path / "state") as made:
        await made.apply(*BASICS, service("cart"), entry("web-0", "web", "10.0.0.1"))
        plane, sign = made.plane, tmp_path / "sign"
        aside = Aside(plane.feed.flush)
        walks = Walks(plane.store, plane.feed, plane.delivery, plane.proxies, lambda one, _: one, aside)

        def work(mesh: Mesh, _: object) -> dict[str, Any]:
            while not sign.exists():
                time.sleep(0.01)
            return {name: len(mesh.ports(f"{name}.shop.svc.cluster.local")) for name in ("cart", "more", "late")}

        working = asyncio.create_task(walks.on(None, (service("more"),), work))
        await made.apply(service("late"))
        late = Ref("", "Service", "shop", "late")
        await until(lambda: plane.feed.model.engine.get(OBJECTS, late) is not None, "the loop compiles")
        assert plane.feed.model.engine.get(OBJECTS, Ref("", "Service", "shop", "more")) is None
        sign.touch()  # by the loop, while the copy waits for it
        assert (await asyncio.wait_for(working, 15)).document == {"cart": 1, "more": 1, "late": 0}
