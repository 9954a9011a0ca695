"""DestinationRule: load balancing, limits, outliers, TLS."""

from __future__ import annotations

import json
import ssl
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.e2e.apps import App
from tests.e2e.conftest import World
from tests.e2e.mesh import eventually

SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: tuned, namespace: app}
spec:
  selector: {app: echo}
  ports: [{name: http, port: 18080}, {name: http-second, port: 18081}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: tuned, namespace: app}
spec:
  host: tuned
  trafficPolicy:
"""
TUNED = "tuned:18080"


def test_round_robin_takes_turns(world: World) -> None:
    with world.mesh.config(SERVICE + "    loadBalancer: {simple: ROUND_ROBIN}\n"):
        found = Counter(world.client.get(TUNED).instance for _ in range(20))
    assert found == {"echo-1": 10, "echo-2": 10}


def test_consistent_hash_on_a_header(world: World) -> None:
    with world.mesh.config(SERVICE + "    loadBalancer: {consistentHash: {httpHeaderName: x-key}}\n"):
        chosen = {}
        for key in map(str, range(12)):
            found = {world.client.get(TUNED, headers={"x-key": key}).instance for _ in range(4)}
            assert len(found) == 1, key
            chosen[key] = found.pop()
        assert set(chosen.values()) == {"echo-1", "echo-2"}


def test_consistent_hash_on_a_cookie(world: World) -> None:
    with world.mesh.config(SERVICE + "    loadBalancer: {consistentHash: {httpCookie: {name: sticky, ttl: 60s}}}\n"):
        first = world.client.get(TUNED)
        cookie = first.headers["set-cookie"]
        assert cookie.startswith("sticky=")
        assert "Max-Age=60" in cookie
        sent = {"cookie": cookie.partition(";")[0]}
        assert {world.client.get(TUNED, headers=sent).instance for _ in range(8)} == {first.instance}


@pytest.mark.parametrize(
    ("by", "path", "headers"),
    [
        ("useSourceIp: true", "/", {}),
        ("httpQueryParameterName: user", "/?user=ann&delay=0", {}),
        # Without a ttl nobody makes a cookie: the client's own counts.
        ("httpCookie: {name: sticky}", "/", {"cookie": "sticky=ann"}),
        ("httpHeaderName: x-user, maglev: {tableSize: 251}", "/", {"x-user": "ann"}),
    ],
)
def test_what_a_consistent_hash_is_of(world: World, by: str, path: str, headers: dict[str, str]) -> None:
    with world.mesh.config(SERVICE + f"    loadBalancer: {{consistentHash: {{{by}}}}}\n"):
        found = [world.client.get(TUNED, path, headers=headers) for _ in range(10)]
    assert {one.status for one in found} == {200}
    assert len({one.instance for one in found}) == 1
    assert not any("set-cookie" in one.headers for one in found)


def test_connections_are_hashed_by_their_source(world: World) -> None:
    tcp = SERVICE.replace("name: http, port: 18080", "name: tcp, port: 19077, targetPort: 19000")
    with world.mesh.config(tcp + "    loadBalancer: {consistentHash: {useSourceIp: true}}\n"):
        found = {world.client.line(19077) for _ in range(10)}
    assert found in ({"echo-1 hello"}, {"echo-2 hello"})


def test_limits_refuse_what_is_too_much(world: World) -> None:
    text = (
        SERVICE
        + """
    connectionPool:
      tcp: {maxConnections: 1}
      http: {http1MaxPendingRequests: 1, http2MaxRequests: 1}
"""
    )
    with world.mesh.config(text), ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: world.client.get(TUNED, "/?delay=0.5"), range(8)))
    refused = [one for one in found if one.status == 503]
    assert refused
    assert {one.status for one in found} == {200, 503}
    assert refused[0].headers["x-envoy-overloaded"] == "true"


@pytest.mark.parametrize(("status", "codes"), [(500, ""), (429, "[429, 503]"), (404, "[404]")])
def test_an_outlier_is_ejected(world: World, status: int, codes: str) -> None:
    text = (
        SERVICE
        + f"""
    loadBalancer: {{simple: ROUND_ROBIN}}
    outlierDetection:
      {{consecutive5xxErrors: 3, interval: 1s, baseEjectionTime: 60s, maxEjectionPercent: 100,
       outlierDetectionHttpErrorCodes: {codes or "[]"}}}
"""
        + """---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: tuned, namespace: app}
spec:
  hosts: [tuned]
  http: [{retries: {attempts: 0}, route: [{destination: {host: tuned}}]}]
