"""How commands reach the API: their options, the connection, and what they say of themselves."""

from __future__ import annotations

import getpass
import os
import shlex
import socket
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlencode

import click

from fairlead.cli import WORDS, printing
from fairlead.model.names import meant

if TYPE_CHECKING:
    from fairlead.cli.client import Client, Refused

NOT_FOUND = 404
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


def probably(client: Client, error: Refused) -> str:
    """Which object was probably meant by a name that there is not; "" where nothing can be said."""
    from fairlead.cli.client import ClientError, Refused

    details: dict[str, Any] = error.status.get("details") or {}
    context = click.get_current_context(silent=True)
    name, kind = str(details.get("name") or ""), str(details.get("kind") or "")
    if not name or not kind or context is None:
        return ""
    group = f".{details['group']}" if details.get("group") else ""
    namespace = context.params.get("namespace") or client.access.namespace
    asked = {"of": "objects", "kind": f"{kind}{group}", "namespace": namespace}
    try:
        listed: list[tuple[str, str]] = client.request("GET", f"/fairlead/v1/names?{urlencode(asked)}").document
    except (ClientError, Refused):
        return ""
    return meant(name, (one for one, _ in listed))


def no_such_namespace(client: Client, namespace: str) -> str:
    """`: there is no such namespace; did you mean 'shop'?`, where there is none; else ""."""
    from fairlead.cli.client import ClientError, Refused

    try:
        listed: list[tuple[str, str]] = client.request("GET", "/fairlead/v1/names?of=namespaces").document
    except (ClientError, Refused):
        return ""
    names = [one for one, _ in listed]
    return "" if namespace in names else f": there is no such namespace{meant(namespace, names)}"


@contextmanager
def connected(kubeconfig: Path | None, state: Path | None, message: str = "") -> Generator[Client]:
    """A client; every failure inside becomes one line and exit status 1. `message` goes with what is written."""
    # Commands that work on files ask nobody, and need not wait for the client and its TLS to be imported.
    from fairlead.cli.client import Client, ClientError, Refused, find_kubeconfig, read_kubeconfig

    try:
        client = Client(read_kubeconfig(find_kubeconfig(kubeconfig, state)), command_line(), message)
    except ClientError as error:
        printing.complain(f"error: {error}")
        raise SystemExit(1) from None
    try:
        yield client
    except (ClientError, Refused) as error:
        near = probably(client, error) if isinstance(error, Refused) and error.code == NOT_FOUND else ""
        printing.complain(f"error: {error}{near}")
        raise SystemExit(1) from None
    finally:
        client.close()
