"""What the control plane keeps current for as long as the mesh wants it: a task for each name, and texts in a file.

Must not: know what is kept, or where it comes from.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Set
from pathlib import Path
from typing import Any

import msgspec

from fairlead.ca.files import write_atomic

_log = logging.getLogger(__name__)


class Keepers:
    """One task for each name that is wanted. Lives on the event loop."""

    def __init__(self, keep: Callable[[str], Coroutine[Any, Any, None]]) -> None:
        self._keep = keep
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._tasks

    def drop(self, wanted: Set[str]) -> list[str]:
        """End the tasks of names that are wanted no longer; these names."""
        dropped = [name for name in self._tasks if name not in wanted]
        for name in dropped:
            self._tasks.pop(name).cancel()
        return dropped

    def take(self, name: str) -> None:
        """Begin to keep a name, if it is not kept already."""
        if name not in self._tasks:
            self._tasks[name] = asyncio.get_running_loop().create_task(self._keep(name))

    async def stop(self) -> None:
        """Keep nothing any more."""
        tasks = list(self._tasks.values())
        for one in tasks:
            one.cancel()
        self._tasks.clear()
        await asyncio.gather(*tasks, return_exceptions=True)


class Remembered:
    """Texts by name that survive a restart, in a file. `what` they are is said where that fails ("keys")."""

    def __init__(self, path: Path, what: str) -> None:
        self._path = path
        self._what = what

    def read(self) -> dict[str, str]:
        """What was remembered; nothing where that cannot be read."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=dict[str, str])
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.DecodeError) as error:
            _log.warning("%s: %s; %s are fetched again", self._path, error, self._what)
            return {}

    def write(self, texts: dict[str, str]) -> None:
        """Remember exactly these."""
        try:
            write_atomic(self._path, msgspec.json.encode(texts, order="sorted"))
        except OSError as error:
            again = f"{self._what} will have to be fetched again after a restart"
            _log.warning("%s: %s; %s", self._path, error.strerror, again)
