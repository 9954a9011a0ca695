"""What reaches proxies, and when status says so."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop
from click.testing import CliRunner

import fairlead.controlplane.programmed as programmed_module
from fairlead.cli.proxystatus import proxy_status
from fairlead.controlplane.aside import Answer, Aside
from fairlead.envoy.resource import CLUSTER, ENDPOINT, LISTENER, ROUTE
from fairlead.model.ref import Ref

from .running_plane import BASICS, Proxy, World, entry, obj, routes, service, until, world

CART = "outbound|9080||cart.shop.svc.cluster.local"


def programmed(made: World, name: str, kind: str = "VirtualService") -> str:
    return made.condition(kind, name).get("status", "")


async def quiet(made: World, proxy: Proxy) -> None:
    """Everything that is committed has been compiled, and has reached the proxy."""
    await until(lambda: made.plane.feed.revision == made.plane.store.revision, "compiled")
    await until(
        lambda: all(
            not one.entries for at in made.plane.proxies._live() if at.node.id == proxy.node_id for one in at.status()
        ),
        "in sync",
    )


def test_health_decides_who_is_an_endpoint_and_only_for_oneself(tmp_path: Path) -> None:
    async def run() -> None:
        async with world(tmp_path) as made:
            await made.apply(*BASICS, service("cart"), entry("cart-1", "cart", "10.1.0.1", "cart"))
            mine, theirs = {"FAIRLEAD_ENTRY": "cart-1"}, {"FAIRLEAD_ENTRY": "cart-1"}
            async with made.proxy("web-1", **theirs) as web, made.proxy("cart-1", "cart", **mine) as cart:
                await web.subscribe(ENDPOINT, CART)
                await until(lambda: web.endpoints(CART) == ["10.1.0.1"], "endpoint")
                await cart.healthy(False, "connection refused")
                await until(lambda: CART in web.have[ENDPOINT] and not web.endpoints(CART), "endpoint gone")
                said = made.condition("WorkloadEntry", "cart-1", "Healthy")
                assert (said["status"], said["reason"]) == ("False", "HealthCheckFailed")
                assert said["message"] == "connection refused" and said["observedGeneration"] == 1
                revision = made.plane.store.revision
                # Another service account's word counts for nothing.
                await web.healthy(True)
                await cart.healthy(False, "connection refused")
                await quiet(made, web)
                assert not web.endpoints(CART) and made.plane.store.revision == revision
                await cart.healthy(True)
                await until(lambda: web.endpoints(CART) == ["10.1.0.1"], "endpoint back")

    uvloop.run(run())


def test_what_means_nothing_pushes_nothing(tmp_path: Path) -> None:
    async def run() -> None:
        async with world(tmp_path) as made:
            await made.apply(*BASICS, service("cart"), routes("cart"))
            async with made.proxy("web-1") as proxy:
                await proxy.subscribe(ROUTE, "9080")
                await until(lambda: "9080" in proxy.have[ROUTE], "routes")
                await until(lambda: programmed(made, "cart") == "True", "programmed")
                await quiet(made, proxy)
                before, revision = (len(proxy.responses), proxy.bytes), made.plane.store.revision
                labelled = routes("cart")
                labelled["metadata"] |= {"labels": {"team": "a"}, "annotations": {"note": "x"}}
                await made.apply(labelled)
                await made.apply(labelled)
                status = {"status": {"seen": "yes"}}
                path = f"{made.path(labelled)}/status"
                await made.api("PATCH", path, status, "application/merge-patch+json")
                assert made.plane.store.revision == revision + 2, "the unchanged apply is no commit"
                # A change that means something is the mark behind which nothing else can still come.
                await made.apply(service("mark"))
                await until(lambda: any("mark" in name for _, names, _ in proxy.responses for name in names), "mark")
                pushed = [names for _, names, _ in proxy.responses[before[0] :]]
                assert not [one for names in pushed for one in names if "cart" in one], pushed
                assert (await made.get(labelled))["status"]["seen"] == "yes"
                assert programmed(made, "cart") == "True"

    uvloop.run(run())


def test_a_burst_is_a_few_passes_and_revisions_only_rise(tmp_path: Path) -> None:
    async def run() -> None:
        async with world(tmp_path) as made:
            await made.apply(*BASICS)
            async with made.proxy("web-1") as proxy:
                await quiet(made, proxy)
                passes, begun = made.plane.feed.passes, time.monotonic()
                kinds = made.plane.model.kinds
                for at in range(200):
                    document = service(f"s{at:03}", clusterIP=f"10.96.7.{at}")
                    kind, _ = kinds.identify(document)
                    assert kind is not None
                    made.plane.store.create(kind.ref("shop", f"s{at:03}"), document)
                    await asyncio.sleep(0)
                await until(lambda: sum("|s" in one for one in proxy.have[CLUSTER]) == 200, "200 clusters")
                # On a busy machine the writes themselves take long: then it is the pause between passes that bounds.
                assert made.plane.feed.passes - passes < max(50, (time.monotonic() - begun) / 0.02)
                assert proxy.versions == sorted(proxy.versions)
                sent = [name for kind, names, _ in proxy.responses if kind == CLUSTER for name in names]
                assert len(sent) == len(set(sent)), "nothing is sent twice"

    uvloop.run(run())


def test_programmed_comes_with_the_acknowledgement_and_not_before(tmp_path: Path) -> None:
    async def run() -> None:
        async with world(tmp_path) as made:
            await made.apply(*BASICS, service("cart"))
            async with made.proxy("web-1") as proxy, made.proxy("web-2") as other:
                for one in (proxy, other):
                    await one.subscribe(ROUTE, "9080")
                await until(lambda: all("9080" in one.have[ROUTE] for one in (proxy, other)), "routes")
                await quiet(made, proxy)
                proxy.mute = True
                await made.apply(routes("cart", "/a"))
                await until(lambda: proxy.muted, "sent")
                unrelated = obj("DestinationRule", "other", spec={"host": "nobody.example.com"})
                await made.apply(unrelated)
                # What concerns nobody is programmed at once; what a proxy has not answered is not.
                await until(lambda: programmed(made, "other", "DestinationRule") == "True", "no proxy concerned")
                assert made.condition("DestinationRule", "other")["message"] == "no connected proxy is concerned"
                assert programmed(made, "cart") == ""
                await proxy.answer_all()
                await until(lambda: programmed(made, "cart") == "True", "acknowledged")
                stored = await made.get(routes("cart"))
                assert stored["status"]["observedGeneration"] == 1
                since = made.condition("VirtualService", "cart")["lastTransitionTime"]
                await made.apply(routes("cart", "/b"))
                said = lambda: made.condition("VirtualService", "cart")  # noqa: E731
                await until(lambda: said()["observedGeneration"] == 2, "second generation")
                assert said()["status"] == "True" and said()["lastTransitionTime"] == since
                await quiet(made, proxy)
                revision = made.plane.store.revision
                await made.apply(service("mark"))
                await until(lambda: any("mark" in one for one in proxy.have[CLUSTER]), "mark")
                assert made.plane.store.revision == revision + 1, "status does not write status"

    uvloop.run(run())


def test_a_refusal_marks_what_was_edited_and_nothing_else(tmp_path: Path) -> None:
    async def run() -> None:
        async with world(tmp_path) as made:
            await made.apply(*BASICS, service("cart"), service("web"))
            async with made.proxy("web-1") as proxy, made.proxy("web-2") as other:
                for one in (proxy, other):
                    await one.subscribe(ROUTE, "9080")
                await until(lambda: all("9080" in one.have[ROUTE] for one in (proxy, other)), "routes")
                await made.apply(routes("cart", "/a"), routes("web", "/a", "web"))
                await until(lambda: programmed(made, "web") == programmed(made, "cart") == "True", "both")
                good = proxy.have[ROUTE]["9080"]
                proxy.refuse["9080"] = "no such regex"
                await made.apply(routes("cart", "/bad"))
                await until(lambda: programmed(made, "cart") == "False", "marked")
                said = made.condition("VirtualService", "cart")
                assert said["reason"] == "RefusedByProxy" and said["observedGeneration"] == 2
                assert said["message"] == "web-1.shop refused RouteConfiguration 9080: no such regex"
                assert programmed(made, "web") == "True" and proxy.have[ROUTE]["9080"] == good
                await until(lambda: other.have[ROUTE]["9080"] != good, "the other proxy goes on")
                # A third object, whose change is in the same refused resource, is not in effect either.
                await made.apply(routes("web", "/c", "web"))
                await until(lambda: programmed(made, "web") == "False", "not in effect")
                assert programmed(made, "cart") == "False"
                # And what concerns other resources goes on.
                await made.apply(obj("DestinationRule", "cart", spec={"host": "cart", "subsets": [{"name": "v1"}]}))
                await until(lambda: programmed(made, "cart", "DestinationRule") == "True", "others proceed")
                del proxy.refuse["9080"]
                await made.apply(routes("cart", "/mended"))
                await until(lambda: programmed(made, "cart") == programmed(made, "web") == "True", "forgiven")
                assert made.condition("VirtualService", "cart")["message"] == ""

    uvloop.run(run())


def test_a_push_that_takes_most_away_is_held_and_released(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def ask(*arguments: str) -> Any:
        return CliRunner().invoke(proxy_status, ["--state", str(tmp_path), *arguments])

    async def run() -> None:
        async with world(tmp_path) as made:
            many = [service(f"s{at:02}") for at in range(30)]
            await made.apply(*BASICS, *many)
            async with made.proxy("web-1") as proxy:
                await until(lambda: sum("|s" in one for one in proxy.have[CLUSTER]) == 30, "30 clusters")
                kind, _ = made.plane.model.kinds.identify(many[0])
                assert kind is not None

                def wipe() -> None:
                    with made.plane.store.transaction() as tx:
                        for one in many:
                            tx.delete(kind.ref("shop", one["metadata"]["name"]))

                wipe()
                await until(lambda: made.plane.delivery.held, "held")
                await made.apply(service("late"))
                await quiet(made, proxy)
                assert sum("|s" in one for one in proxy.have[CLUSTER]) == 30
                assert not any("late" in one for one in proxy.have[CLUSTER])
                assert not any(gone for _, _, gone in proxy.responses)
                # A second proxy that is alike is given the same.
                async with made.proxy("web-2") as twin:
                    assert twin.have[CLUSTER].keys() == proxy.have[CLUSTER].keys()
                found = await asyncio.to_thread(ask)
                assert found.exit_code == 1 and "30 of 33 clusters would go at once" in found.output, found.output
                assert "--release" in found.output
                said = (await made.api("GET", "/fairlead/v1/diagnostics")).document["held"]
                assert said[0]["proxies"] == [proxy.node_id]
                # Enough comes back: it goes out by itself.
                await made.apply(*many[:25])
                await until(lambda: not made.plane.delivery.held, "recovered")
                await until(lambda: sum("|s" in one for one in proxy.have[CLUSTER]) == 25, "25 clusters")
                assert any("late" in one for one in proxy.have[CLUSTER])
                # Or it is meant, as when a namespace is deleted on purpose: by hand.
                await made.api("DELETE", "/api/v1/namespaces/shop")
                await until(lambda: made.plane.delivery.held, "held again")
                found = await asyncio.to_thread(ask, "--release")
                assert found.exit_code == 0 and "web-1.shop" in found.output, found.output
                await until(lambda: not any("|s" in one for one in proxy.have[CLUSTER]), "gone")
                found = await asyncio.to_thread(ask, "--release")
                assert found.exit_code == 0 and "nothing is held" in found.output, found.output

    uvloop.run(run())


def test_losing_most_endpoints_is_held_losing_few_is_not(tmp_path: Path) -> None:
    async def run() -> None:
        async with world(tmp_path) as made:
            many = [entry(f"cart-{at}", "cart", f"10.1.0.{at}", "cart") for at in range(1, 25)]
            await made.apply(*BASICS, service("cart"), *many)
            async with made.proxy("web-1") as proxy:
                await proxy.subscribe(ENDPOINT, CART)
                await until(lambda: len(proxy.endpoints(CART)) == 24, "24 endpoints")
                kind, _ = made.plane.model.kinds.identify(many[0])
                assert kind is not None

                def drop(*names: str) -> None:
                    with made.plane.store.transaction() as tx:
                        for name in names:
                            tx.delete(kind.ref("shop", name))

                drop(*(f"cart-{at}" for at in range(1, 6)))
                await until(lambda: len(proxy.endpoints(CART)) == 19, "19 endpoints")
                drop(*(f"cart-{at}" for at in range(6, 20)))
                await until(lambda: made.plane.delivery.held, "held")
                assert len(proxy.endpoints(CART)) == 19
                assert made.plane.delivery.release("nobody.shop") == []
                assert made.plane.delivery.release("web-1.shop") == [proxy.node_id]
                await until(lambda: len(proxy.endpoints(CART)) == 5, "5 endpoints")
                assert proxy.have[LISTENER]

    uvloop.run(run())


def test_after_a_restart_what_was_not_programmed_is_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programmed_module, "_AFTER_START", 0.3)
    monkeypatch.setattr(programmed_module, "_ABSENT", 0.5)

    async def first() -> None:
        async with world(tmp_path) as made:
            await made.apply(*BASICS, service("cart"))
            async with made.proxy("web-1") as proxy:
                await proxy.subscribe(ROUTE, "9080")
                await until(lambda: "9080" in proxy.have[ROUTE], "routes")
                proxy.refuse["9080"] = "no"
                await made.apply(routes("cart", "/a"))
                await until(lambda: programmed(made, "cart") == "False", "marked")
                made.plane.proxies.programmed.stop()
            assert programmed(made, "cart") == "False", "an end says nothing of the configuration"

    async def second() -> None:
        async with world(tmp_path) as made:
            assert programmed(made, "cart") == "False"
            await until(lambda: programmed(made, "cart") == "True", "nobody refuses it any more")

    async def third() -> None:
        async with world(tmp_path) as made:
            async with made.proxy("web-1") as proxy:
                await proxy.subscribe(ROUTE, "9080")
                await until(lambda: "9080" in proxy.have[ROUTE], "routes")
                proxy.refuse["9080"] = "no"
                await made.apply(routes("cart", "/b"))
                await until(lambda: programmed(made, "cart") == "False", "marked")
            # The proxy has gone for good: what it refused counts no longer.
            await until(lambda: programmed(made, "cart") == "True", "forgotten")

    for part in (first, second, third):
        uvloop.run(part())


def test_what_is_supposed_reaches_no_proxy_and_proxies_hear_what_is_applied_afterwards(tmp_path: Path) -> None:
    async def run() -> None:
        async with world(tmp_path) as made:
            await made.apply(*BASICS, service("cart"))
            async with made.proxy("web-1") as web:
                await until(lambda: CART in web.have[CLUSTER], "the cluster")
                await quiet(made, web)
                feed = made.plane.feed
                ref = Ref("", "Service", "shop", "cart")
                scoped = {
                    "apiVersion": "networking.istio.io/v1",
                    "kind": "Sidecar",
                    "metadata": {"name": "nothing", "namespace": "shop"},
                    "spec": {"egress": [{"hosts": ["none/*"]}]},
                }
                hidden = Ref("networking.istio.io", "Sidecar", "shop", "nothing")

                def lost(supposed: dict[Ref, dict[str, Any] | None]) -> Callable[[object], Answer]:
                    def work(_: object) -> Answer:
                        differing = feed.becoming(supposed).values()
                        return Answer(200, {"lost": any(CART in one.get(CLUSTER, {}) for one in differing)})

                    return work

                for supposed in ({ref: None}, {hidden: scoped}):
                    assert (await Aside(feed.flush).ask(lost(supposed))).document == {"lost": True}
                await quiet(made, web)
                assert CART in web.have[CLUSTER]
                await made.apply(service("till"))
                await until(lambda: CART.replace("cart", "till") in web.have[CLUSTER], "the next service")
                assert CART in web.have[CLUSTER]

    uvloop.run(run())
