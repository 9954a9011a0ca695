"""Which signals ask a command in the foreground to end."""

from __future__ import annotations

import signal


def ends() -> tuple[signal.Signals, ...]:
    """SIGINT, SIGTERM, and SIGHUP (the terminal has gone) unless whoever started this has it ignored, as nohup does."""
    hangs_up = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
    return (signal.SIGINT, signal.SIGTERM, *((signal.SIGHUP,) if hangs_up else ()))
