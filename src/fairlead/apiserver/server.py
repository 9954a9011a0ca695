"""The application on a TLS port of the running event loop."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from starlette.routing import BaseRoute

from fairlead.apiserver.admission import Admission
from fairlead.apiserver.app import Api
from fairlead.apiserver.auth import Authenticator, Authorize, nobody_else
from fairlead.apiserver.reviews import TokenIssuer

_BACKLOG = 4096
_DRAIN_SECONDS = 2

_log = logging.getLogger(__name__)


class ServerError(Exception):
    """The server cannot be started: the port, the certificate or the key; the text says which and what to do."""


class _Server(uvicorn.Server):
    """uvicorn inside somebody else's program: signals are not its business."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave the process's signal handlers alone."""
        yield


class ApiServer:
    """Serves the API from `start()` to `stop()`. Run it on uvloop: asyncio's TLS costs 300 KB a connection.

    Port 0 takes a free one; `port` tells it after the start.
    """

    def __init__(
        self,
        admission: Admission,
        authenticator: Authenticator,
        *,
        cert_file: Path,
        key_file: Path,
        host: str = "127.0.0.1",
        port: int = 0,
        authorize: Authorize = nobody_else,
        token_issuer: TokenIssuer | None = None,
        routes: Sequence[BaseRoute] = (),
        ready: Callable[[], bool] = lambda: True,
    ) -> None:
        self.host = host
        self.port = port
        self._cert_file = cert_file
        self._key_file = key_file
        self._admission = admission
        self._api = Api(
            admission,
            authenticator,
            authorize=authorize,
            token_issuer=token_issuer,
            routes=routes,
            ready=ready,
        )
        self._server: _Server | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """`https://HOST:PORT`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"https://{host}:{self.port}"

    async def start(self) -> None:
        """Make what always exists, listen, and return when connections are taken. Raises ServerError."""
        self._admission.bootstrap()
        listener = self._listen()
        config = uvicorn.Config(
            self._api.asgi,
            ssl_certfile=str(self._cert_file),
            ssl_keyfile=str(self._key_file),
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            backlog=_BACKLOG,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=_DRAIN_SECONDS,
        )
        try:
            config.load()
        except OSError as error:
            listener.close()
            raise ServerError(f"cannot use certificate {self._cert_file} with key {self._key_file}: {error}") from None
        self._api.hub.start(asyncio.get_running_loop())
        self._server = _Server(config)
        self._task = asyncio.create_task(self._server.serve(sockets=[listener]), name="apiserver")
        while not self._server.started:
            if self._task.done():
                self._api.hub.stop()
                raise ServerError(f"the API server did not start: {self._task.exception() or 'see the log'}")
            # uvicorn has no event for it; it starts within a few turns of the loop.
            await asyncio.sleep(0.005)

    def _listen(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((self.host, self.port))
        except OSError as error:
            listener.close()
            said = f"cannot listen on {self.host}:{self.port} ({error.strerror}): free the port or choose another"
            raise ServerError(said) from None
        listener.set_inheritable(False)
        self.port = int(listener.getsockname()[1])
        return listener

    def reload_certificate(self) -> None:
        """Read the certificate and key anew; handshakes from now on use them. Raises OSError (ssl.SSLError)."""
        context = self._server.config.ssl if self._server is not None else None
        if context is not None:
            context.load_cert_chain(self._cert_file, self._key_file)

    async def stop(self) -> None:
        """End the watches, finish what is being served (2 s), close the port."""
        self._api.hub.stop()
        if self._server is None or self._task is None:
            return
        self._server.should_exit = True
        try:
            await self._task
        except Exception:
            _log.exception("the API server ended badly")
        self._server = self._task = None
