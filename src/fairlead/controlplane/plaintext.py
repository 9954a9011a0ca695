"""The ledger of plaintext callers: who still calls which port of which workload without mutual TLS.

Agents report what their Envoys saw; the ledger adds it up, bounded, and forgets what has not been seen for a week.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

import msgspec

from fairlead.model.identity import Identity
from fairlead.model.report import PlaintextCaller

KEPT_SECONDS = 7 * 86400.0
MAX_PORT_CALLERS = 64
MAX_PORTS = 50_000
OTHERS = "others"
"""Stands for the callers of a port beyond those that are kept by address."""


class Seen(msgspec.Struct, frozen=True):
    """A caller of a port: how many connections in all, and the first and last time (Unix seconds)."""

    address: str
    count: int
    first: float
    last: float


class Entry(msgspec.Struct, frozen=True):
    """The callers of one port of one workload, the latest first."""

    workload: str
    namespace: str
    service_account: str
    port: int
    callers: tuple[Seen, ...]


class PlaintextLedger:
    """Callers by workload (NAME.NAMESPACE) and port; `kept` are the entries of an earlier control plane."""

    def __init__(self, clock: Callable[[], float] = time.time, kept: Sequence[Entry] = ()) -> None:
        self._clock = clock
        self._ports: dict[tuple[str, int], dict[str, Seen]] = {
            (f"{one.workload}.{one.namespace}", one.port): {seen.address: seen for seen in one.callers} for one in kept
        }
        self._accounts: dict[str, str] = {f"{one.workload}.{one.namespace}": one.service_account for one in kept}
        self._reported: dict[str, float] = {}

    def add(self, workload: str, identity: Identity, callers: Iterable[PlaintextCaller]) -> None:
        """Add what one report says."""
        now = self._clock()
        self._reported[workload] = now
        self._accounts[workload] = identity.service_account
        for one in callers:
            if not 0 < one.port < 65536 or one.count <= 0:
                continue
            key = (workload, one.port)
            port = self._ports.get(key)
            if port is None:
                if len(self._ports) >= MAX_PORTS:
                    continue
                port = self._ports[key] = {}
            address = one.address[:64]
            if address not in port and len(port) >= MAX_PORT_CALLERS:
                address = OTHERS
            known = port.get(address)
            last = min(one.last, now)
            port[address] = Seen(
                address,
                one.count + (known.count if known else 0),
                known.first if known else last,
                max(last, known.last if known else 0),
            )

    def entries(self, namespace: str = "", workload: str = "") -> list[Entry]:
        """What is known, by workload and port; of one namespace or workload (NAME or NAME.NAMESPACE)."""
        self._forget()
        found: list[Entry] = []
        for (name, port), callers in sorted(self._ports.items()):
            own, _, inside = name.partition(".")
            if (namespace and inside != namespace) or (workload and workload not in (own, name)):
                continue
            account = self._accounts.get(name, "")
            latest = tuple(sorted(callers.values(), key=lambda one: -one.last))
            found.append(Entry(own, inside, account, port, latest))
        return found

    def reporting(self) -> dict[str, float]:
        """When each workload last reported, by NAME.NAMESPACE: one that is missing may have callers nobody saw."""
        return dict(self._reported)

    def clear(self, workload: str = "") -> int:
        """Forget the callers of a workload or of all; how many ports had some."""
        keys = [key for key in self._ports if workload in ("", key[0], key[0].partition(".")[0])]
        for key in keys:
            del self._ports[key]
        return len(keys)

    def _forget(self) -> None:
        oldest = self._clock() - KEPT_SECONDS
        for key in list(self._ports):
            kept = {address: seen for address, seen in self._ports[key].items() if seen.last >= oldest}
            if kept:
                self._ports[key] = kept
            else:
                del self._ports[key]
        for workload in [one for one, at in self._reported.items() if at < oldest]:
            del self._reported[workload]
            self._accounts.pop(workload, None)
