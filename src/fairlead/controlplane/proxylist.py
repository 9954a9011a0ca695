"""What is told of connected proxies: a page of them at a time, since there may be thousands.

Which proxies are shown is decided by counters and names; what each has is looked at only for those.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from fairlead.controlplane.progress import Standing
from fairlead.envoy.resource import CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET
from fairlead.ir.view import View
from fairlead.xds.ledger import Nack, TypeLedger, TypeStatus
from fairlead.xds.server import Connection

TITLES = {"CDS": CLUSTER, "LDS": LISTENER, "EDS": ENDPOINT, "RDS": ROUTE, "SDS": SECRET}
STATES = ("refused", "held", "behind")
MOST_NAMES = 20
"""So many resources are named of each type that is not in sync."""
_MOST_BRIEF, _MOST_WHOLE = 500, 20
"""Of so many proxies the loop tells at once: some 10 ms."""


class Known:
    """A connected proxy. `since` is Unix time."""

    __slots__ = ("called", "connection", "name", "namespace", "since", "standing", "view")

    def __init__(self, connection: Connection, view: View) -> None:
        self.connection = connection
        self.view = view
        self.since = time.time()
        self.standing = Standing()
        said = connection.node.parts
        self.name = said.name
        self.namespace = said.namespace or connection.peer.namespace
        self.called = f"{self.name}.{self.namespace}"

    @property
    def key(self) -> str:
        """What proxies are ordered by, and pages go on from: unique, since two may claim one name for a while."""
        return f"{self.namespace}/{self.name}/{self.connection.id}"


class Asked(msgspec.Struct, frozen=True):
    """Which proxies are wanted, and how much of each.

    `name` is `NAME` or `NAME.NAMESPACE`; `state` one of STATES; `slow` puts those first that are behind longest and
    leaves out the others; `limit` 0 means all; `after` is the `continue` of the page before; `brief` leaves out
    counts and names of resources but where something was refused.
    """

    name: str = ""
    namespace: str = ""
    state: str = ""
    slow: bool = False
    limit: int = 0
    after: str = ""
    brief: bool = False

    @property
    def few(self) -> bool:
        """Whether that is quickly told: of each proxy little, or little of them."""
        return 0 < self.limit <= (_MOST_BRIEF if self.brief else _MOST_WHOLE)


def asked(query: Mapping[str, str]) -> Asked:
    """From the parameters of a request. Raises ValueError with a message for people."""
    unknown = sorted({*query} - {"name", "namespace", "state", "slow", "limit", "continue", "brief"})
    if unknown:
        raise ValueError(f"unknown parameter {unknown[0]!r}")
    state, limit = query.get("state", ""), query.get("limit", "0")
    if state and state not in STATES:
        raise ValueError(f"state must be one of {', '.join(STATES)}")
    if not limit.isdecimal():
        raise ValueError("limit must be a number, 0 for all")
    return Asked(
        query.get("name", ""),
        query.get("namespace", ""),
        state,
        query.get("slow") == "true",
        int(limit),
        query.get("continue", ""),
        query.get("brief") == "true",
    )


class Counts(msgspec.Struct, frozen=True):
    """How many proxies there are, and how many of them stand how."""

    total: int = 0
    behind: int = 0
    refused: int = 0
    held: int = 0


def counts(known: Iterable[Known], held: Mapping[View, object]) -> Counts:
    """Counts over all proxies."""
    listed = list(known)
    return Counts(
        len(listed),
        sum(one.standing.behind_since is not None for one in listed),
        sum(one.connection.session.refused for one in listed),
        sum(one.view in held for one in listed) if held else 0,
    )


def chosen(known: Iterable[Known], held: Mapping[View, object], wanted: Asked) -> tuple[list[Known], str]:
    """A page of those that are wanted, and from where the next page goes on (empty: this was the last)."""
    found = [one for one in known if _wanted(one, held, wanted)]
    if wanted.slow:
        found = [one for one in found if one.standing.behind_since is not None]
        found.sort(key=lambda one: (one.standing.behind_since or 0.0, one.key))
        return (found[: wanted.limit] if wanted.limit else found), ""
    found.sort(key=lambda one: one.key)
    if wanted.after:
        found = [one for one in found if one.key > wanted.after]
    if wanted.limit and len(found) > wanted.limit:
        page = found[: wanted.limit]
        return page, page[-1].key
    return found, ""


def _wanted(one: Known, held: Mapping[View, object], wanted: Asked) -> bool:
    if wanted.namespace and one.namespace != wanted.namespace:
        return False
    if wanted.name and wanted.name not in (one.name, f"{one.name}.{one.namespace}", one.connection.node.id):
        return False
    match wanted.state:
        case "refused":
            return one.connection.session.refused
        case "held":
            return one.view in held
        case "behind":
            return one.standing.behind_since is not None
        case _:
            return True


def described(one: Known, now: float, held: str, revision: str, *, brief: bool) -> dict[str, Any]:
    """One proxy, JSON-shaped. `now` is the time of the clock of standings; `held` says why a push is held."""
    connection, standing = one.connection, one.standing
    said = connection.node.parts
    behind = standing.behind_since
    short = brief and not connection.session.refused
    return {
        "name": one.name,
        "namespace": one.namespace,
        "type": said.type,
        "address": said.address,
        "identity": str(connection.peer),
        "version": connection.node.agent,
        "agentVersion": one.view.version,
        "revision": revision,
        "held": held,
        "connectedSeconds": round(time.time() - one.since, 1),
        "behindSeconds": None if behind is None else round(max(now - behind, 0.0), 3),
        "lastSeconds": None if standing.last_seconds is None else round(standing.last_seconds, 4),
        "types": _states(connection) if short else _types(connection),
    }


def refusing(one: Known) -> Iterator[tuple[str, TypeLedger, str, Nack]]:
    """What a proxy refuses, in order: type URL, that type's ledger, the resource's name, and what it said."""
    session = one.connection.session
    for type_url in TITLES.values() if session.refused else ():
        ledger = session.ledger(type_url)
        if ledger is not None:
            yield from ((type_url, ledger, name, nack) for name, nack in sorted(ledger.nacked.items()))


def _states(connection: Connection) -> dict[str, Any]:
    states = connection.session.states()
    return {title: {"state": str(states.get(type_url, "NOT SENT"))} for title, type_url in TITLES.items()}


def _types(connection: Connection) -> dict[str, Any]:
    statuses: dict[str, TypeStatus] = {one.type_url: one for one in connection.status()}
    types: dict[str, Any] = {}
    for title, type_url in TITLES.items():
        one = statuses.get(type_url)
        if one is None:
            types[title] = {"state": "NOT SENT"}
            continue
        types[title] = {
            "state": str(one.state),
            "resources": one.acked_resources,
            "sent": one.sent,
            "acked": one.acked,
            "nacked": one.nacked,
            "lastAcked": one.last_acked,
            "behind": [
                {"name": entry.name, "error": entry.nacked.message if entry.nacked else ""}
                for entry in one.entries[:MOST_NAMES]
            ],
            "behindCount": len(one.entries),
        }
    return types
