"""A request on its way: what proxies read of it, and change in it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple
from urllib.parse import unquote

from envoy.config.core.v3.base_pb2 import HeaderValueOption
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)

from fairlead.simulate.request import Request

_ESCAPED_SLASH = re.compile(r"%2f|%5c", re.IGNORECASE)
METHODS = frozenset(
    (
        *("ACL", "BIND", "CHECKOUT", "CONNECT", "COPY", "DELETE", "GET", "HEAD", "LINK", "LOCK", "MERGE", "MKACTIVITY"),
        *("MKCALENDAR", "MKCOL", "MOVE", "MSEARCH", "NOTIFY", "OPTIONS", "PATCH", "POST", "PROPFIND", "PROPPATCH"),
        *("PURGE", "PUT", "REBIND", "REPORT", "SEARCH", "SOURCE", "SUBSCRIBE", "TRACE", "UNBIND", "UNLINK", "UNLOCK"),
        "UNSUBSCRIBE",
    )
)
"""The methods that Envoy takes in HTTP/1."""
_JOINED = frozenset(
    (
        "accept",
        "accept-encoding",
        "access-control-request-headers",
        "access-control-request-method",
        "authorization",
        "cache-control",
        "content-type",
        "expect",
        "grpc-timeout",
        "if-match",
        "origin",
        "pragma",
        "referer",
        "user-agent",
        "via",
        "x-client-trace-id",
        "x-envoy-original-path",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-request-id",
    )
)
"""Headers of which Envoy makes one, joined by commas, when a request has them more than once."""
_ESCAPED_PLAIN = re.compile(r"%(2d|3[0-9]|4[1-9a-f]|5[0-9af]|6[1-9a-f]|7[0-9ae])", re.IGNORECASE)
"""Letters, digits and `-_~`, which need no escape."""
_UNSAFE = re.compile(r'["<>^`{|}]')
"""What a path may hold escaped only."""
_TOKEN = "header.payload.signature"  # noqa: S105 - no secret: there is none
"""Stands for a token of which only the claims are told."""
_DEFAULT_PORTS = {"http": 80, "https": 443}


class Message:
    """An HTTP request. Header names are lower-case; pseudo headers are attributes, and headers for matchers.

    `metadata` is the dynamic metadata of the proxy that has it now.
    """

    def __init__(self, request: Request) -> None:
        self.method = "POST" if request.protocol == "grpc" and request.method == "GET" else request.method
        self.path = request.path or "/"
        self.scheme = "https" if request.tls else "http"
        self.authority = request.authority or authority(request.host, request.port, self.scheme)
        self.headers: list[tuple[str, str]] = [(name.lower(), value.strip(" \t")) for name, value in request.headers]
        if request.protocol == "grpc" and not self.header("content-type"):
            self.headers.append(("content-type", "application/grpc"))
        self.grpc = self.header("content-type") in ("application/grpc", "application/grpc+proto")
        self.metadata: dict[str, dict[str, Any]] = {}
        self.token = self._own_token(request)
        """The text of the token of which the request tells the claims, or what is wrong with it."""

    def _own_token(self, request: Request) -> str:
        value = self.header("authorization")
        if value is not None:
            return value.partition(" ")[2]
        if request.token_problem == "missing" or (request.claims is None and not request.token_problem):  # noqa: S105
            return ""
        self.headers.append(("authorization", f"Bearer {_TOKEN}"))
        return _TOKEN

    def header(self, name: str) -> str | None:
        """The value of a header or pseudo header, None if there is none."""
        pseudo = {":method": self.method, ":path": self.path, ":scheme": self.scheme, ":authority": self.authority}
        if name == "host":
            name = ":authority"
        if name in pseudo:
            return pseudo[name]
        found = [value for key, value in self.headers if key == name]
        if name in _JOINED and len(found) > 1:
            found = [one for one in found if one]  # Envoy joins nothing to what is there already
            return ",".join(found)
        return ",".join(found) if found else None

    def values(self, name: str) -> Sequence[str]:
        """The values of a header or pseudo header as matchers see them: one by one, but of known names joined."""
        found = [value for key, value in self.headers if key == name]
        if len(found) > 1 and name not in _JOINED:
            return found
        value = self.header(name)
        return () if value is None else (value,)

    def remove(self, name: str) -> None:
        """Take a header away."""
        self.headers = [one for one in self.headers if one[0] != name.lower()]

    def set(self, name: str, value: str) -> None:
        """Put a header in the place of any that there is."""
        self.remove(name)
        self.headers.append((name.lower(), value))

    @property
    def bare_path(self) -> str:
        """The path without query and fragment."""
        return re.split(r"[?#]", self.path, maxsplit=1)[0]

    @property
    def query(self) -> dict[str, str]:
        """The first value of each query parameter as routes see them: nothing is decoded."""
        _, _, text = self.path.partition("?")
        out: dict[str, str] = {}
        for one in filter(None, text.partition("#")[0].split("&")):
            name, _, value = one.partition("=")
            out.setdefault(name, value)
        return out

    @property
    def decoded_query(self) -> dict[str, str]:
        """The first value of each query parameter with its percent signs decoded, as tokens are looked for."""
        out: dict[str, str] = {}
        for name, value in self.query.items():
            out.setdefault(unquote(name), unquote(value))
        return out

    def forwarded(self, manager: HttpConnectionManager, *, tls: bool, has_scheme: bool) -> None:
        """Take note of how the request came to a connection manager, as Envoy does before anything looks at it.

        `x-forwarded-proto` is replaced where no proxy before it is trusted, and added where it is missing. HTTP/1 has
        no scheme of its own, and gets that one.
        """
        came = "https" if tls else "http"
        untrusted = manager.use_remote_address.value and not manager.xff_num_trusted_hops
        if untrusted or self.header("x-forwarded-proto") is None:
            self.set("x-forwarded-proto", came)
        if not has_scheme:
            said = self.header("x-forwarded-proto")
            self.scheme = said if said in _DEFAULT_PORTS else came

    def entered(self) -> None:
        """Come to another proxy: what the last one noted is gone."""
        self.metadata = {}


def authority(host: str, port: int, scheme: str) -> str:
    """The Host header that clients make of a URL: a scheme's own port is left out."""
    name = f"[{host}]" if ":" in host else host
    return name if port in (0, _DEFAULT_PORTS[scheme]) else f"{name}:{port}"


