"""Manners of the command line: widths, colours, closed pipes, full disks, interruption, and what every help says."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import shlex
import signal
import socket
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

from fairlead.cli.diff import agreed
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
    words = " ".join(map(shlex.quote, [*FAIRLEAD, "api-resources"]))
    assert subprocess.run(["sh", "-c", f"{words} >&- 2>&-"], check=False).returncode == 0, "nobody to tell"
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


def test_what_waits_is_interrupted_quietly(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        kubeconfig = tmp_path / "kubeconfig"
        config = {
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [
                {
                    "name": "c",
                    "cluster": {
                        "server": f"https://127.0.0.1:{silent.getsockname()[1]}",
                        "insecure-skip-tls-verify": True,
                    },
                }
            ],
            "users": [{"name": "u", "user": {"token": "t"}}],
        }
        kubeconfig.write_text(json.dumps(config))
        asking = [*FAIRLEAD, "explain", "web-0.shop", "routes", "--exact", "--kubeconfig", str(kubeconfig)]
        with subprocess.Popen(asking, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as running:
            silent.settimeout(30)
            with silent.accept()[0]:
                assert _interrupted(running) == (130, b"")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reading = [*FAIRLEAD, "analyze", str(pipe)]
    # It opens the pipe to read what nobody writes: only then can it be opened here.
    with subprocess.Popen(reading, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as running, pipe.open("wb"):
        assert _interrupted(running) == (130, b"")


def _interrupted(running: subprocess.Popen[bytes]) -> tuple[int, bytes]:
    running.send_signal(signal.SIGINT)
    assert running.stdout is not None
    return running.wait(20), running.stdout.read().strip()


def test_a_question_that_is_interrupted_is_no_answer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> bool:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise click.Abort from None

    def nobody(*_: object, **__: object) -> bool:
        try:
            raise EOFError
        except EOFError:
            raise click.Abort from None

    monkeypatch.setattr(click, "confirm", interrupted)
    with pytest.raises(click.Abort):  # the command ends with 130
        agreed()
    monkeypatch.setattr(click, "confirm", nobody)
    assert not agreed()
    assert capsys.readouterr().err.count("nothing was changed") == 2


def test_work_of_more_than_a_second_is_told_on_a_terminal_and_leaves_nothing() -> None:
    program = (
        "import fairlead.cli.busy as b; b._AFTER = b._EVERY = 0.01\n"
        "with b.busy('counting') as say:\n"
        "    line = b._line[0]\n"
        "    while not line._shown: pass\n"
        "print('done')"
    )
    text, code = on_terminal([sys.executable, "-c", program], 60)
    assert code == 0 and "counting ... 0 s" in text
    assert text.rpartition("\r")[2] == "\x1b[Kdone\n", "the line is gone before anything else is written"
    elsewhere = program.replace("    while not line._shown: pass\n", "").replace("_line[0]", "_line")
    done = subprocess.run([sys.executable, "-c", elsewhere], check=True, capture_output=True)
    assert (done.stdout, done.stderr) == (b"done\n", b"")


def _examples(command: click.Command) -> list[str]:
    lines = (command.help or "").replace("\\\n", " ").splitlines()
    found = [line.strip() for line in lines if re.match(r"\s*(.*\| )?fairlead ", line)]
    # What follows in a line is about it: where the output goes, or what it does.
    return [re.split(r"\s{3,}| \| | > |\s+# ", one[one.index("fairlead ") :])[0].rstrip("\\ ") for one in found]


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
def test_every_help_has_examples_that_parse_and_exit_status_and_fits(
    path: tuple[str, ...], command: click.Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shop").mkdir()
    (tmp_path / "agent.json").touch()
    for one in _examples(command):
        words = shlex.split(one)[1 + len(path) :]
        assert command.make_context(path[-1], words).params is not None, one
    text = command.get_help(click.Context(command, info_name="fairlead", terminal_width=80))
    assert "Exit status" in text
    assert f"  fairlead {' '.join(path)}" in text, "an example"
    assert max(len(line) for line in text.splitlines()) <= 80


def test_all_data_that_commands_print_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "commandline.md").read_text()
    for path, command in _commands(cli):
        forms = [one.type.choices for one in command.params if isinstance(one.type, click.Choice)]
        if any("json" in one for one in forms):
            assert re.search(rf"^\|[^|]*`{path[0]}`", text, re.MULTILINE), path
