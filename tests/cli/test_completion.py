"""Completion of names of the mesh: in a real bash, in the protocol of the other shells, and silently without a mesh."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import uvloop

from fairlead.cli.completing import completed
from fairlead.cli.grammar import COMMANDS, DIRECTORY, FILE, NAME, OTHER, PROXY, REVISION, Place, options_of, place
from fairlead.cli.main import cli
from fairlead.controlplane.plane import Settings

from ..controlplane.running_plane import BASICS, World, routes, service, world

BASH = shutil.which("bash") or ""


def _commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from _commands(inner, (*path, name))
    else:
        yield path, command


def test_the_grammar_is_that_of_the_commands() -> None:
    known = dict(_commands(cli))
    for path, words in COMMANDS.items():
        params = known[path].params
        taken = {
            name: not one.is_flag and not one.count
            for one in params
            if isinstance(one, click.Option)
            for name in (*one.opts, *one.secondary_opts)
        }
        assert set(words.options) | words.flags <= set(taken), path
        said = options_of(words)
        for name, value in taken.items():
            assert (name in said) == value, (path, name)
        arguments = [one for one in params if isinstance(one, click.Argument)]
        assert bool(arguments) == bool(words.arguments), path
        assert any(one.nargs == -1 for one in arguments) == words.more, path


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("get -n shop virtualservice", Place(NAME, ("virtualservice",), {"-n": "shop"})),
        ("get vs --at", Place(REVISION, ("vs",), {})),
        ("get vs --at=3 a", Place(NAME, ("vs", "a"), {"--at": "3"})),
        ("changed -f --proxy", Place(PROXY, (), {})),
        ("explain -f mesh --proxy", Place(FILE, (), {"-f": "mesh"})),
        ("proxy-config routes", Place(PROXY, (), {})),
        ("pc clusters --fqdn x", Place(PROXY, (), {"--fqdn": "x"})),
        ("proxy-config routes web", Place(OTHER, ("web",), {})),
        ("show --state", Place(DIRECTORY, (), {})),
        ("proxy-config", None),
        ("nonsense", None),
        ("", None),
    ],
)
def test_where_a_name_stands(line: str, found: Place | None) -> None:
    assert place(line.split()) == found


class _Shells:
    """Shells that ask a control plane, or none."""

    def __init__(self, directory: Path, state: Path) -> None:
        program = directory / "fairlead"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m fairlead.cli.start "$@"\n')
        program.chmod(0o755)
        path = f"{directory}:{os.environ['PATH']}"
        self._environment = {**os.environ, "PATH": path, "KUBECONFIG": str(state / "kubeconfig")}

    async def bash(self, *words: str) -> list[str]:
        """What a real bash offers behind these words, which stand as bash parts them."""
        script = (
            'source <(fairlead completion bash); COMP_WORDS=(fairlead "$@"); COMP_CWORD=$#; _fairlead_completion '
            'fairlead; printf "%s\\n" "${COMPREPLY[@]}"'
        )
        return (await self._run([BASH, "-c", script, "bash", *words])).split()

    async def asked(self, shell: str, line: str, current: str) -> str:
        """What the shell's script is told."""
        more = {"_FAIRLEAD_COMPLETE": f"{shell}_complete", "COMP_WORDS": line, "COMP_CWORD": current}
        return await self._run(["fairlead"], more)

    async def _run(self, command: list[str], more: dict[str, str] | None = None) -> str:
        environment = {**self._environment, **(more or {})}
        done = await asyncio.to_thread(
            subprocess.run, command, env=environment, capture_output=True, text=True, timeout=30, check=False
        )
        assert not done.stderr, done.stderr
        return done.stdout


def test_names_of_a_running_mesh(tmp_path: Path) -> None:
    async def run() -> None:
        async with world(tmp_path / "state") as made:
            await made.apply(*BASICS, service("cart"), service("catalog"), service("web"), routes("cart"))
            async with made.proxy("web-1"), made.proxy("cart-1", "cart"):
                await _are_completed(_Shells(tmp_path, made.state.path), made)

    uvloop.run(run())


async def _are_completed(shells: _Shells, made: World) -> None:
    if BASH:
        assert await shells.bash("get", "virtuals") == ["virtualservice"]
        assert await shells.bash("get", "service", "-n", "shop", "ca") == ["cart", "catalog"]
        assert await shells.bash("describe", "-n", "shop", "virtualservice/") == ["virtualservice/cart"]
        assert await shells.bash("get", "service", "-n", "sh") == ["shop"]
        assert await shells.bash("proxy-config", "routes", "") == ["cart-1.shop", "web-1.shop"]
        assert await shells.bash("why", "--from", "w") == ["web-1.shop"]
        assert await shells.bash("why", "--to", "http", ":", "//ca") == ["//cart.shop:9080/", "//catalog.shop:9080/"]
        revisions = await shells.bash("rollback", "-n", "shop", "vs/cart", "@")
        assert revisions and {int(one) for one in revisions} <= set(range(1, made.plane.store.revision + 1))
        assert (await shells.bash("get", "vs", "-o"))[:1] == ["-o"], "options are Click's to complete"
    assert (await shells.asked("zsh", "fairlead explain w", "2")).startswith("plain\nweb-1.shop\nsidecar\nplain\n")
    assert "plain\nhttp\\://web.shop\\:9080/\nhttp\n" in await shells.asked("zsh", "fairlead why --to http://w", "3")
    assert await shells.asked("fish", "fairlead delete service -n shop c", "c") == (
        "plain,cart\tService shop\nplain,catalog\tService shop\n"
    )
    assert await shells.asked("fish", "fairlead apply -f sam", "sam") == "file,sam\n"


@pytest.mark.parametrize(
    "text",
    ["", "\x00\xff", "[]", "{}", "a: [", '{"current-context": "x", "contexts": [], "clusters": [], "users": []}'],
)
def test_silence_where_no_mesh_runs(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kubeconfig").write_text(text)
    for file in (tmp_path / "kubeconfig", tmp_path / "none", tmp_path):
        monkeypatch.setenv("KUBECONFIG", str(file))
        line = {"_FAIRLEAD_COMPLETE": "bash_complete", "COMP_WORDS": "fairlead get 'vs", "COMP_CWORD": "2"}
        assert completed(line)
        assert capsys.readouterr() == ("", "")


def test_a_server_that_says_nothing_is_not_waited_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = World(tmp_path / "state", Settings())
    with socket.create_server(("127.0.0.1", 0)) as silent:
        taken: list[socket.socket] = []
        taking = threading.Thread(target=lambda: taken.append(silent.accept()[0]))
        taking.start()
        made.state.write_kubeconfig(f"https://127.0.0.1:{silent.getsockname()[1]}", made.plane.authority.root_pem, "t")
        monkeypatch.setenv("KUBECONFIG", str(made.state.kubeconfig))
        begun = time.monotonic()
        assert completed({"_FAIRLEAD_COMPLETE": "zsh_complete", "COMP_WORDS": "fairlead get v", "COMP_CWORD": "2"})
        assert time.monotonic() - begun < 5 and capsys.readouterr().out == ""
        taking.join()
        for one in taken:
            one.close()
    made.plane.store.close()
    made.plane.chronicle.timeline.close()
