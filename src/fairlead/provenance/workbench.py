"""A small mesh in which one resource is made from the objects that it depends on, and nothing else.

Objects can be left out and changed here, one at a time, at the cost of that resource alone: the mesh that runs is not
touched. The small mesh is as good as the whole one as long as every row that the resource's rules ask for has the same
answer in both. So after each evaluation what they asked for is compared, and what the small one lacks is taken over.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Any, cast

from google.protobuf.message import DecodeError, Message

from fairlead.compiler.model import OBJECTS, MeshModel
from fairlead.compiler.parts import Part
from fairlead.envoy.protojson import decode
from fairlead.envoy.resource import Piece, Resource
from fairlead.envoy.settings import find
from fairlead.inc import Rule, Table
from fairlead.inc.inputs import Reads, nodes, reads, sources
from fairlead.model.object import Object
from fairlead.model.ref import Ref

Input = tuple[Table[Any, Any], Hashable]


class Workbench:
    """One resource of a compiled mesh, to be made again with other objects."""

    def __init__(self, whole: MeshModel, part: Part, only: Iterable[Ref] | None = None) -> None:
        """With `only`, the mesh is of these objects, and nothing is taken over."""
        self._whole = whole
        self._part = part
        self._grows = only is None
        self._scratch = MeshModel(whole.kinds)
        self._changed: dict[Ref, Object[Any] | None] = {}
        found = reads(whole.engine, part.rule, part.key)
        wanted = set(only) if only is not None else None
        self._take(
            (table, key)
            for (table, key), there in found.rows.items()
            if there and table.stage == 0 and (wanted is None or table is not OBJECTS or key in wanted)
        )

    @property
    def objects(self) -> Mapping[Ref, Object[Any]]:
        """What the small mesh is made of."""
        return dict(self._scratch.engine.items(OBJECTS))

    def make(self, changed: Mapping[Ref, Object[Any] | None]) -> Message | None:
        """The resource with other objects (None: without them); None if there is none. Raises Failure."""
        self._set({**{ref: self._whole.engine.get(OBJECTS, ref) for ref in self._changed}, **changed})
        self._changed = dict(changed)
        while True:
            made = self._call()
            if not self._grows or not self._grow():
                return made

    def _set(self, objects: Mapping[Ref, Object[Any] | None]) -> None:
        engine = self._scratch.engine
        with engine.transaction():
            for ref, one in objects.items():
                if one is None:
                    engine.delete(OBJECTS, ref)
                else:
                    engine.put(OBJECTS, ref, one)

    def _call(self) -> Message | None:
        made = cast("Resource | None", self._scratch.engine.call(self._part.rule, self._part.key))
        return None if made is None else decode(made.type_url, made.body)

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
        asked = reads(self._scratch.engine, self._part.rule, self._part.key)
        lacking = [*self._rows(asked), *self._entries(asked)]
        if not lacking:
            return 0
        behind = sources(self._whole.engine, lacking)
        return self._take(at for at, there in behind.rows.items() if there and at[0].stage == 0)

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
    found = reads(whole.engine, part.rule, part.key)
    return {cast("Ref", key) for (table, key), there in found.rows.items() if there and table is OBJECTS}


def behind_element(whole: MeshModel, part: Part, type_url: str, step: str) -> set[Ref] | None:
    """The objects behind one element of a resource that is joined from pieces (virtual hosts); None if it is not.

    It is the smallest serialised value among those that the resource was made from that holds the element.
    """
    label = step.partition("[")[2][:-1].encode()
    wanted = _element(type_url, _bytes(whole.engine.call(part.rule, part.key)), step)
    if not label or wanted is None:
        return None
    found = [
        (len(held), node)
        for node in nodes(whole.engine, part.rule, part.key)
        if label in (held := _bytes(node.value)) and node.run_by is not part.rule
    ]
    for _, node in sorted(found, key=lambda one: (one[0], one[1].said())):
        if _element(type_url, _bytes(node.value), step) == wanted:
            made_by = cast("Rule[Any, Any]", node.run_by)
            return behind(whole, Part(made_by, node.key))
    return None


def _bytes(value: object) -> bytes:
    if isinstance(value, Resource | Piece):
        return value.body
    return value if isinstance(value, bytes) else b""


def _element(type_url: str, body: bytes, step: str) -> object:
    try:
        return next((value for _, value in find(decode(type_url, body), (step,))), None)
    except DecodeError:
        return None
