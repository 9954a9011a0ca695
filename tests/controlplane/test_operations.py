"""What operators see of a running control plane: metrics, slow proxies, pages of many, profiles."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import threading
import time
import urllib.request
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
import uvloop
from click.testing import CliRunner

from fairlead.cli.client import Refused, read_kubeconfig
from fairlead.cli.debug import debug
from fairlead.cli.proxystatus import proxy_status
from fairlead.compiler.model import MeshModel
from fairlead.controlplane.delivery import Delivery
from fairlead.controlplane.feed import Feed
from fairlead.controlplane.profiling import MAX_SECONDS, OTHER, Busy, Profiler
from fairlead.controlplane.proxies import Proxies
from fairlead.controlplane.proxylist import Asked
from fairlead.envoy.resource import CLUSTER
from fairlead.model.identity import Identity
from fairlead.store.store import Store
from fairlead.xds.server import Connection
from fairlead.xds.session import Session
from fairlead.xds.wire import Node

from .running_plane import BASICS, World, entry, obj, routes, service, until, world

DOCUMENTED = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"


async def metrics(made: World) -> dict[str, float]:
    def ask() -> str:
        access = read_kubeconfig(made.state.kubeconfig)
        url = f"https://{access.host}:{access.port}/metrics"
        asked = urllib.request.Request(url, headers={"Authorization": f"Bearer {access.token}"})
        with urllib.request.urlopen(asked, context=ssl.create_default_context(cadata=access.ca)) as answer:
            return answer.read().decode()

    text = await asyncio.to_thread(ask)
    helped = re.findall(r"^# HELP (\w+)", text, re.MULTILINE)
    typed = re.findall(r"^# TYPE (\w+) \w+$", text, re.MULTILINE)
    assert helped == typed and len(set(typed)) == len(typed)
    found: dict[str, float] = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            assert name not in found, name
            found[name] = float(value)
    families = {re.sub(r"_(bucket|sum|count)$", "", re.sub(r"\{.*", "", name)) for name in found}
    assert families <= {*typed}
    listed = re.findall(r"^\| `((?:fairlead|process)_\w+)`", DOCUMENTED.read_text(), re.MULTILINE)
    assert sorted(typed) == sorted(listed), "docs/metrics.md lists the families, each once"
    return found


def test_stages_slow_proxies_and_pages(tmp_path: Path) -> None:
    def ask(*arguments: str) -> Any:
        return CliRunner().invoke(proxy_status, ["--state", str(tmp_path), *arguments])

    async def run() -> None:
        async with world(tmp_path) as made:
            await made.apply(*BASICS, service("cart"), entry("cart-1", "cart", "10.1.0.1", "cart"))
            async with made.proxy("web-1") as quick, made.proxy("web-2") as slow, made.proxy("web-3"):
                await until(lambda: made.plane.proxies.counts().behind == 0, "all in sync")
                before = await metrics(made)
                assert before["fairlead_proxies"] == before["fairlead_streams"] == 3
                assert before["fairlead_streams_waiting"] == before["fairlead_proxies_behind"] == 0
                assert before['fairlead_pushes_total{type="Cluster"}'] >= 3
                assert before['fairlead_pushed_bytes_total{type="Listener"}'] > 1000
                assert before['fairlead_encoded_total{how="shared"}'] >= 1
                slow.mute = True
                await made.apply(obj("DestinationRule", "cart", spec={"host": "cart", "subsets": [{"name": "v1"}]}))
                await until(lambda: slow.muted, "an answer that is kept back")
                await until(lambda: any("|v1|" in one for one in quick.have[CLUSTER]), "the others have it")
                await until(lambda: made.plane.proxies.counts().behind == 1, "one is behind")
                now = await metrics(made)
                assert now["fairlead_proxies_behind"] == now["fairlead_revisions_open"] == 1
                assert now["fairlead_revision_oldest_seconds"] > 0
                said = await asyncio.to_thread(ask, "--slow")
                assert said.exit_code == 0, said.output
                waits = r"^web-2\.shop +\d\S+ +\d\S+ +CDS outbound\|9080\|v1\|cart\.shop\S+ and 1 more$"
                assert re.search(waits, said.output, re.MULTILINE), said.output
                assert "web-1" not in said.output
                data = json.loads((await asyncio.to_thread(ask, "--slow", "-o", "json")).output)
                assert [one["name"] for one in data] == ["web-2"] and data[0]["behindSeconds"] > 0
                await slow.answer_all()
                await until(lambda: made.plane.proxies.counts().behind == 0, "it has caught up")
                after = await metrics(made)
                name = "fairlead_revision_age_seconds_count"
                assert after[name] > before[name] and after["fairlead_revisions_open"] == 0
                for stage in ("queue", "lower", "emit", "diff", "deliver", "ack"):
                    name = f'fairlead_stage_seconds_count{{stage="{stage}"}}'
                    assert after[name] > before[name], stage
                said = await asyncio.to_thread(ask, "--slow")
                assert "none of 3 proxies waits for anything" in said.output
                # Pages: a table says what it leaves out; data are of all.
                said = await asyncio.to_thread(ask, "--limit", "2")
                assert said.exit_code == 0 and "2 of 3 proxies; 0 are behind" in said.output
                assert "web-2" in said.output and "web-3" not in said.output
                said = await asyncio.to_thread(ask, "-o", "json", "--limit", "1")
                assert [one["name"] for one in json.loads(said.output)] == ["web-1", "web-2", "web-3"]
                assert (await asyncio.to_thread(ask, "-n", "other")).output.startswith("NAME")
                for query in ("limit=x", "state=y", "colour=red"):
                    with pytest.raises(Refused) as refused:
                        await made.api("GET", f"/fairlead/v1/proxies?{query}")
                    assert refused.value.code == 400

    uvloop.run(run())


def test_five_thousand_proxies_are_listed_in_pages(tmp_path: Path) -> None:
    async def run() -> None:
        store = Store(tmp_path / "store.db")
        model = MeshModel()
        feed = Feed(store, model)
        proxies = Proxies(store, model, Delivery(feed))
        for number in range(5000):
            name = f"sidecar~10.0.0.1~web-{number:04}.ns{number % 50}~ns{number % 50}.svc.cluster.local"
            node = Node(name, metadata={"NAMESPACE": f"ns{number % 50}", "SERVICE_ACCOUNT": "web"})
            peer = Identity("cluster.local", f"ns{number % 50}", "web")
            connection = Connection(number, peer, node, "127.0.0.1:1", Session({}, delta=True))
            proxies.connected(connection)
            if number % 1000:
                proxies.settled(connection)
        seen: list[str] = []
        after = ""
        while True:
            page = proxies.page(Asked(limit=500, after=after, brief=True))
            assert len(page["proxies"]) == 500 and page["total"] == 5000 and page["behind"] == 5
            seen += [f"{one['namespace']}/{one['name']}" for one in page["proxies"]]
            after = page["continue"]
            if not after:
                break
        assert len(set(seen)) == 5000 and seen == sorted(seen)
        slow = proxies.page(Asked(limit=3, slow=True))["proxies"]
        assert [one["name"] for one in slow] == ["web-0000", "web-1000", "web-2000"]
        assert len(proxies.page(Asked(namespace="ns7", name="web-0007"))["proxies"]) == 1
        store.close()

    uvloop.run(run())


def test_a_profile_of_a_control_plane_at_work(tmp_path: Path) -> None:
    state = tmp_path / "state"

    def ask(*arguments: str) -> Any:
        return CliRunner().invoke(debug, [*arguments, "--state", str(state)])

    async def run() -> None:
        async with world(state) as made:
            await made.apply(*BASICS, service("cart"), routes("cart"))
            async with made.proxy("web-1"):
                files = [tmp_path / f"profile.{ending}" for ending in ("svg", "json", "txt")]
                profiles = [
                    asyncio.create_task(
                        asyncio.to_thread(ask, "profile", "--seconds", "2", "--rate", "500", "-o", str(files[0]))
                    )
                ]
                await until(lambda: made.plane.profiler.running, "it looks")
                busy = await asyncio.to_thread(ask, "profile", "--seconds", "1", "-o", str(files[1]))
                assert busy.exit_code == 1 and "a profile is being taken" in busy.output
                number = 0
                while not profiles[0].done():
                    number += 1
                    await made.apply(routes("cart", f"/{number}"))
                assert (await profiles[0]).exit_code == 0, (await profiles[0]).output
                for file in files[1:]:
                    done = await asyncio.to_thread(ask, "profile", "--seconds", "0.3", "-o", str(file))
                    assert done.exit_code == 0, done.output
                told = await asyncio.to_thread(ask, "profile", "--seconds", "1", "-o", str(tmp_path / "profile.png"))
                assert told.exit_code == 2 and ".svg, .json or .txt" in told.output
                with pytest.raises(Refused, match="there is no profile"):
                    await made.api("GET", "/fairlead/v1/profile")
                with pytest.raises(Refused, match=f"at most {MAX_SECONDS:.0f} seconds"):
                    await made.api("POST", "/fairlead/v1/profile?seconds=1e9")
            graph = ET.parse(files[0]).getroot()
            said = " ".join(text for one in graph.iter() if (text := one.text))
            assert "fairlead.controlplane.feed.Feed.flush" in said and "(idle)" in said
            scope = json.loads(files[1].read_text())
            frames = [one["name"] for one in scope["shared"]["frames"]]
            assert frames and len(scope["profiles"][0]["samples"]) == len(scope["profiles"][0]["weights"])
            assert all(0 <= at < len(frames) for stack in scope["profiles"][0]["samples"] for at in stack)
            assert re.fullmatch(r"(\S.* \d+\n)+", files[2].read_text())
            table = await asyncio.to_thread(ask, "memory")
            assert table.exit_code == 0 and re.search(r"^objects +\d", table.output, re.MULTILINE), table.output
            data = json.loads((await asyncio.to_thread(ask, "memory", "-o", "json")).output)
            assert data["residentBytes"] > 1 << 20 and data["held"]["objects"] >= 5
            assert data["bytes"]["objects"] > 200 * data["held"]["objects"]

    uvloop.run(run())


def test_a_profile_is_bounded_and_costs_nothing_when_it_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    profiler = Profiler()
    names = {one.name for one in threading.enumerate()}
    with pytest.raises(ValueError, match="samples a second"):
        profiler.start(1, 10_000)
    assert profiler.take() is None and "profile" not in names
    monkeypatch.setattr("fairlead.controlplane.profiling.MAX_STACKS", 1)
    profiler.start(0.4, 200)
    with pytest.raises(Busy):
        profiler.start(1)

    def deep(left: int) -> float:
        return deep(left - 1) if left else sum(number * number for number in range(20_000))

    end = time.monotonic() + 30
    while profiler.running and time.monotonic() < end:
        deep(50)
        deep(150)
    made = profiler.take()
    assert made is not None and made.samples > 5 and profiler.take() is None
    assert any(OTHER in stack for stack, _ in made.stacks)
    profiler.start(60)
    profiler.stop()
    assert not profiler.running and "profile" not in {one.name for one in threading.enumerate()}
