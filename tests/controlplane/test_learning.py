"""Proxies that ask for clusters, and a control plane that remembers."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import uvloop
import yaml
from click.testing import CliRunner, Result

from fairlead.cli.scope import scope
from fairlead.controlplane.learning import host_of
from fairlead.controlplane.traffic import MAX_SERVICES
from fairlead.envoy.resource import CLUSTER, ENDPOINT
from fairlead.ir.learned import EVERYTHING, LEARNED
from fairlead.model.ref import NamespacedName, Ref
from fairlead.model.report import CalledService

from .running_plane import BASICS, obj, service, until, world

SERVICES = 24


def _cluster(number: int) -> str:
    return f"outbound|9080||s{number}.shop.svc.cluster.local"


def test_the_mesh_turns_to_asking_and_what_is_asked_for_comes_and_stays(tmp_path: Path) -> None:
    says = {"WORKLOAD_NAME": "web", "FAIRLEAD_ON_DEMAND": "auto"}

    async def run() -> None:
        async with world(tmp_path) as made:
            await made.apply(*BASICS, *(service(f"s{number}") for number in range(SERVICES)))
            async with made.proxy("web-1", **says) as web, made.proxy("old-1") as old:
                await until(lambda: _cluster(1) in web.have[CLUSTER], "as ever")
                data = {"mesh": "fairlead: {scope: learned}"}
                await made.apply(obj("ConfigMap", "istio", "istio-system", data=data))
                await until(lambda: not any(one.startswith("outbound|") for one in web.have[CLUSTER]), "nothing known")
                assert not made.plane.delivery.held, "nobody needs to release it"
                assert _cluster(1) in old.have[CLUSTER], "who cannot ask keeps all"
                await web.subscribe(CLUSTER, _cluster(1), "outbound|9080||nobody.example")
                await until(lambda: _cluster(1) in web.have[CLUSTER], "asked for")
                answer = next(one for one in web.responses[::-1] if one[0] == CLUSTER)
                assert answer == (CLUSTER, [_cluster(1)], ["outbound|9080||nobody.example"])
                await web.subscribe(ENDPOINT, _cluster(1))
                await until(lambda: _cluster(1) in web.have[ENDPOINT], "its endpoints")
                [calls] = made.plane.traffic.calls("shop", "web")
                assert list(calls.services) == ["s1.shop.svc.cluster.local"], "only what there is"
        async with world(tmp_path) as made, made.proxy("web-1", **says) as web:
            await until(lambda: _cluster(1) in web.have[CLUSTER], "still known")
            assert _cluster(2) not in web.have[CLUSTER]
            names = [f"outbound|80||h{number}.example" for number in range(MAX_SERVICES + 1)]
            await web.subscribe(CLUSTER, *names, _cluster(2))
            await until(lambda: _cluster(3) in web.have[CLUSTER], "who asks for too much is given all that it sees")
            assert made.plane.model.engine.get(LEARNED, NamespacedName("shop", "web")) == EVERYTHING

    uvloop.run(run())


def test_only_clusters_of_hosts_are_asked_for() -> None:
    assert host_of(_cluster(1)) == "s1.shop.svc.cluster.local"
    for name in ("inbound|80||", "outbound|80", "outbound|80||", "PassthroughCluster", "outbound|80|||x", ""):
        assert host_of(name) == "", name


def test_what_was_called_becomes_scopes_that_are_shown_and_applied(tmp_path: Path) -> None:
    def learn(*arguments: str, answer: str | None = None) -> Result:
        return CliRunner().invoke(scope, ["learn", "--state", str(tmp_path), "-n", "shop", *arguments], input=answer)

    async def run() -> None:
        async with world(tmp_path) as made:
            await made.apply(*BASICS, *(service(f"s{number}") for number in range(4)))
            labels = {"app": "web"}
            async with (
                made.proxy("web-1", WORKLOAD_NAME="web", LABELS=labels) as web,
                made.proxy("many-1", WORKLOAD_NAME="many") as many,
            ):
                await until(lambda: _cluster(3) in web.have[CLUSTER], "all of them")
                now = time.time()
                called = CalledService("s1.shop.svc.cluster.local", "shop", 3, now)
                made.plane.traffic.add(web.node_id, [called])
                too_many = [CalledService(f"h{at}.example", "", 1, now) for at in range(MAX_SERVICES + 1)]
                made.plane.traffic.add(many.node_id, too_many)
                revision = made.plane.store.revision

                found = await asyncio.to_thread(learn, "web", "--apply", "--dry-run")
                assert found.exit_code == 0 and "web.shop: calls 1 services" in found.output, found.output
                assert "s2.shop" in found.output and "Do it?" not in found.output, "what it would take away"
                found = await asyncio.to_thread(learn, "--apply", answer="n\n")
                assert found.exit_code == 1 and "nothing was changed" in found.output, found.output
                assert "many.shop calls more services than are remembered: it is left out" in found.output
                assert made.plane.store.revision == revision

                found = await asyncio.to_thread(learn, "web", "--apply", "--yes", "-o", "yaml", "-m", "narrow")
                assert found.exit_code == 0, found.output
                [printed] = yaml.safe_load_all(found.stdout)
                ref = Ref("networking.istio.io", "Sidecar", "shop", "web")
                stored = made.plane.store.get(ref)
                assert stored is not None and stored["spec"] == printed["spec"] == {
                    "egress": [{"hosts": ["shop/s1.shop.svc.cluster.local"]}],
                    "workloadSelector": {"labels": {"app": "web"}},
                }
                assert made.plane.store.history(ref)[-1].message == "narrow"
                await until(lambda: _cluster(2) not in web.have[CLUSTER], "narrowed")
                assert _cluster(1) in web.have[CLUSTER] and _cluster(2) in many.have[CLUSTER]

                found = await asyncio.to_thread(learn, "web", "--yes")
                assert found.exit_code == 2 and "about --apply" in found.output, found.output

    uvloop.run(run())
