"""Says what a command is doing once that takes more than a second, on a terminal's standard error; nothing of it stays.

`with busy("reading files"):` around work that prints nothing. Inside of another one it only says what is done now.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
_AFTER = 1.0
_EVERY = 0.5
_CLEAR = "\r\x1b[K"


class _Line:
    """The line, and the thread that keeps it current."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._shown = False
        self._begun = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        wait = _AFTER
        while not self._ended.wait(wait):
            wait, self._shown = _EVERY, True
            seconds = f"{time.monotonic() - self._begun:.0f} s"
            room = shutil.get_terminal_size().columns - len(seconds) - 6
            said = (self.texts or [""])[-1]
            _write(f"{_CLEAR}{said[: max(room, 0)]} ... {seconds}")

    def hide(self) -> None:
        """Take it away for now."""
        if self._shown:
            self._shown = False
            _write(_CLEAR)

    def end(self) -> None:
        """Take the line away."""
        self._ended.set()
        self._thread.join()
        self.hide()


_line: list[_Line] = []
"""The one that is shown, if any."""


def hide() -> None:
    """Take the line away before something else is written; it comes back if that goes on."""
    if _line:
        _line[0].hide()


@contextmanager
def busy(text: str) -> Generator[Callable[[str], None]]:
    """Say `text` while the body runs, or what the body has it say instead."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield lambda _: None
        return
    first = not _line
    if first:
        _line.append(_Line())
    line = _line[0]
    line.texts.append(text)
    depth = len(line.texts) - 1
    try:
        yield lambda said: line.texts.__setitem__(depth, said)
    finally:
        line.texts.pop()
        if first:
            _line.clear()
            line.end()


def counted(items: Iterable[T], text: str) -> Iterator[T]:
    """The items, while it is said how many of them are done: `text 7 of 20`. What comes between may print nothing."""
    of = f" of {len(items)}" if isinstance(items, Sized) else ""
    with busy(text) as say:
        for number, one in enumerate(items, 1):
            say(f"{text} {number}{of}")
            yield one


def _write(text: str) -> None:
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except (OSError, ValueError):
        # Who looked at it has gone: that is no failure of the command.
        pass
