"""Requests: what an address means, what a query asks for, what a body holds."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any, cast

import msgspec
from starlette.requests import Request

from fairlead.apiserver import protobuf
from fairlead.apiserver.openapi import APPLY_PATCH
from fairlead.apiserver.refusal import Refusal, bad_request
from fairlead.apiserver.selectors import Predicate, SelectorError, both, field_selector, label_selector
from fairlead.model.yaml import YAMLError, parse_documents

Json = dict[str, Any]
MAX_BODY = 3 << 20
MAX_DEPTH = 100


class Target(msgspec.Struct, frozen=True):
    """What a path names; `resource` is empty for the version itself, `namespace` is None across namespaces."""

    group: str
    version: str
    resource: str = ""
    namespace: str | None = None
    name: str = ""
    subresource: str = ""


def target(path: str) -> Target | None:
    """The target of a path below /api or /apis, or None."""
    parts = path.strip("/").split("/")
    if parts[:1] == ["api"] and len(parts) >= 2:
        group, version, rest = "", parts[1], parts[2:]
    elif parts[:1] == ["apis"] and len(parts) >= 3:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        return None
    namespace: str | None = None
    if rest[:1] == ["namespaces"] and len(rest) >= 3 and (group or rest[2] not in ("status", "finalize")):
        namespace, rest = rest[1], rest[2:]
    if len(rest) > 3 or not all(rest):
        return None
    resource, name, subresource = (*rest, "", "", "")[:3]
    return Target(group, version, resource, namespace, name, subresource)


def flag(request: Request, name: str) -> bool:
    """A boolean query parameter."""
    return request.query_params.get(name, "").lower() in ("true", "1")


def number(request: Request, name: str, default: int) -> int:
    """A query parameter that is not negative."""
    text = request.query_params.get(name, "")
    if not text:
        return default
    if not text.isdecimal() or len(text) > 18:
        raise bad_request(f"{name} must be a whole number, not {text!r}")
    return int(text)


def dry_run(request: Request, options: Json) -> bool:
    """Whether the query or the DeleteOptions ask for a dry run."""
    given: object = options.get("dryRun") or []
    listed = cast("list[object]", given) if isinstance(given, list) else [given]
    asked: list[object] = [*request.query_params.getlist("dryRun"), *listed]
    if any(one != "All" for one in asked):
        raise bad_request("dryRun takes one value: All")
    return bool(asked)


def check_field_validation(request: Request) -> None:
    """Refuse unknown values; the known ones change nothing, because unknown fields are always refused."""
    value = request.query_params.get("fieldValidation", "Strict")
    if value not in ("Strict", "Warn", "Ignore", ""):
        raise bad_request(f"fieldValidation is one of Strict, Warn, Ignore, not {value!r}")


def manager(request: Request) -> str:
    """The field manager: the parameter, or what the user agent calls itself."""
    name = request.query_params.get("fieldManager", "")
    if len(name) > 128 or not name.isprintable():
        raise bad_request("fieldManager must be printable and at most 128 characters long")
    agent = request.headers.get("user-agent", "")
    return name or agent.partition("/")[0].strip()[:128] or "unknown"


def selection(request: Request) -> Predicate | None:
    """The predicate of labelSelector and fieldSelector."""
    try:
        return both(
            label_selector(request.query_params.get("labelSelector", "")),
            field_selector(request.query_params.get("fieldSelector", "")),
        )
    except SelectorError as error:
        raise bad_request(f"unable to parse the selector: {error}") from None


class Page(msgspec.Struct, frozen=True):
    """Where a list goes on: at a revision, after a namespace and name."""

    revision: int
    namespace: str
    name: str

    def token(self) -> str:
        """The `continue` value."""
        return base64.urlsafe_b64encode(msgspec.json.encode(self)).decode().rstrip("=")


def page(token: str) -> Page:
    """The inverse of `Page.token`."""
    try:
        raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        return msgspec.json.decode(raw, type=Page)
    except (ValueError, msgspec.MsgspecError):
        raise bad_request("continue is not one of this server: list from the beginning") from None


def accepted(header: str) -> Iterator[tuple[str, dict[str, str]]]:
    """The media types of an Accept header with their parameters, in order."""
    for wanted in header.split(",")[:50]:
        media, *parameters = wanted.split(";")
        pairs = (one.strip().partition("=") for one in parameters)
        yield media.strip().lower(), {name: value for name, _, value in pairs}


async def body(request: Request) -> bytes:
    """The body, bounded."""
    said = f"the request is larger than {MAX_BODY >> 20} MiB"
    length = request.headers.get("content-length", "0")
    if length.isdecimal() and int(length) > MAX_BODY:
        raise Refusal(413, said)
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_BODY:
            raise Refusal(413, said)
        chunks.append(chunk)
    return b"".join(chunks)


def media_type(request: Request) -> str:
    """The content type without its parameters."""
    return request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()


def decoded(raw: bytes, media: str) -> Any:
    """The data in a body. Raises 400 where it cannot be read, 415 where the form is not known."""
    if media == protobuf.MEDIA_TYPE:
        try:
            return protobuf.decode(raw)
        except protobuf.ProtobufError as error:
            raise bad_request(f"the protobuf body cannot be read: {error}") from None
    if media in ("application/yaml", APPLY_PATCH):
        return _yaml(raw)
    if media == "application/json" or media.endswith("+json"):
        found = _json(raw)
        if _deeper(found, MAX_DEPTH):
            raise bad_request(f"the body is nested deeper than {MAX_DEPTH} levels")
        return found
    known = f"application/json, application/yaml, {protobuf.MEDIA_TYPE}"
    raise Refusal(415, f"the body of the request was in an unknown format {media!r}; accepted are {known}")


def _deeper(value: object, levels: int) -> bool:
    if isinstance(value, dict):
        return levels == 0 or any(_deeper(one, levels - 1) for one in cast("Json", value).values())
    if isinstance(value, list):
        return levels == 0 or any(_deeper(one, levels - 1) for one in cast("list[object]", value))
    return False


def _yaml(raw: bytes) -> Any:
    try:
        found = parse_documents(raw, "body")
    except YAMLError as error:
        raise bad_request(f"the YAML body cannot be read: {error}") from None
    if len(found) != 1:
        raise bad_request(f"the body holds {len(found)} documents; one is wanted")
    return found[0].data


def _unique(pairs: list[tuple[str, Any]]) -> Json:
    out = dict(pairs)
    if len(out) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))
        raise bad_request(f"duplicate field {twice!r} in the body")
    return out


def _constant(text: str) -> Any:
    raise bad_request(f"{text} is not JSON")


def _json(raw: bytes) -> Any:
    try:
        found = json.loads(raw, object_pairs_hook=_unique, parse_constant=_constant)
        if b"\\u" in raw:
            json.dumps(found, ensure_ascii=False).encode()
    except RecursionError:
        raise bad_request("the body is nested too deeply") from None
    except UnicodeEncodeError:
        raise bad_request("the body holds half of a surrogate pair, which is no character") from None
    except ValueError as error:
        raise bad_request(f"the body is not JSON: {error}") from None
    return found
