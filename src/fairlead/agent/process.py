"""Children of the agent: started so that they cannot outlive it, stopped with their whole process group."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_LAUNCHER = str(Path(__file__).with_name("launcher.py"))
MAX_LINE = 64 * 1024


class Child:
    """A running child process."""

    def __init__(self, process: asyncio.subprocess.Process, reading: asyncio.Task[None] | None) -> None:
        self._process = process
        self._reading = reading

    @property
    def pid(self) -> int:
        """Its process id, which is also its process group."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.returncode is None

    async def wait(self) -> int:
        """Its exit status, 128 + N if signal N ended it; its output has been read then."""
        code = await self._process.wait()
        if self._reading is not None:
            # A grandchild may hold the pipe open for ever; what it says later is not waited for.
            await asyncio.wait([self._reading], timeout=1)
            self._reading.cancel()
        return 128 - code if code < 0 else code

    def send(self, number: signal.Signals) -> None:
        """Signal its process group; nothing happens if it has ended."""
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    async def stop(self, grace: float, first: signal.Signals = signal.SIGTERM) -> int:
        """End it: `first`, after `grace` seconds SIGKILL. Its exit status."""
        self.send(first)
        try:
            async with asyncio.timeout(grace):
                await self._process.wait()
        except TimeoutError:
            self.send(signal.SIGKILL)
        return await self.wait()


async def start(
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: str | None = None,
    netns: str = "",
    output: Callable[[bytes], None] | None = None,
) -> Child:
    """Start a command, its output given to `output` in chunks (else ours is inherited). Raises OSError."""
    reader = writer = None
    if output is not None:
        # A pipe of our own: the event loop would make a socket pair, which a child cannot open as /dev/stdout.
        reader, writer = os.pipe()
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            "-S",
            _LAUNCHER,
            str(os.getpid()),
            netns or "-",
            *command,
            env=dict(env),
            cwd=cwd,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=writer,
            stderr=asyncio.subprocess.STDOUT if output is not None else None,
        )
    except BaseException:
        if reader is not None:
            os.close(reader)
        raise
    finally:
        if writer is not None:
            os.close(writer)
    reading = asyncio.create_task(_read(reader, output)) if output is not None and reader is not None else None
    return Child(process, reading)


async def _read(handle: int, output: Callable[[bytes], None]) -> None:
    stream = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(handle, "rb", buffering=0)
    )
    try:
        while data := await stream.read(65536):
            output(data)
    finally:
        transport.close()


class Lines:
    """Cuts chunks into lines for a callback, over-long ones in pieces."""

    def __init__(self, line: Callable[[str], None]) -> None:
        self._line = line
        self._rest = b""

    def __call__(self, data: bytes) -> None:
        """Take a chunk."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > MAX_LINE:
            lines.append(self._rest)
            self._rest = b""
        for line in lines:
            self._line(line.decode("utf-8", "replace"))


class RotatingLog:
    """A log of bounded size: FILE, FILE.1 ... each at most `size` bytes. Write errors lose output, not the agent."""

    def __init__(self, path: Path, size: int = 10 * 1024 * 1024, keep: int = 3) -> None:
        self._path = path
        self._size = size
        self._keep = keep
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab", buffering=0)

    def __call__(self, data: bytes) -> None:
        """Append a chunk."""
        with contextlib.suppress(OSError):
            if self._file.tell() + len(data) > self._size:
                self._rotate()
            self._file.write(data)

    def _rotate(self) -> None:
        self._file.close()
        for number in range(self._keep - 1, 0, -1):
            older = self._path.with_name(f"{self._path.name}.{number}")
            newer = self._path if number == 1 else self._path.with_name(f"{self._path.name}.{number - 1}")
            if newer.exists():
                newer.replace(older)
        self._file = self._path.open("ab", buffering=0)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
