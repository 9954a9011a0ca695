"""Ends whatever runs for a state directory and removes what it left: processes, network namespaces, files.

Agents outlive their node on purpose, so ending the node is not enough. What belongs to a directory is recognised by the
exact arguments that this program starts its processes with, and ended by process id.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import time
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

from fairlead.node.addresses import DEFAULT_BLOCK
from fairlead.node.capture.namespace import CaptureError, Namespaces
from fairlead.node.hostprocess import Identity, identify

STATE = "mesh"
"""The mesh's state directory, below the demonstration's."""
_PROC = Path("/proc")
_LIMIT = 10.0
_POLL = 0.02


def clean(root: Path, *, remove: bool) -> list[str]:
    """End all processes of a demonstration's directory and remove its namespaces and, with `remove`, itself.

    Returns what could not be done, a sentence each.
    """
    state = root / STATE
    left: list[str] = []
    # The node first: it would start again what ends.
    for verbs in (("node",), ("serve", "agent")):
        left += _end(_with_descendants(_of(state, verbs)))
    if os.geteuid() == 0:
        try:
            asyncio.run(Namespaces(state, DEFAULT_BLOCK).sweep(set()))
        except (CaptureError, OSError) as error:
            left.append(f"network namespaces stay: {error}")
    if remove:
        try:
            shutil.rmtree(root)
        except FileNotFoundError:
            pass
        except OSError as error:
            left.append(f"{root} stays: {error.strerror}")
    return left


def _of(state: Path, verbs: Iterable[str]) -> list[int]:
    """This user's processes that run `fairlead VERB` with `--state STATE` or `--config STATE/node/...`."""
    place = os.fsencode(state)
    found: list[int] = []
    for directory in _PROC.iterdir():
        if not directory.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            if directory.stat().st_uid != os.geteuid():
                continue
            words = (directory / "cmdline").read_bytes().split(b"\0")
            pairs = list(pairwise(words))
            ours = (b"--state", place) in pairs or any(
                option == b"--config" and value.startswith(place + b"/node/") for option, value in pairs
            )
            if ours and any(verb.encode() in words for verb in verbs):
                found.append(int(directory.name))
    return found


def _with_descendants(roots: Iterable[int]) -> list[Identity]:
    """The processes and everything that they have started."""
    children: dict[int, list[int]] = {}
    for directory in _PROC.iterdir():
        if directory.name.isdigit():
            with contextlib.suppress(OSError, ValueError):
                parent = int((directory / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(directory.name))
    found: list[Identity] = []
    waiting = list(roots)
    while waiting:
        pid = waiting.pop()
        identity = identify(pid)
        if identity is not None:
            found.append(identity)
        waiting += children.get(pid, [])
    return found


def _end(processes: list[Identity]) -> list[str]:
    for one in processes:
        if identify(one.pid) == one:
            with contextlib.suppress(OSError):
                os.kill(one.pid, signal.SIGKILL)
    deadline = time.monotonic() + _LIMIT
    alive = processes
    while alive and time.monotonic() < deadline:
        alive = [one for one in alive if identify(one.pid) == one]
        time.sleep(_POLL if alive else 0)
    return [f"process {one.pid} still runs" for one in alive]
