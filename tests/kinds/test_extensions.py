"""TrafficExtension and WasmPlugin: goldens, order, and which traffic they see."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from lowering import check, engine, inputs, read

from fairlead.envoy.extension import lua_filter
from fairlead.inc import Reader, rule
from fairlead.ir.extension import EXTENSIONS
from fairlead.ir.filters import Filter, FilterScope, Phase
from fairlead.kinds.trafficextension.emit import http_filters, network_filters
from fairlead.model.wasm import PHASES

HEAD = "apiVersion: extensions.istio.io/v1alpha1\nkind: TrafficExtension\nmetadata: {name: %s}\nspec: %s\n"
LUA = "lua: {inlineCode: x()}"


@pytest.mark.parametrize("path", inputs("trafficextension", "wasmplugin"), ids=lambda path: path.stem)
def test_golden(path: Path) -> None:
    check(path)


def test_phases_stand_around_the_meshs_filters() -> None:
    found: dict[str, tuple[Phase, int]] = {}
    for phase in get_args(PHASES):
        objects = read(HEAD % ("a", f"{{phase: {phase}, priority: -2147483648, {LUA}}}"))
        (_, one) = next(iter(engine(objects).items(EXTENSIONS)))
        made = lua_filter(one)
        found[phase] = (made.phase, made.order)
    assert found["AUTHN"] < (Phase.AUTHN, -1000) < (Phase.AUTHN, 1000) < found["AUTHZ"] < (Phase.AUTHZ, -1000)
    assert (Phase.AUTHZ, 1000) < found["STATS"] < (Phase.STATS, 0) < found["UNSPECIFIED_PHASE"]


@rule
def seen(r: Reader, scope: FilterScope) -> tuple[Filter, ...]:
    return (*http_filters(r, scope), *network_filters(r, scope))


@pytest.mark.parametrize(
    ("spec", "scope", "wanted"),
    [
        (f"{{{LUA}}}", FilterScope("inbound", "default"), 1),
        (f"{{{LUA}}}", FilterScope("outbound", "default"), 1),
        (f"{{{LUA}}}", FilterScope("inbound", "elsewhere"), 0),
        (f"{{{LUA}}}", FilterScope("inbound", "default", tcp=True), 0),
        (f"{{match: [{{mode: CLIENT}}], {LUA}}}", FilterScope("inbound", "default"), 0),
        (f"{{match: [{{mode: CLIENT}}], {LUA}}}", FilterScope("gateway", "default"), 1),
        (f"{{match: [{{ports: [{{number: 80}}]}}], {LUA}}}", FilterScope("inbound", "default", port=80), 1),
        (f"{{match: [{{ports: [{{number: 80}}]}}], {LUA}}}", FilterScope("inbound", "default", port=81), 0),
        ("{wasm: {url: 'file:///a.wasm', type: NETWORK}}", FilterScope("inbound", "default", tcp=True), 1),
        ("{wasm: {url: 'oci://a/b', failStrategy: FAIL_OPEN}}", FilterScope("inbound", "default"), 1),
    ],
)
def test_traffic(spec: str, scope: FilterScope, wanted: int) -> None:
    assert len(engine(read(HEAD % ("a", spec))).call(seen, scope)) == wanted
