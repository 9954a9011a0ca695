"""What Istio misses: each finding on the mesh with one fault, with its field, and nothing on the mesh without it."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fairlead.analyze.finding import Finding
from fairlead.analyze.report import examine
from fairlead.model.diagnostic import Severity
from fairlead.model.yaml import parse_documents

NOW = datetime(2026, 6, 1, tzinfo=UTC)
MESH = """
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: web, namespace: shop}
spec: {address: 10.0.0.1, labels: {app: web}, serviceAccount: web}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: cart, namespace: shop}
spec: {address: 10.0.0.2, labels: {app: cart, version: v1}, serviceAccount: cart}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: db, namespace: shop}
spec: {address: 10.0.0.3, labels: {app: db}, serviceAccount: db}
---
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {selector: {app: cart}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {selector: {app: db}, ports: [{name: tcp, port: 5432}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec:
  selector: {app: web}
  servers: [{port: {number: 8080, name: http, protocol: HTTP}, hosts: [shop.example]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: edge, namespace: shop}
spec:
  hosts: [shop.example]
  gateways: [edge]
  http: [{route: [{destination: {host: cart}}]}]
---
apiVersion: v1
kind: Service
metadata: {name: edge, namespace: shop}
spec: {selector: {app: web}, ports: [{name: http, port: 8080}]}
"""


def found(*documents: str, mesh: str = MESH) -> list[Finding]:
    texts = "\n---\n".join((mesh, *documents))
    return list(examine(parse_documents(texts, "mesh.yaml"), now=NOW.timestamp()).findings)


def obj(kind: str, spec: str, *, name: str = "x", group: str = "networking.istio.io/v1", meta: str = "") -> str:
    return f"apiVersion: {group}\nkind: {kind}\nmetadata: {{name: {name}, namespace: shop{meta}}}\nspec: {spec}\n"


def policy(rules: str, *, selector: str = "cart", action: str = "ALLOW") -> str:
    spec = f"{{action: {action}, selector: {{matchLabels: {{app: {selector}}}}}, rules: {rules}}}"
    return obj("AuthorizationPolicy", spec, group="security.istio.io/v1")


TOKENS = obj(
    "RequestAuthentication",
    "{selector: {matchLabels: {app: cart}}, jwtRules: [{issuer: https://good, jwks: '{\"keys\":[]}'}]}",
    group="security.istio.io/v1",
)
STRICT = obj("PeerAuthentication", "{mtls: {mode: STRICT}}", group="security.istio.io/v1")
DISABLED = STRICT.replace("STRICT", "DISABLE")


def ingress(service: str = "cart", port: int = 80, more: str = "") -> str:
    backend = f"{{service: {{name: {service}, port: {{number: {port}}}}}}}"
    paths = f"[{{path: /, pathType: Prefix, backend: {backend}}}]"
    return obj("Ingress", f"{{{more} rules: [{{host: a.b, http: {{paths: {paths}}}}}]}}", group="networking.k8s.io/v1")


EDGE = obj("Process", "{command: [a], proxy: router, labels: {istio: ingressgateway}}", group="fairlead.dev/v1alpha1")


CASES = {
    "class of an Ingress": ("FL0203", "spec.ingressClassName", [ingress(more="ingressClassName: none,")]),
    "service of an Ingress": ("IST0101", "spec.rules[0].http.paths[0].backend.service.name", [ingress("nobody")]),
    "port of an Ingress": ("IST0101", "spec.rules[0].http.paths[0].backend.service.port.number", [ingress(port=1)]),
    "certificate of an Ingress": (
        "IST0101",
        "spec.tls[0].secretName",
        [ingress(more="tls: [{hosts: [a.b], secretName: none}],"), EDGE],
    ),
    "removed kind": ("FL3700", "kind", [obj("ServiceRole", "{}", group="rbac.istio.io/v1alpha1")]),
    "kind not served": ("FL3701", "kind", [obj("NetworkPolicy", "{}", group="networking.k8s.io/v1")]),
    "route shadowed at a gateway": (
        "FL3702",
        "spec.gateways[0]",
        [
            obj(
                "VirtualService",
                "{hosts: [shop.example], gateways: [edge], http: [{match: [{uri: {prefix: /a}}],"
                " route: [{destination: {host: cart}}]}]}",
                name="later",
            )
        ],
    ),
    "gateway without routes": (
        "FL3704",
        "spec.servers[0]",
        [
            obj(
                "Gateway",
                "{selector: {app: web},"
                " servers: [{port: {number: 8080, name: other, protocol: HTTP}, hosts: [b.example]}]}",
            )
        ],
    ),
    "credential of a destination": (
        "IST0101",
        "spec.trafficPolicy.tls.credentialName",
        [obj("DestinationRule", "{host: db, trafficPolicy: {tls: {mode: SIMPLE, credentialName: none}}}")],
    ),
    "credential of a subset's port": (
        "IST0161",
        "spec.subsets[0].trafficPolicy.portLevelSettings[0].tls.credentialName",
        [
            obj(
                "DestinationRule",
                "{host: db, workloadSelector: {matchLabels: {app: web}}, subsets: [{name: v1, trafficPolicy:"
                " {portLevelSettings: [{port: {number: 80}, tls: {mode: MUTUAL, credentialName: half}}]}}]}",
            ),
            "{apiVersion: v1, kind: Secret, metadata: {name: half, namespace: shop}, data: {ca.crt: aGk=}}",
        ],
    ),
    "plaintext to strict": (
        "FL3709",
        "spec.trafficPolicy.tls.mode",
        [STRICT, obj("DestinationRule", "{host: cart, trafficPolicy: {tls: {mode: DISABLE}}}")],
    ),
    "mutual TLS to plaintext": (
        "FL3710",
        "spec.trafficPolicy.tls.mode",
        [DISABLED, obj("DestinationRule", "{host: cart, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}")],
    ),
    "policy selects nothing": (
        "FL3712",
        "spec.selector.matchLabels",
        [STRICT.replace("{mtls", "{selector: {matchLabels: {app: crat}}, mtls")],
    ),
    "mutual TLS for workloads chosen in the root namespace": (
        "FL3712",
        "spec.selector.matchLabels",
        [
            STRICT.replace("{mtls", "{selector: {matchLabels: {app: cart}}, mtls").replace(
                "namespace: shop", "namespace: istio-system"
            )
        ],
    ),
    "sidecar hides a host": (
        "FL3713",
        "spec.egress",
        [
            obj("Sidecar", "{egress: [{hosts: ['back/*', './db.shop.svc.cluster.local']}]}"),
            obj("VirtualService", "{hosts: [db], http: [{route: [{destination: {host: cart}}]}]}", name="db"),
        ],
    ),
    "claims that nobody checks": (
        "FL3714",
        "spec.rules[0].from[0].source.requestPrincipals[0]",
        [policy("[{from: [{source: {requestPrincipals: ['*']}}]}]")],
    ),
    "issuer that nobody accepts": (
        "FL3715",
        "spec.rules[0].from[0].source.requestPrincipals[0]",
        [TOKENS, policy("[{from: [{source: {requestPrincipals: ['https://bad/ann']}}]}]")],
    ),
    "service account that nobody has": (
        "FL3716",
        "spec.rules[0].from[0].source.principals[0]",
        [policy("[{from: [{source: {principals: [cluster.local/ns/shop/sa/wbe]}}]}]")],
    ),
    "HTTP conditions on TCP": (
        "FL3717",
        "spec.rules[0].to[0].operation.paths",
        [policy("[{to: [{operation: {paths: [/x]}}]}]", selector="db")],
    ),
    "service selects nothing": (
        "FL3718",
        "spec.selector",
        [obj("Service", "{selector: {app: crat}, ports: [{name: http, port: 80}]}", group="v1")],
    ),
    "target port missing": (
        "FL3719",
        "spec.ports[0].targetPort",
        [
            obj(
                "Process",
                "{command: [x], labels: {app: p}, ports: [{name: http, port: 8080}]}",
                group="fairlead.dev/v1alpha1",
            ),
            obj("Service", "{selector: {app: p}, ports: [{name: http, port: 80, targetPort: 9090}]}", group="v1"),
        ],
    ),
    "HTTP routes for TCP": (
        "FL3720",
        "spec.hosts[0]",
        [obj("VirtualService", "{hosts: [db], http: [{route: [{destination: {host: cart}}]}]}", name="db")],
    ),
    "timeout before retries": (
        "FL3721",
        "spec.http[0].timeout",
        [
            obj(
                "VirtualService",
                "{hosts: [cart], http: [{timeout: 1s, retries: {attempts: 3, perTryTimeout: 1s},"
                " route: [{destination: {host: cart}}]}]}",
            )
        ],
    ),
    "host that nobody defines": (
        "FL3722",
        "spec.hosts[0]",
        [obj("VirtualService", "{hosts: [crat], http: [{route: [{destination: {host: cart}}]}]}")],
    ),
    "rule that is hidden": (
        "FL3723",
        "spec.http[0].route[0].destination.subset",
        [
            obj("VirtualService", "{hosts: [cart], http: [{route: [{destination: {host: cart, subset: v1}}]}]}"),
            obj(
                "DestinationRule",
                "{host: cart.shop.svc.cluster.local, exportTo: ['.'], subsets: [{name: v1, labels: {version: v1}}]}",
            ).replace("namespace: shop", "namespace: back"),
        ],
    ),
    "static entry without endpoints": (
        "FL3724",
        "spec.resolution",
        [
            obj(
                "ServiceEntry",
                "{hosts: [a.example], ports: [{number: 80, name: http, protocol: HTTP}], resolution: STATIC}",
            )
        ],
    ),
    "two rules of one host": (
        "FL3725",
        "spec.host",
        [
            obj("DestinationRule", "{host: cart}", name="a"),
            obj(
                "DestinationRule", "{host: cart, trafficPolicy: {connectionPool: {tcp: {maxConnections: 1}}}}", name="b"
            ),
        ],
    ),
    "tokens are optional": ("FL3726", "spec.jwtRules", [TOKENS]),
}


def test_nothing_is_said_of_the_mesh_without_a_fault() -> None:
    assert [str(one) for one in found()] == []


@pytest.mark.parametrize("name", CASES)
def test_the_fault_is_named(name: str) -> None:
    code, field, documents = CASES[name]
    said = {one.code: one for one in found(*documents)}
    assert code in said, [str(one) for one in said.values()]
    assert said[code].field == field
    assert said[code].line > MESH.count("\n") - 1, "it stands at the document that is at fault"
    assert "IST0001" not in said and "FL0000" not in said


@pytest.mark.parametrize("name", ["plaintext to strict", "mutual TLS to plaintext"])
def test_tls_that_contradicts_itself_has_a_witness(name: str) -> None:
    code, _, documents = CASES[name]
    said = {one.code: one for one in found(*documents)}[code]
    assert said.severity is Severity.ERROR
    assert said.witness is not None and said.witness.status == 503


def pair(ends: datetime, other_key: bool = False) -> tuple[str, str]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "shop.example")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(ends - timedelta(days=365))
        .not_valid_after(ends)
        .sign(key, hashes.SHA256())
    )
    kept = ec.generate_private_key(ec.SECP256R1()) if other_key else key
    form = serialization.PrivateFormat.PKCS8
    pem = kept.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    texts = (made.public_bytes(serialization.Encoding.PEM), pem)
    return base64.b64encode(texts[0]).decode(), base64.b64encode(texts[1]).decode()


@pytest.mark.parametrize(
    ("days", "other_key", "codes"),
    [(90, False, []), (10, False, ["FL3706"]), (-10, False, ["FL3705"]), (90, True, ["FL3707"])],
)
def test_certificates(days: int, other_key: bool, codes: list[str]) -> None:
    certificate, key = pair(NOW + timedelta(days=days), other_key)
    data = msgspec.json.encode({"tls.crt": certificate, "tls.key": key}).decode()
    secret = (
        f"apiVersion: v1\nkind: Secret\nmetadata: {{name: s, namespace: shop}}\ntype: kubernetes.io/tls\ndata: {data}\n"
    )
    assert [one.code for one in found(secret)] == codes


ELSEWHERE = obj(
    "ServiceEntry",
    "{hosts: [a.example], ports: [{number: 443, name: tls, protocol: TLS}], resolution: DNS}",
    name="a",
)


@pytest.mark.parametrize(
    ("documents", "request_", "flags"),
    [
        (
            [obj("VirtualService", "{hosts: [db], tcp: [{route: [{destination: {host: nope}}]}]}")],
            "web.shop: tcp://db.shop.svc.cluster.local:5432",
            "NC",
        ),
        (
            [
                ELSEWHERE,
                obj(
                    "VirtualService",
                    "{hosts: [a.example], tls: [{match: [{sniHosts: [a.example]}],"
                    " route: [{destination: {host: nope}}]}]}",
                ),
            ],
            "web.shop: tls://a.example:443 for a.example",
            "NC",
        ),
    ],
)
def test_connections_are_witnesses_too(documents: list[str], request_: str, flags: str) -> None:
    (one,) = found(*documents)
    assert (one.code, one.severity) == ("IST0101", Severity.ERROR)
    assert one.witness is not None
    assert (one.witness.request.partition(".shop: ")[2], one.witness.flags) == (request_.partition(".shop: ")[2], flags)
