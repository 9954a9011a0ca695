"""Which version of HTTP endpoints are spoken to in, and what mesh mTLS then offers (Istio `TestShouldH2Upgrade`)."""

from __future__ import annotations

import pytest
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import UpstreamTlsContext
from envoy.extensions.upstreams.http.v3.http_protocol_options_pb2 import HttpProtocolOptions

from fairlead.compiler.model import MeshModel
from fairlead.compiler.offline import load
from fairlead.envoy.names import HTTP_OPTIONS
from fairlead.envoy.resource import CLUSTER
from fairlead.ir.view import View
from fairlead.model.launch import Capture
from fairlead.model.yaml import parse_documents

MESH = """
apiVersion: v1
kind: Service
metadata: {name: web, namespace: app}
spec:
  clusterIP: 10.9.0.1
  selector: {app: web}
  ports: [{port: 80, name: http}, {port: 81, name: grpc}, {port: 82, name: detected}, {port: 83, name: tcp}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web, namespace: app}
spec: {host: web, trafficPolicy: {connectionPool: {POOL}}}
---
apiVersion: mesh.istio.io/v1alpha1
kind: MeshConfig
metadata: {name: istio}
spec: {h2UpgradePolicy: WHOLE}
"""
VIEW = View("sidecar", "app", addresses=("10.0.0.1",), capture=Capture("redirect"))
H1, H2, EITHER, BYTES = (
    ("1", "istio-http/1.1 istio http/1.1"),
    ("2", "istio-h2 istio h2"),
    ("either", "istio-http/1.1 istio"),
    ("", "istio-peer-exchange istio"),
)
"""What is spoken, and what is offered: no version where only the first bytes of a request show it."""


def spoken(pool: str, whole: str) -> list[tuple[str, str]]:
    model = MeshModel()
    found = load(model, parse_documents(MESH.replace("POOL}", f"{pool}}}").replace("WHOLE", whole), "mesh.yaml"))
    assert not [str(one) for one in found]
    catalog = model.compile(VIEW)[CLUSTER]
    return [
        _of(Cluster.FromString(catalog[f"outbound|{port}||web.app.svc.cluster.local"].body)) for port in range(80, 84)
    ]


def _of(made: Cluster) -> tuple[str, str]:
    options, context = HttpProtocolOptions(), UpstreamTlsContext()
    if HTTP_OPTIONS in made.typed_extension_protocol_options:
        assert made.typed_extension_protocol_options[HTTP_OPTIONS].Unpack(options)
    assert made.transport_socket_matches[0].transport_socket.typed_config.Unpack(context)
    kind = options.WhichOneof("upstream_protocol_options")
    version = "2" if options.explicit_http_config.HasField("http2_protocol_options") else "1"
    said = {None: "", "use_downstream_protocol_config": "either"}.get(kind, version)
    return said, " ".join(context.common_tls_context.alpn_protocols)


@pytest.mark.parametrize(
    ("pool", "whole", "wanted"),
    [
        ("tcp: {maxConnections: 5}", "DO_NOT_UPGRADE", [H1, H2, EITHER, BYTES]),
        ("tcp: {maxConnections: 5}", "UPGRADE", [H2, H2, EITHER, BYTES]),
        ("http: {h2UpgradePolicy: UPGRADE}", "DO_NOT_UPGRADE", [H2, H2, H2, BYTES]),
        ("http: {h2UpgradePolicy: DO_NOT_UPGRADE}", "UPGRADE", [H1, H2, EITHER, BYTES]),
        ("http: {useClientProtocol: true}", "DO_NOT_UPGRADE", [EITHER, EITHER, EITHER, BYTES]),
        ("http: {useClientProtocol: true}", "UPGRADE", [EITHER, EITHER, EITHER, BYTES]),
    ],
)
def test_versions_of_http(pool: str, whole: str, wanted: list[tuple[str, str]]) -> None:
    assert spoken(pool, whole) == wanted
