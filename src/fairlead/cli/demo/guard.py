"""Cleans up after a demonstration, however that ends: a process of its own that waits for the demonstration to go.

    python -m fairlead.cli.demo.guard DIRECTORY keep|remove

Its standard input is a pipe that only the demonstration holds. When it closes - by an ordered end, an exception or
kill -9 - everything that runs for the directory is ended and removed. Exit status 1 if something could not be.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from fairlead.cli.demo.cleanup import clean


def main() -> int:
    """Wait, clean, tell."""
    # A Ctrl-C or the end of a terminal is for the demonstration; this process goes on until that has gone.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    root, mode = Path(sys.argv[1]), sys.argv[2]
    sys.stdin.buffer.read()
    left = clean(root, remove=mode == "remove")
    for one in left:
        sys.stdout.write(f"{one}\n")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
