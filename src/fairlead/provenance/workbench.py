"""A small mesh in which one value of a rule is made from the objects that it depends on, and nothing else.

The value is a resource, a piece of one, or the list in which a resource stands.

Objects can be left out and changed here, one at a time, at the cost of that value alone: the mesh that runs is not
touched. The small mesh is as good as the whole one as long as every row that the value's rules ask for has the same
answer in both. So after each evaluation what was asked for the first time is compared, and what the small one lacks is
taken over.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping
from typing import Any, cast

from google.protobuf.message import DecodeError, Message

from fairlead.compiler.model import OBJECTS, MeshModel
from fairlead.compiler.parts import Layer, Part
from fairlead.envoy.protojson import decode
from fairlead.envoy.resource import Piece, Resource
from fairlead.envoy.settings import callers, fields, find, is_map
from fairlead.inc import Rule, Table
from fairlead.inc.cells import Cell, Node
from fairlead.inc.inputs import Reads, fresh, nodes, rows, sources
from fairlead.model.object import Object
from fairlead.model.ref import Ref

Input = tuple[Table[Any, Any], Hashable]


class Workbench:
    """One value of a compiled mesh, to be made again with other objects."""

    def __init__(self, whole: MeshModel, part: Part) -> None:
        self._whole = whole
        self._part = part
        self._scratch = MeshModel(whole.kinds)
        self._changed: dict[Ref, Object[Any] | None] = {}
        self._evaluated: list[Node] = []
        self._scratch.engine.followed = self._evaluated
        self._looked_at: set[Cell] = set()
        """What has been compared with the whole mesh: once is enough, since all but what is changed stays."""
        found = rows(whole.engine, part.rule, part.key)
        self._take(at for at, there in found.items() if there and at[0].stage == 0)

    @property
    def objects(self) -> Mapping[Ref, Object[Any]]:
        """What the small mesh is made of."""
        return dict(self._scratch.engine.items(OBJECTS))

    def make(self, changed: Mapping[Ref, Object[Any] | None]) -> Any:
        """The value with other objects (None: without them). Raises Failure."""
        self._set({**{ref: self._whole.engine.get(OBJECTS, ref) for ref in self._changed}, **changed})
        self._changed = dict(changed)
        while True:
            made = self._scratch.engine.call(self._part.rule, self._part.key)
            if not self._grow():
                return made

    def _set(self, objects: Mapping[Ref, Object[Any] | None]) -> None:
        engine = self._scratch.engine
        with engine.transaction():
            for ref, one in objects.items():
                if one is None:
                    engine.delete(OBJECTS, ref)
                else:
                    engine.put(OBJECTS, ref, one)

    def _take(self, rows: Iterable[Input]) -> int:
        """Take input rows over from the whole mesh; how many were not there."""
        ours, theirs = self._scratch.engine, self._whole.engine
        lacking = [
            (table, key)
            for table, key in rows
            if ours.get(table, key) is None and not (table is OBJECTS and key in self._changed)
        ]
        with ours.transaction():
            for table, key in lacking:
                value = theirs.get(table, key)
                if value is not None:
                    ours.put(table, key, value)
        return len(lacking)

    def _grow(self) -> int:
        """Take over what the rules asked for in vain and the whole mesh has."""
        asked = fresh(self._scratch.engine, self._evaluated, self._looked_at)
        self._evaluated.clear()
        lacking = [*self._rows(asked), *self._entries(asked)]
        if not lacking:
            return 0
        behind = sources(self._whole.engine, lacking)
        return self._take(at for at, there in behind.items() if there and at[0].stage == 0)

    def _rows(self, asked: Reads) -> Iterator[Input]:
        for (table, key), there in asked.rows.items():
            if not there and self._whole.engine.get(table, key) is not None:
                yield table, key

    def _entries(self, asked: Reads) -> Iterator[Input]:
        for (index, at), keys in asked.buckets.items():
            held = set(keys)
            yield from ((index.table, key) for key in self._whole.engine.find(index, at) if key not in held)


def behind(whole: MeshModel, part: Part) -> set[Ref]:
    """The objects on which a resource depends in any way."""
    found = rows(whole.engine, part.rule, part.key)
    return {cast("Ref", key) for (table, key), there in found.items() if there and table is OBJECTS}


def listing(whole: MeshModel, layer: Layer, part: Part) -> tuple[Part, Hashable] | None:
    """What decides whether a resource is there: the narrowest list in which it stands, and as what it stands there.

    That a subset has a cluster, for example, is in no cluster: it is in the list of clusters of its host. A value that
    is the resource's key alone is the shortest of lists.
    """
    found: list[tuple[int, str, Node, Hashable]] = []
    for node in nodes(whole.engine, layer.rule, layer.key):
        if not isinstance(node.run_by, Rule):
            continue
        sought = next((one for one in (part.key, part) if stands_in(node.value, one)), None)
        if sought is not None:
            many = 1 if node.value == sought else len(cast("tuple[Hashable, ...]", node.value))
            found.append((many, node.said(), node, sought))
    if not found:
        return None
    _, _, node, sought = min(found, key=lambda one: one[:2])
    return Part(cast("Rule[Any, Any]", node.run_by), node.key), sought


def stands_in(value: object, sought: Hashable) -> bool:
    """Whether a list has something in it, or is it."""
    return value == sought or (isinstance(value, tuple) and sought in cast("tuple[Hashable, ...]", value))


def elements(whole: MeshModel, part: Part, type_url: str) -> dict[str, Part]:
    """The elements of a resource that is joined from pieces (virtual hosts) by their steps, each with what makes it.

    It is the smallest serialised value among those that the resource was made from that holds the element. Empty for
    what is made in one piece.
    """
    wanted = _elements(type_url, body_of(whole.engine.call(part.rule, part.key)))
    found: dict[str, tuple[int, str, Part]] = {}
    for node in nodes(whole.engine, part.rule, part.key):
        body = body_of(node.value)
        if not body or node.run_by is part.rule or not isinstance(node.run_by, Rule):
            continue
        for step, value in _elements(type_url, body).items():
            size = (len(body), node.said())
            if wanted.get(step) == value and (step not in found or size < found[step][:2]):
                found[step] = (*size, Part(node.run_by, node.key))
    return {step: one[2] for step, one in found.items()}


def without_elements(message: Message, steps: Collection[str]) -> Message:
    """A message from which elements of lists (`virtualHosts[NAME]`) are taken out; it is changed."""
    if steps:
        for field, value in list(fields(message)):
            if field.is_repeated and field.message_type is not None and not is_map(field):
                elements = list(value)
                kept = [
                    one
                    for one, name in zip(elements, callers(elements), strict=True)
                    if f"{field.json_name}[{name}]" not in steps
                ]
                if len(kept) < len(elements):
                    del value[:]
                    value.extend(kept)
    return message


def body_of(value: object) -> bytes:
    """The serialised message of a rule's value; empty where it is none."""
    if isinstance(value, Resource | Piece):
        return value.body
    return value if isinstance(value, bytes) else b""


def _elements(type_url: str, body: bytes) -> dict[str, object]:
    try:
        return {path[0]: value for path, value in find(decode(type_url, body), ("*",)) if "[" in path[0]}
    except DecodeError:
        return {}
