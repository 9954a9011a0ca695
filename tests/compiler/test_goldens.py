"""Every golden configuration: real Envoy takes it, and it says what it said before."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from golden_cases import Case, cases, catalogs, compiled, scene_of, views
from listener_facts import judge
from static_envoy import add_catalog, new_bootstrap

from fairlead.cli.protojson import decode, to_json
from fairlead.compiler.publish import Catalog
from fairlead.envoy.resource import CLUSTER, ENDPOINT, LISTENER, ROUTE

CASES = cases()
TITLES = {"listeners": LISTENER, "routes": ROUTE, "clusters": CLUSTER, "endpoints": ENDPOINT}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_real_envoy_takes_what_every_kind_of_proxy_gets(case: Case, tmp_path: Path) -> None:
    made = new_bootstrap()
    found = catalogs(case)
    for at, (_, catalog) in enumerate(found):
        add_catalog(made, catalog, f"@{at}")
    assert found
    judge(made, tmp_path)


def _shown(catalog: Catalog, scene: Catalog) -> dict[str, Any]:
    """What a catalog has beyond, or other than, that of the scene; what is gone is null."""
    out: dict[str, Any] = {}
    for title, type_url in TITLES.items():
        new, old = catalog[type_url], scene[type_url]
        names = [name for name in sorted({*new, *old}) if new.get(name) != old.get(name)]
        if names:
            out[title] = {name: to_json(decode(type_url, new[name].body)) if name in new else None for name in names}
    return out


def _shared(value: Any, known: dict[str, Any]) -> Any:
    """The value with equal large parts made one, so that YAML writes them once."""
    if isinstance(value, dict):
        made: Any = {key: _shared(one, known) for key, one in value.items()}
    elif isinstance(value, list):
        made = [_shared(one, known) for one in value]
    else:
        return value
    text = json.dumps(made, sort_keys=True)
    return known.setdefault(text, made) if len(text) > 120 else made


@pytest.mark.parametrize("case", [case for case in CASES if case.golden], ids=lambda case: case.name)
def test_the_configuration_is_what_it_was(case: Case) -> None:
    """`--update-golden` writes what is compiled now; read the difference before you commit it."""
    seen_by = [view for view in views(case) if view.type == "router" or view.capture.mode == "explicit"]
    got: dict[str, Any] = {}
    known: dict[str, Any] = {}
    for view, catalog, scene in zip(seen_by, compiled(case, seen_by), compiled(scene_of(case), seen_by), strict=True):
        if shown := _shown(catalog, scene):
            got[f"{view.type} {view.namespace} {dict(view.labels)}"] = _shared(shown, known)
    text = yaml.dump(got, Dumper=yaml.CSafeDumper, sort_keys=True, width=120)
    golden = case.golden
    assert golden is not None
    if os.environ.get("FAIRLEAD_UPDATE_GOLDEN"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(text) if got else golden.unlink(missing_ok=True)
    assert (golden.read_text() if golden.exists() else "{}\n") == text
