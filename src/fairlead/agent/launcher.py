"""Runs as a script between the agent and a child: ties the child's life to the agent's, then becomes the child.

Usage: launcher.py PARENT NETNS COMMAND [ARGUMENT...]; NETNS is a path or "-". A separate program, because code that
runs between fork and exec in a process with threads may deadlock. Standard library only; started with -I -S.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
CLONE_NEWNET = 0x40000000
CANNOT_START = 127


def main() -> None:
    """Bind to the parent's life, enter the network namespace, exec."""
    parent, netns, command = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
    libc = ctypes.CDLL(None, use_errno=True)
    os.setsid()
    libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(CANNOT_START)
    try:
        if netns != "-":
            handle = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
            if libc.setns(handle, CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), netns)
            os.close(handle)
        os.execvp(command[0], command)  # noqa: S606 (no shell wanted)
    except OSError as error:
        where = error.filename or command[0]
        sys.stderr.write(f"cannot start {command[0]}: {error.strerror}: {where}\n")
        sys.stderr.flush()
        os._exit(CANNOT_START)


if __name__ == "__main__":
    main()
