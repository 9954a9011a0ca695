"""`fairlead analyze` over a running control plane: as it is, with files as if they were applied, and as it was."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import msgspec
import uvloop
from click.testing import CliRunner

from fairlead.ca.identity import Identity
from fairlead.cli.analyze import analyze
from fairlead.controlplane.analysisroutes import Analyses, Asked
from fairlead.controlplane.aside import Aside
from fairlead.controlplane.whyroutes import Walks
from fairlead.model.report import AgentReport, bundle_id

from .running_plane import BASICS, World, entry, obj, routes, service, world

Found = list[dict[str, Any]]


async def asked(made: World, *arguments: str, status: int = 0) -> Found:
    def run() -> Found:
        found = CliRunner().invoke(analyze, [*arguments, "--kubeconfig", str(made.state.kubeconfig), "-o", "json"])
        assert found.exit_code == status, found.output
        return json.loads(found.stdout)["findings"]

    return await asyncio.to_thread(run)


def misrouted() -> dict[str, Any]:
    to = {"destination": {"host": "crat"}}
    return obj("VirtualService", "cart", spec={"hosts": ["cart"], "http": [{"route": [to]}]})


def codes(found: Found) -> set[str]:
    return {one["code"] for one in found}


def test_as_it_is_would_be_and_was(tmp_path: Path) -> None:
    uvloop.run(_as_it_is_would_be_and_was(tmp_path))


async def _as_it_is_would_be_and_was(tmp_path: Path) -> None:
    async with world(tmp_path / "state") as made:
        entries = (entry("web-0", "web", "10.0.0.1"), entry("cart-0", "cart", "10.0.0.2", "cart"))
        await made.apply(*BASICS, service("cart"), service("web"), *entries)
        web: dict[str, Any] = {"INSTANCE_IPS": "10.0.0.1", "WORKLOAD_NAME": "web", "LABELS": {"app": "web"}}
        async with made.proxy("web-0", **web):
            assert "IST0101" not in codes(await asked(made))
            before = made.plane.store.revision

            wrong = tmp_path / "wrong.json"
            wrong.write_bytes(msgspec.json.encode(misrouted()))
            found = await asked(made, str(wrong), "--live", status=1)
            (one,) = [one for one in found if one["code"] == "IST0101"]
            assert (one["severity"], one["file"]) == ("Error", str(wrong))
            assert one["line"] > 0
            assert one["witness"]["flags"] == "NC"
            assert "web.shop" in one["witness"]["request"]
            assert "IST0101" not in codes(await asked(made)), "nothing has been applied"

            invalid = tmp_path / "invalid.json"
            invalid.write_bytes(msgspec.json.encode(obj("Service", "x", spec={"prots": []})))
            assert "FL0003" in codes(await asked(made, str(invalid), "--live", status=1))

            await made.apply(misrouted())
            assert "IST0101" in codes(await asked(made, status=1))
            assert "IST0101" not in codes(await asked(made, "--at", str(before)))
            assert "IST0101" in codes(await asked(made, status=1)), "the head is as it was"
            assert codes(await asked(made, "--analyzer", "service.PortNameAnalyzer")) <= {"IST0118"}
            suppressed = await asked(made, "--suppress", "IST0101=VirtualService shop/*")
            assert "IST0101" not in codes(suppressed)
            await made.apply(routes("cart"))
            assert "IST0101" not in codes(await asked(made))


def test_the_first_analysis_is_made_in_steps_and_the_next_costs_what_changed(tmp_path: Path) -> None:
    uvloop.run(_steps(tmp_path))


async def _steps(tmp_path: Path) -> None:
    async with world(tmp_path / "state") as made:
        await made.apply(*BASICS, *(service(f"s{at}") for at in range(40)))
        plane = made.plane
        aside = Aside(plane.feed.flush)
        walks = Walks(plane.store, plane.feed, plane.delivery, plane.proxies, lambda one, _: one, aside)
        analyses = Analyses(made.plane.store, made.plane.feed, walks, lambda: 0.0)
        next(analyses.steps())
        # Whoever asked did not wait: the next one goes on.
        first = (await analyses.answer(Asked())).document
        assert first["objects"] >= 43
        assert list(analyses.steps()) == []
        await made.apply(service("s7", selector={"app": "nobody"}))
        assert len(list(analyses.steps())) <= 2
        assert (await analyses.answer(Asked())).document["objects"] == first["objects"]


def test_clocks_and_trust_that_agents_report_are_findings(tmp_path: Path) -> None:
    uvloop.run(_clocks(tmp_path))


async def _clocks(tmp_path: Path) -> None:
    async with world(tmp_path / "state") as made:
        await made.apply(*BASICS, service("web"), entry("web-0", "web", "10.0.0.1"))
        web: dict[str, Any] = {"INSTANCE_IPS": "10.0.0.1", "WORKLOAD_NAME": "web", "LABELS": {"app": "web"}}
        async with made.proxy("web-0", **web):
            (node,) = made.plane.proxies.nodes()
            fleet, identity = made.plane.fleet, Identity("cluster.local", "shop", "web")
            bundle = bundle_id(made.plane.authority.root_pem)
            fleet.receive(identity, AgentReport(node, bundle, not_after=time.time() + 9e4, time=time.time() + 1))
            assert codes(await asked(made)) & {"FL3734", "FL3736", "FL3737"} == set()
            fleet.receive(identity, AgentReport(node, "other", not_after=time.time() + 9, time=time.time() - 90))
            found = {one["code"]: one for one in await asked(made, status=1)}
            assert "90 s behind the control plane's" in found["FL3734"]["message"]
            assert "has not taken the trust bundle" in found["FL3737"]["message"]
            assert found["FL3736"]["kind"] == "WorkloadEntry"
            assert {found[code]["name"] for code in ("FL3734", "FL3736", "FL3737")} == {"web-0"}
            assert codes(await asked(made, "--at", str(made.plane.store.revision))) & {"FL3734"} == set()
