"""`fairlead serve` and `fairlead agent` as processes, and commands against them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml
from click.testing import CliRunner

from fairlead.cli.main import cli
from tests.loopback import free_port

Json = dict[str, Any]
FAIRLEAD = (sys.executable, "-m", "fairlead.cli.main")


def environment(**more: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key not in ("KUBECONFIG", "FAIRLEAD_DEBUG")}
    return {**kept, "PYTHONPATH": os.pathsep.join(sys.path), **more}


def run(*arguments: str, stdin: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    """A command to its end; no command may ever show a traceback."""
    done = subprocess.run(
        [*FAIRLEAD, *arguments],
        input=stdin,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(**env),
    )
    assert "Traceback" not in done.stdout + done.stderr, done.stderr
    assert "defect in Fairlead" not in done.stderr, done.stderr
    return done


def until(condition: Callable[[], Any], what: str, seconds: float = 30) -> Any:
    end = time.monotonic() + seconds
    said: object = None
    while time.monotonic() < end:
        try:
            value = condition()
        except AssertionError as error:
            value, said = None, error
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"not in {seconds} s: {what} {said or ''}")


@contextlib.contextmanager
def process(log: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as out:
        made = subprocess.Popen([*FAIRLEAD, *arguments], stdout=out, stderr=out, env=environment())
    try:
        yield made
    finally:
        if made.poll() is None:
            made.send_signal(signal.SIGTERM)
            try:
                made.wait(20)
            except subprocess.TimeoutExpired:
                made.kill()
                made.wait()


class Mesh:
    """A control plane's state directory, and gateways that run beside it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.state = directory / "state"
        self.log = directory / "serve.log"

    def run(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """A command to its end, in this process: what is asked again and again need not be loaded each time."""
        runner = CliRunner(env={"KUBECONFIG": None, "FAIRLEAD_DEBUG": None})
        done = runner.invoke(cli, [*arguments, "--state", str(self.state)], input=stdin, prog_name="fairlead")
        assert done.exception is None or isinstance(done.exception, SystemExit), (arguments, done.exc_info)
        return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)

    def apply(self, *documents: Json) -> None:
        done = self.run("apply", "-f", "-", stdin=yaml.safe_dump_all(documents))
        assert done.returncode == 0, done.stderr

    def status(self, name: str) -> Json:
        found = json.loads(self.run("proxy-status", "-o", "json").stdout or "[]")
        return next((one for one in found if one["name"] == name), {})

    def synced(self, name: str) -> bool:
        found = self.status(name)
        return (
            bool(found)
            and all(one["state"] in ("SYNCED", "NOT SENT") for one in found["types"].values())
            and found["types"]["LDS"]["state"] == "SYNCED"
        )

    def condition(self, kind: str, name: str) -> Json:
        done = self.run("get", kind, name, "-n", "shop", "-o", "json")
        listed = (json.loads(done.stdout).get("status") or {}).get("conditions") or []
        return next((one for one in listed if one["type"] == "Programmed"), {})

    @contextlib.contextmanager
    def serve(self) -> Iterator[subprocess.Popen[bytes]]:
        ports = ("--api-port", "0", "--xds-port", "0", "--join-port", "0")
        with process(self.log, "serve", "--state", str(self.state), *ports) as made:
            until(lambda: made.poll() is not None or b"kubectl --kubeconfig" in self.log.read_bytes(), "serving")
            assert made.poll() is None, self.log.read_text()
            yield made

    @contextlib.contextmanager
    def gateway(self, name: str) -> Iterator[subprocess.Popen[bytes]]:
        """An agent with an Envoy that Gateways select by `istio: NAME`."""
        made = self.run("token", "create", "-n", "shop", "--ttl", "10m")
        assert made.returncode == 0, made.stderr
        token = self.directory / f"{name}.token"
        token.write_text(made.stdout.strip())
        endpoints = json.loads((self.state / "endpoints.json").read_text())
        config: Json = {
            "name": name,
            "namespace": "shop",
            "service_account": "default",
            "directory": str(self.state / "node" / "shop" / name),
            "xds_address": endpoints["xds"],
            "join_address": endpoints["join"],
            "root_cert_file": str(self.state / "ca" / "root-cert.pem"),
            "token_file": str(token),
            "proxy_type": "router",
            "labels": {"istio": name},
            "status_port": free_port(),
            "drain_seconds": 0.2,
        }
        (self.state / "node" / "shop").mkdir(parents=True, exist_ok=True)
        file = self.directory / f"{name}.json"
        file.write_text(json.dumps(config))
        with process(self.directory / f"{name}.log", "agent", "--config", str(file)) as agent:
            until(lambda: self.synced(name), f"{name} in sync")
            yield agent


def gateway(name: str, port: int, **tls: Any) -> Json:
    server: Json = {"port": {"number": port, "name": "web", "protocol": "HTTPS" if tls else "HTTP"}, "hosts": ["*"]}
    if tls:
        server["tls"] = {"mode": "SIMPLE", **tls}
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "Gateway",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"selector": {"istio": name}, "servers": [server]},
    }


def routes(name: str, gateways: list[str], regex: str) -> Json:
    rule = {"match": [{"uri": {"regex": regex}}], "directResponse": {"status": 200, "body": {"string": name}}}
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"hosts": [f"{name}.example.com"], "gateways": gateways, "http": [rule]},
    }


NAMESPACE: Json = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}
SERVICE: Json = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "cart", "namespace": "shop"},
    "spec": {"selector": {"app": "cart"}, "ports": [{"port": 9080, "name": "http"}]},
}
ENTRY: Json = {
    "apiVersion": "networking.istio.io/v1",
    "kind": "WorkloadEntry",
    "metadata": {"name": "cart-0", "namespace": "shop"},
    "spec": {"address": "127.0.0.1", "labels": {"app": "cart"}, "ports": {"http": 9}},
}
