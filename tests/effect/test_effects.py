"""What a change does to proxies, in words."""

from __future__ import annotations

from typing import Any

import pytest

from fairlead.compiler.model import OBJECTS, MeshModel
from fairlead.compiler.offline import load
from fairlead.effect import Effect, Known, effects, lines, report
from fairlead.envoy.difference import differences
from fairlead.envoy.protojson import decode
from fairlead.envoy.resource import CLUSTER, ROUTE
from fairlead.ir.view import View
from fairlead.model.yaml import parse_documents

MESH = """
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {clusterIP: 10.96.0.9, ports: [{name: http, port: 80}], selector: {app: cart}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: c1, namespace: shop}
spec: {address: 10.0.0.1, labels: {app: cart, version: v1}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: c2, namespace: shop}
spec: {address: 10.0.0.2, labels: {app: cart, version: v2}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: cart, namespace: shop}
spec:
  hosts: [cart]
  http:
  - name: first
    match: [{uri: {prefix: /a}}]
    route: [{destination: {host: cart, subset: v1}}]
  - name: old
    timeout: 5s
    route: [{destination: {host: cart}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: cart, namespace: shop}
spec:
  host: cart
  trafficPolicy: {connectionPool: {tcp: {connectTimeout: 3s}}}
  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]
"""
STRICT = """
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: shop}
spec: {mtls: {mode: STRICT}}
"""
ALLOW = """
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: cart, namespace: shop}
spec: {selector: {matchLabels: {app: cart}}, rules: [{from: [{source: {principals: ["a/b"]}}]}]}
"""
DENY = ALLOW.replace("spec: {", "spec: {action: DENY, ")
CLIENT = View("sidecar", "shop", (("app", "web"),), addresses=("10.0.0.9",), workload_name="web", on_demand="auto")
SERVER = View("sidecar", "shop", (("app", "cart"), ("version", "v1")), addresses=("10.0.0.1",))


def objects(model: MeshModel, text: str) -> list[Any]:
    read = [model.kinds.read_manifest(one, "shop")[0] for one in parse_documents(text.encode(), "mesh.yaml")]
    assert None not in read
    return read


def told(before: str, after: str, *views: View, known: Known | None = None) -> tuple[Effect, ...]:
    model = MeshModel()
    assert not load(model, parse_documents(before.encode(), "mesh.yaml"))
    for view in views or (CLIENT, SERVER):
        model.publisher.open(view)
    new = objects(model, after)
    gone = {ref for ref, _ in model.engine.items(OBJECTS)} - {one.ref for one in new}
    with model.supposing(new, sorted(gone)) as differing:
        return effects(differing, model.publisher.catalog, seen=lambda _: known, asks=model.publisher.asks)


def said(found: tuple[Effect, ...]) -> list[str]:
    return [f"{one.danger} {one.said}".strip() for effect in found for one in effect.changes]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("timeout: 5s", "timeout: 1s", "requests for cart.shop:80 (route `old`): timeout 5s -> 1s"),
        (
            "subset: v1",
            "subset: v2",
            "requests for cart.shop:80 with path /a* (route `first`): now go to subset v2 of cart.shop:80 "
            "(they went to subset v1 of cart.shop:80)",
        ),
        (
            "prefix: /a",
            "exact: /b",
            "requests for cart.shop:80 with path /a* (route `first`): this route takes requests with path /b now",
        ),
        (
            "  - name: old\n    timeout: 5s\n    route: [{destination: {host: cart}}]\n",
            "",
            "requests for cart.shop:80: route `old` is gone (requests go to cart.shop:80)",
        ),
        (
            "  - name: first",
            "  - name: all\n    route: [{destination: {host: cart}}]\n  - name: first",
            "FL3801 requests for cart.shop:80: route `first` gets none any more: `all` before it takes every request",
        ),
        (
            "{name: v1, labels: {version: v1}}, ",
            "",
            "FL3806 subset v1 of cart.shop:80 is not there, and requests for cart.shop:80 still go to it: "
            "they are answered with 503",
        ),
        ("subset: v1", "subset: v3", "FL3806 subset v3 of cart.shop:80 is not there, and requests for cart.shop:80"),
        ("connectTimeout: 3s", "connectTimeout: 5s", "cart.shop:80: connectTimeout 3s -> 5s"),
        ("10.0.0.2", "10.0.0.3", "cart.shop:80: endpoint 10.0.0.2:80 removed; endpoint 10.0.0.3:80 added"),
        (
            "version: v1}}\n---",
            "version: v9}}\n---",
            "FL3805 subset v1 of cart.shop:80: endpoint 10.0.0.1:80 removed; none",
        ),
        (
            "host: cart\n  trafficPolicy: {",
            "host: cart\n  trafficPolicy: {tls: {mode: DISABLE}, ",
            "FL3803 cart.shop:80",
        ),
    ],
)
def test_changes_of_routes_clusters_and_endpoints(old: str, new: str, expected: str) -> None:
    assert old in MESH
    found = told(MESH, MESH.replace(old, new, 1), CLIENT)
    assert any(one.startswith(expected) for one in said(found)), said(found)


def test_a_host_that_goes_is_a_danger() -> None:
    found = told(MESH, MESH.split("---", 1)[1], CLIENT)
    assert "FL3802 route configuration 80 is gone, for cart.shop:80" in said(found)
    assert "cart.shop:80 vanishes" in said(found)