"""
    )
    bad = world.apps["echo-2"]
    with world.mesh.config(text):
        bad.status = status
        # Whether its turn comes first, and whether both have one in each round, is for each of Envoy's workers to say.
        found = Counter()
        while found[status] < 3 and found.total() < 20:
            found[world.client.get(TUNED).status] += 1
        assert found == {200: found[200], status: 3}
        assert {world.client.get(TUNED).status for _ in range(20)} == {200}
        assert len(bad.seen) == 3


def test_subsets_without_workloads_are_unavailable(world: World) -> None:
    text = (
        SERVICE
        + """
    loadBalancer: {simple: ROUND_ROBIN}
  subsets: [{name: none, labels: {version: v9}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: tuned, namespace: app}
spec:
  hosts: [tuned]
  http: [{route: [{destination: {host: tuned, subset: none}}]}]
"""
    )
    with world.mesh.config(text):
        found = world.client.get(TUNED)
    assert (found.status, found.text) == (503, "no healthy upstream")


def test_the_protocol_of_the_client_is_kept(world: World) -> None:
    """Of a port that is said to speak HTTP/2, over mesh mTLS: the server must find out which of the two it gets."""
    text = """
apiVersion: v1
kind: Service
metadata: {name: kept, namespace: app}
spec:
  selector: {app: echo}
  ports: [{name: http2, port: 18080}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: kept, namespace: app}
spec:
  host: kept
  trafficPolicy: {connectionPool: {http: {useClientProtocol: true}}}
"""
    with world.mesh.config(text):
        eventually(lambda: world.client.get("kept:18080").status == 200)
        found = world.client.get("kept:18080")
        assert found.instance in ("echo-1", "echo-2")
        assert "x-forwarded-client-cert" in found.body["headers"]


def xfcc(world: World, where: str) -> bool:
    """Whether the server saw the client's identity: mutual TLS."""
    return "x-forwarded-client-cert" in world.client.get(where).body["headers"]


def test_tls_modes_inside_the_mesh_and_by_port(world: World) -> None:
    text = (
        SERVICE
        + """
    tls: {mode: ISTIO_MUTUAL}
    portLevelSettings:
      - port: {number: 18081}
        tls: {mode: DISABLE}
"""
    )
    with world.mesh.config(text):
        assert xfcc(world, TUNED)
        assert not xfcc(world, "tuned:18081")


ORIGINATED = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: legacy, namespace: app}
spec:
  hosts: [legacy.example]
  ports: [{number: 18085, name: http, protocol: HTTP, targetPort: PORT}]
  resolution: STATIC
  endpoints: [{address: LEGACY}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: legacy, namespace: app}
spec:
  host: legacy.example
  trafficPolicy:
    tls: TLS
"""


def originated(world: World, port: int, tls: str) -> str:
    """Configuration that turns HTTP at port 18085 into TLS towards an application outside of the mesh."""
    return ORIGINATED.replace("LEGACY", world.legacy_address).replace("PORT", str(port)).replace("TLS", tls)


def test_tls_origination_simple(world: World) -> None:
    root = world.certificates.root_file
    with world.mesh.config(originated(world, 19443, f"{{mode: SIMPLE, caCertificates: {root}, sni: legacy.example}}")):
        assert eventually(lambda: world.client.get("legacy.example:18085")).instance == "legacy"
    wrong = f"{{mode: SIMPLE, caCertificates: {root}, sni: legacy.example, subjectAltNames: [other.example]}}"
    with world.mesh.config(originated(world, 19443, wrong)):
        assert world.client.get("legacy.example:18085").status == 503
    # Whatever it is called by must be its name, unless somebody says another: the request's, as its address has none.
    called = originated(world, 19443, f"{{mode: SIMPLE, caCertificates: {root}}}")
    with world.mesh.config(called):
        assert eventually(lambda: world.client.get("legacy.example:18085").instance == "legacy")
    with world.mesh.config(called.replace("legacy.example", "other.example")):
        assert eventually(lambda: "remote connection failure" in world.client.get("other.example:18085").text)
    said = called.replace("legacy.example", "other.example").replace(
        "  resolution: STATIC", "  resolution: STATIC\n  subjectAltNames: [legacy.example]"
    )
    with world.mesh.config(said):
        assert eventually(lambda: world.client.get("other.example:18085").instance == "legacy")
    # Without authorities of its own those of the host count, which do not know this one; the name decides too.
    not_taken = "remote connection failure"
    for more in ("", ", sni: legacy.example", ", caCertificates: system"):
        with world.mesh.config(originated(world, 19443, f"{{mode: SIMPLE{more}}}")):
            assert eventually(lambda: not_taken in world.client.get("legacy.example:18085").text, not_taken)


def test_tls_origination_mutual(world: World) -> None:
    context = world.certificates.server("legacy.example")
    context.load_verify_locations(world.certificates.root_file)
    context.verify_mode = ssl.CERT_REQUIRED
    app = App("strict", world.legacy_address).serve_tls(19444, context)
    root = world.certificates.root_file
    cert, key = world.certificates.files("somebody")
    try:
        given = f"mode: MUTUAL, caCertificates: {root}, sni: legacy.example"
        with world.mesh.config(originated(world, 19444, f"{{{given}, clientCertificate: {cert}, privateKey: {key}}}")):
            assert eventually(lambda: world.client.get("legacy.example:18085")).instance == "strict"
        with world.mesh.config(originated(world, 19444, f"{{mode: SIMPLE, caCertificates: {root}}}")):
            assert world.client.get("legacy.example:18085").status == 503
        kept = {"tls.crt": cert, "tls.key": key, "ca.crt": root}
        data = {name: file.read_text() for name, file in kept.items()}
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "somebody", "namespace": "app"}}
        named = originated(world, 19444, "{mode: MUTUAL, credentialName: somebody, sni: legacy.example}")
        with world.mesh.config(f"{json.dumps({**secret, 'stringData': data})}\n---\n{named}"):
            # Sidecars are given Secrets only where a rule selects them.
            assert world.client.get("legacy.example:18085").status == 503
            with world.mesh.config(f"{named}  workloadSelector: {{matchLabels: {{app: client}}}}\n"):
                eventually(lambda: world.client.get("legacy.example:18085").instance == "strict", "the Secret")
    finally:
        app.close()
