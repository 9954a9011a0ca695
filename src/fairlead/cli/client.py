"""A thin client of the API: kubeconfig, TLS, JSON. Synchronous, because commands ask one thing after another."""

from __future__ import annotations

import base64
import binascii
import http.client
import json
import ssl
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import msgspec

from fairlead import __version__
from fairlead.cli.busy import busy
from fairlead.controlplane.directory import kubeconfig_file
from fairlead.model.caller import COMMAND_HEADER, MESSAGE_HEADER, encoded
from fairlead.model.yaml import YAMLError, parse_documents

Json = dict[str, Any]
TIMEOUT = 30.0
PATIENCE = 150.0
"""Seconds for questions that the control plane works on for up to two minutes."""
_AGENT = f"fairlead/{__version__}"


class ClientError(Exception):
    """The API cannot be reached or the kubeconfig cannot be used; the text says what to do."""


class Refused(Exception):
    """The API said no: its `Status` document."""

    def __init__(self, code: int, status: Json) -> None:
        super().__init__(str(status.get("message") or f"HTTP {code}"))
        self.code = code
        self.status = status

    @property
    def causes(self) -> list[Json]:
        """The `StatusCause`s with a field."""
        details: Json = self.status.get("details") or {}
        listed: list[Json] = details.get("causes") or []
        return [one for one in listed if one.get("field")]


class Access(msgspec.Struct, frozen=True):
    """Where the API is and how to be let in; `ca` is PEM, empty for the system's own roots."""

    host: str
    port: int
    token: str = ""
    ca: str = ""
    insecure: bool = False
    client_cert: str = ""
    client_key: str = ""
    namespace: str = "default"


class Answer(msgspec.Struct, frozen=True):
    """A successful answer."""

    code: int
    document: Any
    warnings: tuple[str, ...] = ()


def find_kubeconfig(kubeconfig: Path | None, state: Path | None) -> Path:
    """The file to use: --kubeconfig, --state, $KUBECONFIG, the default state directory. Raises ClientError."""
    found = kubeconfig_file(kubeconfig, state)
    if not found.is_file():
        remedy = "Start the mesh with `fairlead up`, or point --kubeconfig or --state at a running one."
        raise ClientError(f"there is no kubeconfig at {found}. {remedy}")
    return found


def _entry(config: Json, listed: str, name: object, field: str) -> Json:
    entries: list[Json] = config.get(listed) or []
    for one in entries:
        if one.get("name") == name:
            return one.get(field) or {}
    return {}


def _material(part: Json, name: str, directory: Path) -> str:
    """The PEM text of `name-data` or of the file `name`."""
    data = part.get(f"{name}-data")
    if data:
        return base64.b64decode(data).decode()
    file = part.get(name)
    return (directory / file).read_text() if file else ""


def read_kubeconfig(path: Path) -> Access:
    """What the current context of a kubeconfig says. Raises ClientError."""
    try:
        found = parse_documents(path.read_bytes(), str(path))
        config = found[0].data if found else {}
        context = _entry(config, "contexts", config.get("current-context"), "context")
        cluster = _entry(config, "clusters", context.get("cluster"), "cluster")
        user = _entry(config, "users", context.get("user"), "user")
        server = urlsplit(str(cluster.get("server", "")))
        token = str(user.get("token") or "")
        if not token and user.get("tokenFile"):
            token = (path.parent / user["tokenFile"]).read_text().strip()
        if server.scheme != "https" or not server.hostname:
            raise ClientError(f"{path}: the current context names no https server: it is not a kubeconfig of a mesh")
        return Access(
            server.hostname,
            server.port or 443,
            token,
            _material(cluster, "certificate-authority", path.parent),
            bool(cluster.get("insecure-skip-tls-verify")),
            _material(user, "client-certificate", path.parent),
            _material(user, "client-key", path.parent),
            str(context.get("namespace") or "default"),
        )
    except YAMLError as error:
        raise ClientError(f"{error}: this is not a kubeconfig") from None
    except (OSError, binascii.Error, UnicodeDecodeError, AttributeError, TypeError, ValueError) as error:
        raise ClientError(f"{path} cannot be used as a kubeconfig: {error}") from None


