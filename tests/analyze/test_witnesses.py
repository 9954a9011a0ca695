"""Findings about rules that others take the place of, and about certificates: the request that shows it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from fairlead.analyze.certificates import covers
from fairlead.analyze.finding import Finding
from fairlead.analyze.report import examine
from fairlead.model.diagnostic import Severity
from fairlead.model.yaml import parse_documents
from tests.analyze.test_findings import EDGE, SHOP
from tests.analyze.test_own import NOW, pair

SECOND = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: second, namespace: shop}
spec:
  hosts: [reviews]
  http:
    - match: [{uri: {prefix: RULE}}]
      route: [{destination: {host: reviews}}]
"""
CLAIMED = EDGE.replace("uri: {exact: /pay}, method: {exact: POST}", "headers: {KEY: {exact: staff}}").replace(
    "paymnet", "reviews"
)
OTHER_EDGE = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: tls-NAME, namespace: shop}
spec:
  selector: {app: web}
  servers:
    - port: {number: 8443, name: https, protocol: HTTPS}
      hosts: [secure.example]
      tls: {mode: SIMPLE, credentialName: tls}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: tls-NAME, namespace: shop}
spec:
  hosts: [secure.example]
  gateways: [tls-NAME]
  http: [{match: [{uri: {prefix: /NAME}}], route: [{destination: {host: reviews}}]}]
"""


def found(code: str, *texts: str) -> list[Finding]:
    documents = parse_documents("---".join((SHOP, *texts)), "shop.yaml")
    return [one for one in examine(documents, now=NOW.timestamp()).findings if one.code == code]


def secret(days: int) -> str:
    certificate, key = pair(NOW + timedelta(days=days))
    return (
        "\napiVersion: v1\nkind: Secret\nmetadata: {name: tls, namespace: shop}\n"
        f"data: {{tls.crt: {certificate}, tls.key: {key}}}\n"
    )


def test_a_virtualservice_whose_rule_another_one_decides() -> None:
    shadowed = found("IST0109", SECOND.replace("RULE", "/old"))
    by_name = {one.name: one for one in shadowed}
    assert by_name["reviews"].severity is Severity.WARNING, "its own rules decide"
    one = by_name["second"]
    assert one.severity is Severity.ERROR and one.witness is not None
    assert str(one.witness) == (
        "reviews-v1.shop: GET http://reviews.shop.svc.cluster.local:80/old -> 200 via_upstream"
        " (VirtualService shop/reviews spec.http[1] decides)"
    )


@pytest.mark.parametrize(
    ("key", "claims"),
    [('"@request.auth.claims.group"', '{"group":"staff"}'), ('"@request.auth.claims[a][b]"', '{"a":{"b":"staff"}}')],
)
def test_a_route_by_claims_that_nobody_validates(key: str, claims: str) -> None:
    (one,) = found("IST0149", CLAIMED.replace("KEY", key))
    assert one.severity is Severity.ERROR and one.witness is not None
    assert one.witness.request == f"internet: GET http://shop.example:8080/ with claims {claims}"
    assert one.witness.decides == "VirtualService shop/edge spec.http[1]"


def test_two_gateways_for_one_host_of_a_port() -> None:
    twice = found("IST0145", secret(30), *(OTHER_EDGE.replace("NAME", name) for name in ("a", "b")))
    by_name = {one.name: one for one in twice}
    assert by_name["tls-a"].severity is Severity.WARNING, "it counts"
    one = by_name["tls-b"]
    assert one.severity is Severity.ERROR and one.witness is not None
    assert one.witness.request == "internet: GET https://secure.example:8443/b"


@pytest.mark.parametrize(
    ("host", "covered"),
    [
        ("shop.example", True),
        ("SHOP.example", True),
        ("a.wide.example", True),
        ("a.b.wide.example", False),
        ("x", False),
    ],
)
def test_the_hosts_of_a_certificate(host: str, covered: bool) -> None:
    assert covers(["shop.example", "*.wide.example"], host) == covered


def test_a_certificate_that_clients_refuse() -> None:
    assert found("IST0161", secret(30), OTHER_EDGE.replace("NAME", "a")) == []
    (one,) = found("IST0161", secret(-3), OTHER_EDGE.replace("NAME", "a"))
    assert one.severity is Severity.ERROR and one.witness is not None
    assert "the client refuses the certificate: its certificate expired on" in one.witness.details
