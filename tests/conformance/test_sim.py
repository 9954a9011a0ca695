"""istio-sim: calls over compiled resources, and the route tables of sidecars."""

from __future__ import annotations

import json
from collections import Counter
from functools import reduce
from operator import getitem
from typing import Any

import msgspec
import pytest
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_components_pb2 import VirtualHost
from envoy.config.route.v3.route_pb2 import RouteConfiguration

from fairlead.compiler import offline
from fairlead.compiler.model import MeshModel
from fairlead.compiler.publish import Catalog
from fairlead.compiler.routes import SidecarRouteKey, sidecar_route
from fairlead.compiler.sidecars import SidecarKey, proxy_scope
from fairlead.envoy.resource import LISTENER
from fairlead.ir.host import HOSTS
from fairlead.ir.view import Client, View, pairs
from fairlead.model.diagnostic import Severity
from fairlead.model.manifest import Manifest
from fairlead.model.yaml import parse_documents
from tests.conformance.simulator import Call, World, simulate
from tests.conformance.suites import Case, parameters

SIMULATIONS, TABLES = "istio-sim simulations", "istio-sim route tables"

UNKNOWN_FIELD = "FL0003"

COMPARED = {
    "error": "error",
    "listenerMatched": "listener",
    "filterChainMatched": "chain",
    "routeConfigMatched": "routes",
    "virtualHostMatched": "virtual_host",
    "routeMatched": "route",
    "clusterMatched": "cluster",
}


def mesh(*texts: str, settings: Case | None = None) -> MeshModel:
    """A model of the documents, all of which must be valid."""
    made = MeshModel()
    manifests = [admissible(made, one) for text in texts for one in parse_documents(text)]
    if settings:
        meta = {"name": "istio"}
        document = {"apiVersion": "mesh.istio.io/v1alpha1", "kind": "MeshConfig", "metadata": meta, "spec": settings}
        manifests.append(Manifest(document))
    found = offline.load(made, manifests)
    errors = [str(one) for one in found if one.severity is Severity.ERROR]
    assert not errors, "\n".join(errors)
    return made


def admissible(model: MeshModel, manifest: Manifest) -> Manifest:
    """The document as a Kubernetes API server takes it: without unknown fields, a Service's port names distinct."""
    for one in model.kinds.read_manifest(manifest, "default")[1]:
        if one.code == UNKNOWN_FIELD:
            *way, name = one.origin.path
            del reduce(getitem, way, manifest.data)[name]
    if manifest.data.get("kind") != "Service":
        return manifest
    names = Counter(port.get("name") for port in manifest.data["spec"].get("ports") or ())
    for port in manifest.data["spec"].get("ports") or ():
        if names[port.get("name")] > 1:
            port["name"] = f"{port['name']}-{port['port']}"
    return manifest


def view(proxy: Case) -> View:
    """The proxy, as Istio's tests set theirs up by default."""
    return View(
        type=proxy["type"],
        # Istio's tests tell the namespace of a proxy's metadata from that of its configuration; real proxies cannot.
        namespace=proxy.get("metadataNamespace") or proxy.get("namespace") or "default",
        labels=pairs(proxy.get("labels") or {}),
        addresses=tuple(proxy.get("ips") or (proxy.get("ip") or "1.1.1.1",)),
    )


def call_of(given: Case, proxy_type: str) -> Call:
    """The call with the defaults that the suite's semantics name."""
    fields: Case = {
        "port": given["port"],
        "protocol": given.get("protocol") or "tcp",
        "tls": given.get("tLS") or "plaintext",
        "host": given.get("hostHeader") or "",
        "mode": given.get("callMode") or ("gateway" if proxy_type == "router" else "outbound"),
    }
    for name, field in (("address", "address"), ("path", "path"), ("sni", "sni"), ("alpn", "alpn")):
        if given.get(name):
            fields[field] = given[name]
    if given.get("mtlsSecretConfigName"):
        fields["certificate"] = given["mtlsSecretConfigName"]
    call = msgspec.convert(fields, Call)
    sni, alpn = call.sni, call.alpn
    if call.tls == "tls":
        sni, alpn = sni or call.host, alpn or {"http": "http/1.1", "http2": "h2"}.get(call.protocol, "")
    elif call.tls == "mtls":
        alpn = alpn or {"http": "istio-http/1.1", "http2": "istio-h2"}.get(call.protocol, "istio")
    return msgspec.structs.replace(call, sni=sni, alpn=alpn)


