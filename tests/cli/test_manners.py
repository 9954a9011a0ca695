"""Manners of the command line: widths, colours, closed pipes, full disks, interruption, and what every help says."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fairlead.cli.main import cli
from fairlead.cli.printing import wrapped

FAIRLEAD = [sys.executable, "-m", "fairlead.cli.start"]
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
TABLE = """
from fairlead.cli.printing import print_table
who = "spiffe://cluster.local/ns/shop/sa/web"
rows = [("web-v1-0.shop", "2026-03-02T09:12:44Z", who, "acknowledged " * 9, "x" * 40)] * 2
print_table(("NAME", "TIME", "IDENTITY", "WHAT", "TOKEN"), rows, styles={"x": "red"})
"""


def on_terminal(command: list[str], columns: int, **environment: str) -> tuple[str, int]:
    """What a command writes on a terminal so wide, and its exit status."""
    mine, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    given_too = {"TERM": "xterm-256color", **{key: one for key, one in os.environ.items() if key != "COLUMNS"}}
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env={**given_too, **environment}
    ) as running:
        os.close(theirs)
        out = b"".join(_until_closed(mine))
        os.close(mine)
        code = running.wait(30)
    return out.decode().replace("\r\n", "\n"), code


def _until_closed(handle: int) -> Iterator[bytes]:
    while True:
        try:
            data = os.read(handle, 65536)
        except OSError:
            return
        if not data:
            return
        yield data


@given(st.text("ab./-: 1", max_size=60), st.integers(1, 30), st.integers(0, 9))
@example("   a", 2, 0)
@example(" " * 40, 3, 1)
@example("a -o yaml --at=7", 6, 2)
def test_cells_keep_their_text_and_their_width(text: str, width: int, hang: int) -> None:
    hang = min(hang, width - 1)
    lines = wrapped(text, width, hang)
    assert all(len(line) <= width - (hang if number else 0) for number, line in enumerate(lines))
    assert "".join("".join(lines).split()) == "".join(text.split())


@pytest.mark.parametrize("columns", [30, 60, 80, 120, 400])
def test_tables_fit_any_terminal_and_lose_nothing(columns: int) -> None:
    text, code = on_terminal([sys.executable, "-c", TABLE], columns)
    plain = _ESCAPES.sub("", text)
    assert code == 0 and max(len(line) for line in plain.splitlines()) <= columns
    for one in ("web-v1-0.shop", "spiffe://cluster.local/ns/shop/sa/web", "x" * 40):
        assert one in plain or columns < 200
    if columns >= 60:
        assert "2026-03-02T09:12:44Z" in plain, "a time is not torn apart"


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_colour_where_none_is_wanted(environment: dict[str, str], tmp_path: Path) -> None:
    command = [*FAIRLEAD, "get", "vs", "--kubeconfig", str(tmp_path / "none")]
    coloured, code = on_terminal(command, 80)
    assert code == 1 and "\x1b[31m" in coloured
    for words in (command, [sys.executable, "-c", TABLE]):
        text, _ = on_terminal(words, 80, **environment)
        assert text.strip() and not re.search(r"\x1b\[[0-9;]*3[0-9]", text)
    assert "\x1b" not in on_terminal(command, 80, **environment)[0]


def test_a_reader_that_goes_is_no_failure_and_a_full_disk_is_told() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as closed:
        done = subprocess.run([*FAIRLEAD, "api-resources"], stdout=closed, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (141, b"")
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([*FAIRLEAD, "api-resources"], stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 1
    assert done.stderr == b"Error: the output cannot be written: No space left on device\n"


@pytest.mark.parametrize(
    "words",
    [
        ["logs", "web", "-f"],
        ["serve", "--api-port", "0", "--xds-port", "0", "--join-port", "0"],
    ],
)
def test_an_interruption_ends_quietly(words: list[str], tmp_path: Path) -> None:
    log = tmp_path / "node" / "default" / "web-0" / "app.log"
    log.parent.mkdir(parents=True)
    log.write_text("started\n")
    words = [*FAIRLEAD, *words, "--state", str(tmp_path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as running:
        assert running.stdout is not None
        assert running.stdout.readline(), "it has begun"
        running.send_signal(signal.SIGINT)
        rest = running.stdout.read()
        assert running.wait(20) == (0 if "serve" in words else 130)
        assert b"Traceback" not in rest and b"defect" not in rest


def _commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from _commands(inner, (*path, name))
    else:
        yield path, command


@pytest.mark.parametrize(("path", "command"), [pytest.param(*one, id=" ".join(one[0])) for one in _commands(cli)])
def test_every_help_has_an_example_and_exit_status_and_fits(path: tuple[str, ...], command: click.Command) -> None:
    text = command.get_help(click.Context(command, info_name="fairlead", terminal_width=80))
    assert "Exit status" in text
    assert f"  fairlead {' '.join(path)}" in text, "an example"
    assert max(len(line) for line in text.splitlines()) <= 80
