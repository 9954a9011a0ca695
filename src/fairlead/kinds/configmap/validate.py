"""What Kubernetes demands of a ConfigMap beyond its types."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable

from fairlead.ir.meshconfig import configmap_problems
from fairlead.kinds.configmap.spec import ConfigMapSpec
from fairlead.model.diagnostic import Problem
from fairlead.model.object import Object
from fairlead.model.path import ROOT

MAX_BYTES = 1 << 20
_KEY = re.compile(r"^[-._a-zA-Z0-9]{1,253}$")
_DATA = ROOT / "data"
_BINARY = ROOT / "binaryData"


def validate(obj: Object[ConfigMapSpec]) -> Iterable[Problem]:
    """Keys, base64, no key in both maps, and the total size."""
    size = sum(len(value.encode()) for value in obj.spec.data.values())
    for path, keys in ((_DATA, obj.spec.data), (_BINARY, obj.spec.binary_data)):
        for key in keys:
            if not _KEY.match(key):
                yield Problem(path / key, f"{key!r} is not a key", remedy="Use letters, digits, '-', '_' and '.'.")
    for key, value in obj.spec.binary_data.items():
        if key in obj.spec.data:
            yield Problem(_BINARY / key, "the key stands in data too", remedy="Keep one of the two.")
        try:
            size += len(base64.b64decode("".join(value.split()), validate=True))
        except (binascii.Error, ValueError):
            yield Problem(_BINARY / key, "not base64", remedy="Encode the bytes, or write text under data.")
    if size > MAX_BYTES:
        yield Problem(ROOT, f"{size} bytes together; at most {MAX_BYTES} are taken", remedy="Split the ConfigMap.")
    yield from configmap_problems(obj.ref.namespace, obj.ref.name, obj.spec.data)


def validate_update(old: Object[ConfigMapSpec], new: Object[ConfigMapSpec]) -> Iterable[Problem]:
    """An immutable ConfigMap changes in nothing."""
    if not old.spec.immutable:
        return
    recreate = "Delete the ConfigMap and create it again, or use another name."
    if not new.spec.immutable:
        said = "an immutable ConfigMap stays immutable"
        yield Problem(ROOT / "immutable", said, remedy=recreate, reason="FieldValueForbidden")
    for path, before, after in (
        (_DATA, old.spec.data, new.spec.data),
        (_BINARY, old.spec.binary_data, new.spec.binary_data),
    ):
        if before != after:
            yield Problem(path, "the ConfigMap is immutable", remedy=recreate, reason="FieldValueForbidden")
