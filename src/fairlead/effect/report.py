"""Effects as data and as lines for people."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from fairlead.effect.change import Change
from fairlead.effect.drains import MOST_NAMES, counted
from fairlead.effect.effects import Effect, classes
from fairlead.ir.view import View
from fairlead.model.diagnostic import Origin, Position
from fairlead.model.path import ROOT, path_of
from fairlead.model.ref import Ref

Json = dict[str, Any]
Names = Callable[[View], Sequence[str]]
"""The proxies of a view, `NAME.NAMESPACE` each."""
_FEW = 4
_LONGEST = 200


def report(found: Sequence[Effect], names: Names, *, full: bool = False) -> Json:
    """The effects, JSON-shaped: `effects` by group of proxies, `dangers`, and `classes` with counts.

    With `full` the fields have their values before and after; without, their paths. How many connections drain is not
    known.
    """
    return counted(told(found, names, full=full), None)


def told(found: Sequence[Effect], names: Names, *, full: bool = False) -> Json:
    """Like `report`, with all names of proxies; how many connections drain is to be put in (`drains.counted`)."""
    return {
        "proxies": sum(len(names(view)) for one in found for view in one.views),
        "classes": classes(tuple(found)),
        "effects": [
            {
                "proxies": proxies([name for view in one.views for name in names(view)], most=None),
                "changes": [_change(each, full=full) for each in one.changes],
            }
            for one in found
        ],
    }


def _change(one: Change, *, full: bool) -> Json:
    out: Json = {"class": one.kind, "said": one.said, "resources": list(one.resources)}
    if one.danger:
        out["danger"] = one.danger
    if one.behind:
        out["behind"] = [{"object": each.ref._asdict(), "field": str(each.path)} for each in one.behind]
    if one.drains:
        out["drains"] = one.drains
    if one.fields:
        out["fields"] = [
            {"path": each.path, "before": each.before, "after": each.after} if full else {"path": each.path}
            for each in one.fields
        ]
    if one.untold:
        out["untold"] = list(one.untold)
    return out


def proxies(names: Sequence[str], most: int | None = MOST_NAMES) -> Json:
    """Proxies, counted, in few words and by name."""
    listed = sorted(names)
    return {"count": len(listed), "summary": summary(listed), "names": listed[:most]}


def summary(names: Sequence[str]) -> str:
    """`23 proxies in shop: cart-*, web-*`."""
    spaces: dict[str, set[str]] = {}
    for one in names:
        name, _, namespace = one.rpartition(".")
        spaces.setdefault(namespace, set()).add(name)
    parts: list[str] = []
    for namespace in sorted(spaces):
        bases: dict[str, list[str]] = {}
        for name in sorted(spaces[namespace]):
            bases.setdefault(_base(name), []).append(name)
        words = [f"{base}-*" if len(members) > 1 else members[0] for base, members in sorted(bases.items())]
        more = f" and {len(words) - _FEW} more" if len(words) > _FEW else ""
        parts.append(f"{namespace}: {', '.join(words[:_FEW])}{more}")
    shown = "; ".join(parts[:_FEW]) + (f"; {len(parts) - _FEW} more namespaces" if len(parts) > _FEW else "")
    return f"{len(names)} {'proxy' if len(names) == 1 else 'proxies'} in {shown}"


def _base(name: str) -> str:
    """A replica's name without its number, and without what a ReplicaSet adds."""
    base, dash, last = name.rpartition("-")
    return base if dash and (last.isdigit() or len(last) == 5) else name


def lines(said: Json, *, full: bool = False) -> Iterator[tuple[str, str]]:
    """A report as lines for people, each with its sort: `group`, `danger`, `change`, `field` or `end`."""
    for effect in said["effects"]:
        yield "group", effect["proxies"]["summary"]
        for one in effect["changes"]:
            mark = f"! {one['danger']} " if "danger" in one else ""
            yield ("danger" if mark else "change"), f"  {mark}{one['class']}: {one['said']}"
            for each in one.get("behind", ()):
                yield "field", f"      by {origin(each)}"
            for path in one.get("untold", ()):
                yield "field", f"      also {path}"
            if full:
                for each in one.get("fields", ()):
                    yield (
                        "field",
                        f"      {each['path'] or 'all of it'}: {_value(each['before'])} -> {_value(each['after'])}",
                    )
    for word in ("new", "gone"):
        if word in said:
            yield "group", f"{word}: {said[word]['summary']}"
    yield "end", _end(said)


def placed(said: Json, position: Callable[[Origin], Position | None]) -> Json:
    """A report in which what is behind dangers has its place in a file, where that is known."""
    dangers = (one for effect in said["effects"] for one in effect["changes"])
    for one in (each for danger in (*dangers, *said["dangers"]) for each in danger.get("behind", ())):
        found = position(Origin(Ref(**one["object"]), path_of(one["field"]) if one["field"] else ROOT))
        if found is not None:
            one["position"] = str(found)
    return said


def origin(behind: Json) -> str:
    """`VirtualService shop/a spec.http[0].timeout  (a.yaml:3:5)`."""
    where = f"  ({behind['position']})" if "position" in behind else ""
    return f"{Ref(**behind['object'])} {behind['field']}".rstrip() + where


def _end(said: Json) -> str:
    if not said["effects"]:
        both = "" if not said.get("new") and not said.get("gone") else " of those that are there before and after"
        return f"No proxy{both} gets anything else."
    counts = ", ".join(f"{count} {kind}" for kind, count in said["classes"].items())
    dangers = len(said["dangers"])
    warned = f"; {dangers} marked as dangerous" if dangers else "; nothing is marked as dangerous"
    many = said["proxies"]
    who = "1 proxy gets" if many == 1 else f"{many} proxies get"
    return f"{who} something else ({counts}){warned}."


def _value(of: Any) -> str:
    text = str(of) if of is not None else "(none)"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
