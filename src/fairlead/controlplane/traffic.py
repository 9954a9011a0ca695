"""Who calls whom: what agents report of their workloads' calls, added up, bounded, and kept on disk.

Sidecar scopes are learned from this (`fairlead scope learn`). It is about what was called, never about what may be.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

import msgspec

from fairlead.ca.files import write_atomic
from fairlead.model.report import CalledService

_log = logging.getLogger(__name__)
KEPT_SECONDS = 30 * 86400.0
MAX_WORKLOADS = 20_000
MAX_SERVICES = 1_000
"""Services of one workload: one that calls more has no scope worth the name."""
_SAVE_SECONDS = 30.0


class Caller(msgspec.Struct, frozen=True):
    """Who calls: the replicas of one workload are one caller. `labels` choose it in a Sidecar."""

    namespace: str
    workload: str
    labels: Mapping[str, str] = {}


class Called(msgspec.Struct, frozen=True):
    """A service that a workload calls. Times are Unix seconds; `namespace` is empty for hosts without one."""

    host: str
    namespace: str
    count: int
    first: float
    last: float


class Calls(msgspec.Struct):
    """A workload's calls. `truncated`: there were more services than are kept."""

    caller: Caller
    reported: float
    services: dict[str, Called] = {}
    truncated: bool = False


class TrafficLedger:
    """Calls by workload. `describe` tells who a connected proxy (node id) is; None if it is not known."""

    def __init__(
        self, file: Path, describe: Callable[[str], Caller | None], clock: Callable[[], float] = time.time
    ) -> None:
        self._file = file
        self._describe = describe
        self._clock = clock
        self._calls: dict[str, Calls] = _load(file)
        self.learned: Callable[[Caller, Collection[str]], None] = lambda _caller, _hosts: None
        """Told which hosts a workload is known to call, when there are more; what is forgotten is not told."""
        self._dirty = False
        self._saving: asyncio.Task[None] | None = None

    def add(self, proxy: str, services: Iterable[CalledService]) -> None:
        """Add what the agent of a proxy (its node id, authenticated) says."""
        calls = self._calls_of(proxy)
        if calls is None:
            return
        now, before = calls.reported, len(calls.services)
        for one in services:
            if one.count <= 0 or not one.host or len(one.host) > 253 or len(one.namespace) > 63:
                continue
            known = calls.services.get(one.host)
            if known is None and len(calls.services) >= MAX_SERVICES:
                calls.truncated = True
                continue
            seen = min(one.last, now)
            calls.services[one.host] = Called(
                one.host,
                one.namespace,
                one.count + (known.count if known else 0),
                known.first if known else seen,
                max(seen, known.last if known else 0.0),
            )
            self._dirty = True
        self._learned(calls, before)

    def ask(self, proxy: str, host: str, namespace: str = "") -> None:
        """A proxy (node id) needs a host for a call, which is counted only when it has been made."""
        calls = self._calls_of(proxy)
        if calls is None or host in calls.services:
            return
        if len(calls.services) >= MAX_SERVICES:
            calls.truncated = True
            return
        before, now = len(calls.services), calls.reported
        calls.services[host] = Called(host, namespace, 0, now, now)
        self._dirty = True
        self._learned(calls, before)

    def workloads(self) -> list[Calls]:
        """All that is known and not forgotten, in no order."""
        self._forget()
        return list(self._calls.values())

    def _calls_of(self, proxy: str) -> Calls | None:
        """What is known of a proxy's workload; None where that is nobody's, or there are too many."""
        caller = self._describe(proxy)
        if caller is None:
            return None
        key = f"{caller.namespace}/{caller.workload}"
        calls = self._calls.get(key)
        if calls is None:
            if len(self._calls) >= MAX_WORKLOADS:
                return None
            calls = self._calls[key] = Calls(caller, 0)
        calls.caller, calls.reported = caller, self._clock()
        return calls

    def _learned(self, calls: Calls, before: int) -> None:
        if len(calls.services) > before:
            self.learned(calls.caller, calls.services)
        if self._dirty and (self._saving is None or self._saving.done()):
            self._saving = asyncio.get_running_loop().create_task(self._save_later())

    def calls(self, namespace: str = "", workload: str = "") -> list[Calls]:
        """What is known, by namespace and workload; of one namespace or of one workload (NAME or NAME.NAMESPACE)."""
        self._forget()
        found: list[Calls] = []
        for _, one in sorted(self._calls.items()):
            caller = one.caller
            named = (caller.workload, f"{caller.workload}.{caller.namespace}")
            if (not namespace or caller.namespace == namespace) and (not workload or workload in named):
                found.append(one)
        return found

    async def stop(self) -> None:
        """Write what is known."""
        if self._saving is not None:
            self._saving.cancel()
            await asyncio.gather(self._saving, return_exceptions=True)
        if self._dirty:
            self._write(self._encoded())

    def _forget(self) -> None:
        oldest = self._clock() - KEPT_SECONDS
        for key, one in list(self._calls.items()):
            one.services = {host: called for host, called in one.services.items() if called.last >= oldest}
            if not one.services and one.reported < oldest:
                del self._calls[key]

    async def _save_later(self) -> None:
        await asyncio.sleep(_SAVE_SECONDS)
        await asyncio.to_thread(self._write, self._encoded())

    def _encoded(self) -> bytes:
        self._forget()
        self._dirty = False
        return msgspec.json.encode(self._calls)

    def _write(self, body: bytes) -> None:
        try:
            write_atomic(self._file, body)
        except OSError as error:
            _log.error("%s cannot be written: %s", self._file, error)


def _load(file: Path) -> dict[str, Calls]:
    try:
        return msgspec.json.decode(file.read_bytes(), type=dict[str, Calls])
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.DecodeError) as error:
        # Scopes that were applied stay; what is called is learned anew.
        _log.warning("%s cannot be read, calls are learned anew: %s", file, error)
        return {}
