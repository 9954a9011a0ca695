"""Says what is being done: a moving line on a terminal, plain lines elsewhere. Everything goes to standard error."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Generator
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.status import Status


class Progress:
    """One line at a time; `doing` may be nested, the inner text is shown."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._status: Status | None = None
        self._texts: list[str] = []

    @contextlib.contextmanager
    def doing(self, text: str) -> Generator[None]:
        """Show `text` while the body runs, and how long that took."""
        began = time.monotonic()
        self._texts.append(text)
        if self._terminal:
            self._show()
        elif len(self._texts) == 1:
            click.echo(f"{text} ...", err=True)
        try:
            yield
        except BaseException:
            self._texts.pop()
            self._show()
            raise
        self._texts.pop()
        self._show()
        if not self._texts:
            click.echo(f"{text}: {time.monotonic() - began:.1f} s", err=True)

    def _show(self) -> None:
        if not self._terminal:
            return
        if not self._texts:
            if self._status is not None:
                self._status.stop()
                self._status = None
            return
        if self._status is None:
            from rich.console import Console
            from rich.status import Status

            self._status = Status(self._texts[-1], console=Console(stderr=True))
            self._status.start()
        self._status.update(self._texts[-1])
