"""Sockets inside another network namespace. A socket belongs to the namespace of the thread that made it, for ever."""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
_CLONE_NEWNET = 0x40000000


def in_namespace(netns: str, make: Callable[[], T]) -> T:
    """Run `make` in a thread of its own that has entered the namespace file `netns`. Raises OSError."""
    results: list[T] = []
    errors: list[OSError] = []

    def enter() -> None:
        try:
            handle = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
            try:
                if ctypes.CDLL(None, use_errno=True).setns(handle, _CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), netns)
            finally:
                os.close(handle)
            results.append(make())
        except OSError as error:
            errors.append(error)

    thread = threading.Thread(target=enter, name="netns")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def _socket(address: str, kind: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    made = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return made


async def make_socket(netns: str, address: str, kind: int = socket.SOCK_STREAM) -> socket.socket:
    """An unconnected, non-blocking socket in the namespace (ours if empty). Raises OSError."""
    if not netns:
        return _socket(address, kind)
    return await asyncio.to_thread(in_namespace, netns, lambda: _socket(address, kind))


async def connect(netns: str, address: str, port: int) -> socket.socket:
    """A connected TCP socket. Raises OSError."""
    made = await make_socket(netns, address)
    try:
        await asyncio.get_running_loop().sock_connect(made, (address, port))
    except BaseException:
        made.close()
        raise
    return made
