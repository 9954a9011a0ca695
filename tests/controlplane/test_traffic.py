"""Who calls whom: what agents count, and what is remembered of it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from fairlead.agent.http import HTTPFailure, Response
from fairlead.agent.traffic import Traffic
from fairlead.controlplane.traffic import KEPT_SECONDS, MAX_SERVICES, Caller, TrafficLedger
from fairlead.envoy import statlabels
from fairlead.envoy.peer import Workload
from fairlead.model.report import MAX_CALLED, CalledService

NODE = "sidecar~10.0.0.1~web-1.shop~shop.svc.cluster.local"
CALLER = Caller("shop", "web", {"app": "web"})


def sample(host: str, value: int, reporter: str = "source", metric: str = "requests_total") -> str:
    service = statlabels.SERVICE_SEPARATOR.join((host, host.partition(".")[0], "shop")) if host else statlabels.ABSENT
    given = {"reporter": reporter, "service": service, "protocol": "http", "code": "200"}
    tag = statlabels.SEPARATOR.join(given.get(field, statlabels.ABSENT) for field in statlabels.FIELDS)
    return f'envoy_istio_{metric}{{{statlabels.TAG}="{tag}"}} {value}'


def test_the_agent_tells_what_is_new_and_only_what_it_called_itself() -> None:
    page: list[str] = []
    down = False

    async def fetch(_: str) -> Response:
        if down:
            raise HTTPFailure("away")
        return Response(200, "\n".join(page).encode(), "text/plain")

    async def run() -> None:
        nonlocal down
        traffic = Traffic(lambda: Workload("web", "shop"), fetch)

        async def new() -> dict[str, int]:
            return {one.host: one.count for one in await traffic.called()}

        cart, orders = "cart.shop.svc.cluster.local", "orders.shop.svc.cluster.local"
        page[:] = [
            sample(cart, 3),
            sample(cart, 2, metric="tcp_connections_opened_total"),
            sample(orders, 9, reporter="destination"),
            sample("", 4),
            "envoy_cluster_other 1",
        ]
        assert await new() == {cart: 5}
        # It has not arrived: it is told again, with what has come since.
        page[0] = sample(cart, 4)
        assert await new() == {cart: 6}
        traffic.told()
        assert await new() == {}
        down = True
        assert await new() == {}
        down = False
        page[:] = [sample(cart, 2), sample(orders, 1)]
        assert await new() == {cart: 2, orders: 1}, "Envoy was started anew"
        traffic.told()
        page[:] = [sample(f"s{number}.shop.svc.cluster.local", 1) for number in range(MAX_CALLED + 10)]
        seen = await new()
        traffic.told()
        assert len(seen) == MAX_CALLED
        assert len(await new()) == 10

    asyncio.run(run())


def test_what_is_kept_is_bounded_forgotten_and_survives(tmp_path: Path) -> None:
    now = 1_000_000.0
    file = tmp_path / "traffic.json"

    def called(host: str, count: int = 1, last: float = 0) -> CalledService:
        return CalledService(host, "shop", count, last or now)

    async def run() -> None:
        nonlocal now
        ledger = TrafficLedger(file, {NODE: CALLER}.get, lambda: now)
        ledger.add("sidecar~10.0.0.2~other.shop~x", [called("cart.shop")])
        assert ledger.calls() == [], "nobody who is connected"
        ledger.add(NODE, [called("cart.shop", 2, now - 5), called("", 1), called("never.shop", 0)])
        ledger.add(NODE, [called("cart.shop", 3, now + 999)])
        found = ledger.calls("shop", "web.shop")[0].services
        assert [(one.count, one.first, one.last) for one in found.values()] == [(5, now - 5, now)]
        assert ledger.calls("other") == ledger.calls("", "we") == []
        ledger.add(NODE, [called(f"s{number}.shop") for number in range(MAX_SERVICES + 5)])
        assert len(ledger.calls()[0].services) == MAX_SERVICES and ledger.calls()[0].truncated
        await ledger.stop()
        again = TrafficLedger(file, {NODE: CALLER}.get, lambda: now)
        assert again.calls()[0].services["cart.shop"].count == 5 and again.calls()[0].caller == CALLER
        now += KEPT_SECONDS + 1
        assert again.calls() == []
        file.write_text("broken")
        assert TrafficLedger(file, {NODE: CALLER}.get).calls() == []

    asyncio.run(run())
