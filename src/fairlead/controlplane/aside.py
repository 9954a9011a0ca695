"""Long questions are answered beside the loop: in a copy of this process that ends with its answer.

A question about a change compiles that change, and one about origins compiles a resource again and again. The engine
belongs to one thread, and a thread would take turns with the loop for every step of that. A copy (fork) has the
compiled mesh as it stood at one moment, shares its memory until one of both writes, may change it at will, and need
not take anything back. The loop stands still for as long as the system copies page tables, and proxies are served
meanwhile.

The copy computes and does nothing else: it closes every file and socket at once, never returns to the loop, and is
ended by an alarm if it takes too long. So work that is given to it must not ask the store or anything else that is
guarded by a lock or lives in a file: what it needs of that is read before.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import traceback
import warnings
from collections.abc import Callable
from typing import Any, NoReturn

import msgspec

_log = logging.getLogger(__name__)
SECONDS = 120
"""How long one question may take."""
_AT_ONCE = 2
_LARGEST = 64 << 20
_FIRST_FILE = 3

Json = dict[str, Any]


class Answer(msgspec.Struct, frozen=True):
    """What came out: an HTTP status and a document, or for people what is wrong with the question."""

    status: int
    document: Json = {}
    refusal: str = ""


class _Told(msgspec.Struct, frozen=True):
    """What the copy says: an answer, or the traceback of a defect."""

    answer: Answer | None = None
    defect: str = ""


class Unanswered(Exception):
    """There is no answer; the text says why, for people."""


class Aside:
    """Answers questions, a few at once; the others wait. `settle` brings what is copied up to date."""

    def __init__(self, settle: Callable[[], None], seconds: int = SECONDS) -> None:
        self._settle = settle
        self._seconds = seconds
        self._places = asyncio.Semaphore(_AT_ONCE)

    async def ask(self, work: Callable[[], Answer]) -> Answer:
        """Call `work` in a copy of the process. Raises Unanswered."""
        async with self._places:
            self._settle()
            try:
                child, reading = _forked(work, self._seconds)
            except OSError as error:
                raise Unanswered(f"the question cannot be answered now: {error.strerror}; try again [FL3814]") from None
            try:
                body = await _read(reading)
            finally:
                status = await asyncio.shield(_ended(child))
        return self._answer(body, status)

    def _answer(self, body: bytes, status: int) -> Answer:
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM:
            raise Unanswered(
                f"there is no answer within {self._seconds} s; ask for less: one resource or one setting of it [FL3814]"
            )
        if not body:
            said = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"status {status}"
            raise Unanswered(f"what worked on the question ended early ({said}); is there enough memory? [FL3814]")
        told = msgspec.json.decode(body, type=_Told)
        if told.answer is None:
            _log.error("a question failed: %s", told.defect)
            raise Unanswered("the question failed, which is a defect: the log of the control plane has it [FL3814]")
        return told.answer


def _forked(work: Callable[[], Answer], seconds: int) -> tuple[int, int]:
    """The process id of a copy, and what to read its answer from."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        # Other threads hold locks that nobody releases in the copy. It does not ask for any of them (see above).
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            child = os.fork()
        except OSError:
            os.close(reading)
            os.close(writing)
            raise
    if child == 0:
        _work(work, writing, seconds)
    os.close(writing)
    return child, reading


def _work(work: Callable[[], Answer], writing: int, seconds: int) -> NoReturn:
    """What the copy does. It ends here whatever happens: nothing of the original's may run in it."""
    try:
        signal.set_wakeup_fd(-1)
        for one in (signal.SIGALRM, signal.SIGTERM, signal.SIGINT):
            signal.signal(one, signal.SIG_DFL)
        signal.alarm(seconds)
        os.closerange(_FIRST_FILE, writing)
        os.closerange(writing + 1, os.sysconf("SC_OPEN_MAX"))
        # What is there already is not looked at, which would copy all of its pages.
        gc.freeze()
        try:
            told = _Told(work())
        except BaseException:
            told = _Told(defect=traceback.format_exc())
        body = msgspec.json.encode(told)
        if len(body) > _LARGEST:
            body = msgspec.json.encode(_Told(Answer(413, refusal="the answer is too long; ask for less [FL3814]")))
        while body:
            body = body[os.write(writing, body) :]
    finally:
        os._exit(0)


async def _read(reading: int) -> bytes:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    pipe = os.fdopen(reading, "rb", buffering=0)
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    try:
        return await reader.read()
    finally:
        transport.close()


async def _ended(child: int) -> int:
    """End a copy, if it has not ended by itself; how it ended. Giving its memory back takes a while."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    return (await asyncio.to_thread(os.waitpid, child, 0))[1]
