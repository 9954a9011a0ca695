"""The control plane is killed at random moments during 1,000 writes: every acknowledged write is found."""

from __future__ import annotations

import http.client
import random
import signal
import threading
from pathlib import Path

import pytest

from .mesh import ControlPlane, Refused

pytestmark = pytest.mark.e2e

WRITES = 1000
ROUNDS = 5
PATH = "/api/v1/namespaces/default/configmaps"


# The TLS of Python leaves a socket to be collected where the other side is killed between connecting and shaking hands.
@pytest.mark.filterwarnings("ignore:Exception ignored in. <ssl.SSLSocket:pytest.PytestUnraisableExceptionWarning")
def test_every_acknowledged_write_is_found(tmp_path: Path) -> None:
    moments = random.Random(20261123)
    plane = ControlPlane(tmp_path)
    acknowledged: dict[str, str] = {}
    number = 0
    kills = 0
    try:
        for at in range(ROUNDS):
            plane.start()
            process = plane.process
            assert process is not None
            # All writes take about a second together: the axe falls somewhere in between.
            axe = threading.Timer(moments.uniform(0.02, 0.2), process.stop, (signal.SIGKILL,))
            if at < ROUNDS - 1:
                axe.start()
            while number < WRITES:
                number += 1
                name = f"write-{number}"
                body = {"metadata": {"name": name}, "data": {"number": str(number)}}
                try:
                    made = plane.api.request("POST", PATH, body)
                except (OSError, http.client.HTTPException):
                    kills += 1
                    break
                except Refused as refused:
                    # The request was sent twice, because its first answer was lost with the connection.
                    assert refused.code == 409, refused
                    continue
                acknowledged[name] = made["metadata"]["resourceVersion"]
            axe.cancel()
            plane.api.close()
            if number >= WRITES:
                break
        found = {one["metadata"]["name"]: one for one in plane.api.request("GET", PATH)["items"]}
    finally:
        plane.stop()
    assert kills >= 3 and len(acknowledged) >= WRITES - 2 * ROUNDS
    lost = [name for name, version in acknowledged.items() if name not in found]
    assert lost == []
    changed = [name for name, version in acknowledged.items() if found[name]["metadata"]["resourceVersion"] != version]
    assert changed == []
