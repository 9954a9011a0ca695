"""`fairlead demo`, as a user runs it: every step holds, and nothing stays behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fairlead.cli.demo.cleanup import STATE
from fairlead.cli.demo.place import PREFIX
from fairlead.node.capture.namespace import RUN_DIRECTORY, Namespaces
from tests.loopback import network

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

STEPS = 15


class Place:
    """A place to run the demo in, by which everything that it leaves is recognised."""

    def __init__(self) -> None:
        # Short, because Unix sockets stand below it.
        self.directory = Path(tempfile.mkdtemp(prefix="fd-", dir="/tmp"))
        self.mark = f"FAIRLEAD_TEST_RUN={uuid.uuid4().hex}"
        self.net = network()
        self._states: set[Path] = set()

    def start(self, *options: str, **more: Any) -> subprocess.Popen[str]:
        name, _, value = self.mark.partition("=")
        made = subprocess.Popen(
            [sys.executable, "-m", "fairlead.cli.main", "demo", "--loopback", f"{self.net}.0.0/16", *options],
            env={**os.environ, name: value, "TMPDIR": str(self.directory)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **more,
        )
        # Its namespaces are named after its state, which says among all those of this machine which ones are its.
        before = len(self._states)
        while len(self._states) == before and made.poll() is None:
            self._states |= {one / STATE for one in self.directory.glob(f"{PREFIX}*")}
            time.sleep(0.02)
        return made

    def processes(self) -> list[str]:
        """What runs with the demo's environment, or on its addresses."""
        found: list[str] = []
        for one in Path("/proc").iterdir():
            try:
                environment = (one / "environ").read_bytes() if one.name.isdigit() else b""
                if self.mark.encode() in environment or f"POD_IP={self.net}.".encode() in environment:
                    found.append((one / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:
                continue
        return found

    def left(self) -> list[str]:
        """Whatever has not gone."""
        files = [str(one) for one in self.directory.iterdir()]
        return [*files, *self.processes(), *self.namespaces()]

    def namespaces(self) -> list[str]:
        """The network namespaces of its demonstrations."""
        prefixes = tuple(Namespaces(one, "").name("", "").removesuffix("-") for one in self._states)
        there = (one.name for one in RUN_DIRECTORY.iterdir()) if RUN_DIRECTORY.is_dir() else ()
        return sorted(one for one in there if one.startswith(prefixes))


@pytest.fixture
def place() -> Iterator[Place]:
    made = Place()
    yield made
    shutil.rmtree(made.directory, ignore_errors=True)


def _until_clean(place: Place, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while place.left() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert place.left() == []


def _until_up(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if "stays up until Ctrl-C" in line:
            return said
    raise AssertionError(f"{said}\n{process.stderr.read() if process.stderr else ''}")


@pytest.mark.parametrize(
    "capture",
    [
        "explicit",
        pytest.param(
            "netns", marks=[pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")]
        ),
    ],
)
def test_every_step_holds(place: Place, capture: str) -> None:
    process = place.start("--once", "--capture", capture, "-o", "json")
    out, errors = process.communicate(timeout=350)
    assert out, errors
    found = json.loads(out)
    failed = [check for step in found["steps"] for check in step["checks"] if not check["ok"]]
    assert failed == []
    assert [step["step"] for step in found["steps"]] == list(range(1, STEPS + 1))
    assert all(step["checks"] for step in found["steps"])
    assert (process.returncode, found["ok"], found["capture"], found["left"]) == (0, True, capture, [])
    assert place.left() == []


def test_nothing_stays_when_its_start_is_interrupted(place: Place) -> None:
    process = place.start("--once", "--capture", "explicit")
    assert process.stderr is not None
    while "Starting the shop" not in (line := process.stderr.readline()):
        assert line, "it ended"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in errors, errors
    assert place.left() == []


def test_nothing_stays_when_it_is_killed(place: Place) -> None:
    process = place.start("--step", "14")
    _until_up(process)
    process.kill()
    process.communicate(timeout=60)
    _until_clean(place)


def test_the_next_one_cleans_up_after_one_whose_guard_was_killed_too_and_stays_until_interrupted(place: Place) -> None:
    process = place.start("--step", "14", "--capture", "explicit")
    _until_up(process)
    guards = [one for one in Path("/proc").iterdir() if one.name.isdigit() and _is_guard(one, place)]
    assert len(guards) == 1
    os.kill(int(guards[0].name), signal.SIGKILL)
    process.kill()
    process.communicate(timeout=60)
    assert len(place.processes()) > STEPS
    second = place.start("--step", "14", "--capture", "explicit")
    said = _until_up(second)
    assert "wieght" in said
    assert place.processes()
    second.send_signal(signal.SIGINT)
    second.communicate(timeout=60)
    assert second.returncode == 0
    assert place.left() == []


def _is_guard(process: Path, place: Place) -> bool:
    try:
        words = (process / "cmdline").read_bytes()
    except OSError:
        return False
    return b"fairlead.cli.demo.guard" in words and str(place.directory).encode() in words


def test_a_directory_of_something_else_is_left_alone(place: Place) -> None:
    other = place.directory / "other"
    other.mkdir()
    (other / "precious").write_text("x")
    process = place.start("--once", "--state", str(other))
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "it is not empty" in errors
    assert [one.name for one in other.iterdir()] == ["precious"]
