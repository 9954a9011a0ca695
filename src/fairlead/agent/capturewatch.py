"""Whether a workload's capture works: calls from inside of its network namespace reach the proxy, and names resolve.

It is tried, not looked up: a connection from inside to an address that nobody has must be answered by the proxy, and a
DNS question to that address by the agent. So whatever breaks the way is found, and no right is needed but to be there.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable

import dns.exception
import dns.message
import dns.rcode

from fairlead.agent import netns
from fairlead.agent.bootstrap import PROBE_ADDRESS, PROBE_ANSWER, PROBE_PORT

INTERVAL_SECONDS = 5.0
AGAIN_SECONDS = 1.0
"""After a try that failed: only two in a row are a finding."""
_TIMEOUT = 1.0
_DNS_PORT = 53

log = logging.getLogger("capture")


class CaptureWatch:
    """Tries again and again. `name` gives a name of the mesh, `changed` is told when something else is wrong."""

    def __init__(self, namespace: str, name: Callable[[], str], changed: Callable[[], None]) -> None:
        self._namespace = namespace
        self._name = name
        self._changed = changed
        self.capture = ""
        """Why calls do not reach the proxy, "" if they do."""
        self.resolution = ""
        """Why a name of the mesh is not resolved inside, "" if it is."""

    async def run(self) -> None:
        """Try until cancelled."""
        before: tuple[str, ...] = ("", "")
        while True:
            found = tuple(await asyncio.gather(self._calls(), self._resolves()))
            doubtful = found != (self.capture, self.resolution)
            if doubtful and found == before:
                self.capture, self.resolution = found
                for said in filter(None, found):
                    log.error("%s", said)
                self._changed()
                doubtful = False
            before = found
            await asyncio.sleep(AGAIN_SECONDS if doubtful else INTERVAL_SECONDS)

    async def _calls(self) -> str:
        try:
            async with asyncio.timeout(_TIMEOUT):
                made = await netns.connect(self._namespace, PROBE_ADDRESS, PROBE_PORT)
                with contextlib.closing(made):
                    loop = asyncio.get_running_loop()
                    # The proxy looks at the first bytes before it decides.
                    await loop.sock_sendall(made, b"probe\n")
                    answer = await loop.sock_recv(made, len(PROBE_ANSWER))
        except OSError as error:
            return f"calls from inside do not reach the proxy: {error.strerror or 'no answer'}"
        return "" if answer == PROBE_ANSWER else "calls from inside reach something else than the proxy"

    async def _resolves(self) -> str:
        name = self._name()
        if not name:
            return ""
        query = dns.message.make_query(name, "A")
        try:
            async with asyncio.timeout(_TIMEOUT):
                made = await netns.make_socket(self._namespace, PROBE_ADDRESS, socket.SOCK_DGRAM)
                with contextlib.closing(made):
                    loop = asyncio.get_running_loop()
                    await loop.sock_connect(made, (PROBE_ADDRESS, _DNS_PORT))
                    await loop.sock_sendall(made, query.to_wire())
                    answer = dns.message.from_wire(await loop.sock_recv(made, 65535))
        except (OSError, dns.exception.DNSException) as error:
            return f"{name} is not resolved: {getattr(error, 'strerror', None) or 'no answer'}"
        return (
            ""
            if answer.rcode() == dns.rcode.NOERROR
            else f"{name} is not resolved: {dns.rcode.to_text(answer.rcode())}"
        )