def test_a_host_that_comes_is_none() -> None:
    found = said(
        told(MESH, MESH + "---" + MESH.split("---", 1)[0].replace("cart", "web").replace("0.9", "0.8"), CLIENT)
    )
    assert "requests for web.shop:80 are routed: go to web.shop:80" in found, found
    assert "web.shop:80: its endpoints are new (none yet)" in found
    assert not [one for one in found if one.startswith("FL3802")]


def test_mutual_tls_made_stricter_and_weaker() -> None:
    stricter = "port 80 takes mutual TLS of the mesh only: mode STRICT (was PERMISSIVE)"
    assert f"FL3815 {stricter}; whether anybody calls it in plaintext only a running mesh can say" in said(
        told(MESH, MESH + STRICT)
    )
    weaker = told(MESH + STRICT, MESH)
    assert "FL3803 port 80 takes plaintext, too: mode PERMISSIVE (was STRICT)" in said(weaker)
    assert any(one.startswith("FL3807 listener virtualInbound changes as a whole") for one in said(weaker))


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("", ALLOW, "authorization: ALLOW rule 0 of policy cart in shop is new"),
        ("", ALLOW, "FL3809 authorization: what no ALLOW rule names is denied from now on"),
        (ALLOW, "", "FL3804 authorization: no ALLOW policy any more: whatever no DENY forbids may pass"),
        (DENY, "", "FL3804 authorization: DENY rule 0 of policy cart in shop is gone"),
        (
            ALLOW,
            ALLOW.replace('[{from: [{source: {principals: ["a/b"]}}]}]', "[{}]"),
            "FL3804 authorization: ALLOW rule 0 of policy cart in shop now allows everybody",
        ),
        (ALLOW, ALLOW.replace("a/b", "a/c"), "authorization: ALLOW rule 0 of policy cart in shop says something else"),
    ],
)
def test_authorization(before: str, after: str, expected: str) -> None:
    found = told(MESH + before, MESH + after)
    assert expected in said(found), said(found)
    assert {view for effect in found for view in effect.views} == {SERVER}
    chains = [one for one in found[0].changes if "their connections drain" in one.said]
    assert [one.kind for one in chains] == ["filter chain"] and chains[0].fields


def test_proxies_for_which_a_change_does_the_same_are_one_group() -> None:
    others = [View("sidecar", "shop", (("app", "web"),), addresses=(f"10.0.1.{at}",)) for at in range(5)]
    found = told(MESH, MESH.replace("timeout: 5s", "timeout: 1s"), *others, SERVER)
    assert len(found) == 1 and set(found[0].views) == {*others, SERVER}
    data = report(found, lambda view: [f"web-v1-{view.addresses[0][-1]}.shop"])
    assert data["effects"][0]["proxies"]["summary"] == "6 proxies in shop: web-v1-*"
    assert data["classes"] == {"route": 1} and not data["dangers"]
    shown = [text for _, text in lines(data)]
    assert shown[0].startswith("6 proxies") and shown[-1].endswith("nothing is marked as dangerous.")


def test_what_means_nothing_has_no_effect() -> None:
    found = told(MESH, MESH.replace("metadata: {name: cart,", "metadata: {labels: {a: b}, name: cart,"))
    assert not found
    assert [text for _, text in lines(report(found, lambda _: []))] == ["No proxy gets anything else."]


@pytest.mark.parametrize("after", [MESH.replace("timeout: 5s", "timeout: 1s"), MESH + STRICT, MESH + ALLOW, ""])
def test_every_difference_is_told_or_listed(after: str) -> None:
    """Each setting that differs stands in the fields of some change, whatever the words say."""
    model = MeshModel()
    load(model, parse_documents(MESH.encode(), "mesh.yaml"))
    model.publisher.open(SERVER)
    new = objects(model, after) if after else []
    gone = {ref for ref, _ in model.engine.items(OBJECTS)} - {one.ref for one in new}
    with model.supposing(new, sorted(gone)) as differing:
        found = effects(differing, model.publisher.catalog)
        listed = {(name, field.path) for one in found[0].changes for name in one.resources for field in one.fields}
        for type_url, names in differing[SERVER].items():
            for name, old in names.items():
                now = model.publisher.catalog(SERVER)[type_url].get(name)
                pair = (None if one is None else decode(type_url, one.body) for one in (old, now))
                for one in differences(*pair):
                    assert (name, "/".join(one.path)) in listed


def test_the_other_way_round() -> None:
    model = MeshModel()
    load(model, parse_documents(MESH.encode(), "mesh.yaml"))
    model.publisher.open(CLIENT)
    with model.supposing(objects(model, MESH.replace("timeout: 5s", "timeout: 1s"))) as differing:
        back = effects(differing, model.publisher.catalog, backwards=True)
    assert said(back) == ["requests for cart.shop:80 (route `old`): timeout 1s -> 5s"]


def test_lists_match_what_is_equal() -> None:
    model = MeshModel()
    load(model, parse_documents(MESH.encode(), "mesh.yaml"))
    catalog = model.compile(CLIENT)
    assert not list(differences(*(decode(ROUTE, catalog[ROUTE]["80"].body) for _ in range(2))))
    one = decode(CLUSTER, next(iter(catalog[CLUSTER].values())).body)
    assert [at.path for at in differences(one, None)] == [()]
