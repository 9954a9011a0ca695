"""`fairlead diff` of files alone: two sides, with all workloads and gateways that they define."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from fairlead.cli.main import cli
from tests.controlplane.running_plane import entry, obj, routes, service

Json = dict[str, Any]
GATEWAY = obj(
    "Gateway",
    "front",
    spec={
        "selector": {"istio": "edge"},
        "servers": [{"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}],
    },
)
MESH = (
    obj("Namespace", "shop"),
    service("cart"),
    service("web"),
    entry("cart-1", "cart", "10.0.0.1", "cart"),
    entry("web-1", "web", "10.0.0.2"),
    routes("cart"),
)


def write(directory: Path, name: str, *documents: Json) -> str:
    directory.mkdir(exist_ok=True)
    (directory / name).write_text(yaml.safe_dump_all(documents))
    return str(directory / name)


def diff(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(cli, ["diff", *arguments])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


def test_two_directories(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    write(old, "mesh.yaml", *MESH)
    write(old, "more.yaml", obj("PeerAuthentication", "default", spec={"mtls": {"mode": "STRICT"}}))
    write(new, "all.yaml", *MESH[:-1], routes("cart", "/v2"))
    code, text = diff("--from", str(old), "--to", str(new))
    assert code == 4 and "2 proxies in shop: cart-1, web-1" in text, text
    assert "with path /v2* now" in text
    assert "FL3803 filter chain: port 9080 takes plaintext, too" in text  # what only one side has goes
    assert f"by PeerAuthentication shop/default  ({old}/more.yaml:1:1)" in text, text
    assert diff("--from", str(old), "--to", str(old)) == (0, "No proxy gets anything else.\n")


def test_workloads_and_gateways_of_the_change_are_proxies_too(tmp_path: Path) -> None:
    old = write(tmp_path, "old.yaml", *MESH)
    change = write(tmp_path, "change.yaml", entry("cart-2", "cart", "10.0.0.3", "cart"), GATEWAY)
    code, text = diff("--from", old, "-f", change, "-n", "shop")
    assert code == 3, text
    assert "2 proxies in shop: cart-1, web-1" in text and "endpoint 10.0.0.3:9080 added" in text
    assert "new: 2 proxies in shop: cart-2, " in text, text
    both = write(tmp_path, "both.yaml", *MESH, entry("cart-2", "cart", "10.0.0.3", "cart"), GATEWAY)
    code, text = diff("--from", both, "-f", change, "-n", "shop", "--delete", "-o", "json")
    found = json.loads(text)
    assert found["gone"]["count"] == 2 and "new" not in found


def test_a_proxy_is_compared_with_itself_whatever_its_labels(tmp_path: Path) -> None:
    rule = obj(
        "AuthorizationPolicy",
        "cart",
        version="security.istio.io/v1",
        spec={"selector": {"matchLabels": {"app": "cart"}}},
    )
    old = write(tmp_path, "old.yaml", *MESH, rule)
    moved = entry("web-1", "cart", "10.0.0.2")
    code, text = diff("--from", old, "-f", write(tmp_path, "change.yaml", moved), "-n", "shop")
    assert code == 4 and "what no ALLOW rule names is denied from now on" in text, text


def test_services_keep_the_addresses_that_they_are_given(tmp_path: Path) -> None:
    old = write(tmp_path, "old.yaml", *MESH)
    change = write(tmp_path, "change.yaml", service("aaa"))
    code, text = diff("--from", old, "-f", change, "-n", "shop")
    assert code == 3 and "aaa.shop:9080 can be called" in text, text
    assert "cart.shop:9080:" not in text and "drain" not in text, text


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write(tmp_path / "mesh", "all.yaml", *MESH)
    who = ["-c", "user.name=t", "-c", "user.email=t@example.com"]
    for arguments in (["init", "-q"], ["add", "."], [*who, "commit", "-q", "-m", "mesh"]):
        subprocess.run(["git", *arguments], cwd=tmp_path, check=True, timeout=30)
    write(tmp_path / "mesh", "all.yaml", *MESH[:-1], routes("cart", "/v2"))
    monkeypatch.chdir(tmp_path / "mesh")
    return tmp_path


@pytest.mark.parametrize("given", ["HEAD:mesh", "HEAD:mesh/all.yaml", "HEAD:./", "HEAD:./all.yaml"])
def test_a_revision_of_git(repository: Path, given: str) -> None:
    code, text = diff("--from", given, "--to", str(repository / "mesh"))
    assert code == 3 and "with path /v2* now" in text, text


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--from", "HEAD:nothing", "--to", "."], 1, "error: there is no such file, and git says: "),
        (["--from", "nothing:mesh", "--to", "."], 1, "error: there is no such file, and git says: "),
        (["--from", "nowhere", "--to", "."], 1, "there is no such file or directory"),
        (["--to", "."], 2, "name all there is before with --from"),
        (["--from", ".", "--to", ".", "-f", "all.yaml"], 2, "name the change"),
        (["--from", ".", "--to", ".", "--delete"], 2, "leave out --delete"),
    ],
)
def test_what_cannot_be_compared(repository: Path, arguments: list[str], status: int, said: str) -> None:
    code, text = diff(*arguments)
    assert (code, said in text) == (status, True), text


def test_errors_of_either_side_have_a_place(tmp_path: Path) -> None:
    good = write(tmp_path, "good.yaml", *MESH)
    bad = write(tmp_path, "bad.yaml", obj("VirtualService", "x", spec={"hosts": ["a"], "htp": []}))
    for arguments in (("--from", good, "--to", bad), ("--from", bad, "--to", good), ("--from", good, "-f", bad)):
        code, text = diff(*arguments)
        assert code == 1 and "bad.yaml:" in text and "FL0003" in text, text
