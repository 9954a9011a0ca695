"""Tags of spans."""

from __future__ import annotations

from typing import Literal

import msgspec

TagKind = Literal["literal", "environment", "header", "format"]


class Tag(msgspec.Struct, frozen=True):
    """A tag of spans: a fixed text, a variable of the proxy's environment, a request header, or a format string."""

    name: str
    kind: TagKind
    value: str
    default: str = ""
