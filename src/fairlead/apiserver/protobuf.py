"""Kubernetes' protobuf request bodies, as kubectl's typed commands send them (create, auth, token). Pure.

An own decoder for the few messages that matter: `k8s\\0`, a `runtime.Unknown`, and in it the object. The field
numbers are those of Kubernetes' published `generated.proto` files, which never change. Unknown fields are skipped and
empty ones dropped, because that encoding writes empty strings and zeros where JSON would say nothing.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from fairlead.envoy.pack import read_varint

Json = dict[str, Any]
MAGIC = b"k8s\x00"
MEDIA_TYPE = "application/vnd.kubernetes.protobuf"
_MAX_DEPTH = 30


class ProtobufError(Exception):
    """Bytes that are not a message of a known kind."""


Wire = int | bytes
Message = dict[int, tuple[str, str, Any]]
"""Field number -> (JSON name, form, detail). Forms: one of the scalars, `message`, and these repeated or as a map."""


def _text(raw: Wire, _: Any, __: int) -> object:
    if not isinstance(raw, bytes):
        raise ProtobufError("a string was expected")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise ProtobufError("a string is not UTF-8") from None


def _base64(raw: Wire, _: Any, __: int) -> object:
    if not isinstance(raw, bytes):
        raise ProtobufError("bytes were expected")
    return base64.b64encode(raw).decode()


def _number(raw: Wire, _: Any, __: int) -> object:
    if not isinstance(raw, int):
        raise ProtobufError("an integer was expected")
    return raw - (1 << 64) if raw >> 63 else raw


def _flag(raw: Wire, _: Any, __: int) -> object:
    return bool(raw)


def _time(raw: Wire, _: Any, depth: int) -> object:
    seconds = _message(raw, {1: ("seconds", "int", None)}, depth).get("seconds")
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if seconds else None
    except (ValueError, OverflowError, OSError):
        raise ProtobufError("a time is out of range") from None


def _int_or_string(raw: Wire, _: Any, depth: int) -> object:
    parts = _message(raw, {1: ("type", "int", None), 2: ("int", "int", None), 3: ("str", "string", None)}, depth)
    return parts.get("str", "") if parts.get("type") else parts.get("int", 0)


def _message(raw: Wire, fields: Message, depth: int) -> Json:
    if not isinstance(raw, bytes):
        raise ProtobufError("a message was expected")
    if depth > _MAX_DEPTH:
        raise ProtobufError("nested too deeply")
    out: Json = {}
    for number, value in _fields(raw):
        known = fields.get(number)
        if known is None:
            continue
        name, form, detail = known
        shape, _, scalar = form.rpartition(" ")
        if shape == "map":
            entry = _message(value, {1: ("k", "string", None), 2: ("v", scalar, detail)}, depth + 1)
            out.setdefault(name, {})[entry.get("k", "")] = entry.get("v", "")
        elif shape == "list":
            out.setdefault(name, []).append(_FORMS[scalar](value, detail, depth + 1))
        else:
            found = _FORMS[scalar](value, detail, depth + 1)
            if found or found is False or scalar == "intstr":
                out[name] = found
    return out


_FORMS: dict[str, Callable[[Wire, Any, int], Any]] = {
    "string": _text,
    "bytes": _base64,
    "int": _number,
    "bool": _flag,
    "time": _time,
    "intstr": _int_or_string,
    "message": _message,
}


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    try:
        return read_varint(raw, at)
    except ValueError as error:
        raise ProtobufError(str(error)) from None


def _fields(raw: bytes) -> Iterator[tuple[int, Wire]]:
    at = 0
    while at < len(raw):
        tag, at = _varint(raw, at)
        wire = tag & 7
        if wire == 0:
            value, at = _varint(raw, at)
            yield tag >> 3, value
            continue
        if wire == 2:
            size, at = _varint(raw, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ProtobufError(f"wire type {wire} is not known")
        if at + size > len(raw):
            raise ProtobufError("a field is cut off")
        if wire == 2:
            yield tag >> 3, raw[at : at + size]
        at += size


def _strings(*names: str) -> Message:
    return {number: (name, "string", None) for number, name in enumerate(names, 1)}


_META: Message = {
    **_strings("name", "generateName", "namespace", "selfLink", "uid", "resourceVersion"),
    7: ("generation", "int", None),
    8: ("creationTimestamp", "time", None),
    11: ("labels", "map string", None),
    12: ("annotations", "map string", None),
    13: (
        "ownerReferences",
        "list message",
        {
            1: ("kind", "string", None),
            3: ("name", "string", None),
            4: ("uid", "string", None),
            5: ("apiVersion", "string", None),
            6: ("controller", "bool", None),
            7: ("blockOwnerDeletion", "bool", None),
        },
    ),
    14: ("finalizers", "list string", None),
}
_REFERENCE: Message = _strings("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
_PORT: Message = {
    1: ("name", "string", None),
    2: ("protocol", "string", None),
    3: ("port", "int", None),
    4: ("targetPort", "intstr", None),
    5: ("nodePort", "int", None),
    6: ("appProtocol", "string", None),
}
_SERVICE: Message = {
    1: ("ports", "list message", _PORT),
    2: ("selector", "map string", None),
    3: ("clusterIP", "string", None),
    4: ("type", "string", None),
    5: ("externalIPs", "list string", None),
    7: ("sessionAffinity", "string", None),
    8: ("loadBalancerIP", "string", None),
    9: ("loadBalancerSourceRanges", "list string", None),
    10: ("externalName", "string", None),
    11: ("externalTrafficPolicy", "string", None),
    12: ("healthCheckNodePort", "int", None),
    13: ("publishNotReadyAddresses", "bool", None),
    17: ("ipFamilyPolicy", "string", None),
    18: ("clusterIPs", "list string", None),
    19: ("ipFamilies", "list string", None),
    20: ("allocateLoadBalancerNodePorts", "bool", None),
    21: ("loadBalancerClass", "string", None),
    22: ("internalTrafficPolicy", "string", None),
    23: ("trafficDistribution", "string", None),
}
_RESOURCE: Message = _strings("namespace", "verb", "group", "version", "resource", "subresource", "name")


def _object(**fields: tuple[int, str, Any]) -> Message:
    out: Message = {1: ("metadata", "message", _META)}
    for name, (number, form, detail) in fields.items():
        out[number] = (name, form, detail)
    return out


_KINDS: dict[tuple[str, str], Message] = {
    ("v1", "Namespace"): _object(spec=(2, "message", {1: ("finalizers", "list string", None)})),
    ("v1", "ServiceAccount"): _object(
        secrets=(2, "list message", _REFERENCE),
        imagePullSecrets=(3, "list message", _strings("name")),
        automountServiceAccountToken=(4, "bool", None),
    ),
    ("v1", "ConfigMap"): _object(
        data=(2, "map string", None), binaryData=(3, "map bytes", None), immutable=(4, "bool", None)
    ),
    ("v1", "Secret"): _object(
        data=(2, "map bytes", None),
        type=(3, "string", None),
        stringData=(4, "map string", None),
        immutable=(5, "bool", None),
    ),
    ("v1", "Service"): _object(spec=(2, "message", _SERVICE)),
    ("authentication.k8s.io/v1", "TokenRequest"): _object(
        spec=(
            2,
            "message",
            {
                1: ("audiences", "list string", None),
                3: ("boundObjectRef", "message", _strings("kind", "apiVersion", "name", "uid")),
                4: ("expirationSeconds", "int", None),
            },
        )
    ),
    ("authentication.k8s.io/v1", "SelfSubjectReview"): _object(),
    ("authorization.k8s.io/v1", "SelfSubjectAccessReview"): _object(
        spec=(
            2,
            "message",
            {
                1: ("resourceAttributes", "message", _RESOURCE),
                2: ("nonResourceAttributes", "message", _strings("path", "verb")),
            },
        )
    ),
    ("authorization.k8s.io/v1", "SelfSubjectRulesReview"): _object(
        spec=(2, "message", {1: ("namespace", "string", None)})
    ),
    ("v1", "DeleteOptions"): {
        1: ("gracePeriodSeconds", "int", None),
        2: ("preconditions", "message", _strings("uid", "resourceVersion")),
        4: ("propagationPolicy", "string", None),
        5: ("dryRun", "list string", None),
    },
}
_ENVELOPE: Message = {1: ("typeMeta", "message", _strings("apiVersion", "kind"))}


def decode(body: bytes) -> Json:
    """The object as JSON-shaped data. Raises ProtobufError."""
    if not body.startswith(MAGIC):
        raise ProtobufError("the body does not begin with the Kubernetes protobuf prefix")
    envelope = body[len(MAGIC) :]
    meta = _message(envelope, _ENVELOPE, 0).get("typeMeta", {})
    api_version, kind = meta.get("apiVersion", ""), meta.get("kind", "")
    fields = _KINDS.get((api_version, kind))
    if fields is None:
        raise ProtobufError(f"{kind or 'an object without kind'} of {api_version!r} is not read as protobuf; send JSON")
    raw: Wire = b""
    for number, value in _fields(envelope):
        if number == 2:
            raw = value
    found = _message(raw, fields, 0)
    for part in ("spec", "metadata"):
        if part in found and not found[part]:
            del found[part]
    out: Json = {"apiVersion": api_version, "kind": kind, "metadata": {}}
    return out | found
