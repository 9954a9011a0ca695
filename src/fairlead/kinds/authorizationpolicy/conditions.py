"""Attributes that a rule's `when` may name (istio `pkg/config/security`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from fairlead.kinds.authorizationpolicy.spec import Condition
from fairlead.model.diagnostic import Problem
from fairlead.model.names import nearest
from fairlead.model.path import FieldPath
from fairlead.model.syntax import is_ip_or_cidr

_IP = "an IP address or network"
_ANY = "a text"


def _port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 65535


_KEYS: dict[str, tuple[Callable[[str], bool], str]] = {
    "source.ip": (is_ip_or_cidr, _IP),
    "remote.ip": (is_ip_or_cidr, _IP),
    "source.namespace": (bool, _ANY),
    "source.principal": (bool, _ANY),
    "source.serviceAccount": (bool, _ANY),
    "request.auth.principal": (bool, _ANY),
    "request.auth.audiences": (bool, _ANY),
    "request.auth.presenter": (bool, _ANY),
    "destination.ip": (is_ip_or_cidr, _IP),
    "destination.port": (_port, "a port"),
    "connection.sni": (bool, _ANY),
}
_BRACKETED = ("request.headers", "request.auth.claims")
_METADATA = "experimental.envoy.filters."
_REMOVED = ("source.user", "destination.name", "destination.namespace", "destination.user", "destination.labels")


def attribute_problems(condition: Condition, path: FieldPath, action: str) -> Iterator[Problem]:
    """The key must be known, its values of its type; something must be asked of it."""
    key = condition.key
    if not key:
        yield Problem(path / "key", "must not be empty", code="FL0006", reason="FieldValueRequired")
        return
    if not condition.values and not condition.not_values:
        remedy = "Add values or notValues."
        yield Problem(path, f"nothing is asked of {key}", remedy=remedy, reason="FieldValueRequired")
    known = _KEYS.get(key)
    if known is None:
        yield from _bracketed(key, path)
        known = (bool, _ANY)
    if action == "CUSTOM" and (
        key in ("source.namespace", "source.serviceAccount", "source.principal") or key.startswith("request.auth.")
    ):
        said = f"{key} is currently not supported with CUSTOM action"
        yield Problem(path / "key", said, reason="FieldValueForbidden")
    accepts, wanted = known
    for field, values in (("values", condition.values), ("notValues", condition.not_values)):
        for at, value in enumerate(values):
            if not accepts(value):
                yield Problem(path.child(field, at), f"{value!r} is not {wanted}")


def _bracketed(key: str, path: FieldPath) -> Iterator[Problem]:
    name, bracket, inside = key.partition("[")
    closed = bool(bracket) and inside.endswith("]") and len(inside) > 1
    if name in _BRACKETED:
        plain = inside.removesuffix("]")
        if not closed or (name == "request.headers" and ("[" in plain or "]" in plain)) or not all(plain.split("][")):
            yield Problem(path / "key", f"{key!r} names nothing", remedy=f"Use {name}[NAME].")
        return
    if key.startswith(_METADATA):
        if not closed or "[" in inside:
            yield Problem(path / "key", f"{key!r} names nothing", remedy=f"Use {_METADATA}FILTER[KEY].")
        return
    near = nearest(name, (*_KEYS, *_BRACKETED))
    remedy = f"Did you mean {near!r}?" if near else f"Known: {', '.join((*_KEYS, *_BRACKETED))}."
    if name in _REMOVED:
        remedy = "This attribute no longer exists; use a selector."
    yield Problem(path / "key", f"unknown attribute {key!r}", remedy=remedy, reason="FieldValueNotSupported")
