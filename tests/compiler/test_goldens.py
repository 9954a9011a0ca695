"""Every golden configuration: real Envoy takes it, and it says what it said before."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from envoy.config.bootstrap.v3.bootstrap_pb2 import Bootstrap
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.filters.http.router.v3.router_pb2 import Router
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm
from golden_cases import Case, cases, catalogs, compiled, scene_of, views
from listener_facts import judge

from fairlead.cli.protojson import decode, to_json
from fairlead.compiler.publish import Catalog
from fairlead.envoy.pack import pack
from fairlead.envoy.resource import CLUSTER, ENDPOINT, LISTENER, ROUTE

CASES = cases()
TITLES = {"listeners": LISTENER, "routes": ROUTE, "clusters": CLUSTER, "endpoints": ENDPOINT}


def _fixed(made: Bootstrap) -> None:
    made.node.id, made.node.cluster = "golden", "golden"
    made.dynamic_resources.ads_config.api_type = 2
    made.dynamic_resources.ads_config.transport_api_version = 2
    made.dynamic_resources.ads_config.grpc_services.add().envoy_grpc.cluster_name = "xds-grpc"
    for name in ("xds-grpc", "sds-grpc"):
        made.static_resources.clusters.add(name=name, type=Cluster.STATIC).load_assignment.cluster_name = name


def _elsewhere(listener: Listener, number: int) -> None:
    """Give the listener an address that no other view's has; nothing is bound."""
    address = f"127.{200 + number // 60000}.{number // 250 % 250}.{number % 250 + 1}"
    listener.address.socket_address.address = address
    for one in listener.additional_addresses:
        one.address.socket_address.address = address


def _add(made: Bootstrap, catalog: Catalog, mark: str) -> None:
    """A view's resources. Names get a mark, since many views share one Envoy here."""
    for one in catalog[CLUSTER].values():
        cluster = made.static_resources.clusters.add()
        cluster.CopyFrom(Cluster.FromString(one.body))
        cluster.name += mark
        if all(other.name != one.name for other in made.static_resources.clusters):
            # Listeners name the clusters of tracers, which Envoy looks for at once.
            made.static_resources.clusters.append(Cluster.FromString(one.body))
    for one in catalog[LISTENER].values():
        listener = made.static_resources.listeners.add()
        listener.CopyFrom(Listener.FromString(one.body))
        listener.name += mark
        _elsewhere(listener, len(made.static_resources.listeners))
    for one in catalog[ENDPOINT].values():
        cluster = made.static_resources.clusters.add(name=f"endpoints of {one.name}{mark}", type=Cluster.STRICT_DNS)
        cluster.load_assignment.CopyFrom(ClusterLoadAssignment.FromString(one.body))
        cluster.load_assignment.cluster_name = cluster.name
    for one in catalog[ROUTE].values():
        listener = made.static_resources.listeners.add(name=f"routes {one.name}{mark}")
        listener.address.socket_address.port_value = 1
        _elsewhere(listener, len(made.static_resources.listeners))
        manager = hcm.HttpConnectionManager(stat_prefix="routes")
        manager.route_config.CopyFrom(RouteConfiguration.FromString(one.body))
        manager.http_filters.add(name="envoy.filters.http.router").typed_config.CopyFrom(pack(Router()))
        chain = listener.filter_chains.add()
        chain.filters.add(name="http").typed_config.CopyFrom(pack(manager))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_real_envoy_takes_what_every_kind_of_proxy_gets(case: Case, tmp_path: Path) -> None:
    made = Bootstrap()
    _fixed(made)
    found = catalogs(case)
    for at, (_, catalog) in enumerate(found):
        _add(made, catalog, f"@{at}")
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
