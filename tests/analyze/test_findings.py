"""Findings: kept current by what a change touches, confirmed by requests, suppressed, and placed."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.analyze.analysis import Analysis, reference
from fairlead.analyze.finding import Finding
from fairlead.analyze.report import Report, examine
from fairlead.analyze.suppression import of_option
from fairlead.model.diagnostic import Severity
from fairlead.model.manifest import Json, Manifest
from fairlead.model.ref import Ref
from fairlead.model.yaml import parse_documents

SHOP = """
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: web, namespace: shop}
spec: {address: 10.0.0.1, labels: {app: web}, serviceAccount: web}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: reviews-v1, namespace: shop}
spec: {address: 10.0.0.2, labels: {app: reviews, version: v1}, serviceAccount: reviews}
---
apiVersion: v1
kind: Service
metadata: {name: reviews, namespace: shop}
spec: {selector: {app: reviews}, ports: [{name: http, port: 80, targetPort: 9080}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews, namespace: shop}
spec: {host: reviews, subsets: [{name: v1, labels: {version: v1}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews, namespace: shop}
spec:
  hosts: [reviews]
  http:
    - match: [{uri: {prefix: /new}, headers: {who: {exact: me}}}]
      route: [{destination: {host: reviews, subset: v1}}]
    - route: [{destination: {host: reviews}}]
"""


def report(*texts: str, **options: object) -> Report:
    return examine(parse_documents("---".join(texts), "shop.yaml"), **options)  # pyright: ignore[reportArgumentType]


def codes(found: Report) -> list[str]:
    return [one.code for one in found.findings]


def test_nothing_is_said_of_what_is_right() -> None:
    assert report(SHOP).findings == ()


def test_an_error_about_traffic_has_a_witness_and_a_place() -> None:
    found = report(SHOP.replace("{host: reviews, subset: v1}}]", "{host: reviews, subset: v7}}]"))
    (one,) = found.findings
    assert (one.code, one.severity, one.line) == ("IST0101", Severity.ERROR, 29)
    assert one.field == "spec.http[0].route[0].destination.subset"
    assert one.witness is not None and (one.witness.status, one.witness.flags) == (503, "NC")
    assert "/new" in one.witness.request


def test_without_a_witness_it_is_no_error() -> None:
    edge = SHOP.replace("hosts: [reviews]", "hosts: [reviews]\n  gateways: [edge]")
    unseen = edge.replace("subset: v1}}", "subset: v7}}")
    wrong = {one.code: one for one in report(unseen).findings}
    assert wrong["IST0101"].severity is Severity.WARNING and wrong["IST0101"].witness is None


def test_suppression_by_annotation_option_and_what_hides_nothing() -> None:
    wrong = SHOP.replace("{host: reviews, subset: v1}}]", "{host: reviews, subset: v7}}]")
    assert codes(report(wrong, asked=[of_option("IST0101=VirtualService *.shop")])) == []
    assert codes(report(wrong, asked=[of_option("IST0101=Gateway *"), of_option("IST0118")])) == [
        "FL3790",
        "FL3790",
        "IST0101",
    ]
    annotated = wrong.replace(
        "kind: VirtualService\nmetadata: {name: reviews,",
        "kind: VirtualService\nmetadata: {annotations: {galley.istio.io/analyze-suppress: IST0101}, name: reviews,",
    )
    assert (codes(report(annotated)), report(annotated).suppressed) == ([], 1)


def test_one_analyzer_alone() -> None:
    wrong = SHOP.replace("name: http,", "name: web,").replace("subset: v1}}", "subset: v7}}")
    assert codes(report(wrong, only=["service.PortNameAnalyzer"])) == ["IST0118"]


_PARTS = [one.data for one in parse_documents(SHOP)]
_VARIANTS: list[Json] = [
    *_PARTS,
    {**_PARTS[1], "spec": {"address": "10.0.0.2", "labels": {"app": "reviews", "version": "v2"}}},
    {**_PARTS[2], "spec": {"selector": {"app": "web"}, "ports": [{"name": "x", "port": 81}]}},
    {**_PARTS[3], "spec": {"host": "nobody", "subsets": [{"name": "v2", "labels": {"version": "v2"}}]}},
    {**_PARTS[4], "spec": {"hosts": ["reviews"], "http": [{"route": [{"destination": {"host": "web"}}]}]}},
    {**_PARTS[4], "metadata": {"name": "other", "namespace": "shop"}},
    {**_PARTS[4], "metadata": {"name": "next", "namespace": "shop", "labels": {"istio.io/rev": "next"}}},
    {**_PARTS[4], "metadata": {"name": "reviews", "namespace": "shop", "labels": {"istio.io/rev": "default"}}},
    *(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "istio", "namespace": "istio-system", "labels": labels},
        }
        for labels in ({}, {"istio.io/rev": "next"})
    ),
    {
        "apiVersion": "mesh.istio.io/v1alpha1",
        "kind": "MeshConfig",
        "metadata": {"name": "istio", "labels": {"istio.io/rev": "next"}},
    },
    {**_PARTS[4], "spec": "nothing that it should be"},
]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(_VARIANTS), st.booleans()), max_size=12))
def test_incremental_equals_from_scratch(steps: list[tuple[Json, bool]]) -> None:
    kept = Analysis(0.0)
    there: dict[Ref, Json] = {}
    for data, present in steps:
        ref = reference(data)
        kept.apply({ref: data if present else None})
        if present:
            there[ref] = data
        else:
            there.pop(ref, None)
        fresh = Analysis(0.0)
        fresh.apply(there)
        assert set(kept.found()) == set(fresh.found())


def test_objects_of_another_revision_are_as_if_they_were_not_there() -> None:
    rules = {**_PARTS[4], "metadata": {"name": "next", "namespace": "shop", "labels": {"istio.io/rev": "next"}}}
    settings_ = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "istio", "namespace": "istio-system", "labels": {"istio.io/rev": "next"}},
    }
    documents = [one.data for one in parse_documents(SHOP)]
    found = {(one.code, one.name) for one in _examined([*documents, rules])}
    assert found == {("FL0105", "next")}
    # In a mesh of that revision there are two rules for one host.
    found = {one.code for one in _examined([*documents, rules, settings_])}
    assert "FL0105" not in found
    assert "IST0109" in found


def _examined(documents: list[Json]) -> tuple[Finding, ...]:
    return examine([Manifest(one) for one in documents]).findings


def test_an_edit_runs_only_what_read_it() -> None:
    many = "---".join(SHOP.replace("shop", f"shop{at}") for at in range(20))
    analysis = Analysis(0.0)
    analysis.apply({reference(one.data): one.data for one in parse_documents(many)})
    assert analysis.found() == []
    before = analysis.engine.runs.total()
    analysis.apply({Ref("", "Service", "shop7", "reviews"): None})
    assert {one.finding.code for one in analysis.found()} == {"FL3722", "IST0101", "IST0174"}
    assert analysis.engine.runs.total() - before <= 12


EDGE = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec:
  selector: {app: web}
  servers: [{port: {number: 8080, name: http, protocol: HTTP}, hosts: ["*.example"]}]
---
apiVersion: v1
kind: Service
metadata: {name: edge, namespace: shop}
spec: {selector: {app: web}, ports: [{name: http, port: 8080}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: edge, namespace: shop}
spec:
  hosts: [shop.example]
  gateways: [edge]
  http:
    - match: [{uri: {exact: /pay}, method: {exact: POST}}]
      route: [{destination: {host: paymnet}}]
    - route: [{destination: {host: reviews}}]
"""


def test_a_witness_comes_through_the_gateway_where_only_that_has_the_route() -> None:
    one, other = report(SHOP, EDGE).findings
    assert other.code == "IST0140", "the routes of the host itself are for sidecars"
    assert (one.code, one.severity) == ("IST0101", Severity.ERROR)
    assert one.witness is not None
    assert one.witness.request == "internet: POST http://shop.example:8080/pay"
    assert (one.witness.status, one.witness.flags) == (503, "NC")


def test_a_subset_without_workloads_has_the_request_that_is_routed_to_it() -> None:
    gone = SHOP.replace("labels: {version: v1}}]", "labels: {version: v8}}]")
    (one,) = report(gone).findings
    assert (one.code, one.severity) == ("IST0173", Severity.ERROR)
    assert one.witness is not None and one.witness.flags == "UH"
    assert "/new" in one.witness.request


POD = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: web, ports: 7}]}
"""


def test_pods_call_too() -> None:
    served = SHOP.split("---")
    routes = served[4].replace("subset: v1", "subset: v7")
    found = {one.code: one for one in report(POD, served[2], routes).findings}
    one = found["IST0101"]
    assert one.severity is Severity.ERROR
    assert one.witness is not None and one.witness.request.startswith("web.shop: GET")
    assert "IST0001" not in found and "WorkloadEntry" not in {one.kind for one in found.values()}
