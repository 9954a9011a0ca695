"""Proxies that ask for clusters, and a control plane that remembers."""

from __future__ import annotations

from pathlib import Path

import uvloop

from fairlead.controlplane.learning import host_of
from fairlead.controlplane.traffic import MAX_SERVICES
from fairlead.envoy.resource import CLUSTER, ENDPOINT
from fairlead.ir.learned import EVERYTHING, LEARNED
from fairlead.model.ref import NamespacedName

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
