"""What becomes of requests in the situations of Istio's echo suite (`tests/integration/pilot/common/routing.go`)."""

from __future__ import annotations

from functools import cache

import pytest

from fairlead.simulate.mesh import Mesh
from fairlead.simulate.walk import Walk
from tests.simulate.meshes import call, mesh

FULL = "reviews.shop.svc.cluster.local"


def rules(http: str, hosts: str = "reviews", gateways: str = "[mesh]", name: str = "rules") -> str:
    return f"""
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}, namespace: shop}}
spec:
  hosts: ["{hosts}"]
  gateways: {gateways}
  http: {http}
"""


TO = f"route: [{{destination: {{host: {FULL}}}}}]"
ABORT = "fault: {abort: {percentage: {value: 100}, httpStatus: %d}}"


@cache
def made(*texts: str) -> Mesh:
    return mesh(*texts)


def led(found: Walk) -> str:
    """Where the last step leads."""
    return found.steps[-1].said


@pytest.mark.parametrize(
    ("redirect", "authority", "path", "wanted"),
    [
        ("{derivePort: FROM_REQUEST_PORT, scheme: https}", "", "/foo", "https://reviews:80/foo"),
        ("{derivePort: FROM_REQUEST_PORT}", "", "/foo", "http://reviews/foo"),
        ("{derivePort: FROM_REQUEST_PORT}", "reviews:80", "/foo", "http://reviews:80/foo"),
        ("{uri: /new/path}", "", "/foo?key=value", "http://reviews/new/path?key=value"),
    ],
)
def test_redirects(redirect: str, authority: str, path: str, wanted: str) -> None:
    where = made(rules(f"[{{match: [{{uri: {{exact: /foo}}}}], redirect: {redirect}}}]"))
    found = call(where, path=path, authority=authority)
    assert found.verdict.status == 301
    assert led(found) == f"redirects to {wanted}"


@pytest.mark.parametrize(
    ("condition", "absent", "empty", "jason", "other"),
    [
        ("exact: jason", 403, 403, 200, 403),
        ('regex: "*"', 403, 200, 200, 200),
        ("regex: .*", 200, 200, 200, 200),
    ],
)
def test_without_headers(condition: str, absent: int, empty: int, jason: int, other: int) -> None:
    refused = f"match: [{{withoutHeaders: {{end-user: {{{condition}}}}}}}], {TO}, {ABORT % 403}"
    where = made(rules(f"[{{{refused}}}, {{{TO}}}]"))
    for value, status in ((None, absent), ("", empty), ("jason", jason), ("not-jason", other)):
        headers = () if value is None else (("end-user", value),)
        assert call(where, headers=headers).verdict.status == status, value


def test_a_rule_for_all_requests_hides_those_after_it() -> None:
    where = made(rules(f'[{{match: [{{uri: {{regex: ".*"}}}}], {TO}, {ABORT % 418}}}, {{{TO}}}]'))
    assert call(where).verdict.status == 418


HEADLESS = """
---
apiVersion: v1
kind: Service
metadata: {name: bare, namespace: shop}
spec: {clusterIP: None, selector: {app: ledger}, ports: [{name: http, port: 18080}, {name: auto, port: 18081}]}
"""
BARE = "bare.shop.svc.cluster.local"


@pytest.mark.parametrize("port", [18080, 18081])
@pytest.mark.parametrize("suffix", ["", ":{port}", ":12345"])
@pytest.mark.parametrize("name", [BARE, "bare.shop.svc", "bare", f"one.{BARE}", "one.bare.shop.svc", "one.bare"])
def test_every_name_of_a_headless_service(name: str, suffix: str, port: int) -> None:
    authority = name + suffix.format(port=port)
    found = call(made(HEADLESS), "bare", port, authority=authority, address="10.0.0.4").verdict
    assert (found.status, found.cluster) == (200, f"outbound|{port}||{BARE}")


def test_an_instance_of_a_headless_service_by_its_address() -> None:
    """On a port that is known as HTTP the address is no name of the host; elsewhere names do not count."""
    for port, cluster in ((18080, "PassthroughCluster"), (18081, f"outbound|18081||{BARE}")):
        assert call(made(HEADLESS), "10.0.0.4", port, address="10.0.0.4").verdict.cluster == cluster


def service(name: str, spec: str) -> str:
    return f"\n---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\nspec: {{{spec}}}\n"


def also(name: str, port: int, target: int, protocol: str = "http") -> str:
    ports = f"ports: [{{name: {protocol}, port: {port}, targetPort: {target}}}]"
    return service(name, f"selector: {{app: ledger}}, {ports}")


