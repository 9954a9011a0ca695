"""TrafficExtension to the mesh's words."""

from __future__ import annotations

from collections.abc import Iterator

from fairlead.inc import Reader
from fairlead.ir.attachment import targets_of
from fairlead.ir.extending import phase_of, traffic_of, wasm_of
from fairlead.ir.extension import EXTENSIONS, Extension
from fairlead.ir.kind import Emission
from fairlead.ir.view import pairs
from fairlead.kinds.trafficextension.spec import TrafficExtension
from fairlead.model.diagnostic import Origin
from fairlead.model.object import Object
from fairlead.model.path import SPEC
from fairlead.model.ref import NamespacedName


def lower(_: Reader, obj: Object[TrafficExtension]) -> Iterator[Emission]:
    """One extension."""
    spec = obj.spec
    key = NamespacedName(obj.ref.namespace, obj.ref.name)
    yield (
        EXTENSIONS,
        (key, obj.ref.kind),
        Extension(
            key=key,
            kind=obj.ref.kind,
            origin=Origin(obj.ref, SPEC / ("lua" if spec.lua is not None else "wasm")),
            selector=pairs(spec.selector.match_labels) if spec.selector is not None else (),
            targets=targets_of(None, spec.target_refs),
            phase=phase_of(spec.phase),
            priority=spec.priority,
            traffic=traffic_of(spec.match),
            lua=spec.lua.inline_code if spec.lua is not None else "",
            wasm=wasm_of(spec.wasm) if spec.wasm is not None else None,
        ),
    )