class Normal(NamedTuple):
    """The one form of a path, and whether clients are told to ask for that instead."""

    path: str
    redirects: bool = False


def normalised(path: str, manager: HttpConnectionManager) -> Normal | None:
    """The path as a connection manager brings it to one form before anything looks at it; None: it is refused (400)."""
    if "#" in path:
        return None
    bare, mark, rest = path.partition("?")
    action, escaped = manager.path_with_escaped_slashes_action, _ESCAPED_SLASH.search(bare) is not None
    if escaped and action == HttpConnectionManager.REJECT_REQUEST:
        return None
    redirects = escaped and action == HttpConnectionManager.UNESCAPE_AND_REDIRECT
    if redirects or action == HttpConnectionManager.UNESCAPE_AND_FORWARD:
        bare = _ESCAPED_SLASH.sub(lambda found: "/" if found[0].lower() == "%2f" else "\\", bare)
    if manager.normalize_path.value:
        if "%00" in bare:
            return None
        bare = _ESCAPED_PLAIN.sub(lambda found: chr(int(found[1], 16)), bare)
        bare = _UNSAFE.sub(lambda found: f"%{ord(found[0]):02X}", bare)
        bare = _without_dots(bare.replace("\\", "/"))
    if manager.merge_slashes and "//" in bare:
        # Nothing but slashes becomes two of them.
        last = "/" if bare.endswith("/") else ""
        bare = "/" + "/".join(one for one in bare.split("/") if one) + last
    return Normal(bare + mark + rest, redirects)


def _without_dots(path: str) -> str:
    """RFC 3986, 5.2.4; percent-encoded dots count as dots."""
    plain = re.sub(r"%2e", ".", path, flags=re.IGNORECASE)
    segments = plain.split("/")
    out: list[str] = []
    for at, one in enumerate(segments):
        last = at == len(segments) - 1
        if one == "..":
            if len(out) > 1:
                out.pop()
            out.extend([""] if last else [])
        elif one == ".":
            out.extend([""] if last else [])
        else:
            out.append(one)
    return "/".join(out) or "/"


def change_headers(message: Message, removed: Iterable[str], added: Sequence[HeaderValueOption]) -> list[str]:
    """Apply a configuration's header changes as Envoy does (removed first); what was changed, in words."""
    said: list[str] = []
    for name in removed:
        if message.header(name.lower()) is not None:
            said.append(f"removes {name}")
        message.remove(name)
    for one in added:
        name, value = one.header.key.lower(), one.header.value
        present = message.header(name)
        action = one.append_action
        if action == HeaderValueOption.ADD_IF_ABSENT and present is not None:
            continue
        if action == HeaderValueOption.OVERWRITE_IF_EXISTS and present is None:
            continue
        if action == HeaderValueOption.APPEND_IF_EXISTS_OR_ADD:
            message.headers.append((name, value))
        else:
            message.set(name, value)
        said.append(f"sets {name}: {value}")
    return said