def given_addresses(model: MeshModel, calls: list[Case]) -> list[Case]:
    """The calls with the addresses that hosts were given here: the suite tells those that its own hash function gives.

    That the address is one of the range, and the same for all that define the host, is what the cases are about.
    """
    given = {at.hostname: host.allocated[0] for at, host in model.engine.items(HOSTS) if host.allocated}
    made: list[Case] = []
    for one in calls:
        address = one["call"].get("address") or ""
        if address.startswith("240.240."):
            text = json.dumps(one).replace(address, given[one["call"]["hostHeader"]])
            one = json.loads(text)
        made.append(one)
    return made


def difference(expect: Case, got: Case) -> dict[str, tuple[str, str]]:
    """What was wanted and what came, by field."""
    strict = expect.get("strictMatch", False)
    compared = {said: field for said, field in COMPARED.items() if strict or said == "error" or expect.get(said)}
    return {
        said: (expect.get(said) or "", got[field])
        for said, field in compared.items()
        if got[field] not in same(said, expect.get(said) or "")
    }


def same(said: str, wanted: str) -> set[str]:
    """What counts as the wanted value.

    The fixtures of Istio's tests give their objects no domain, so that the short name of a destination ends at its
    namespace (`outbound|80||a.default`); objects that come through an API server do have one.
    """
    return {wanted, f"{wanted}.svc.cluster.local"} if said == "clusterMatched" and "|" in wanted else {wanted}


def duplicates(catalog: Catalog) -> list[str]:
    """Listeners that Envoy would refuse: two filter chains with the same match, or two listeners at one address."""
    found: list[str] = []
    sockets: Counter[bytes] = Counter()
    for one in catalog[LISTENER].values():
        listener = Listener.FromString(one.body)
        sockets[listener.address.SerializeToString(deterministic=True)] += 1
        matches = [chain.filter_chain_match.SerializeToString(deterministic=True) for chain in listener.filter_chains]
        found.extend(f"{one.name}: {count} chains with one match" for count in Counter(matches).values() if count > 1)
    found.extend(f"{count} listeners at one address" for count in sockets.values() if count > 1)
    return found


@pytest.mark.suite(SIMULATIONS)
@pytest.mark.parametrize("case", parameters(SIMULATIONS, "istio-sim", lambda suite: suite["simulations"]))
def test_simulation(case: Any) -> None:
    model = mesh(case["kubeConfig"] or "", case["config"], settings=case.get("meshConfig"))
    proxy = view(case["proxy"])
    with model.opened(proxy) as catalog:
        assert not model.engine.failures()
        assert not duplicates(catalog)
        world = World(catalog)
        wrong = {
            f"{one['name']}: {one['call']}": differs
            for one in given_addresses(model, case["calls"])
            if (
                differs := difference(
                    one["expect"],
                    msgspec.structs.asdict(simulate(world, call_of(one["call"], case["proxy"]["type"]))),
                )
            )
        }
    assert not wrong


@pytest.mark.suite(TABLES)
@pytest.mark.parametrize("case", parameters(TABLES, "istio-sim", lambda suite: suite["sidecarRoutes"]))
def test_route_table(case: Any) -> None:
    model = mesh(case["kubeConfig"] or "", case["config"])
    scope = model.engine.call(proxy_scope, SidecarKey(case["proxyNamespace"], ()))
    found = model.engine.call(sidecar_route, SidecarRouteKey(Client(scope), case["routeName"]))
    assert found is not None
    by_domain = {
        domain: clusters(host)
        for host in RouteConfiguration.FromString(found.body).virtual_hosts
        for domain in host.domains
    }
    for name, wanted in (case["expectedVirtualHosts"] or {}).items():
        assert by_domain.get(name) == wanted, name
    assert not model.engine.failures()


def clusters(host: VirtualHost) -> list[str]:
    """The clusters of a virtual host's routes, weighted ones included, in order."""
    found: list[str] = []
    for route in host.routes:
        action = route.route
        found.extend(one.name for one in action.weighted_clusters.clusters)
        if action.cluster:
            found.append(action.cluster)
    return found
