"""OCI images that hold a Wasm module: references, manifests, layers and Docker's credentials file. No I/O.

Of the forms in use an image has its module either as a layer of its own (artifacts: `application/wasm`, or
`application/vnd.module.wasm.content.layer.v1+wasm`), or as `plugin.wasm` in its last layer, a tar, mostly gzipped.
"""

from __future__ import annotations

import base64
import gzip
import io
import json
import re
import tarfile
import zlib
from typing import Any, cast

import msgspec

MAX_MODULE_BYTES = 256 * 1024 * 1024
MAX_MEMBERS = 10_000
FILE_NAME = "plugin.wasm"
_MAGIC = b"\0asm"
_GZIP = b"\x1f\x8b"
_RAW = (
    "application/wasm",
    "application/vnd.module.wasm.content.layer.v1+wasm",
    "application/vnd.wasm.content.layer.v1+wasm",
)
_INDEX = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
ACCEPTED = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    *_INDEX,
)
_REPOSITORY = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+|/)[a-z0-9]+)*\Z")
_TAG = re.compile(r"[\w][\w.-]{0,127}\Z", re.ASCII)
_DIGEST = re.compile(r"sha(?:256:[a-f0-9]{64}|512:[a-f0-9]{128})\Z")
_HOST = re.compile(r"[A-Za-z0-9.\-\[\]:]+\Z")


class ModuleError(Exception):
    """A module cannot be had; the text says why, and holds no credentials."""


class Reference(msgspec.Struct, frozen=True):
    """An image: `tag` counts where there is no `digest`."""

    host: str
    repository: str
    tag: str
    digest: str = ""

    @staticmethod
    def parse(url: str) -> Reference:
        """`oci://HOST/REPOSITORY[:TAG][@DIGEST]`; the tag is `latest` where neither is given. Raises ModuleError."""
        host, _, rest = url.removeprefix("oci://").partition("/")
        rest, _, digest = rest.partition("@")
        repository, colon, tag = rest.partition(":")
        if not _HOST.match(host) or not _REPOSITORY.match(repository):
            raise ModuleError(f"{url} is not the name of an image")
        if (colon and not _TAG.match(tag)) or (digest and not _DIGEST.match(digest)):
            raise ModuleError(f"{url} has no valid tag or digest")
        return Reference(host, repository, tag or "latest", digest)


class Layer(msgspec.Struct, frozen=True):
    """The layer with the module; `limit` bounds its size in bytes."""

    digest: str
    raw: bool
    limit: int

    def unpack(self, body: bytes) -> bytes:
        """The module in the layer's bytes. Raises ModuleError."""
        return _checked(body) if self.raw else _from_tar(body)


def platform_manifest(document: dict[str, Any]) -> str:
    """The digest of the manifest to take from an index, "" if this is a manifest. Wasm has no platform: the first."""
    if document.get("mediaType") not in _INDEX and "manifests" not in document:
        return ""
    for one in _dicts(document.get("manifests")):
        digest = one.get("digest")
        if isinstance(digest, str) and _DIGEST.match(digest) and one.get("mediaType") not in _INDEX:
            return digest
    raise ModuleError("the image's index names no manifest")


def layer_of(manifest: dict[str, Any]) -> Layer:
    """Where a manifest has the module. Raises ModuleError."""
    layers = _dicts(manifest.get("layers"))
    raw = [one for one in layers if one.get("mediaType") in _RAW]
    chosen = raw[0] if raw else layers[-1] if layers else {}
    digest, size = chosen.get("digest"), chosen.get("size", 0)
    if not isinstance(digest, str) or not _DIGEST.match(digest):
        raise ModuleError("the image has no layer with a module")
    if not isinstance(size, int) or not 0 <= size <= MAX_MODULE_BYTES:
        raise ModuleError(f"the image's layer is larger than {MAX_MODULE_BYTES} bytes")
    return Layer(digest, bool(raw), size or MAX_MODULE_BYTES)


def module_in(body: bytes) -> bytes:
    """The module in what an HTTP server sent: itself, gzipped, or `plugin.wasm` in a tar. Raises ModuleError."""
    if body.startswith(_MAGIC):
        return body
    return _from_tar(body)


def _from_tar(body: bytes) -> bytes:
    plain = _unzipped(body)
    if plain.startswith(_MAGIC):
        return plain
    try:
        with tarfile.open(fileobj=io.BytesIO(plain), mode="r:") as archive:
            for count, member in enumerate(archive):
                if count >= MAX_MEMBERS:
                    break
                if member.isreg() and member.name.rpartition("/")[2] == FILE_NAME:
                    file = archive.extractfile(member)
                    return _checked(file.read() if file is not None else b"")
    except (tarfile.TarError, EOFError, OSError, ValueError):
        raise ModuleError("what the server sent is neither a module nor a tar with one") from None
    raise ModuleError(f"there is no {FILE_NAME} in it")


def _unzipped(body: bytes) -> bytes:
    """What is gzipped without that, never more than a module may have."""
    if not body.startswith(_GZIP):
        return body
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(body)) as file:
            plain = file.read(MAX_MODULE_BYTES + 1)
    except (OSError, EOFError, zlib.error):
        raise ModuleError("what the server sent is damaged gzip") from None
    if len(plain) > MAX_MODULE_BYTES:
        raise ModuleError(f"unpacked it is larger than {MAX_MODULE_BYTES} bytes")
    return plain


def _checked(body: bytes) -> bytes:
    if not body.startswith(_MAGIC):
        raise ModuleError("what the server sent is not a Wasm module")
    return body


def credentials_for(config: str, reference: Reference) -> tuple[str, str] | None:
    """User and password for a registry from a Docker configuration (`{"auths": {HOST: ...}}`); None if it has none.

    The longest key wins that names the host, or the host and the beginning of the repository. Raises ModuleError.
    """
    if not config:
        return None
    try:
        document: object = json.loads(config)
    except ValueError:
        raise ModuleError("imagePullSecret is not JSON") from None
    auths = cast("dict[str, Any]", document).get("auths") if isinstance(document, dict) else None
    if not isinstance(auths, dict):
        return None
    image = f"{reference.host}/{reference.repository}"
    found: tuple[int, tuple[str, str]] | None = None
    for key, entry in cast("dict[str, Any]", auths).items():
        name = re.sub(r"^https?://", "", key).rstrip("/")
        name = re.sub(r"/v[12]$", "", name)
        login = _login(entry) if image == name or image.startswith(f"{name}/") else None
        if login is not None and (found is None or len(name) > found[0]):
            found = (len(name), login)
    return found[1] if found is not None else None


def _login(entry: object) -> tuple[str, str] | None:
    if not isinstance(entry, dict):
        return None
    given = cast("dict[str, Any]", entry)
    if isinstance(given.get("username"), str) and isinstance(given.get("password"), str):
        return given["username"], given["password"]
    try:
        user, colon, password = base64.b64decode(str(given.get("auth", "")), validate=True).decode().partition(":")
    except ValueError:
        raise ModuleError("imagePullSecret has an entry that is not base64") from None
    return (user, password) if colon else None


def _dicts(value: object) -> list[dict[str, Any]]:
    if not isinstance(value, list):
        return []
    return [cast("dict[str, Any]", one) for one in cast("list[object]", value) if isinstance(one, dict)]