class Client:
    """Requests over one kept connection. `command` and `message` go into the history with what is written."""

    def __init__(self, access: Access, command: str = "", message: str = "") -> None:
        self.access = access
        said = ((COMMAND_HEADER, command), (MESSAGE_HEADER, message))
        self._said = {header: encoded(text) for header, text in said if text}
        self._context = self._tls(access)
        self._link: http.client.HTTPSConnection | None = None

    @staticmethod
    def _tls(access: Access) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cadata=access.ca or None)
            if access.insecure:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            if access.client_cert and access.client_key:
                # The ssl module takes certificates from files only; this one is 0600 and gone at once.
                with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
                    file.write(f"{access.client_cert}\n{access.client_key}")
                    file.flush()
                    context.load_cert_chain(file.name)
        except (ssl.SSLError, OSError) as error:
            raise ClientError(f"the kubeconfig's certificates cannot be used: {error}") from None
        return context

    def close(self) -> None:
        """Close the connection."""
        if self._link is not None:
            self._link.close()
            self._link = None

    def _send(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str], timeout: float | None
    ) -> http.client.HTTPResponse:
        sent = {"User-Agent": _AGENT, "Accept": "application/json", **headers}
        if self.access.token:
            sent["Authorization"] = f"Bearer {self.access.token}"
        if method != "GET":
            sent |= self._said
        where = f"https://{self.access.host}:{self.access.port}"
        for fresh in (self._link is None, True):
            try:
                if self._link is None:
                    self._link = http.client.HTTPSConnection(
                        self.access.host, self.access.port, timeout=timeout, context=self._context
                    )
                self._link.request(method, path, body, sent)
                return self._link.getresponse()
            except ssl.SSLCertVerificationError as error:
                self.close()
                remedy = "Use the kubeconfig of this server's state directory."
                raise ClientError(f"{where} is not the server that the kubeconfig trusts ({error}). {remedy}") from None
            except (OSError, http.client.HTTPException) as error:
                self.close()
                # A kept connection may have been closed by the server meanwhile: once more on a new one.
                if fresh:
                    remedy = "Is the control plane running? `fairlead up` or `fairlead serve` starts it."
                    raise ClientError(f"cannot reach {where}: {error or type(error).__name__}. {remedy}") from None
        raise ClientError(f"cannot reach {where}")

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        content_type: str = "application/json",
        accept: str = "application/json",
        seconds: float = TIMEOUT,
    ) -> Answer:
        """One request, whose answer is waited for so long.

        Raises Refused for 4xx and 5xx, ClientError where there is no answer.
        """
        data = None if body is None else msgspec.json.encode(body)
        headers = {"Accept": accept} | ({"Content-Type": content_type} if data is not None else {})
        with busy("waiting for the control plane"):
            answer = self._send(method, path, data, headers, seconds)
            try:
                raw = answer.read()
            except (OSError, http.client.HTTPException) as error:
                self.close()
                raise ClientError(f"the answer of the API broke off: {error}") from None
        document = _document(answer, raw)
        if answer.status >= 400:
            raise Refused(answer.status, cast("Json", document) if isinstance(document, dict) else {})
        warnings = [one.split('"', 1)[-1].rstrip('"') for one in answer.headers.get_all("Warning") or []]
        return Answer(answer.status, document, tuple(one.replace('\\"', '"') for one in warnings))

    def watch(self, path: str, accept: str = "application/json") -> Iterator[Json]:
        """Events until the server ends the watch. Raises Refused and ClientError."""
        self.close()
        answer = self._send("GET", path, None, {"Accept": accept}, None)
        if answer.status >= 400:
            document = _document(answer, answer.read())
            raise Refused(answer.status, cast("Json", document) if isinstance(document, dict) else {})
        try:
            while line := answer.readline():
                yield cast("Json", json.loads(line))
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ClientError(f"the watch broke off: {error}") from None
        finally:
            self.close()


def _document(answer: http.client.HTTPResponse, raw: bytes) -> Any:
    try:
        return json.loads(raw) if raw else None
    except ValueError:
        said = raw[:200].decode("utf-8", "replace")
        raise ClientError(f"the answer (HTTP {answer.status}) is not JSON: {said!r}. Is this a Fairlead API?") from None
