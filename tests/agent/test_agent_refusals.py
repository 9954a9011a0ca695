"""What an agent does about refusals of its Envoy: the reason that was cut off, ports that get free, files that come."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

from fairlead.agent.complaints import CUT, Complaints
from fairlead.agent.obstacles import Obstacles

DUMP = ["goo.gle/debugproto   ", 'name: "a"', "connect_timeout {", "}"]


def test_the_reason_comes_from_the_log_of_the_same_complaint() -> None:
    async def run() -> None:
        made = Complaints()
        assert await made.whole("short") == "short"

        def log(name: str, why: str) -> None:
            lines = [f"warning config delta config for x rejected: {DUMP[0]}", f'name: "{name}"', *DUMP[2:]]
            for line in (*lines, f": {why}", "another line"):
                made.line(line)

        log("a", "the first")
        log("b", "another")
        asked = asyncio.create_task(made.whole("\n".join(DUMP) + CUT))
        assert await asked == "the first"
        late = asyncio.create_task(made.whole("\n".join(DUMP).replace('"a"', '"c"') + CUT))
        await asyncio.sleep(0)
        log("c", "the last")
        assert await late == "the last"

    asyncio.run(run())


def test_a_port_is_looked_at_until_it_is_free(tmp_path: Path) -> None:
    async def run() -> None:
        free = asyncio.Event()
        made = Obstacles(tmp_path, free.set)
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            at = taken.getsockname()[1]
            made.refused("something else")
            made.refused(f"Error adding/updating listener(s) a: cannot bind '127.0.0.1:{at}': Address already in use")
            looked = [one for one in asyncio.all_tasks() if one.get_name() == "obstacles"]
            assert len(looked) == 1 and not free.is_set()
        await asyncio.wait_for(free.wait(), 10)
        await made.close()

    asyncio.run(run())


def test_a_file_is_looked_for_until_it_is_there(tmp_path: Path) -> None:
    async def run() -> None:
        for path in ("a list.pem", str(tmp_path / "b.pem")):
            again = asyncio.Event()
            made = Obstacles(tmp_path, again.set)
            made.refused(f"Error adding/updating listener(s) 0.0.0.0_443: Invalid path: {path}, 0.0.0.0_80: no")
            looking = [one for one in asyncio.all_tasks() if one.get_name() == "obstacles"]
            assert len(looking) == 1 and not again.is_set()
            (tmp_path / path).touch()
            await asyncio.wait_for(again.wait(), 10)
            await made.close()

    asyncio.run(run())
