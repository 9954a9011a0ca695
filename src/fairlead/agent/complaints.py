"""Why Envoy refuses something, where its answer does not say.

Envoy answers with at most 4,096 characters, and for a value out of bounds it writes the whole message out before the
reason. So the reason is cut off; but the log has it.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque

import msgspec

from fairlead.xds.complaint import reason

CUT = "...(truncated)"
WAIT_SECONDS = 0.5
_KEPT = 32
_REJECTED = re.compile(r"delta config for \S+ rejected: (.*)")
_REASON = ": "


class _Logged(msgspec.Struct):
    """The first two lines of a complaint, and its last one."""

    begins: list[str]
    why: str = ""


class Complaints:
    """Reads Envoy's log for the ends of complaints."""

    def __init__(self) -> None:
        self._logged: deque[_Logged] = deque(maxlen=_KEPT)
        self._open: _Logged | None = None
        self._news = asyncio.Event()

    def line(self, line: str) -> None:
        """Take a line of the log."""
        begins = _REJECTED.search(line)
        if begins is not None:
            self._open = _Logged([begins[1]])
        elif self._open is not None and line.startswith(_REASON):
            self._open.why = line.removeprefix(_REASON)
            self._logged.append(self._open)
            self._open = None
            self._news.set()
        elif self._open is not None and len(self._open.begins) == 1:
            self._open.begins.append(line)

    async def whole(self, answer: str) -> str:
        """Envoy's answer with its reason; as it is if it has not been cut off, or if the log has nothing of it."""
        if not answer.endswith(CUT):
            return answer
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                while True:
                    self._news.clear()
                    for one in reversed(self._logged):
                        if answer.startswith("\n".join(one.begins)):
                            return reason(f"{answer.removesuffix(CUT)}\n{_REASON}{one.why}")
                    await self._news.wait()
        except TimeoutError:
            return answer
