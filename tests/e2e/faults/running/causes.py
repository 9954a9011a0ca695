"""What makes each fault of a running mesh: context managers by the fault's name. They end it where commands do not."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from tests.e2e.faults.running.case import Running
from tests.e2e.faults.running.live import EDIT, Live

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
