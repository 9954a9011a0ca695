"""No input makes reading, validation, admission or compilation fail otherwise than by saying what is wrong.

A run of all tests tries the hand-made inputs and a few thousand random ones. For longer, with a rate at the end:

    FAIRLEAD_FUZZ_SECONDS=600 make test ARGS="tests/fuzz -s"
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import msgspec
import pytest

from fairlead.apiserver import Admission, Refusal, Write
from fairlead.apiserver.request import decoded
from fairlead.cli.validate import findings
from fairlead.compiler.model import MeshModel
from fairlead.compiler.offline import load
from fairlead.compiler.registry import registry
from fairlead.ir.view import View
from fairlead.model.launch import Capture
from fairlead.model.manifest import Manifest
from fairlead.model.yaml import YAMLError, parse_documents
from fairlead.store import Store

from .inputs import FILES, documents, handmade, mutated_text, mutated_value

SECONDS = float(os.environ.get("FAIRLEAD_FUZZ_SECONDS", "0"))
FEW = 1200
pytestmark = pytest.mark.timeout(SECONDS + 120)
SLOWEST = 20.0
"""Seconds of processor time for one hand-made input."""
HANDMADE = handmade()
VIEWS = (
    View("sidecar", "shop", (("app", "reviews"),), addresses=("127.66.0.9",), capture=Capture("redirect")),
    View("router", "shop", (("istio", "ingressgateway"),), addresses=("127.66.0.8",), capture=Capture("none")),
)


def seeds() -> Iterator[int]:
    """The numbers of the inputs: a fixed few, or as many as the time allows, beginning elsewhere each time."""
    if not SECONDS:
        yield from range(FEW)
        return
    begun, first = time.monotonic(), time.time_ns()
    count = 0
    while time.monotonic() - begun < SECONDS:
        yield first + count
        count += 1
    sys.stdout.write(f"\n{count} executions, {count * 60 / (time.monotonic() - begun):.0f} a minute\n")


def judged(manifests: list[Manifest]) -> None:
    """Read and compile; findings can be told, and no rule fails."""
    model = MeshModel()
    found = load(model, manifests)
    for view in VIEWS:
        with model.opened(view):
            found = [*found, *model.diagnostics()]
    for one in found:
        assert one.code != "FL0000", str(one)
        str(one).encode()
        assert len(str(one)) < 20_000
    msgspec.json.encode(found)


def read(raw: bytes) -> None:
    try:
        manifests = parse_documents(raw, "input.yaml")
    except YAMLError as error:
        assert str(error).encode()
        assert error.position.line > 0
        return
    judged(manifests)


@pytest.fixture(scope="module")
def admission(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Admission]:
    store = Store(Path(tmp_path_factory.mktemp("fuzz")) / "store.db")
    made = Admission(store, registry())
    made.bootstrap()
    yield made
    store.close()


def admitted(admission: Admission, raw: bytes, media: str) -> None:
    try:
        data = decoded(raw, media)
    except Refusal as refused:
        assert str(refused).encode()
        return
    kind = registry().identify(data)[0] if isinstance(data, dict) else None
    try:
        admission.create(kind or registry().kinds[0], data, "shop", Write(manager="fuzz", dry_run=True))
    except Refusal as refused:
        assert str(refused).encode()
        json.dumps(refused.causes if hasattr(refused, "causes") else [])


def run(attempt: Callable[[Random], bytes], judge: Callable[[bytes], None]) -> None:
    for seed in seeds():
        raw = attempt(Random(seed))
        try:
            judge(raw)
        except Exception as error:
            error.add_note(f"seed {seed}, input {raw[:3000]!r}")
            raise


TEXTS = [path.read_bytes() for path in FILES]


def test_changed_texts_are_read() -> None:
    run(lambda chance: mutated_text(chance, TEXTS), read)


def test_changed_values_are_compiled() -> None:
    pool = documents()

    run(lambda chance: json.dumps(mutated_value(chance, pool)).encode(), read)


@pytest.mark.parametrize("media", ["application/json", "application/yaml"])
def test_changed_values_are_admitted_or_refused(admission: Admission, media: str) -> None:
    pool = documents()

    def make(chance: Random) -> bytes:
        if media == "application/yaml":
            return mutated_text(chance, TEXTS)
        return json.dumps(mutated_value(chance, pool)).encode()

    run(make, lambda raw: admitted(admission, raw, media))


@pytest.mark.parametrize("name", HANDMADE)
def test_handmade(name: str, admission: Admission, tmp_path: Path) -> None:
    begun = time.process_time()
    raw = HANDMADE[name]
    read(raw)
    for media in ("application/json", "application/yaml"):
        admitted(admission, raw, media)
    path = tmp_path / "a.yaml"
    path.write_bytes(raw)
    _, found = findings([str(path)], recursive=False, namespace="default")
    "".join(map(str, found)).encode()
    assert time.process_time() - begun < SLOWEST


def test_a_large_file_is_read_in_time(tmp_path: Path) -> None:
    """3 MB of objects, and 10 MB in one."""
    head = "apiVersion: v1\nkind: Service\nmetadata: {name: s%d, namespace: shop}\n"
    one = f"{head}spec: {{ports: [{{name: http, port: 80}}]}}\n"
    many = "---\n".join(one % at for at in range(30_000))
    assert len(many) > 3_000_000
    begun = time.process_time()
    assert len(parse_documents(many)) == 30_000
    single = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {a: '" + "x" * 10_000_000 + "'}\n"
    obj, problems = registry().read(parse_documents(single)[0].data)
    assert obj is None
    assert all(len(one.message) < 1000 for one in problems)
    assert time.process_time() - begun < 40
