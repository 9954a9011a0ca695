"""`$(NAME)` expansion, as Kubernetes does it for command, args and env."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

_REFERENCE = re.compile(r"\$(\$|\(([^()]*)\))")


def expand(text: str, variables: Mapping[str, str]) -> str:
    """`text` with references replaced; `$$` is one dollar sign, an unknown reference stays as it is."""

    def value(match: re.Match[str]) -> str:
        if match.group(1) == "$":
            return "$"
        return variables.get(match.group(2), match.group(0))

    return _REFERENCE.sub(value, text)


def environment(base: Mapping[str, str], entries: Iterable[tuple[str, str]]) -> dict[str, str]:
    """`base` and the entries, each expanded with what stands before it."""
    out = dict(base)
    for name, value in entries:
        out[name] = expand(value, out)
    return out
