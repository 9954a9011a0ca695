"""Goldens of kinds: `testdata/NAME.in.yaml` must read without an error and lower to `testdata/NAME.ir.yaml`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec
import yaml

import fairlead.kinds
from fairlead.compiler.registry import registry
from fairlead.inc import Derivation, Engine, Reader, Table
from fairlead.ir.authn import JWKS_WANTED, REQUEST_POLICIES
from fairlead.ir.extension import EXTENSIONS
from fairlead.ir.gateway import WRITTEN_GATEWAYS
from fairlead.ir.host import HOSTS
from fairlead.ir.ingress import INGRESS_CLASSES, INGRESSES
from fairlead.ir.kind import Emission
from fairlead.ir.mesh import MESHES
from fairlead.ir.patch import PATCHES
from fairlead.ir.proxystart import PROXY_STARTS
from fairlead.ir.ratelimit import RATE_POLICIES
from fairlead.ir.route import WRITTEN_ROUTES
from fairlead.ir.security import ACCESS_POLICIES, PEER_POLICIES
from fairlead.ir.sidecar import SIDECARS
from fairlead.ir.telemetry import TELEMETRY
from fairlead.ir.traffic import TRAFFIC_POLICIES
from fairlead.ir.workload import ENDPOINTS, WORKLOADS
from fairlead.model.diagnostic import Origin
from fairlead.model.object import Object
from fairlead.model.ref import Ref
from fairlead.model.yaml import parse_documents

KINDS = Path(fairlead.kinds.__file__).parent
FACTS: tuple[Table[Any, Any], ...] = (
    HOSTS,
    ENDPOINTS,
    WORKLOADS,
    WRITTEN_ROUTES,
    TRAFFIC_POLICIES,
    WRITTEN_GATEWAYS,
    INGRESSES,
    INGRESS_CLASSES,
    PEER_POLICIES,
    ACCESS_POLICIES,
    REQUEST_POLICIES,
    JWKS_WANTED,
    MESHES,
    SIDECARS,
    TELEMETRY,
    PATCHES,
    EXTENSIONS,
    RATE_POLICIES,
    PROXY_STARTS,
)
OBJECTS: Table[Ref, Object[Any]] = Table("test-objects")


def _lower(r: Reader, ref: Ref, obj: Object[Any]) -> Iterator[Emission]:
    lower = registry().of(ref).lower
    if lower is not None:
        yield from lower(r, obj)


def read(text: str, file: str = "") -> list[Object[Any]]:
    """The objects of a text, all of which must be valid."""
    objects: list[Object[Any]] = []
    for manifest in parse_documents(text, file):
        obj, found = registry().read_manifest(manifest)
        assert obj is not None, "\n".join(map(str, found))
        objects.append(obj)
    return objects


def engine(objects: Iterable[Object[Any]]) -> Engine:
    """An engine that holds the facts of the objects."""
    made = Engine([Derivation("lower", OBJECTS, 1, _lower)])
    with made.transaction():
        for obj in objects:
            made.put(OBJECTS, obj.ref, obj)
    assert made.failures() == []
    return made


def facts(objects: Iterable[Object[Any]]) -> dict[str, dict[str, Any]]:
    """What the objects lower to, by table and key."""
    made = engine(objects)
    assert made.conflicts() == []
    out: dict[str, dict[str, Any]] = {}
    for table in FACTS:
        for key, value in made.items(table):
            out.setdefault(table.name, {})[_name(key)] = {k: v for k, v in _plain(value).items() if k != "key"}
    return out


def _name(key: Any) -> str:
    return " ".join(map(_name, key)) if isinstance(key, tuple) else str(key)


def _plain(value: Any) -> Any:
    """Structs without the fields that have their default; origins as people read them."""
    if isinstance(value, Origin):
        return str(value)
    if isinstance(value, msgspec.Struct):
        out = {}
        for field in msgspec.structs.fields(value):
            one = getattr(value, field.name)
            if field.default is msgspec.NODEFAULT or one != field.default:
                out[field.name] = _plain(one)
        return out
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return str(value) if isinstance(value, StrEnum) else value


def inputs(*kinds: str) -> list[Path]:
    """The golden inputs of the kinds' folders."""
    return [path for kind in kinds for path in sorted((KINDS / kind / "testdata").glob("*.in.yaml"))]


def check(path: Path) -> None:
    """Compare with the golden, or write it where FAIRLEAD_UPDATE_GOLDEN is set."""
    got = yaml.safe_dump(facts(read(path.read_text(), path.name)), sort_keys=True, width=120)
    golden = path.with_name(path.name.replace(".in.yaml", ".ir.yaml"))
    if os.environ.get("FAIRLEAD_UPDATE_GOLDEN"):
        golden.write_text(got)
    assert golden.read_text() == got
