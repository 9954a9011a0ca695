"""Processes of this host that outlive the node: started detached, recognised again, waited for, ended.

A pid alone does not say which process it is: the start time beside it does (proc(5), field 22), within one boot.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

_PROC = Path("/proc")
_released: list[subprocess.Popen[bytes]] = []
"""Children that run on without us; kept, because Python complains of a running child that is forgotten."""


class Identity(msgspec.Struct, frozen=True):
    """A process of this host, unmistakably: pid, start time in clock ticks since boot, and the boot."""

    pid: int
    started: int
    boot: str


def identify(pid: int) -> Identity | None:
    """The identity of a process that runs; None for one that does not, or that is only waiting to be reaped."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text()
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
    # The name in parentheses may itself hold blanks and parentheses.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in ("Z", "X") else Identity(pid, int(fields[19]), boot)


class HostProcess:
    """A process that was started or adopted. `identity` may be written to a file and adopted later."""

    def __init__(self, identity: Identity, child: subprocess.Popen[bytes] | None = None) -> None:
        self.identity = identity
        self._child = child

    @staticmethod
    def start(command: Sequence[str], env: Mapping[str, str], log: Path, directory: str = "") -> HostProcess:
        """Start detached: own session, standard input empty, output appended to `log`. Raises OSError."""
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            child = subprocess.Popen(
                list(command),
                env=dict(env),
                cwd=directory or None,
                stdin=subprocess.DEVNULL,
                stdout=handle,
                stderr=handle,
                start_new_session=True,
            )
        finally:
            os.close(handle)
        # A child that has already ended is still there as a zombie, so its identity is only unknown, not wrong.
        return HostProcess(identify(child.pid) or Identity(child.pid, 0, ""), child)

    @staticmethod
    def adopt(identity: Identity) -> HostProcess | None:
        """The process again, or None if it is gone."""
        return HostProcess(identity) if identify(identity.pid) == identity else None

    async def wait(self) -> int | None:
        """Wait for the end; the exit status (negative: a signal), or None where it is not our child."""
        try:
            handle = os.pidfd_open(self.identity.pid)
        except OSError:
            # Gone, or a kernel without pidfd (before 5.3).
            while self.alive():  # noqa: ASYNC110 (there is nothing else to wait for)
                await asyncio.sleep(0.2)
        else:
            loop = asyncio.get_running_loop()
            ended = asyncio.Event()
            loop.add_reader(handle, ended.set)
            try:
                await ended.wait()
            finally:
                loop.remove_reader(handle)
                os.close(handle)
        return self._child.wait() if self._child is not None else None

    def release(self) -> None:
        """Leave it running for another node process to adopt."""
        if self._child is not None and self._child.poll() is None:
            _released.append(self._child)

    def alive(self) -> bool:
        """Whether it still runs."""
        if self._child is not None:
            return self._child.poll() is None
        return identify(self.identity.pid) == self.identity

    def terminate(self) -> None:
        """Ask it to end (SIGTERM, to it alone: an agent ends its own children in order)."""
        if self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.identity.pid, signal.SIGTERM)

    def kill(self) -> None:
        """End it and its process group at once."""
        if self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.identity.pid, signal.SIGKILL)


def describe_exit(status: int | None) -> str:
    """`exit 1`, `signal SIGKILL`, or that nobody saw it."""
    if status is None:
        return "ended unseen"
    if status >= 0:
        return f"exit {status}"
    try:
        return f"signal {signal.Signals(-status).name}"
    except ValueError:
        return f"signal {-status}"
