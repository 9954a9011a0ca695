"""What a node keeps on disk, under STATE/node: one directory per replica, the addresses given out, the last orders.

Everything is written to a new file and renamed, so that a crash leaves the old or the new, never a half.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Collection, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec

from fairlead.model.manifest import Json
from fairlead.node.addresses import Addresses, Block
from fairlead.node.hostprocess import Identity

APP_LOG = "app.log"
PROXY_LOG = "proxy.log"
LOGS = (APP_LOG, PROXY_LOG)
KEEP_LOGS = 7 * 86400.0
"""Seconds for which the logs of a replica that is gone are kept."""

T = TypeVar("T")


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the node must know of a replica to take it over after its own restart."""

    namespace: str
    process: str
    number: int
    template: str
    identity: Identity | None = None
    netns: str = ""
    capture: str = ""
    proxy: str = "sidecar"
    restarts: int = 0
    last_exit: str = ""
    grace: float = 30.0
    exited: int | None = None
    """The exit status of a replica that is to stay as it ended."""

    @property
    def name(self) -> str:
        """The replica's name."""
        return f"{self.process}-{self.number}"


class NodeFiles:
    """The node's directory. Methods raise OSError where the disk does."""

    def __init__(self, state: Path) -> None:
        self.root = state / "node"
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.root.chmod(0o700)

    def directory(self, namespace: str, replica: str) -> Path:
        """The directory of a replica (it may not exist)."""
        return self.root / namespace / replica

    def make_directory(self, namespace: str, replica: str) -> Path:
        """The directory of a replica, made if it does not exist."""
        out = self.directory(namespace, replica)
        out.mkdir(parents=True, exist_ok=True, mode=0o700)
        out.chmod(0o700)
        return out

    def clear(self, namespace: str, replica: str) -> None:
        """Remove a replica's directory, except its logs."""
        directory = self.directory(namespace, replica)
        if not directory.is_dir():
            return
        for one in directory.iterdir():
            if one.name.startswith(LOGS):
                continue
            if one.is_dir() and not one.is_symlink():
                shutil.rmtree(one)
            else:
                one.unlink(missing_ok=True)

    def prune(self, live: Collection[tuple[str, str]], now: float | None = None) -> None:
        """Remove what is left of replicas that have been gone for a week."""
        now = time.time() if now is None else now
        for directory in self._directories():
            if (directory.parent.name, directory.name) not in live:
                logs = [one for one in directory.iterdir() if one.is_file()]
                if all(one.name.startswith(LOGS) and now - one.stat().st_mtime > KEEP_LOGS for one in logs):
                    shutil.rmtree(directory)

    def save(self, record: Record) -> None:
        """Write a replica's record."""
        self.write(self.directory(record.namespace, record.name) / "replica.json", msgspec.json.encode(record))

    def records(self) -> list[Record]:
        """All records that can be read."""
        found = (_read(directory / "replica.json", Record) for directory in self._directories())
        return [one for one in found if one is not None]

    def allocate(self, block: Block, owner: str, live: Collection[str]) -> Addresses:
        """Addresses for `owner` (`NS/NAME`), kept over restarts. Safe beside other processes on this host."""
        with self._locked():
            path = self.root / "addresses.json"
            given = _read(path, dict[str, int]) or {}
            after = block.allocate(given, owner, live)
            if after != given:
                self.write(path, msgspec.json.encode(after))
        return block.addresses(after[owner])

    def release(self, owner: str) -> None:
        """Give back the addresses of an owner that never comes again."""
        with self._locked():
            path = self.root / "addresses.json"
            given = _read(path, dict[str, int]) or {}
            if given.pop(owner, None) is not None:
                self.write(path, msgspec.json.encode(given))

    def save_orders(self, processes: list[Json]) -> None:
        """Keep the Processes as last seen, so that a restarted node can work while the API is away."""
        self.write(self.root / "processes.json", msgspec.json.encode(processes))

    def orders(self) -> list[Json] | None:
        """The Processes as last seen, or None."""
        return _read(self.root / "processes.json", list[Json])

    def write(self, path: Path, data: bytes) -> None:
        """Write a file of mode 0600 in place of the old one."""
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    def rotate_logs(self, limit: int) -> None:
        """Bound every log to two files of `limit` bytes (an agent bounds its application's log itself).

        Writers append to an open file and are not ours to signal, so the text is copied and the file cut to nothing;
        what is written between the two steps is lost.
        """
        for directory in self._directories():
            for name in LOGS:
                if name == APP_LOG and (directory / "agent.json").exists():
                    continue
                log = directory / name
                try:
                    if log.stat().st_size > limit:
                        shutil.copyfile(log, directory / f"{name}.1")
                        os.truncate(log, 0)
                except FileNotFoundError:
                    continue

    def _directories(self) -> list[Path]:
        return sorted(one for one in self.root.glob("*/*") if one.is_dir())

    @contextmanager
    def _locked(self) -> Generator[None]:
        with (self.root / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _read(path: Path, kind: type[T]) -> T | None:
    """The file's value; None if it is absent or not one (a file of another version is not worth a failed start)."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError):
        return None