@pytest.mark.parametrize(
    ("port", "target", "protocol"),
    [(80, 9080, "http"), (80, 9090, "tcp"), (12345, 9080, "http"), (12346, 9091, "http")],
)
def test_services_of_the_same_instances_lead_to_their_own_ports(port: int, target: int, protocol: str) -> None:
    where = made(also("first", 80, 9080), also("second", port, target, protocol))
    found = call(where, "second", port, protocol=protocol).verdict
    assert found.reached
    assert found.endpoint == f"10.0.0.4:{target}"
    assert call(where, "first").verdict.endpoint == "10.0.0.4:9080"


@pytest.mark.parametrize("ports", ["", ", ports: [{name: http, port: 80}]"])
def test_another_name_for_a_host_has_all_of_its_ports(ports: str) -> None:
    alias = service("alias", f"type: ExternalName, externalName: ledger.shop.svc.cluster.local{ports}")
    where = made(alias)
    for port, protocol in ((7000, "tcp"), (7001, "http"), (7001, "tcp")):
        found = call(where, "alias", port, protocol=protocol).verdict
        assert found.cluster == f"outbound|{port}||ledger.shop.svc.cluster.local"
    for port in (80, 7001):
        gate = EDGE % ("*", "") + rules(
            f"[{{route: [{{destination: {{host: alias, port: {{number: {port}}}}}}}]}}]",
            "alias.shop.svc.cluster.local",
            "[edge]",
        )
        found = call(made(alias, gate), "alias.shop.svc.cluster.local", 80, "internet").verdict
        assert found.reached is (port == 7001)


EDGE = """
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec:
  selector: {istio: ingress}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["%s"]%s}]
"""
REDIRECTING = EDGE % ("*", ", tls: {httpsRedirect: true}")
TRUSTING = """
---
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: "defaultConfig: {gatewayTopology: {numTrustedProxies: 1}}"
"""
INSIDE = rules(f"[{{{TO}}}]", FULL, "[edge]")
CAME = (("x-forwarded-proto", "https"),)


def test_what_stands_before_a_gateway_may_have_ended_tls() -> None:
    """A load balancer's word counts where it is trusted, and only there."""
    trusting = made(REDIRECTING, INSIDE, TRUSTING)
    assert call(trusting, FULL, 80, "internet", headers=CAME).verdict.status == 200
    assert call(trusting, FULL, 80, "internet").verdict.status == 301
    assert call(made(REDIRECTING, INSIDE), FULL, 80, "internet", headers=CAME).verdict.status == 301


def test_the_scheme_of_a_request() -> None:
    where = rules(f"[{{match: [{{scheme: {{exact: https}}}}], {TO}}}]", FULL, "[edge]")
    for more, headers, status in (((), CAME, 404), ((TRUSTING,), CAME, 200), ((TRUSTING,), (), 404)):
        found = call(made(EDGE % ("*", ""), where, *more), FULL, 80, "internet", headers=headers)
        assert found.verdict.status == status
    told = made(rules(f"[{{match: [{{headers: {{x-forwarded-proto: {{exact: http}}}}}}], {TO}, {ABORT % 418}}}]"))
    assert call(told).verdict.status == 418
    assert call(told, headers=CAME).verdict.status == 404


def test_a_gateway_minds_no_port_in_the_host() -> None:
    where = made(EDGE % ("*.example.com", ""), rules(f"[{{{TO}}}]", "*.example.com", "[edge]"))
    for authority in ("foo.example.com", "foo.example.com:80", "foo.example.com:12345"):
        assert call(where, "foo.example.com", 80, "internet", authority=authority, protocol="http2").verdict.reached
    assert call(where, "foo.bar", 80, "internet").verdict.status == 404


def test_calls_to_oneself() -> None:
    """By its service a workload is called through its proxy, by its address and `localhost` past it."""
    where = made()
    assert call(where, "web").verdict.cluster == "outbound|80||web.shop.svc.cluster.local"
    for name in ("localhost", "10.0.0.1"):
        found = call(where, name, 9080)
        assert found.verdict.reached
        assert {one.stage for one in found.steps} == {"capture", "application"}


def client(mode: str) -> str:
    return f"""
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: ledger, namespace: shop}}
spec: {{host: ledger, trafficPolicy: {{tls: {{mode: {mode}}}}}}}
"""


def server(mode: str) -> str:
    return f"""
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: ledger, namespace: shop}}
spec: {{selector: {{matchLabels: {{app: ledger}}}}, mtls: {{mode: {mode}}}}}
"""


@pytest.mark.parametrize("speaks", ["DISABLE", "ISTIO_MUTUAL"])
@pytest.mark.parametrize("takes", ["DISABLE", "PERMISSIVE", "STRICT"])
def test_what_clients_speak_meets_what_servers_take(speaks: str, takes: str) -> None:
    fits = (speaks, takes) not in (("DISABLE", "STRICT"), ("ISTIO_MUTUAL", "DISABLE"))
    where = made(client(speaks), server(takes))
    assert call(where, "ledger", 7000, protocol="tcp").verdict.reached is fits
    assert call(where, "ledger", 7001).verdict.reached is fits
