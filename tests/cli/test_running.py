"""Commands against a running control plane and real Envoys."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import pty
import shutil
import signal
import struct
import subprocess
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from fairlead.node.ends import ends
from tests.loopback import free_port, network

from .running_mesh import (
    ENTRY,
    FAIRLEAD,
    NAMESPACE,
    SERVICE,
    Mesh,
    environment,
    gateway,
    process,
    routes,
    run,
    until,
)

pytestmark = pytest.mark.e2e
_CONFIGS = ("listeners", "routes", "clusters", "endpoints", "secrets", "bootstrap")


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    made = Mesh(tmp_path_factory.mktemp("mesh"))
    with made.serve():
        made.apply(
            NAMESPACE,
            SERVICE,
            ENTRY,
            gateway("edge", free_port()),
            gateway("inner", free_port()),
            routes("cart", ["edge", "inner"], "/a.*"),
            routes("web", ["edge"], "/b.*"),
        )
        with made.gateway("edge"), made.gateway("inner"):
            yield made


def test_what_only_envoy_refuses_is_marked_and_hurts_nothing_else(mesh: Mesh) -> None:
    for name in ("cart", "web"):
        until(lambda name=name: mesh.condition("vs", name).get("status") == "True", f"{name} programmed")
    assert mesh.run("proxy-status").returncode == 0
    # RE2 knows no such property; our own check does not know that.
    mesh.apply(routes("cart", ["edge"], "/\\p{Foo}.*"))
    said = until(lambda: (at := mesh.condition("vs", "cart")).get("status") == "False" and at, "marked")
    assert said["reason"] == "RefusedByProxy" and said["observedGeneration"] == 2
    assert "edge.shop refused RouteConfiguration http." in said["message"] and "Foo" in said["message"]
    found = mesh.run("proxy-status")
    assert found.returncode == 1
    assert "NACKED" in next(line for line in found.stdout.splitlines() if line.startswith("edge.shop"))
    assert "NACKED" not in next(line for line in found.stdout.splitlines() if line.startswith("inner.shop"))
    assert "edge.shop refused RDS http." in found.stderr and "Foo" in found.stderr
    one = mesh.run("proxy-status", "edge")
    assert one.returncode == 1 and "Foo" in one.stdout
    told = mesh.run("changed", "--kind", "nack", "--proxy", "edge.shop")
    assert "RouteConfiguration http." in told.stdout and "Foo" in told.stdout
    made = json.loads(mesh.run("history", "vs/cart", "-n", "shop", "--limit", "1", "-o", "json").stdout)[0]
    shown = until(lambda: "refused by 1" in (at := mesh.run("show", str(made["revision"])).stdout) and at, "who has it")
    assert "edge.shop refused RouteConfiguration" in shown and "Foo" in shown
    # The last good routes stay, and other objects and proxies go on.
    held = mesh.run("proxy-config", "routes", "edge.shop")
    assert "/a.*" in held.stdout and "Foo" not in held.stdout
    mesh.apply(routes("more", ["inner"], "/c.*"))
    until(lambda: mesh.condition("vs", "more").get("status") == "True", "others proceed")
    assert mesh.condition("vs", "web")["status"] == "True"
    mesh.apply(routes("cart", ["edge"], "/mended.*"))
    until(lambda: mesh.condition("vs", "cart").get("status") == "True", "mended")
    until(lambda: mesh.run("proxy-status").returncode == 0, "all in sync")
    assert "/mended.*" in mesh.run("proxy-config", "routes", "edge.shop").stdout


def test_a_garbage_certificate_is_said_on_the_gateway_that_names_it(mesh: Mesh) -> None:
    garbage = base64.b64encode(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").decode()
    mesh.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "bad-cert", "namespace": "shop"},
            "type": "Opaque",
            "data": {"cert": garbage, "key": garbage},
        },
        gateway("edge", port := free_port(), credentialName="bad-cert"),
    )
    said = until(lambda: (at := mesh.condition("gateway", "edge")).get("status") == "False" and at, "marked")
    assert "refused Secret kubernetes://bad-cert" in said["message"], said
    assert mesh.condition("gateway", "inner")["status"] == "True"
    mesh.apply(gateway("edge", port))
    until(lambda: mesh.condition("gateway", "edge").get("status") == "True", "mended")
    # Envoy shows its routes as long as the listener that was replaced drains.
    until(lambda: f"https.{port}." not in mesh.run("proxy-config", "routes", "edge").stdout, "the old listener is gone")


def test_kubectl_waits_for_programmed(mesh: Mesh) -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("there is no kubectl")
    mesh.apply(routes("waited", ["edge"], "/w.*"))
    wanted = [kubectl, "--kubeconfig", str(mesh.state / "kubeconfig"), "wait", "-n", "shop", "--timeout=20s"]
    done = subprocess.run(
        [*wanted, "--for=condition=Programmed", "vs/waited"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("what", _CONFIGS)
def test_proxy_config(mesh: Mesh, what: str) -> None:
    table = mesh.run("proxy-config", what, "edge.shop")
    assert table.returncode == 0 and not table.stderr, table.stderr
    assert len(table.stdout.splitlines()) > 1
    for form, load in (("json", json.loads), ("yaml", yaml.safe_load)):
        first = mesh.run("proxy-config", what, "edge", "-o", form)
        assert first.returncode == 0
        assert load(first.stdout) and first.stdout == mesh.run("proxy-config", what, "edge", "-o", form).stdout
    assert "PRIVATE KEY" not in mesh.run("proxy-config", "all", "edge").stdout


def test_proxy_config_of_some_and_its_loggers(mesh: Mesh) -> None:
    every = mesh.run("pc", "c", "edge").stdout.splitlines()
    some = mesh.run("pc", "cluster", "edge", "--fqdn", every[1].split()[0]).stdout
    assert 1 < len(some.splitlines()) <= len(every), some
    none = mesh.run("proxy-config", "clusters", "edge", "--port", "1", "-o", "json")
    assert json.loads(none.stdout) == []
    assert "none of its clusters is like that" in mesh.run("proxy-config", "clusters", "edge", "--port", "1").stderr
    mesh.run("proxy-config", "log", "edge", "--level", "rbac:debug")
    levels = dict(line.split() for line in mesh.run("proxy-config", "log", "edge").stdout.splitlines())
    assert (levels["rbac"], levels["router"]) == ("debug", "warning"), levels
    wrong = mesh.run("proxy-config", "log", "edge", "--level", "rbak:debug")
    assert wrong.returncode == 2 and "did you mean 'rbac'?" in wrong.stderr


def test_a_proxy_elsewhere_is_shown_as_the_control_plane_has_it(mesh: Mesh, tmp_path: Path) -> None:
    config = mesh.state / "kubeconfig"
    for what in ("listeners", "routes", "clusters", "endpoints"):
        here = mesh.run("proxy-config", what, "edge.shop")
        far = run("proxy-config", what, "edge.shop", "--state", str(tmp_path), "--kubeconfig", str(config))
        assert far.returncode == 0, far.stderr
        assert "not on this host" in far.stderr and "control plane" in far.stderr
        rows = set(far.stdout.splitlines())
        if what == "routes":
            assert {line.split()[-1] for line in rows} >= {"web.shop", "cart.shop"}, rows
        assert any(line in here.stdout for line in rows)
    for what in ("secrets", "bootstrap"):
        far = run("proxy-config", what, "edge.shop", "--state", str(tmp_path), "--kubeconfig", str(config))
        assert far.returncode == 1 and "only its own Envoy" in far.stderr, far.stderr
    wrong = run("proxy-config", "routes", "nobody", "--state", str(tmp_path), "--kubeconfig", str(config))
    assert wrong.returncode == 1 and "'nobody'" in wrong.stderr


def test_tables_fit_a_terminal_of_80_columns(mesh: Mesh) -> None:
    for arguments in (
        ["proxy-status"],
        ["history"],
        ["changed"],
        *(["proxy-config", what, "edge"] for what in _CONFIGS),
    ):
        shown = _on_a_terminal([*FAIRLEAD, *arguments, "--state", str(mesh.state)], 80)
        lines = shown.replace("\r", "").splitlines()
        assert lines and all(len(line) <= 80 for line in lines), shown
        assert "…" not in shown, "nothing is cut off"
        first = next(line for line in lines if line.strip())
        assert first.split()[0] in ("NAME", "REV", "TIME", "ADDRESS", "SERVICE", "ENDPOINT", "RESOURCE", "NODE"), shown


def _on_a_terminal(command: list[str], columns: int) -> str:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    env = environment(TERM="dumb", NO_COLOR="1")
    env.pop("COLUMNS", None)
    with subprocess.Popen(command, stdout=theirs, stderr=subprocess.DEVNULL, env=env) as made:
        os.close(theirs)
        out = b""
        try:
            while data := os.read(ours, 65536):
                out += data
        except OSError:
            pass
        made.wait(20)
    os.close(ours)
    return out.decode()


def test_ctrl_c_leaves_nothing(tmp_path: Path) -> None:
    mesh = Mesh(tmp_path)
    for number in (signal.SIGINT, signal.SIGHUP):
        with mesh.serve() as made:
            made.send_signal(number)
            assert made.wait(15) == 0
        assert "Traceback" not in mesh.log.read_text()
    block = f"{network()}.0.0/16"
    ports = ("--api-port", "0", "--xds-port", "0", "--join-port", "0", "--loopback", block)
    log = tmp_path / "up.log"
    with process(log, "up", "--state", str(mesh.state), *ports) as made:
        until(lambda: mesh.status("istio-ingressgateway-0"), "the gateway is connected", 60)
        made.send_signal(signal.SIGINT)
        assert made.wait(40) == 0, log.read_text()
    assert "Traceback" not in log.read_text()

    def left() -> str:
        return subprocess.run(["pgrep", "-fa", str(mesh.state)], capture_output=True, text=True, check=False).stdout

    assert not left(), left()


def test_what_nohup_starts_outlives_its_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(signal, "getsignal", lambda _: signal.SIG_DFL)
        assert ends() == (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    with monkeypatch.context() as patched:
        patched.setattr(signal, "getsignal", lambda _: signal.SIG_IGN)
        assert ends() == (signal.SIGINT, signal.SIGTERM)


def test_one_line_and_the_remedy_when_something_is_in_the_way(mesh: Mesh, tmp_path: Path) -> None:
    asked = (
        ("proxy-status",),
        ("get", "vs"),
        ("token", "create"),
        ("apply", "-f", "-"),
        ("proxy-config", "routes", "edge"),
    )
    wrong = tmp_path / "wrong"
    other = Mesh(tmp_path)
    with other.serve():
        text = (mesh.state / "kubeconfig").read_text()
        mine = json.loads(text)
        mine["clusters"][0]["cluster"]["certificate-authority-data"] = json.loads(
            (other.state / "kubeconfig").read_text()
        )["clusters"][0]["cluster"]["certificate-authority-data"]
        wrong.write_text(json.dumps(mine))
        # Ports and the directory that are taken.
        api = json.loads((mesh.state / "endpoints.json").read_text())["api"].rpartition(":")[2]
        taken = run("serve", "--state", str(tmp_path / "new"), "--api-port", api, "--xds-port", "0", "--join-port", "0")
        assert taken.returncode == 1 and f"127.0.0.1:{api}" in taken.stderr and taken.stderr.count("\n") == 1
        second = run("serve", "--state", str(other.state), "--api-port", "0")
        assert second.returncode == 1 and "in use by another control plane" in second.stderr
    for name, kubeconfig, said in (
        ("wrong CA", wrong, "is not the server that the kubeconfig trusts"),
        ("down", other.state / "kubeconfig", "Is the control plane running?"),
        ("missing", tmp_path / "none", "there is no kubeconfig"),
    ):
        for command in asked:
            stdin = yaml.safe_dump(NAMESPACE) if command[0] == "apply" else ""
            extra = ("--state", str(tmp_path / "nowhere")) if command[0] == "proxy-config" else ()
            done = run(*command, *extra, "--kubeconfig", str(kubeconfig), stdin=stdin)
            assert done.returncode == 1, (name, command)
            assert said in done.stderr and done.stderr.count("\n") == 1, (name, command, done.stderr)
    # A file where the directory should be, and a store that is none.
    (tmp_path / "file").write_text("x")
    blocked = run("serve", "--state", str(tmp_path / "file" / "state"))
    assert blocked.returncode == 1 and "--state DIR" in blocked.stderr and blocked.stderr.count("\n") == 1
    broken = tmp_path / "broken"
    broken.mkdir(mode=0o700)
    (broken / "store.db").write_bytes(b"this is no database" * 100)
    corrupt = run("serve", "--state", str(broken), "--api-port", "0", "--xds-port", "0", "--join-port", "0")
    assert corrupt.returncode == 1 and "store.db" in corrupt.stderr and corrupt.stderr.count("\n") == 1, corrupt.stderr
