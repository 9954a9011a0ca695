"""Files of the agent's directory: written whole or not at all, and never readable by others."""

from __future__ import annotations

import fcntl
import os
import secrets
from pathlib import Path

SOCKET_PATH_LIMIT = 100


def write_private(path: Path, body: bytes) -> None:
    """Replace a file atomically and durably, with mode 0600. Raises OSError."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def private_directory(path: Path) -> None:
    """Make a directory (and its parents) that only the owner may enter. Raises OSError."""
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o700)


def lock(path: Path) -> int:
    """Take a lock that ends with this process. Raises OSError (EWOULDBLOCK) if another process holds it."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        raise OSError(error.errno, "another agent runs in this directory", str(path.parent)) from None
    return handle


def socket_path(directory: Path, name: str) -> str:
    """A path for a Unix socket that fits the kernel's limit, however deep the directory lies.

    A long path is reached through an open handle of the directory, kept for the life of the process.
    """
    plain = str(directory / name)
    if len(os.fsencode(plain)) <= SOCKET_PATH_LIMIT:
        return plain
    handle = _handles.get(directory)
    if handle is None:
        handle = _handles[directory] = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    return f"/proc/self/fd/{handle}/{name}"


def unlink(path: str | Path) -> None:
    """Remove a file if it is there (a socket that a killed agent left). Raises OSError."""
    Path(path).unlink(missing_ok=True)


_handles: dict[Path, int] = {}
