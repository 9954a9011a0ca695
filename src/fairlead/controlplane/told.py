"""Everything that happened, on one line of time: commits of the store and rows of the timeline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import msgspec

from fairlead.controlplane import past
from fairlead.store.answers import How
from fairlead.store.change import Json, Wanted
from fairlead.store.store import Store
from fairlead.store.timeline import SORTS, Happening, Timeline
from fairlead.store.timeline import Asked as Rows
from fairlead.store.transaction import timestamp

COMMIT = "commit"
KINDS = (COMMIT, *SORTS)
_ANSWERS = (How.ACKNOWLEDGED, How.REFUSED)
_SAID = {
    How.ACKNOWLEDGED: "acknowledged after",
    How.REFUSED: "refused after",
    How.LEFT: "disconnected without an answer after",
    How.SILENT: "had not answered after",
}


class Asked(msgspec.Struct, frozen=True):
    """What is wanted: since a time (Unix seconds), of some kinds (all if empty), about one proxy (NAME.NAMESPACE).

    `after` and `revision` continue an earlier answer: the last row and the last revision that it had.
    """

    since: float = 0
    kinds: tuple[str, ...] = ()
    proxy: str = ""
    after: int = 0
    revision: int = 0
    limit: int = 200


def asked(query: Mapping[str, str]) -> Asked:
    """From the parameters of a request. Raises ValueError with a message for people."""
    unknown = sorted({*query} - {"since", "kind", "proxy", "after", "revision", "limit"})
    if unknown:
        raise ValueError(f"unknown parameter {unknown[0]!r}")
    kinds = tuple(one for one in query.get("kind", "").split(",") if one)
    wrong = [one for one in kinds if one not in KINDS]
    if wrong:
        raise ValueError(f"there is no kind of event {wrong[0]!r}; there are {', '.join(KINDS)} [FL3903]")
    try:
        numbers = [int(query.get(name, otherwise)) for name, otherwise in (("after", "0"), ("revision", "0"))]
        limit = int(query.get("limit", "200"))
        return Asked(float(query.get("since", "0")), kinds, query.get("proxy", ""), *numbers, limit=max(limit, 0))
    except ValueError:
        raise ValueError("since, after, revision and limit are numbers") from None


def happening(one: Happening) -> Json:
    """A row, JSON-shaped. What proxies did with a push is told as far as it was read."""
    detail = dict(one.detail or {})
    if one.answers and one.sort == "push":
        detail["seconds"] = {each.proxy: each.seconds for each in one.answers if each.how in _ANSWERS}
        detail["answers"] = {each.proxy: each.how.name.lower() for each in one.answers}
    return {
        "time": timestamp(one.time),
        "kind": one.sort,
        "subject": one.subject,
        "proxy": one.proxy,
        "revision": one.revision,
        "text": one.text,
        "detail": detail,
    }


def events(store: Store, timeline: Timeline, wanted: Asked) -> Json:
    """Events in their order, the newest last, and where the next answer goes on."""
    found: list[tuple[float, Json]] = []
    last = wanted.after
    sorts = tuple(one for one in wanted.kinds if one != COMMIT)
    if sorts or not wanted.kinds:
        rows = Rows(wanted.since, wanted.after, sorts, limit=wanted.limit, proxy=wanted.proxy)
        for number, one in timeline.listing(rows, lambda one: not wanted.proxy or concerns(one, wanted.proxy)):
            last = max(last, number)
            found.append((one.time, happening(_answered(one, wanted.proxy))))
    revision = max(store.revision, wanted.revision)
    if not wanted.proxy and (COMMIT in wanted.kinds or not wanted.kinds):
        asked_for = Wanted(after=wanted.revision, since=wanted.since, limit=wanted.limit)
        found += [(one.time, _commit(one)) for one in store.commits(asked_for)]
    found.sort(key=lambda one: one[0])
    listed = [one for _, one in found]
    return {"events": listed[-wanted.limit :] if wanted.limit else listed, "after": last, "revision": revision}


def _answered(one: Happening, proxy: str) -> Happening:
    """Of a push to many, what the proxy that is asked for did."""
    if not proxy or one.sort != "push" or not one.answers:
        return one
    said = one.answers[0]
    text = f"{one.text.partition(':')[0]}: {proxy} {_SAID[said.how]} {said.seconds:.3f} s"
    return msgspec.structs.replace(one, text=text)


def _commit(one: past.Change) -> Json:
    who = one.command or f"{one.author}, {one.via}".rstrip(", ")
    return {
        "time": timestamp(one.time),
        "kind": COMMIT,
        "subject": str(one.ref),
        "proxy": "",
        "revision": one.revision,
        "text": f"{past.summary(one)} ({f'{one.message}; ' if one.message else ''}{who})",
        "detail": {"object": past.named(one.ref), "operation": one.operation, "author": one.author},
    }


def concerns(one: Happening, proxy: str) -> bool:
    """Whether a row is about a proxy.

    Pushes of the time before answers were kept name a few proxies only: they count where they went to its namespace.
    """
    if one.proxy:
        return one.proxy == proxy
    if one.answers is not None:
        return True
    if one.sort == "endpoint":
        return False
    detail = one.detail or {}
    if any(proxy in cast("Any", detail.get(key) or ()) for key in ("seconds", "refused", "late")):
        return True
    if one.sort == "push":
        namespace = proxy.partition(".")[2]
        few = "seconds" in detail
        return not few and any(group.partition(" ")[2] == namespace for group in detail.get("groups", ()))
    listed: object = detail.get("proxies")
    if isinstance(listed, list):
        return proxy in cast("list[object]", listed)
    return one.sort in ("started", "stopped", "rotation")
