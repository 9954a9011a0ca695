"""Where a demonstration runs: a directory, ports and addresses of its own, all given back at its end."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import shutil
import socket
import tempfile
from collections.abc import Iterable
from pathlib import Path

import msgspec

from fairlead.cli.demo import cleanup
from fairlead.cli.demo.failure import DemoError

PREFIX = "fairlead-demo-"
LOCK = "demo.lock"
"""In every directory of a demonstration; locked for as long as it, or its guard, runs."""
_LONGEST_DIRECTORY = 60
"""Unix sockets stand below it, and their whole path may have 107 bytes."""
_PORTS = range(20000, 32000)
"""Below the range from which Linux takes ports for outgoing connections."""
_BLOCKS = range(70, 127)
_LISTENS = "0A"


class Place(msgspec.Struct, frozen=True):
    """`kept`: handles (locks of directory and block) that the guard inherits. `temporary`: removed at the end."""

    root: Path
    temporary: bool
    block: str
    api_port: int
    xds_port: int
    join_port: int
    http_port: int
    https_port: int
    kept: tuple[int, ...]

    @property
    def state(self) -> Path:
        """The mesh's state directory."""
        return self.root / cleanup.STATE


def choose(state: Path | None, block: str = "") -> Place:
    """Find a place, and clean up what demonstrations that were killed have left. Raises DemoError."""
    sweep()
    handles: list[int] = []
    directory = _temporary() if state is None else _given(state)
    try:
        handles.append(_locked(directory))
        chosen, handle = _block(block)
        handles.append(handle)
        ports = free_ports(5)
    except BaseException:
        for handle in handles:
            os.close(handle)
        if state is None:
            shutil.rmtree(directory, ignore_errors=True)
        raise
    return Place(directory, state is None, chosen, *ports, kept=tuple(handles))


def sweep() -> list[Path]:
    """Clean up after demonstrations of this user that were killed together with their guard; returns what was there."""
    swept: list[Path] = []
    for directory in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if directory.is_symlink() or directory.stat().st_uid != os.geteuid():
                continue
            handle = os.open(directory / LOCK, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                cleanup.clean(directory.resolve(), remove=True)
                swept.append(directory)
            finally:
                os.close(handle)
    return swept


def _temporary() -> Path:
    return Path(tempfile.mkdtemp(prefix=PREFIX)).resolve()


def _given(state: Path) -> Path:
    directory = state.resolve()
    if len(os.fsencode(directory)) > _LONGEST_DIRECTORY:
        raise DemoError(f"--state {directory}: the path is too long for Unix sockets below it; choose a shorter one")
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        inside = list(directory.iterdir())
    except OSError as error:
        raise DemoError(f"--state {directory}: {error.strerror}; choose a directory that you may write") from None
    if inside and not (directory / LOCK).exists():
        raise DemoError(f"--state {directory}: it is not empty; choose a new directory, or one of an earlier demo")
    return directory


def _locked(directory: Path) -> int:
    """The lock of a directory, and the directory emptied of an earlier demonstration."""
    # The lock appears under its name only once it is held: no sweep takes a demo that begins for one that ended.
    fresh = directory / f"{LOCK}.{os.getpid()}"
    new = not (directory / LOCK).exists()
    handle = os.open(fresh if new else directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if new:
            os.link(fresh, directory / LOCK)
    except OSError:
        os.close(handle)
        raise DemoError(f"{directory} is in use by another demo; stop that or choose another --state") from None
    finally:
        fresh.unlink(missing_ok=True)
    cleanup.clean(directory, remove=False)
    for one in directory.iterdir():
        if one.name == LOCK:
            continue
        if one.is_dir() and not one.is_symlink():
            shutil.rmtree(one)
        else:
            one.unlink()
    return handle


def _block(wanted: str) -> tuple[str, int]:
    """A loopback block that nobody uses, and the handle that holds it among demonstrations."""
    candidates = [wanted] if wanted else [f"127.{number}.0.0/16" for number in random.sample(_BLOCKS, len(_BLOCKS))]
    for block in candidates:
        holder = socket.socket(socket.AF_UNIX)
        try:
            # An abstract name: it vanishes with the last process that holds it, and leaves no file.
            holder.bind(f"\0fairlead-loopback-{block}")
        except OSError:
            holder.close()
            continue
        if _in_use(block):
            holder.close()
            continue
        return block, holder.detach()
    raise DemoError(f"{wanted or 'every loopback block'} is in use; name a free one with --loopback 127.N.0.0/16")


def _in_use(block: str) -> bool:
    """Whether anything listens on an address of the block (127.N.0.0/16)."""
    start = "".join(f"{int(part):02X}" for part in reversed(block.split(".")[:2]))
    try:
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    except OSError:
        return False
    return any(row[3] == _LISTENS and row[1].partition(":")[0].endswith(start) for row in rows)


def free_ports(count: int, candidates: Iterable[int] = ()) -> list[int]:
    """Ports that nobody listens on, of any address. Raises DemoError."""
    found: list[int] = []
    for port in candidates or random.sample(_PORTS, len(_PORTS)):
        with socket.socket() as probe:
            try:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("", port))
                found.append(port)
            except OSError:
                continue
        if len(found) == count:
            return found
    raise DemoError("there are no free ports")
