"""Long questions are answered beside the loop: in a copy of this process that ends with its answer.

A question about a change compiles that change, and one about origins compiles a resource again and again. The engine
belongs to one thread, and a thread would take turns with the loop for every step of that. A copy (fork) has the
compiled mesh as it stood at one moment, shares its memory until one of both writes, may change it at will, and need
not take anything back. The loop stands still for as long as the system copies page tables, and proxies are served
meanwhile.

The copy computes and does nothing else: it closes every file and socket at once, never returns to the loop, and is
ended by an alarm if it takes too long. So work that is given to it must not ask the store or anything else that is
guarded by a lock or lives in a file: what it needs of that is read before, or inquired of the original, which has an
ear for one thing: where objects stand in files. It writes its answer as JSON, too; the loop only passes bytes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import struct
import traceback
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import msgspec

from fairlead.model.ref import Ref
from fairlead.store.change import Place

_log = logging.getLogger(__name__)
SECONDS = 120
"""How long one question may take."""
_AT_ONCE = 2
_LARGEST = 64 << 20
_FIRST_FILE = 3
_MOST_REFS = 50
"""Places that are inquired at once: so many are looked up in one turn of the loop."""
_LENGTH = struct.Struct("!Q")

Json = dict[str, Any]
Inquiry = Callable[[Sequence[Ref]], list[Place | None]]
"""Where these objects stand in files, as far as that is known."""


class Answer(msgspec.Struct, frozen=True):
    """What came out: an HTTP status and a document, or for people what is wrong with the question."""

    status: int
    document: Json = {}
    refusal: str = ""


class Found(msgspec.Struct, frozen=True):
    """An answer as the loop has it: the document is JSON, which is not read here."""

    status: int
    body: bytes
    refusal: str = ""

    @property
    def document(self) -> Json:
        """The document, read: for short ones."""
        return msgspec.json.decode(self.body)


class _Told(msgspec.Struct, frozen=True):
    """What the copy says: what it wants to know, or an answer, or the traceback of a defect."""

    inquired: tuple[Ref, ...] = ()
    found: Found | None = None
    defect: str = ""


class Unanswered(Exception):
    """There is no answer; the text says why, for people."""


class Aside:
    """Answers questions, a few at once; the others wait. `settle` brings what is copied up to date."""

    def __init__(self, settle: Callable[[], None], seconds: int = SECONDS) -> None:
        self._settle = settle
        self._seconds = seconds
        self._places = asyncio.Semaphore(_AT_ONCE)

    async def ask(
        self, work: Callable[[Inquiry], Answer], place: Callable[[Ref], Place | None] = lambda _: None
    ) -> Found:
        """Call `work` in a copy of the process; `place` tells here what it inquires. Raises Unanswered."""
        async with self._places:
            self._settle()
            try:
                child, line = _forked(work, self._seconds)
            except OSError as error:
                raise Unanswered(f"the question cannot be answered now: {error.strerror}; try again [FL3814]") from None
            try:
                told = await _heard(line, place)
            finally:
                line.close()
                status = await asyncio.shield(_ended(child))
        return self._found(told, status)

    def _found(self, told: _Told, status: int) -> Found:
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM:
            raise Unanswered(
                f"there is no answer within {self._seconds} s; ask for less: one resource or one setting of it [FL3814]"
            )
        if told.defect:
            _log.error("a question failed: %s", told.defect)
            raise Unanswered("the question failed, which is a defect: the log of the control plane has it [FL3814]")
        if told.found is None:
            said = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"status {status}"
            raise Unanswered(f"what worked on the question ended early ({said}); is there enough memory? [FL3814]")
        return told.found


def _forked(work: Callable[[Inquiry], Answer], seconds: int) -> tuple[int, socket.socket]:
    """The process id of a copy, and the line to it."""
    mine, theirs = socket.socketpair()
    with warnings.catch_warnings():
        # Other threads hold locks that nobody releases in the copy. It does not ask for any of them (see above).
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            child = os.fork()
        except OSError:
            mine.close()
            theirs.close()
            raise
    if child == 0:
        _work(work, theirs, seconds)
    theirs.close()
    return child, mine


def _work(work: Callable[[Inquiry], Answer], line: socket.socket, seconds: int) -> NoReturn:
    """What the copy does. It ends here whatever happens: nothing of the original's may run in it."""
    try:
        signal.set_wakeup_fd(-1)
        for one in (signal.SIGALRM, signal.SIGTERM, signal.SIGINT):
            signal.signal(one, signal.SIG_DFL)
        signal.alarm(seconds)
        os.closerange(_FIRST_FILE, line.fileno())
        os.closerange(line.fileno() + 1, os.sysconf("SC_OPEN_MAX"))
        # What is there already is not looked at, which would copy all of its pages.
        gc.freeze()
        try:
            made = work(lambda refs: _inquired(line, refs))
            found = Found(made.status, b"" if made.refusal else msgspec.json.encode(made.document), made.refusal)
            if len(found.body) > _LARGEST:
                found = Found(413, b"", "the answer is too long; ask for less [FL3814]")
            told = _Told(found=found)
        except BaseException:
            told = _Told(defect=traceback.format_exc())
        _say(line, told)
    finally:
        os._exit(0)


def _say(line: socket.socket, told: _Told) -> None:
    body = msgspec.msgpack.encode(told)
    line.sendall(_LENGTH.pack(len(body)) + body)


def _inquired(line: socket.socket, refs: Sequence[Ref]) -> list[Place | None]:
    """What the original says of objects."""
    out: list[Place | None] = []
    for at in range(0, len(refs), _MOST_REFS):
        _say(line, _Told(tuple(refs[at : at + _MOST_REFS])))
        (length,) = _LENGTH.unpack(line.recv(_LENGTH.size, socket.MSG_WAITALL))
        out += msgspec.msgpack.decode(line.recv(length, socket.MSG_WAITALL), type=list[Place | None])
    return out


async def _heard(line: socket.socket, place: Callable[[Ref], Place | None]) -> _Told:
    """What a copy says in the end; nothing, where it ended without a word. Until then it is told what it inquires."""
    reader, writer = await asyncio.open_unix_connection(sock=line)
    try:
        while True:
            (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
            told = msgspec.msgpack.decode(await reader.readexactly(length), type=_Told)
            if not told.inquired:
                return told
            body = msgspec.msgpack.encode([place(ref) for ref in told.inquired])
            writer.write(_LENGTH.pack(len(body)) + body)
            await writer.drain()
    except (asyncio.IncompleteReadError, OSError):
        return _Told()
    finally:
        writer.close()


async def _ended(child: int) -> int:
    """End a copy, if it has not ended by itself; how it ended. Giving its memory back takes a while."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    return (await asyncio.to_thread(os.waitpid, child, 0))[1]
