"""The ledger of plaintext callers adds up, is bounded, forgets; the agent's side of it counts what Envoy counted."""

from __future__ import annotations

from typing import cast

from fairlead.agent.plaintext import PlaintextWatch, read_callers
from fairlead.agent.proxy import Proxy
from fairlead.controlplane.plaintext import KEPT_SECONDS, MAX_PORT_CALLERS, OTHERS, PlaintextLedger
from fairlead.model.identity import Identity
from fairlead.model.report import PlaintextCaller

WHO = Identity("cluster.local", "shop", "cart")


def test_the_ledger_adds_up_and_forgets() -> None:
    now = [1000.0]
    ledger = PlaintextLedger(lambda: now[0])
    ledger.add("cart.shop", WHO, [PlaintextCaller(80, "10.0.0.1", 3, 900), PlaintextCaller(80, "10.0.0.2", 1, 999)])
    ledger.add("cart.shop", WHO, [PlaintextCaller(80, "10.0.0.1", 2, 1e12)])
    (entry,) = ledger.entries()
    assert [(one.address, one.count, one.first, one.last) for one in entry.callers] == [
        ("10.0.0.1", 5, 900, 1000),
        ("10.0.0.2", 1, 999, 999),
    ]
    assert PlaintextLedger(lambda: now[0], ledger.entries()).entries() == ledger.entries()
    assert ledger.entries(workload="cart") == ledger.entries(namespace="shop") == [entry]
    assert ledger.entries(workload="web") == ledger.entries(namespace="other") == []
    now[0] += KEPT_SECONDS
    assert [one.address for one in ledger.entries()[0].callers] == ["10.0.0.1"]
    now[0] += 1
    assert ledger.entries() == []


def test_the_ledger_is_bounded() -> None:
    ledger = PlaintextLedger(lambda: 1000.0)
    ledger.add("cart.shop", WHO, [PlaintextCaller(80, f"10.0.{n // 256}.{n % 256}", 1, 1) for n in range(1000)])
    ledger.add("cart.shop", WHO, [PlaintextCaller(0, "x", 1, 1), PlaintextCaller(80, "y", -1, 1)])
    ledger = PlaintextLedger(lambda: 1000.0, ledger.entries())
    (entry,) = PlaintextLedger(lambda: 1000.0, ledger.entries()).entries() or [None]
    assert entry is not None
    assert len(entry.callers) == MAX_PORT_CALLERS + 1
    assert {one.address: one.count for one in entry.callers}[OTHERS] == 1000 - MAX_PORT_CALLERS


def test_the_agent_reports_differences_once() -> None:
    told: list[int] = []
    watch = PlaintextWatch(cast("Proxy", None), lambda: told.append(1), lambda: 7.0)
    page = "fairlead.plaintext_calls_total.caller.10.0.0.9|8080: 3\nother: 1\n"
    page += "fairlead.plaintext_calls_total.caller.fd00__1|80: 1\n"
    counts = read_callers(page)
    assert counts == {(8080, "10.0.0.9"): 3, (80, "fd00::1"): 1}
    watch.seen(counts)
    taken = watch.take()
    assert taken == (PlaintextCaller(8080, "10.0.0.9", 3, 7), PlaintextCaller(80, "fd00::1", 1, 7))
    watch.seen(counts)
    assert watch.take() == ()
    assert len(told) == 1
    # What did not arrive is reported with the next; a restarted Envoy counts from nothing.
    watch.give_back(taken)
    watch.seen({(8080, "10.0.0.9"): 2})
    assert watch.take()[0] == PlaintextCaller(8080, "10.0.0.9", 5, 7)
