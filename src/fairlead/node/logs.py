"""Reading the logs that a node keeps."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

_BLOCK = 1 << 16


def segments(log: Path) -> list[Path]:
    """A log's files, the oldest first (`app.log.2 app.log.1 app.log`)."""
    older: list[tuple[int, Path]] = []
    for one in log.parent.glob(f"{log.name}.*"):
        number = one.name.removeprefix(f"{log.name}.")
        if number.isdigit():
            older.append((-int(number), one))
    return [*(path for _, path in sorted(older)), *([log] if log.exists() else [])]


def last_lines(log: Path, count: int | None) -> Iterator[bytes]:
    """The last `count` lines (all if None), over all files of the log."""
    if count is None:
        for path in segments(log):
            with path.open("rb") as file:
                yield from file
        return
    kept: deque[bytes] = deque()
    for path in reversed(segments(log)):
        with path.open("rb") as file:
            tail = deque(_tail(file, count - len(kept)))
        kept.extendleft(reversed(tail))
        if len(kept) >= count:
            break
    yield from kept


def _tail(file: BinaryIO, count: int) -> list[bytes]:
    if count <= 0:
        return []
    at = file.seek(0, os.SEEK_END)
    data = b""
    while at > 0 and data.count(b"\n") <= count:
        size = min(_BLOCK, at)
        at -= size
        file.seek(at)
        data = file.read(size) + data
    return data.splitlines(keepends=True)[-count:]


def follow(log: Path, going: Callable[[], bool] = lambda: True, pause: float = 0.2) -> Iterator[bytes]:
    """What is appended from now on, also after the file was cut or replaced."""
    file = log.open("rb") if log.exists() else None
    try:
        if file is not None:
            file.seek(0, os.SEEK_END)
        while going():
            data = file.read(_BLOCK) if file is not None else b""
            if data:
                yield data
                continue
            if file is None or _replaced(file, log):
                if file is not None:
                    file.close()
                file = log.open("rb") if log.exists() else None
            elif os.fstat(file.fileno()).st_size < file.tell():
                file.seek(0)
            time.sleep(pause)
    finally:
        if file is not None:
            file.close()


def _replaced(file: BinaryIO, log: Path) -> bool:
    try:
        now = log.stat()
    except FileNotFoundError:
        return True
    mine = os.fstat(file.fileno())
    return (now.st_dev, now.st_ino) != (mine.st_dev, mine.st_ino)
