"""Ports and addresses of the loopback that no other process of tests on this machine has.

A port that was free a moment ago may be somebody's by now: another worker's, or that of an outgoing connection. So what
is given out here is held by an abstract Unix socket of its name until this process ends, and ports lie below the range
that Linux takes for outgoing connections.
"""

from __future__ import annotations

import random
import socket
from collections import deque

_PORTS = range(20000, 32000)
_OCTETS = range(64, 200)
"""Of 127.N.0.0/16. Golden configurations, which bind nothing, have those from 200 on."""
_OWN = 16
"""So many blocks are held before they come round again: what used the first one has ended by then."""
_held: list[socket.socket] = []
_blocks: deque[int] = deque()


def _claimed(name: str) -> bool:
    holder = socket.socket(socket.AF_UNIX)
    try:
        holder.bind(f"\0fairlead-tests-{name}")
    except OSError:
        holder.close()
        return False
    _held.append(holder)
    return True


def free_port(address: str = "127.0.0.1") -> int:
    """A port at which nobody listens, for this process alone."""
    for port in random.sample(_PORTS, len(_PORTS)):
        with socket.socket() as probe:
            try:
                probe.bind((address, port))
            except OSError:
                continue
        if _claimed(f"port-{port}"):
            return port
    raise RuntimeError("every port is taken")


def network() -> str:
    """The first two numbers of a block 127.N.0.0/16 that is this process's: "127.N"."""
    if len(_blocks) < _OWN:
        for number in random.sample(_OCTETS, len(_OCTETS)):
            if _claimed(f"block-{number}"):
                _blocks.append(number)
                return f"127.{number}"
    if not _blocks:
        raise RuntimeError("every block of the loopback is taken")
    _blocks.rotate(-1)
    return f"127.{_blocks[-1]}"
