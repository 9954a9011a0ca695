"""Istio's own findings where they follow from several objects at once: who meets whom, and what is enough."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from fairlead.analyze.analysis import Analysis, reference
from fairlead.model.yaml import parse_documents


def found(analyzer: str, *texts: str) -> list[tuple[str, str]]:
    """(code, namespace/name) of what one analyzer says, in order."""
    analysis = Analysis(0, only=[analyzer])
    documents = parse_documents("---\n".join(texts), "x.yaml")
    analysis.apply({reference(one.data, namespace=""): one.data for one in documents})
    return sorted((one.finding.code, f"{one.finding.namespace}/{one.finding.name}") for one in analysis.found())


def obj(kind: str, name: str, spec: str, *, group: str = "networking.istio.io/v1", more: str = "") -> str:
    namespace, _, short = name.rpartition("/")
    meta = f"{{name: {short}, namespace: {namespace or 'shop'}{more}}}"
    return f"apiVersion: {group}\nkind: {kind}\nmetadata: {meta}\n{spec}\n"


def rule(name: str, hosts: str, more: str = "") -> str:
    return obj(
        "VirtualService", name, f"spec: {{hosts: [{hosts}]{more}, http: [{{route: [{{destination: {{host: x}}}}]}}]}}"
    )


def names(code: str, refs: Iterable[str]) -> list[tuple[str, str]]:
    return sorted((code, ref) for ref in refs)


HOSTS = "virtualservice.ConflictingMeshGatewayHostsAnalyzer"


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        (rule("a/one", "cart"), rule("b/two", "cart.a.svc.cluster.local"), True),
        (rule("a/one", "cart"), rule("b/two", "cart"), False),
        (rule("a/one", "'*.shop'"), rule("b/two", "cart.shop"), False),
        (rule("a/one", "shop.example", ", exportTo: ['.']"), rule("b/two", "shop.example"), True),
        (rule("a/one", "shop.example", ", exportTo: ['.']"), rule("b/two", "shop.example", ", exportTo: [c]"), False),
        (rule("a/one", "shop.example", ", exportTo: [c]"), rule("c/two", "shop.example", ", exportTo: ['.']"), True),
        (rule("a/one", "cart.shop.example", ", exportTo: ['.']"), rule("b/two", "'*.example'"), True),
        (rule("a/one", "'*.example'", ", exportTo: [c]"), rule("b/two", "cart.shop.example"), True),
        (rule("a/one", "shop.example", ", exportTo: ['~']"), rule("b/two", "shop.example"), False),
        (rule("a/one", "shop.example", ", gateways: [edge]"), rule("b/two", "shop.example"), False),
    ],
)
def test_virtualservices_meet_where_both_are_shown(one: str, other: str, meet: bool) -> None:
    refs = [line.split("namespace: ")[1].split("}")[0] for line in (one.splitlines()[2], other.splitlines()[2])]
    expected = names("IST0109", (f"{refs[0]}/one", f"{refs[1]}/two")) if meet else []
    assert found(HOSTS, one, other) == expected
    assert found(HOSTS, other, one) == expected


def test_one_finding_tells_of_all_hosts_of_a_virtualservice() -> None:
    both = rule("a/one", "a.example, b.example")
    assert found(HOSTS, both, rule("a/two", "a.example"), rule("b/three", "b.example")) == names(
        "IST0109", ("a/one", "a/two", "b/three")
    )


def gateway(name: str, selector: str, server: str) -> str:
    return obj("Gateway", name, f"spec: {{selector: {{{selector}}}, servers: [{server}]}}")


def server(host: str, bind: str = "") -> str:
    return f"{{port: {{number: 80, name: http, protocol: HTTP}}, hosts: ['{host}']{bind}}}"


EDGE = obj("Pod", "edge", "spec: {}", group="v1", more=", labels: {istio: edge, app: edge, zone: a}")


@pytest.mark.parametrize(
    ("one", "other", "conflict"),
    [
        (("istio: edge", server("a.example")), ("istio: edge", server("a.example")), True),
        (("istio: edge", server("a.example")), ("istio: edge, app: edge", server("a.example")), True),
        (("", server("a.example")), ("istio: edge", server("a.example")), True),
        (("istio: edge", server("a.example")), ("istio: edge, app: other", server("a.example")), False),
        (("istio: edge", server("a.example")), ("istio: edge", server("*.example")), False),
        (("istio: edge", server("a.example")), ("istio: edge", server("a.example", ", bind: 127.0.0.1")), False),
    ],
)
def test_gateways_conflict_on_the_same_proxies(one: tuple[str, str], other: tuple[str, str], conflict: bool) -> None:
    texts = (EDGE, gateway("one", *one), gateway("two", *other))
    expected = names("IST0145", ("shop/one", "shop/two")) if conflict else []
    assert found("gateway.ConflictingGatewayAnalyzer", *texts) == expected


def test_a_destination_is_looked_for_where_the_virtualservice_is_shown() -> None:
    service = obj(
        "Service",
        "cart",
        "spec: {ports: [{port: 80}]}",
        group="v1",
        more=", annotations: {networking.istio.io/exportTo: '.,b'}",
    )
    routes = "spec: {hosts: [cart], exportTo: [TO], http: [{route: [{destination: {host: cart}}]}]}"
    for to, missing in (("b", False), ("'.'", False), ("c", True), ("c, b", False), ("'*'", False)):
        said = found(
            "virtualservice.DestinationHostAnalyzer", service, obj("VirtualService", "x", routes.replace("TO", to))
        )
        assert said == (names("IST0101", ["shop/x"]) if missing else []), to


@pytest.mark.parametrize(
    ("labels", "codes"),
    [
        ("istio-injection: enabled, istio.io/dataplane-mode: ambient", ["IST0123"]),
        ("istio.io/rev: canary, istio.io/dataplane-mode: ambient", ["IST0123"]),
        ("istio-injection: disabled, istio.io/dataplane-mode: ambient", []),
        ("istio.io/dataplane-mode: ambient", []),
    ],
)
def test_a_namespace_is_ambient_or_injected(labels: str, codes: list[str]) -> None:
    home = f"apiVersion: v1\nkind: Namespace\nmetadata: {{name: shop, labels: {{{labels}}}}}\n"
    pod = obj("Pod", "other/p", "spec: {containers: []}", group="v1")
    assert [code for code, _ in found("injection.Analyzer", home, pod)] == codes


def test_a_credential_is_for_selected_sidecars() -> None:
    policy = (
        "trafficPolicy: {tls: {mode: SIMPLE, credentialName: c}, portLevelSettings: [{port: {number: 1}, tls: TLS}]}"
    )
    policy = policy.replace("TLS", "{mode: MUTUAL, credentialName: c}")
    plain = obj("DestinationRule", "x", f"spec: {{host: db.example, {policy}}}")
    selected = plain.replace("host:", "workloadSelector: {matchLabels: {app: web}}, host:")
    analyzer = "destinationrule.CaCertificateAnalyzer"
    assert [code for code, _ in found(analyzer, plain)] == ["IST0128", "IST0129"]
    assert found(analyzer, selected) == []


def test_addresses_that_are_allotted_are_addresses() -> None:
    entry = obj("ServiceEntry", "x", "spec: {hosts: [db.example], ports: [{number: 1, name: tcp, protocol: TCP}]}")
    assert found("serviceentry.Analyzer", entry) == names("IST0134", ["shop/x"])
    assert found("serviceentry.Analyzer", f"{entry}status: {{addresses: [{{value: 240.240.0.1}}]}}\n") == []
    mesh = "{defaultConfig: {proxyMetadata: {PILOT_ENABLE_IP_AUTOALLOCATE: 'true', ISTIO_META_DNS_CAPTURE: 'WANTED'}}}"
    for capture, codes in (("true", []), ("false", names("IST0134", ["shop/x"]))):
        data = f'data: {{mesh: "{mesh.replace("WANTED", capture)}"}}'
        assert found("serviceentry.Analyzer", entry, obj("ConfigMap", "istio-system/istio", data, group="v1")) == codes


def test_conditions_of_services_policies_and_parents() -> None:
    false = "conditions: [{type: TYPE, status: 'False', reason: Why}]"
    bound = obj("Service", "s", f"status: {{{false.replace('TYPE', 'istio.io/WaypointBound')}}}", group="v1")
    policy = obj("AuthorizationPolicy", "p", "", group="security.istio.io/v1")
    refused = policy + f"status: {{{false.replace('TYPE', 'ZtunnelAccepted')}}}\n"
    partly = policy.replace("name: p", "name: q") + (
        "status: {conditions: [{type: WaypointAccepted, status: 'True', reason: PartiallyInvalid}]}\n"
    )
    route = obj("HTTPRoute", "r", f"status: {{parents: [{{{false.replace('TYPE', 'Accepted')}}}]}}")
    route = route.replace("networking.istio.io/v1", "gateway.networking.k8s.io/v1")
    assert found("conditions.ConditionAnalyzer", bound, refused, partly, route) == names(
        "IST0171", ("shop/s", "shop/p", "shop/q", "shop/r")
    )


def test_the_order_of_envoyfilters_is_told_of_once() -> None:
    patch = "{applyTo: HTTP_FILTER, match: MATCH, patch: {operation: INSERT_AFTER, value: {name: lua}}}"
    plain, versioned = patch.replace("MATCH", "{}"), patch.replace("MATCH", "{proxy: {proxyVersion: '1.*'}}")
    analyzer = "envoyfilter.EnvoyPatchAnalyzer"
    assert found(analyzer, obj("EnvoyFilter", "x", f"spec: {{configPatches: [{plain}, {plain}]}}")) == names(
        "IST0151", ["shop/x"]
    )
    assert [
        code for code, _ in found(analyzer, obj("EnvoyFilter", "x", f"spec: {{configPatches: [{versioned}, {plain}]}}"))
    ] == ["IST0151", "IST0155"]
    assert found(analyzer, obj("EnvoyFilter", "x", f"spec: {{configPatches: [{plain}, {versioned}]}}")) == names(
        "IST0151", ["shop/x"]
    )
    objects = [obj("EnvoyFilter", f"{at}/x", f"spec: {{configPatches: [{plain}]}}") for at in ("a", "c")]
    assert found(analyzer, *objects, obj("EnvoyFilter", "b/x", f"spec: {{configPatches: [{versioned}]}}")) == [
        ("IST0151", "a/x"),
        ("IST0151", "b/x"),
        ("IST0155", "c/x"),
    ]


@pytest.mark.parametrize(("region", "codes"), [("eu", []), ("''", ["IST0173"])])
def test_a_subset_is_of_a_region_that_nodes_have(region: str, codes: list[str]) -> None:
    label = f"topology.kubernetes.io/region: {region}"
    subsets = f"spec: {{host: cart, subsets: [{{name: near, labels: {{{label}}}}}]}}"
    texts = (
        obj("DestinationRule", "shop/cart", subsets),
        obj("Service", "shop/cart", "spec: {ports: [{port: 80}], selector: {app: cart}}", group="v1"),
        obj("Pod", "shop/cart-1", "spec: {nodeName: one}", group="v1", more=", labels: {app: cart}"),
        f"apiVersion: v1\nkind: Node\nmetadata: {{name: one, labels: {{{label}}}}}\n",
    )
    assert [code for code, _ in found("destinationrule.SubsetSelectPodAnalyzer", *texts)] == codes


def test_kinds_of_the_gateway_api_have_their_own_oldest_versions() -> None:
    def definition(kind: str) -> str:
        return (
            f"apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {{name: {kind.lower()},"
            " annotations: {gateway.networking.k8s.io/bundle-version: v1.4.1}}\n"
            f"spec: {{group: gateway.networking.k8s.io, names: {{kind: {kind}}}}}\n"
        )

    said = found("k8sgateway.CRDVersionAnalyzer", *map(definition, ("TLSRoute", "GRPCRoute", "BackendTLSPolicy")))
    assert said == [("IST0176", "/tlsroute")]
