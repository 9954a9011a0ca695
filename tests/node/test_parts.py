"""Addresses, expansion, kubeconfig, files, logs and host processes."""

from __future__ import annotations

import asyncio
import base64
import os
import signal
import sys
from pathlib import Path

import pytest
import yaml

from fairlead.node.addresses import AddressError, Block
from fairlead.node.expand import environment, expand
from fairlead.node.files import KEEP_LOGS, NodeFiles, Record
from fairlead.node.hostprocess import HostProcess, describe_exit, identify
from fairlead.node.kubeconfig import KubeconfigError, read_kubeconfig
from fairlead.node.location import LocationError, find_mesh
from fairlead.node.logs import follow, last_lines


def test_addresses_have_equal_low_bits_in_three_quarters() -> None:
    one = Block("127.66.0.0/16").addresses(5)
    assert (one.workload, one.application, one.outbound) == ("127.66.0.5", "127.66.64.5", "127.66.128.5")


def test_addresses_are_kept_and_only_then_taken_back() -> None:
    block = Block("127.66.0.0/26")
    given: dict[str, int] = {}
    for at in range(15):
        given = block.allocate(given, f"n/{at}", given)
    assert block.allocate(given, "n/3", given) == given
    assert block.allocate(given, "n/new", set(given) - {"n/7"})["n/new"] == given["n/7"]
    with pytest.raises(AddressError, match="used up"):
        block.allocate(given, "n/new", given)


@pytest.mark.parametrize("block", ["10.0.0.0/16", "127.66.0.0/30", "nonsense", "127.66.0.1/16"])
def test_unusable_blocks_are_refused(block: str) -> None:
    with pytest.raises(AddressError, match="loopback block"):
        Block(block)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("$(A)", "1"), ("x$(A)y$(A)", "x1y1"), ("$(B)", "$(B)"), ("$$(A)", "$(A)"), ("$A $", "$A $"), ("$$$(A)", "$1")],
)
def test_expansion_is_kubernetes_own(text: str, expected: str) -> None:
    assert expand(text, {"A": "1"}) == expected


def test_variables_see_what_stands_before_them() -> None:
    assert environment({"A": "1"}, [("B", "$(A)$(C)"), ("C", "$(B)")]) == {"A": "1", "B": "1$(C)", "C": "1$(C)"}


def kubeconfig(path: Path, **user: str) -> Path:
    cluster = {"server": "https://127.0.0.1:16443/", "certificate-authority-data": base64.b64encode(b"CA").decode()}
    path.write_text(
        yaml.safe_dump(
            {
                "current-context": "c",
                "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
                "clusters": [{"name": "k", "cluster": cluster}],
                "users": [{"name": "u", "user": user}],
            }
        )
    )
    return path


def test_kubeconfig(tmp_path: Path) -> None:
    access = read_kubeconfig(kubeconfig(tmp_path / "config", token="secret"))
    assert (access.server, access.ca, access.token) == ("https://127.0.0.1:16443", b"CA", "secret")
    assert "secret" not in repr(access)
    (tmp_path / "t").write_text("from file\n")
    assert read_kubeconfig(kubeconfig(tmp_path / "config", tokenFile="t"), "https://x/").token == "from file"
    for text in ("", "{", "current-context: c\ncontexts: []", "[]"):
        (tmp_path / "bad").write_text(text)
        with pytest.raises(KubeconfigError, match="bad: "):
            read_kubeconfig(tmp_path / "bad")
    with pytest.raises(KubeconfigError, match="No such file"):
        read_kubeconfig(tmp_path / "absent")


def test_the_mesh_is_found_by_its_state_directory(tmp_path: Path) -> None:
    with pytest.raises(LocationError, match=r"endpoints\.json: No such file"):
        find_mesh(tmp_path)
    (tmp_path / "endpoints.json").write_text('{"api": "https://a", "xds": "h:1", "join": "h:2"}')
    with pytest.raises(LocationError, match="root-cert"):
        find_mesh(tmp_path)
    (tmp_path / "ca").mkdir()
    (tmp_path / "ca/root-cert.pem").write_text("PEM")
    mesh = find_mesh(tmp_path, join="other:3")
    assert (mesh.xds_address, mesh.join_address) == ("h:1", "other:3")


def test_files_of_a_replica(tmp_path: Path) -> None:
    files = NodeFiles(tmp_path)
    directory = files.make_directory("shop", "web-0")
    record = Record("shop", "web", 0, "t", restarts=2)
    files.save(record)
    (directory / "app.log").write_text("kept")
    (directory / "config").mkdir()
    assert files.records() == [record]
    files.clear("shop", "web-0")
    assert [one.name for one in directory.iterdir()] == ["app.log"]
    files.prune(set())
    assert directory.exists()
    os.utime(directory / "app.log", (1, 1))
    files.prune({("shop", "web-0")})
    assert directory.exists()
    files.prune(set(), KEEP_LOGS + 10)
    assert not directory.exists()


def test_logs_are_bounded_and_read_over_their_files(tmp_path: Path) -> None:
    files = NodeFiles(tmp_path)
    directory = files.make_directory("shop", "web-0")
    log = directory / "proxy.log"
    log.write_bytes(b"".join(b"line %d\n" % number for number in range(100)))
    files.rotate_logs(500)
    with log.open("ab") as writer:
        writer.write(b"newer\n")
    assert log.stat().st_size == 6
    assert list(last_lines(log, 2)) == [b"line 99\n", b"newer\n"]
    assert len(list(last_lines(log, None))) == 101
    assert list(last_lines(log, 0)) == []


def test_following_survives_rotation(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_text("old\n")
    steps = iter(
        [
            lambda: log.write_text("old\nnew\n"),
            lambda: log.replace(tmp_path / "app.log.1"),
            lambda: log.write_text("again\n"),
        ]
    )
    left = [5]

    def going() -> bool:
        step = next(steps, None)
        if step is None:
            left[0] -= 1
            return left[0] > 0
        step()
        return True

    assert b"".join(follow(log, going, 0.01)) == b"new\nagain\n"


def test_a_process_is_recognised_by_more_than_its_pid(tmp_path: Path) -> None:
    async def check() -> None:
        command = [sys.executable, "-c", "import time; time.sleep(60)"]
        host = HostProcess.start(command, os.environ, tmp_path / "log")
        adopted = HostProcess.adopt(host.identity)
        assert adopted is not None and adopted.alive()
        other = type(host.identity)(host.identity.pid, host.identity.started - 1, host.identity.boot)
        assert HostProcess.adopt(other) is None
        waiting = asyncio.create_task(host.wait())
        host.terminate()
        assert await waiting == -signal.SIGTERM
        assert await adopted.wait() is None
        assert identify(host.identity.pid) is None

    asyncio.run(check())
    assert [describe_exit(one) for one in (3, -9, None)] == ["exit 3", "signal SIGKILL", "ended unseen"]
