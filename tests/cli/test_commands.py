"""What commands say without any mesh: help, completion, compiling files, versions."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest
import yaml
from click.testing import CliRunner

from fairlead.cli.main import COMMANDS, cli

from .running_mesh import FAIRLEAD, NAMESPACE, SERVICE, environment, run

HEAVY = ("grpc", "rich", "envoy", "google.protobuf", "aiohttp", "uvicorn", "starlette", "cryptography", "yaml")


def test_help_is_quick() -> None:
    code = (
        "import atexit, sys; sys.argv = ['fairlead', '--help']; "
        f"atexit.register(lambda: print([one for one in {HEAVY} if one in sys.modules])); "
        "from fairlead.cli.main import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment(), timeout=20
    )
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "[]", done.stdout
    for name, one in COMMANDS.items():
        assert f"{name} " in done.stdout and one.help.split()[0] in done.stdout


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_explains_itself(name: str) -> None:
    entry = COMMANDS[name]
    found = CliRunner().invoke(cli, [name, "--help"])
    assert found.exit_code == 0 and not found.exception, found.output
    assert "Usage: " in found.output
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    # The one line in the list and the command's own first words are about the same.
    assert command.help, name
    own = {word.strip(".,:`'").lower() for word in command.help.split()}
    summary = {word.strip(".,:`'").lower() for word in entry.help.split()}
    assert len(own & summary) >= 2, (entry.help, command.help)
    if isinstance(command, click.Group):
        for each in command.commands:
            inner = CliRunner().invoke(cli, [name, each, "--help"])
            assert inner.exit_code == 0 and "Usage: " in inner.output
    if name in ("serve", "up", "compile", "proxy-status", "proxy-config", "completion"):
        assert "fairlead " in command.help or "kubectl" in command.help, "an example"


def test_words_that_are_no_command() -> None:
    done = run("proxy-stauts")
    assert done.returncode == 2 and "Did you mean 'proxy-status'?" in done.stderr
    assert run("xyzzy").returncode == 2
    assert run("compile", "--nonsense").returncode == 2


def test_version() -> None:
    assert set(json.loads(run("version", "-o", "json").stdout)) == {"fairlead", "envoy", "python"}
    assert yaml.safe_load(run("version", "-o", "yaml").stdout)["envoy"].startswith("1.")
    assert run("version").stdout.startswith("fairlead ")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_printed(shell: str) -> None:
    done = run("completion", shell)
    assert done.returncode == 0 and "_FAIRLEAD_COMPLETE" in done.stdout


def test_completion_in_bash(tmp_path: Path) -> None:
    program = tmp_path / "fairlead"
    program.write_text(f'#!/bin/sh\nexec {" ".join(FAIRLEAD)} "$@"\n')
    program.chmod(0o755)
    script = tmp_path / "completion.bash"
    script.write_text(run("completion", "bash").stdout)
    asks = (("fairlead pro", "proxy-config proxy-status"), ("fairlead proxy-config clu", "clusters"))
    for line, wanted in asks:
        words = line.split()
        code = (
            f"source {script}; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; "
            '_fairlead_completion fairlead; echo "${COMPREPLY[@]}"'
        )
        path = f"{tmp_path}:/usr/bin:/bin"
        done = subprocess.run(
            ["bash", "-c", code], capture_output=True, text=True, check=False, env=environment(PATH=path), timeout=20
        )
        assert done.stdout.strip() == wanted, (done.stdout, done.stderr)


PROXY = "type: sidecar\nnamespace: shop\nips: [10.0.0.1]\n"


def files(directory: Path, **content: str) -> Path:
    for name, text in content.items():
        (directory / f"{name}.yaml").write_text(text)
    return directory


def test_compile(tmp_path: Path) -> None:
    files(tmp_path, proxy=PROXY)
    given = files(tmp_path / "objects" if (tmp_path / "objects").mkdir() is None else tmp_path)
    files(given, good=yaml.safe_dump_all([NAMESPACE, SERVICE]))
    proxy = str(tmp_path / "proxy.yaml")
    good = run("compile", "-f", str(given), "--proxy", proxy)
    assert good.returncode == 0, good.stderr
    out = json.loads(good.stdout)
    assert set(out) == {"listeners", "routes", "clusters", "endpoints"}
    assert "outbound|9080||cart.shop.svc.cluster.local" in [one["name"] for one in out["clusters"]]
    assert yaml.safe_load(run("compile", "-f", str(given), "--proxy", proxy, "-o", "yaml").stdout) == out
    assert run("compile", "-f", str(given), "--proxy", proxy).stdout == good.stdout
    # One broken file and one unknown field: both named with their line, the others compiled.
    files(
        given,
        broken="a: [1,\nb: 2\n",
        typo=yaml.safe_dump(
            {
                "apiVersion": "networking.istio.io/v1",
                "kind": "VirtualService",
                "metadata": {"name": "cart", "namespace": "shop"},
                "spec": {"hosts": ["cart"], "htttp": []},
            }
        ),
    )
    bad = run("compile", "-f", str(given), "-f", str(tmp_path / "none.yaml"), "--proxy", proxy)
    assert bad.returncode == 1
    for said in ("broken.yaml:", "typo.yaml:9", "'http'", "none.yaml"):
        assert said in bad.stderr, bad.stderr
    assert json.loads(bad.stdout)["clusters"] == out["clusters"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("type: sidecra\n", "proxy.yaml:1"),
        ("type: sidecar\nnamespcae: shop\n", "proxy.yaml:2"),
        ("type: [\n", "proxy.yaml:"),
        ("ips: 3\n", "proxy.yaml:1"),
        ("a: 1\n---\nb: 2\n", "expected one document, found 2"),
        ("", "expected one document, found 0"),
        ("- sidecar\n", "proxy.yaml"),
        ("just words\n", "proxy.yaml"),
        ("capture: {mode: magic}\n", "proxy.yaml:1"),
    ],
)
def test_a_bad_proxy_file(tmp_path: Path, text: str, said: str) -> None:
    files(tmp_path, proxy=text, good=yaml.safe_dump(SERVICE))
    done = run("compile", "-f", str(tmp_path / "good.yaml"), "--proxy", str(tmp_path / "proxy.yaml"))
    assert done.returncode == 1 and said in done.stderr and not done.stdout, done.stderr


def test_compile_without_files(tmp_path: Path) -> None:
    files(tmp_path, proxy=PROXY)
    assert run("compile", "-f", str(tmp_path / "x.yaml"), "--proxy", str(tmp_path / "no.yaml")).returncode == 1
    assert run("compile", "--proxy", str(tmp_path / "proxy.yaml")).returncode == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["serve", "--api-port", "99999"], "99999"),
        (["serve", "--service-range", "10.0.0.0/99"], "--service-range"),
        (["serve", "--ca-cert", __file__], "--ca-cert and --ca-key"),
        (["serve", "--ca-cert", __file__, "--ca-key", __file__], "holds no PEM certificates"),
        (["serve", "--host", "203.0.113.9", "--api-port", "0"], "203.0.113.9"),
        (["token", "create", "--ttl", "soon"], "--ttl"),
        (["token", "create", "--ttl", "-5s"], "--ttl"),
        (["proxy-config", "routes", "../../etc"], "not a proxy's name"),
    ],
)
def test_wrong_usage_says_what(tmp_path: Path, arguments: list[str], said: str) -> None:
    state = tmp_path / "state"
    done = run(*arguments, "--state", str(state))
    assert done.returncode in (1, 2) and said in done.stderr, done.stderr
