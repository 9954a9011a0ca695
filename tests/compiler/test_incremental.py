"""Properties of the compiled mesh: nothing valid breaks it, order means nothing, and edits lead where a start leads."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, event, given, note, settings
from hypothesis import strategies as st
from mesh_strategies import anything, meshes

from fairlead.compiler.model import MeshModel
from fairlead.compiler.publish import Catalog
from fairlead.ir.view import View, pairs
from fairlead.model.launch import AppPort, Capture
from fairlead.model.object import Object
from fairlead.model.ref import Ref

Json = dict[str, Any]
PORTS = (AppPort(80, "http", "http"), AppPort(9000, "tcp"))
VIEWS = (
    View("sidecar", "one", pairs({"app": "a", "version": "v1"}), "a", ("10.0.0.1",), ports=PORTS),
    View(
        "sidecar",
        "two",
        pairs({"app": "b"}),
        "b",
        ("10.0.0.2",),
        capture=Capture("explicit", "", "127.1.1.1", "127.1.2.1"),
    ),
    View("router", "one", pairs({"istio": "ingressgateway"}), "gw", ("10.0.0.9",), capture=Capture("none")),
)
QUICK = settings(
    max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None
)
_KINDS = MeshModel().kinds


def read(documents: list[Json]) -> dict[Ref, Object[Any]]:
    """The valid ones as objects; of two with one name the later stands. Admission would refuse the others."""
    out: dict[Ref, Object[Any]] = {}
    for document in documents:
        obj, problems = _KINDS.read(document)
        if obj is None:
            event(f"refused: {problems[0].message}")
        else:
            out[obj.ref] = obj
    return out


def shown(catalog: Catalog) -> dict[str, dict[str, bytes]]:
    """Bytes by type and name."""
    return {kind: {name: one.body for name, one in rows.items()} for kind, rows in catalog.items()}


def scratch(objects: list[Object[Any]]) -> list[dict[str, dict[str, bytes]]]:
    """What the views get from these objects alone."""
    model = MeshModel()
    model.apply(objects)
    found = [shown(model.compile(view)) for view in VIEWS]
    assert not model.engine.failures(), model.engine.failures()
    assert not model.publisher.failures
    return found


@QUICK
@given(meshes)
def test_whatever_is_valid_compiles(documents: list[Json]) -> None:
    scratch(list(read(documents).values()))


@QUICK
@given(meshes, st.randoms(use_true_random=False))
def test_the_order_of_objects_means_nothing(documents: list[Json], random: Any) -> None:
    objects = list(read(documents).values())
    first = scratch(objects)
    random.shuffle(objects)
    model = MeshModel()
    for one in objects:
        model.apply([one])
    assert [shown(model.compile(view)) for view in VIEWS] == first


edits = st.lists(st.one_of(anything, st.integers(0, 20)), min_size=1, max_size=5)


@QUICK
@given(meshes, edits)
def test_edits_lead_where_a_start_leads(documents: list[Json], changes: list[Json | int]) -> None:
    held = read(documents)
    model = MeshModel()
    model.apply(held.values())
    for view in VIEWS:
        model.publisher.open(view)
    believed = [shown(dict(model.publisher.catalog(view))) for view in VIEWS]  # type: ignore[arg-type]
    for change in changes:
        if isinstance(change, int):
            if not held:
                continue
            ref = sorted(held)[change % len(held)]
            note(f"delete {ref}")
            del held[ref]
            model.apply(deleted=[ref])
        else:
            made = read([change])
            note(f"put {change}")
            held.update(made)
            model.apply(made.values())
        told = model.publisher.refresh()
        # A proxy that only ever hears of changes has what the catalog says.
        for at, view in enumerate(VIEWS):
            catalog = model.publisher.catalog(view)
            for kind, names in told.get(view, {}).items():
                for name in names:
                    found = catalog[kind].get(name)
                    if found is None:
                        believed[at][kind].pop(name, None)
                    else:
                        believed[at][kind][name] = found.body
    assert believed == scratch(list(held.values()))
