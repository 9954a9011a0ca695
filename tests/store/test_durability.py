"""Acknowledged writes survive SIGKILL at any moment."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from pathlib import Path

from fairlead.model.ref import Ref
from fairlead.store import Store

WRITES = 1000
WRITER = Path(__file__).with_name("writer.py")


def test_every_acknowledged_write_survives_kill_9(tmp_path: Path) -> None:
    chance = random.Random(20)
    database = tmp_path / "store.db"
    acknowledged: dict[int, tuple[str, int]] = {}
    done, kills = 0, 0
    while done < WRITES:
        command = [sys.executable, str(WRITER), str(database), str(done), str(WRITES - done)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            # The moment is random in the stream of writes: the writer runs on while this process reads.
            moment = chance.randrange(1, 150)
            for at, line in enumerate(writer.stdout, 1):
                if line.endswith("\n"):
                    number, name, revision = line.split()
                    acknowledged[int(number)] = (name, int(revision))
                if at == moment:
                    writer.send_signal(signal.SIGKILL)
            kills += writer.wait(timeout=30) == -signal.SIGKILL
        store = Store(database)
        for number, (name, revision) in acknowledged.items():
            document = store.get_at(Ref("", "ConfigMap", "default", name), revision)
            assert document is not None, f"write {number} (revision {revision}) is lost"
            assert document["data"] == {"number": str(number)}
        # One write may have been committed without its acknowledgement having been read.
        assert store.revision - max(revision for _, revision in acknowledged.values()) <= 1
        done = max(acknowledged) + 1
        store.close()
    assert kills >= 4
    assert sorted(acknowledged) == list(range(WRITES))
