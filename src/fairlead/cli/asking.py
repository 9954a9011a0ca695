"""One short question to the API for completion: with the standard library alone, and with a deadline."""

from __future__ import annotations

import base64
import json
import socket
import ssl
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlencode, urlsplit

from fairlead.controlplane.directory import kubeconfig_file

Json = dict[str, Any]


class AskError(Exception):
    """There is no answer, for whatever reason: completion says nothing then."""


class Asking:
    """Asks for names (`/fairlead/v1/names`). `given` are options of the command line that is being written.

    Raises AskError where there is no kubeconfig, or none that can be read.
    """

    def __init__(self, given: Mapping[str, str], seconds: float, most: int) -> None:
        self._until = time.monotonic() + seconds
        self._most = most
        kubeconfig, state = given.get("--kubeconfig"), given.get("--state")
        file = kubeconfig_file(Path(kubeconfig) if kubeconfig else None, Path(state) if state else None)
        try:
            # Text of terminals: `~` was not expanded by the shell yet.
            config = _document(file.expanduser())
            context = _named(config, "contexts", config["current-context"], "context")
            cluster = _named(config, "clusters", context["cluster"], "cluster")
            user = _named(config, "users", context["user"], "user")
            at = urlsplit(str(cluster["server"]))
            self._host, self._port = at.hostname or "", at.port or 443
            self._token = str(user.get("token") or "")
            self._tls = ssl.create_default_context(
                cadata=base64.b64decode(cluster["certificate-authority-data"]).decode()
            )
            self.namespace = str(context.get("namespace") or "default")
        except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
            raise AskError(str(error)) from None

    def __call__(self, **query: str) -> list[tuple[str, str]]:
        """Names, each with a word about it. Raises AskError."""
        asked = urlencode({key: value for key, value in query.items() if value})
        lines = (
            f"GET /fairlead/v1/names?{asked} HTTP/1.0",
            f"Host: {self._host}",
            f"Authorization: Bearer {self._token}",
            "\r\n",
        )
        try:
            with (
                socket.create_connection((self._host, self._port), self._left()) as plain,
                self._tls.wrap_socket(plain, server_hostname=self._host) as link,
            ):
                link.sendall("\r\n".join(lines).encode())
                head, _, body = self._read(link).partition(b"\r\n\r\n")
            if head.split(b" ", 2)[1:2] != [b"200"]:
                raise AskError("the API refuses")
            return [(str(name), str(said)) for name, said in json.loads(body)]
        except (OSError, ValueError, TypeError) as error:
            raise AskError(str(error)) from None

    def _left(self) -> float:
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError("too late")
        return left

    def _read(self, link: ssl.SSLSocket) -> bytes:
        out = bytearray()
        while len(out) < self._most:
            link.settimeout(self._left())
            data = link.recv(65536)
            if not data:
                break
            out += data
        return bytes(out)


def _document(file: Path) -> Json:
    text = file.read_text()
    try:
        # What a control plane writes is JSON, which is read at once; YAML takes an import more.
        return cast("Json", json.loads(text))
    except ValueError:
        import yaml

        try:
            return cast("Json", yaml.safe_load(text))
        except yaml.YAMLError as error:
            raise ValueError(str(error)) from None


def _named(config: Json, listed: str, name: str, field: str) -> Json:
    return next(cast("Json", one[field]) for one in config[listed] if one["name"] == name)
