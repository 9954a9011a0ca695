"""How commands reach the API: their options, the connection, and what they say of themselves."""

from __future__ import annotations

import getpass
import os
import shlex
import socket
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from fairlead.cli import WORDS, printing
from fairlead.cli.client import Client, ClientError, Refused, find_kubeconfig, read_kubeconfig

F = TypeVar("F", bound=Callable[..., Any])


def connection(command: F) -> F:
    """The options that say which API is meant: --kubeconfig and --state."""
    state = click.option(
        "--state", type=click.Path(path_type=Path), help="State directory of the control plane; its kubeconfig is used."
    )
    kubeconfig = click.option("--kubeconfig", type=click.Path(path_type=Path), help="Default: $KUBECONFIG.")
    return kubeconfig(state(command))


_UNTELLING = ("--state", "--kubeconfig", "-m", "--message")
message_option = click.option("-m", "--message", default="", help="Why, for the history (`fairlead history`).")


def command_line(run: int = 0) -> str:
    """`USER@HOST: fairlead ...`, without what it runs in the mesh: its last `run` words, or what follows `--`."""
    context = click.get_current_context(silent=True)
    if context is None:
        return ""
    words: tuple[str, ...] = context.meta.get(WORDS) or (context.command_path,)
    words = words[: len(words) - run] if run < len(words) else words[:1]
    own = words[: words.index("--")] if "--" in words else words
    return f"{_user()}@{socket.gethostname().split('.')[0]}: {shlex.join(('fairlead', *_telling(own)))}"


def _telling(words: Sequence[str]) -> Iterator[str]:
    """Without where the control plane is, and without the message, which the history has anyway."""
    left = iter(words)
    for word in left:
        if word in _UNTELLING:
            next(left, None)
        elif not word.startswith(tuple(f"{one}=" for one in _UNTELLING)):
            yield word


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return str(os.getuid())


@contextmanager
def connected(kubeconfig: Path | None, state: Path | None, message: str = "") -> Generator[Client]:
    """A client; every failure inside becomes one line and exit status 1. `message` goes with what is written."""
    try:
        client = Client(read_kubeconfig(find_kubeconfig(kubeconfig, state)), command_line(), message)
    except ClientError as error:
        printing.complain(f"error: {error}")
        raise SystemExit(1) from None
    try:
        yield client
    except (ClientError, Refused) as error:
        printing.complain(f"error: {error}")
        raise SystemExit(1) from None
    finally:
        client.close()
