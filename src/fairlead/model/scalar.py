"""What a scalar of a YAML text means, as Kubernetes reads it (sigs.k8s.io/yaml on go-yaml v2, then JSON)."""

from __future__ import annotations

import re

_TRUE = {"y", "Y", "yes", "Yes", "YES", "on", "On", "ON", "true", "True", "TRUE"}
_FALSE = {"n", "N", "no", "No", "NO", "off", "Off", "OFF", "false", "False", "FALSE"}
_NULL = {"", "~", "null", "Null", "NULL"}
_LONGEST_INTEGER = 80
_DEC = re.compile(r"^[-+]?[0-9][0-9_]*$")
_OCT = re.compile(r"^[-+]?0[0-7_]+$")
_OCT12 = re.compile(r"^[-+]?0o[0-7_]+$")
_HEX = re.compile(r"^[-+]?0x[0-9a-fA-F_]+$")
_BIN = re.compile(r"^[-+]?0b[01_]+$")
_FLOAT = re.compile(r"^[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?$")


def _integer(text: str) -> int | None:
    """The integer of a text, or None if it is none of 64 bits."""
    if len(text) > _LONGEST_INTEGER:
        return None
    try:
        found = _whole(text)
    except ValueError:
        return None
    return found if found is not None and -(1 << 63) <= found < 1 << 64 else None


def _whole(text: str) -> int | None:
    plain = text.replace("_", "")
    if _OCT12.match(text):
        return int(plain.replace("0o", "", 1), 8)
    if _OCT.match(text) and len(plain.lstrip("+-")) > 1:
        return int(plain, 8)
    if _DEC.match(text):
        digits = plain.lstrip("+-")
        return int(plain, 10) if len(digits) < 20 and (digits == "0" or not digits.startswith("0")) else None
    if _HEX.match(text):
        return int(plain, 16)
    if _BIN.match(text):
        return int(plain, 2)
    return None


def resolve_scalar(text: str, *, plain: bool, key: bool = False) -> object:
    """The JSON value of a scalar. Quoted scalars are strings; `y` and `n` are booleans only as keys."""
    if not plain:
        return text
    if text in _NULL:
        return None
    if text in _TRUE and (key or len(text) > 1):
        return True
    if text in _FALSE and (key or len(text) > 1):
        return False
    if text[0] not in "+-.0123456789":
        return text
    whole = _integer(text)
    if whole is not None:
        return whole
    if _FLOAT.match(text):
        number = float(text.replace("_", ""))
        return number if number != number or number not in (float("inf"), float("-inf")) else text
    return text
