"""What makes each fault of a running mesh: context managers by the fault's name. They end it where commands do not."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from fairlead.agent.bootstrap import PROBE_ADDRESS, PROBE_PORT
from fairlead.model.launch import Capture
from fairlead.node.capture.namespace import Namespaces
from tests.e2e.faults.running.case import Running
from tests.e2e.faults.running.live import EDIT, Live
from tests.e2e.mesh import environment, eventually

Cause = Callable[[Live, Running], AbstractContextManager[None]]


def of(fault: Running) -> Cause:
    """The cause of a fault; without one of its own, the files alone are the fault."""
    found: Cause = globals().get(fault.name.replace("-", "_"), files_alone)
    return found


@contextlib.contextmanager
def files_alone(live: Live, fault: Running) -> Iterator[None]:
    """The files are applied; an edit is there and is not."""
    if fault.edit:
        Path(EDIT).write_text(fault.edit)
    done = live.apply(fault.files)
    assert done.exit_code == 0, done.output
    yield


@contextlib.contextmanager
def port_taken(live: Live, fault: Running) -> Iterator[None]:
    """Something else listens at the gateway's address and port."""
    with socket.socket() as taken:
        taken.bind((live.mesh.workloads["gateway"].address, 8443))
        taken.listen()
        with files_alone(live, fault):
            yield


@contextlib.contextmanager
def proxy_stands_still(live: Live, fault: Running) -> Iterator[None]:
    """An Envoy is stopped (SIGSTOP) before the files are applied, and goes on at the end."""
    pid = int(live.mesh.workloads["reviews-v1"].status()["pid_envoy"])
    os.kill(pid, signal.SIGSTOP)
    try:
        with files_alone(live, fault):
            yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextlib.contextmanager
def _reporting(live: Live, **wrong: object) -> Iterator[None]:
    """What web's agent reports is this."""
    config = live.mesh.workloads["web"].directory / "agent.json"
    command = [sys.executable, "-m", "tests.e2e.faults.running.reporting", str(config), json.dumps(wrong)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, env=environment()) as reporting:
        yield
        assert reporting.stdin is not None
        reporting.stdin.close()
        assert reporting.wait(20) == 0


def clock_skew(live: Live, _: Running) -> AbstractContextManager[None]:
    """An agent reports a clock that is ten minutes late."""
    return _reporting(live, late=600)


def certificate_not_renewed(live: Live, _: Running) -> AbstractContextManager[None]:
    """An agent reports that it cannot renew its certificate, which has half an hour left."""
    return _reporting(live, unrenewed="[Errno 28] No space left on device: identity.pem", left=1800)


@contextlib.contextmanager
def capture_rules_gone(live: Live, _: Running) -> Iterator[None]:
    """A workload runs in a network namespace, and somebody removes the rules in it."""
    mesh = live.mesh
    namespaces = Namespaces(mesh.directory, str(mesh.block.network))
    refused = asyncio.run(namespaces.refused())
    if refused:
        pytest.skip(f"no network namespaces here: {refused}")
    name = namespaces.name("shop", "ledger-0")
    asyncio.run(namespaces.create(name))
    workload = mesh.add(
        "ledger-0", namespace="shop", labels={"app": "ledger"}, capture=Capture("netns", netns=namespaces.path(name))
    )
    # Its application has no proxy to dial, so that it cannot be asked for marks.
    del mesh.workloads["ledger-0"]
    try:
        mesh.start(workload)
        eventually(lambda: workload.stat(_PROBED) > 0, "the agent tries whether the proxy is reached")
        assert not mesh.plane.api.request("GET", "/fairlead/v1/agents")["ailing"]
        subprocess.run([sys.executable, "-c", _FLUSH, name], check=True, timeout=30)
        yield
    finally:
        if workload.process is not None:
            workload.process.popen.send_signal(signal.SIGINT)  # the second one makes it end without draining
        workload.stop(signal.SIGINT)
        mesh.plane.api.delete(workload.entry())
        asyncio.run(namespaces.remove(name))


_PROBED = f"listener.{PROBE_ADDRESS}_{PROBE_PORT}.downstream_cx_total"
_FLUSH = """
import sys
from pyroute2 import netns
from pyroute2.nftables.main import NFTables
netns.setns(sys.argv[1])
with NFTables() as nft:
    nft.table("del", name="fairlead")
"""


@contextlib.contextmanager
def bad_edit(live: Live, fault: Running) -> Iterator[None]:
    """A good object is applied, then an edit of it."""
    done = live.apply(fault.files, "reviews.yaml", "-m", "the first instance is the stable one")
    assert done.exit_code == 0, done.output
    done = live.apply(fault.edit, EDIT, "-m", "half of it for the canary")
    assert done.exit_code == 0, done.output
    found = json.loads(live.run("history virtualservice/reviews -n shop -o json").stdout)
    first, last = found[1]["revision"], found[0]["revision"]
    live.values |= {"REV": str(last)}
    live.shown |= {str(last): "412", str(first): "397", str(last + 1): "413", str(last + 2): "413"}
    yield
