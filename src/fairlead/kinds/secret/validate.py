"""What Kubernetes demands of a Secret beyond its types, and what it fills in."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from typing import Any, cast

from fairlead.kinds.secret.spec import SecretSpec
from fairlead.model.diagnostic import Problem
from fairlead.model.object import Object
from fairlead.model.path import ROOT

MAX_BYTES = 1 << 20
_KEY = re.compile(r"^[-._a-zA-Z0-9]{1,253}$")
_DATA = ROOT / "data"
_TYPE = ROOT / "type"

# The keys without which a Secret of a type is of no use.
_NEEDED: dict[str, tuple[str, ...]] = {
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
}


def default(document: dict[str, Any]) -> dict[str, Any]:
    """`stringData` becomes `data`; the type is Opaque. What is not shaped right is left for decoding to refuse."""
    out = dict(document)
    plain: object = document.get("stringData")
    data: object = document.get("data") or {}
    if isinstance(plain, dict) and isinstance(data, dict):
        texts = cast("dict[str, object]", plain)
        if all(isinstance(value, str) for value in texts.values()):
            encoded = {key: base64.b64encode(str(value).encode()).decode() for key, value in texts.items()}
            out["data"] = {**cast("dict[str, object]", data), **encoded}
            del out["stringData"]
    if not out.get("type"):
        out["type"] = "Opaque"
    return out


def _decoded(text: str) -> bytes | None:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        return None


def validate(obj: Object[SecretSpec]) -> Iterable[Problem]:
    """Keys, base64, the total size, and the keys that a type needs."""
    size = 0
    for key, value in obj.spec.data.items():
        if not _KEY.match(key):
            yield Problem(_DATA / key, f"{key!r} is not a key", remedy="Use letters, digits, '-', '_' and '.'.")
        raw = _decoded(value)
        if raw is None:
            yield Problem(_DATA / key, "not base64", remedy="Encode the value, or write it plainly under stringData.")
        else:
            size += len(raw)
    if size > MAX_BYTES:
        yield Problem(_DATA, f"{size} bytes together; at most {MAX_BYTES} are taken", remedy="Split the secret.")
    for key in _NEEDED.get(obj.spec.type, ()):
        if key not in obj.spec.data:
            yield Problem(
                _DATA / key,
                f"required for type {obj.spec.type}",
                remedy="Add the key, or use type Opaque.",
                code="FL0004",
                reason="FieldValueRequired",
            )
    if obj.spec.type == "kubernetes.io/basic-auth" and not {"username", "password"} & set(obj.spec.data):
        yield Problem(
            _DATA,
            "type kubernetes.io/basic-auth needs username or password",
            remedy="Add one of the keys, or use type Opaque.",
            code="FL0004",
            reason="FieldValueRequired",
        )


def validate_update(old: Object[SecretSpec], new: Object[SecretSpec]) -> Iterable[Problem]:
    """The type never changes; an immutable secret changes in nothing."""
    recreate = "Delete the secret and create it again, or use another name."
    if old.spec.type != new.spec.type:
        said = f"the type cannot change from {old.spec.type}"
        yield Problem(_TYPE, said, remedy=recreate, reason="FieldValueForbidden")
    if old.spec.immutable:
        if not new.spec.immutable:
            said = "an immutable secret stays immutable"
            yield Problem(ROOT / "immutable", said, remedy=recreate, reason="FieldValueForbidden")
        if old.spec.data != new.spec.data:
            yield Problem(_DATA, "the secret is immutable", remedy=recreate, reason="FieldValueForbidden")
