"""Ctrl-C while a command waits for the mesh."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

from .running_plane import BASICS, service, world
from .test_history import Ask


def test_a_rotation_that_is_interrupted_says_where_it_stands(tmp_path: Path) -> None:
    async def run() -> None:
        async with world(tmp_path) as made:
            await Ask(made).apply(*BASICS, service("cart"))
            # It reports nothing, so it lags for ever.
            async with made.proxy("web-1"):
                rotating = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "fairlead.cli.main", "ca", "rotate", "run", "--state"),
                    str(made.state.path),
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.PIPE,
                )
                assert rotating.stderr is not None
                assert b"waiting" in await asyncio.wait_for(rotating.stderr.readline(), 30)
                rotating.send_signal(signal.SIGINT)
                _, said = await asyncio.wait_for(rotating.communicate(), 20)
                assert rotating.returncode == 130
                assert b"interrupted: it stands at trusting" in said and b"ca rotate abort" in said, said
                assert b"Traceback" not in said

    asyncio.run(run())
