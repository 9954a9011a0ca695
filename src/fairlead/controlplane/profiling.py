"""A sampling profile of the running control plane: which calls its threads were in, so many times a second.

A thread looks at the frames of all others. Nothing is traced and nothing runs while no profile is asked for. What a
profile may take is bounded: seconds, samples a second, different stacks, depth of a stack.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from types import FrameType

import msgspec

MAX_SECONDS = 120.0
MAX_RATE = 500
MAX_STACKS = 20_000
MAX_DEPTH = 100
OTHER = "(stacks beyond the limit)"
IDLE = "(idle)"
_SWITCH_SECONDS = 0.0005
"""While a profile is taken, threads give way after so long. With the usual 5 ms, looks would fall on the places where
the interpreter is given up anyway, which is where something waits."""
_BUSY = 0.2
"""A thread that used less than this share of the time between two samples waited for something."""


class Profile(msgspec.Struct, frozen=True):
    """What was seen. Stacks run from the outermost call to the innermost, each with the number of samples.

    `seconds` is how long it was looked, `rate` the samples a second that were wanted, `samples` the looks that were
    taken: fewer than `seconds * rate` where the interpreter was held by a long call in C.
    """

    seconds: float
    rate: int
    samples: int
    stacks: tuple[tuple[tuple[str, ...], int], ...]


class Busy(Exception):
    """A profile is being taken; the message says for how long still."""


class Profiler:
    """Takes one profile at a time and keeps the last one until it is fetched."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._until = 0.0
        self._made: Profile | None = None

    @property
    def running(self) -> bool:
        """Whether a profile is being taken."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, seconds: float, rate: int = 100) -> None:
        """Begin. Raises ValueError beyond the bounds, Busy while another profile is being taken.

        Call it from the thread of the event loop: of that one it is told when it waits.
        """
        if not 0 < seconds <= MAX_SECONDS:
            raise ValueError(f"a profile takes more than 0 and at most {MAX_SECONDS:.0f} seconds")
        if not 0 < rate <= MAX_RATE:
            raise ValueError(f"a profile takes at least 1 and at most {MAX_RATE} samples a second")
        if self.running:
            raise Busy(f"a profile is being taken, for {max(self._until - time.monotonic(), 0):.0f} more seconds")
        self._made = None
        self._stop.clear()
        self._until = time.monotonic() + seconds
        watched = threading.get_ident()
        self._thread = threading.Thread(target=self._run, args=(seconds, rate, watched), name="profile", daemon=True)
        self._thread.start()

    def take(self) -> Profile | None:
        """The profile, which is then forgotten; None while it is being taken, and where there is none."""
        if self.running:
            return None
        made, self._made = self._made, None
        return made

    def stop(self) -> None:
        """End what is being taken."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self, seconds: float, rate: int, watched: int) -> None:
        usual = sys.getswitchinterval()
        sys.setswitchinterval(min(usual, _SWITCH_SECONDS))
        try:
            self._made = self._looked(seconds, rate, watched)
        finally:
            sys.setswitchinterval(usual)

    def _looked(self, seconds: float, rate: int, watched: int) -> Profile:
        # Of a thread that has ended its clock may not be asked: the event loop's outlives this one.
        clock = time.pthread_getcpuclockid(watched)
        own, names = threading.get_ident(), {one.ident: one.name for one in threading.enumerate()}
        counts: Counter[tuple[str, ...]] = Counter()
        begun = last = time.monotonic()
        used = time.clock_gettime(clock)
        samples = 0
        # What comes late is not caught up with: looks in a row would see the same.
        while not self._stop.wait(max(1 / rate - (time.monotonic() - last), 0.0005)):
            now, spent = time.monotonic(), time.clock_gettime(clock)
            idle = spent - used < _BUSY * (now - last)
            last, used = now, spent
            samples += 1
            for ident, frame in sys._current_frames().items():  # pyright: ignore[reportPrivateUsage]
                if ident != own:
                    waits = (IDLE,) if ident == watched and idle else ()
                    _count(counts, (names.get(ident) or f"thread {ident}", *_stack(frame), *waits))
            if now - begun >= seconds:
                break
        stacks = tuple(sorted(counts.items(), key=lambda one: one[0]))
        return Profile(round(time.monotonic() - begun, 3), rate, samples, stacks)


def _count(counts: Counter[tuple[str, ...]], stack: tuple[str, ...]) -> None:
    known = stack in counts or len(counts) < MAX_STACKS
    counts[stack if known else (stack[0], OTHER)] += 1


def _stack(frame: FrameType | None) -> list[str]:
    """The calls of a thread, the outermost first; of a deeper stack the innermost."""
    found: list[str] = []
    while frame is not None and len(found) < MAX_DEPTH:
        found.append(_named(frame))
        frame = frame.f_back
    return found[::-1]


def _named(frame: FrameType) -> str:
    """`module.function:line`: the line is the function's own, so that its samples fall together."""
    code = frame.f_code
    return f"{frame.f_globals.get('__name__', '?')}.{code.co_qualname}:{code.co_firstlineno}"


def lines(profile: Profile) -> Iterator[str]:
    """The profile in the collapsed form that flame graph programs read: `outer;inner COUNT`."""
    for stack, count in profile.stacks:
        yield f"{';'.join(stack)} {count}"
