"""Where settings come from, as a property: what is named matters in the whole mesh, and nothing else does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from mesh_strategies import meshes
from test_incremental import QUICK, VIEWS, read

from fairlead.compiler.model import OBJECTS, MeshModel
from fairlead.compiler.parts import Part
from fairlead.envoy.difference import differences
from fairlead.envoy.protojson import decode
from fairlead.envoy.resource import CLUSTER, ENDPOINT, LISTENER, ROUTE
from fairlead.model.object import Object
from fairlead.model.path import FieldPath
from fairlead.model.ref import Ref
from fairlead.provenance.documents import children, document, tops, without
from fairlead.provenance.documents import read as decoded
from fairlead.provenance.trace import Influence, Study

Json = dict[str, Any]


def flat(one: Influence) -> Iterator[Influence]:
    yield one
    for inner in one.narrower:
        yield from flat(inner)


def left_out(model: MeshModel, obj: Object[Any]) -> Iterator[tuple[FieldPath, Object[Any]]]:
    """Every field of an object that may be left out, with the object that is left."""
    data = document(model.kinds.of(obj.ref), obj)
    waiting = list(tops(data))
    while waiting:
        path = waiting.pop()
        waiting += [path / name for name in children(data, path)]
        other = decoded(model.kinds, without(data, path), obj)
        if other is not None and other != obj:
            yield path, other


def made(model: MeshModel, part: Part, type_url: str) -> Any:
    found = model.engine.call(part.rule, part.key)
    return None if found is None else decode(type_url, found.body)


@QUICK
@given(meshes, st.sampled_from(VIEWS), st.sampled_from((LISTENER, ROUTE, CLUSTER, ENDPOINT)), st.randoms())
def test_leaving_out_what_is_named_and_nothing_else_makes_a_difference(
    documents: list[Json], view: Any, type_url: str, random: Any
) -> None:
    model = MeshModel()
    model.apply(read(documents).values())
    model.publisher.open(view)
    names = sorted(model.publisher.catalog(view)[type_url])
    if not names:
        return
    name = random.choice(names)
    part = model.publisher.part(view, type_url, name)
    assert part is not None
    study = Study(model, part, type_url)
    base = made(model, part, type_url)
    assert study.message == base
    named = {(one.origin.ref, one.origin.path): one for each in study.influences for one in flat(each)}

    def check(ref: Ref, path: FieldPath, other: Object[Any] | None) -> None:
        before = model.engine.get(OBJECTS, ref)
        assert before is not None
        model.apply([other] if other is not None else [], [] if other is not None else [ref])
        differs = tuple(differences(base, made(model, part, type_url)))
        model.apply([before])
        found = named.get((ref, path))
        assert differs == (found.differs if found is not None else ()), (ref, str(path))

    for ref, obj in model.engine.items(OBJECTS):
        check(ref, FieldPath(), None)
        if (ref, FieldPath()) in named and named[(ref, FieldPath())].differs:
            for path, other in left_out(model, obj):
                check(ref, path, other)
