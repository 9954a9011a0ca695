"""Names and values of Envoy as people say them."""

from __future__ import annotations

import json
from typing import Any

from google.protobuf.message import Message

from fairlead.effect.change import Field
from fairlead.envoy.difference import Difference
from fairlead.envoy.settings import Path, is_plain, written

_SHORT = 60
_FEW = 4


def host(name: str) -> str:
    """A host without the mesh's suffix: `cart.shop`."""
    return name.replace(".svc.cluster.local", "")


def destination(cluster: str) -> str:
    """A cluster as a destination: `subset v1 of cart.shop:80`."""
    direction, *rest = cluster.split("|")
    if direction in ("outbound", "inbound") and len(rest) == 3:
        port, subset, name = rest
        if direction == "inbound":
            return f"the own port {port}"
        whole = f"{host(name)}:{port}"
        return f"subset {subset} of {whole}" if subset else whole
    known = {"BlackHoleCluster": "nowhere (BlackHoleCluster)", "PassthroughCluster": "anywhere (PassthroughCluster)"}
    return known.get(cluster, cluster or "no cluster")


def value(of: Any) -> str:
    """A value in few characters."""
    if of is None:
        return "none"
    text = of if isinstance(of, str) else json.dumps(of, ensure_ascii=False)
    return text if len(text) <= _SHORT else f"{text[: _SHORT - 3]}..."


def some(names: list[str]) -> str:
    """Names, and how many more."""
    more = f" and {len(names) - _FEW} more" if len(names) > _FEW else ""
    return ", ".join(names[:_FEW]) + more


def field(one: Difference, below: Path = ()) -> Field:
    """A difference as a field of a change; `below` is the path of the resource's part in which it was found."""
    return Field(written((*below, *one.path)), one.before, one.after)


def turned(one: Difference, below: int = 0) -> str:
    """`timeout 5s -> 1s`; the first `below` steps are left out. Of what has no short value, that it comes or goes."""
    path = written(one.path[below:])
    short = not any(isinstance(each, Message) and not is_plain(each) for each in (one.old, one.new))
    if one.old is None:
        return f"{path.replace('[+', '[')}{f' {value(one.after)}' if short else ''} is new"
    if one.new is None:
        return f"{path} is gone{f' (was {value(one.before)})' if short else ''}"
    return f"{path} {value(one.before)} -> {value(one.after)}" if short else f"{path} is another one"
