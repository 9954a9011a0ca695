"""No document and no patch makes the server fail, and apply does what it says, for generated inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from running_api import ROUTE, allocate

from fairlead.apiserver import Admission, Refusal, Write
from fairlead.apiserver.ownership import Owner, apply, decode_fields, encode_fields, fields_of
from fairlead.apiserver.patch import PatchError, json_patch, merge_patch, strategic_merge
from fairlead.apiserver.protobuf import MAGIC, ProtobufError, decode
from fairlead.apiserver.schema import structural
from fairlead.compiler.registry import Registry, registry
from fairlead.store import Store

SCHEMA = structural(ROUTE, "v1")
_words = st.sampled_from(
    [
        "metadata",
        "spec",
        "status",
        "name",
        "labels",
        "annotations",
        "finalizers",
        "ports",
        "number",
        "hosts",
        "$patch",
        "$setElementOrder/ports",
        "$deleteFromPrimitiveList/finalizers",
        "generateName",
        "ownerReferences",
        "data",
        "managedFields",
        "match",
        "weight",
        "stringData",
        "immutable",
        "secrets",
        "namespace",
        "kind",
        "uid",
    ]
)
_leaves = st.none() | st.booleans() | st.integers(-5, 200) | st.sampled_from(["", "web", "default", "replace", "a.b"])
_json = st.recursive(
    _leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_words, inner, max_size=4), max_leaves=15
)
_objects = st.dictionaries(_words, _json, max_size=4)
_ports = st.lists(
    st.fixed_dictionaries({"number": st.integers(1, 4)}, optional={"name": st.sampled_from(["a", "b"])}),
    max_size=3,
    unique_by=lambda one: one["number"],
)
_specs = st.fixed_dictionaries(
    {"hosts": st.lists(st.sampled_from(["x", "y"]), min_size=1, max_size=2)},
    optional={"weight": st.integers(0, 3), "ports": _ports, "address": st.sampled_from(["p", "q"])},
)


@pytest.fixture(scope="module")
def admission(tmp_path_factory: pytest.TempPathFactory) -> Any:
    store = Store(Path(tmp_path_factory.mktemp("store")) / "store.db")
    made = Admission(store, Registry((*registry().kinds, ROUTE)), allocate=allocate)
    made.bootstrap()
    yield made
    store.close()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 10), document=_objects, patch=_json, manager=st.sampled_from(["kubectl", "x"]))
def test_admission_takes_or_refuses(admission: Admission, at: int, document: Any, patch: Any, manager: str) -> None:
    kinds = admission.registry.kinds
    kind = kinds[at % len(kinds)]
    namespace = "default" if kind.namespaced else ""
    write = Write(manager=manager)
    seed = {"metadata": {"name": "seed"}} | ({"spec": {"hosts": ["a"]}} if kind is ROUTE else {})
    ref = kind.ref(namespace, "seed")
    for attempt in (
        lambda: admission.create(kind, seed, namespace, write),
        lambda: admission.create(kind, document, namespace, write),
        lambda: admission.apply(kind, ref, document, write),
        lambda: admission.edit(kind, ref, lambda old: merge_patch(old, patch), write),
        lambda: admission.edit(kind, ref, lambda old: strategic_merge(old, patch, structural(kind, "v1")), write),
        lambda: admission.edit(kind, ref, lambda old: {**old, "status": patch}, Write(subresource="status")),
    ):
        try:
            made = attempt()
        except (Refusal, PatchError) as refused:
            assert str(refused)
        else:
            assert made.document["metadata"]["uid"]


@settings(max_examples=150, deadline=None)
@given(raw=st.binary(max_size=60))
def test_protobuf_is_decoded_or_refused(raw: bytes) -> None:
    for body in (raw, MAGIC + raw, MAGIC + b"\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12" + bytes([len(raw)]) + raw):
        try:
            assert decode(body)["kind"]
        except ProtobufError as error:
            assert str(error)


@settings(max_examples=150, deadline=None)
@given(patch=_json, target=_objects)
def test_json_patch_applies_or_refuses(patch: Any, target: Any) -> None:
    operations = [{"op": "add", "path": "/spec", "value": patch}, patch]
    for one in (patch, operations, [{"op": "move", "from": "/spec", "path": "/metadata/x"}]):
        try:
            json_patch(target, one)
        except PatchError as error:
            assert str(error)


def _document(spec: Any) -> Any:
    return {"apiVersion": "mesh.example.dev/v1", "kind": "TestRoute", "metadata": {"name": "x"}, "spec": spec}


@settings(max_examples=200, deadline=None)
@given(first=_specs, second=_specs, third=_specs)
def test_apply_is_what_the_last_configurations_say(first: Any, second: Any, third: Any) -> None:
    one, two = Owner("one", "Apply", "v1"), Owner("two", "Apply", "v1")
    live, owners, _ = apply(_document({}), _document(first), {}, one, SCHEMA, force=False)
    assert live["spec"] == first
    again, same, conflicts = apply(live, _document(first), owners, one, SCHEMA, force=False)
    assert (again, same, conflicts) == (live, owners, [])
    live, owners, _ = apply(live, _document(second), owners, two, SCHEMA, force=True)
    live, owners, _ = apply(live, _document(third), owners, one, SCHEMA, force=True)
    # Everything that is there is owned, every owned field is there, and what was asked last is so.
    owned, there = frozenset[tuple[str, ...]]().union(*owners.values()), fields_of(live, SCHEMA)
    assert there <= owned
    # (Who applies an empty list owns the list, even if others have items in it.)
    assert all(path in there or any(one[: len(path)] == path for one in there) for path in owned)
    assert fields_of(_document(third), SCHEMA) == owners[one]
    for key in ("hosts", "weight", "address"):
        if key in third:
            assert live["spec"][key] == third[key]
    live, owners, _ = apply(live, _document({}), owners, two, SCHEMA, force=True)
    left, wanted = live["spec"].get("ports", []), third.get("ports", [])
    assert {one["number"]: one for one in left} == {one["number"]: one for one in wanted}
    for fields in owners.values():
        assert frozenset(decode_fields(encode_fields(fields))) == fields
