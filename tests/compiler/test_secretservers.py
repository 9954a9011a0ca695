"""Credentials that are named `sds://NAME`: whom proxies ask for them."""

from __future__ import annotations

import pytest
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import SdsSecretConfig
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import DownstreamTlsContext, UpstreamTlsContext

from fairlead.compiler.model import MeshModel
from fairlead.compiler.offline import load
from fairlead.envoy.resource import CLUSTER, LISTENER, SECRET
from fairlead.ir.view import View
from fairlead.model.yaml import parse_documents

EDGE = View("router", "shop", (("app", "edge"),), "edge", ("10.1.0.9",))
SCENE = """
{apiVersion: v1, kind: Service, metadata: {name: vault, namespace: keys}, spec: {ports: [{name: grpc, port: 90}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: other, namespace: keys}, spec: {ports: [{name: grpc, port: 91}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: web, namespace: shop}, spec: {ports: [{name: http, port: 80}]}}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec:
  selector: {app: edge}
  servers:
  - port: {number: 443, name: https, protocol: HTTPS}
    hosts: [a.example]
    tls: {mode: MUTUAL, credentialName: "sds://shown"}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: edge, namespace: shop}
spec: {hosts: [a.example], gateways: [edge], http: [{route: [{destination: {host: web}}]}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web, namespace: shop}
spec: {host: web, trafficPolicy: {tls: {mode: MUTUAL, credentialName: "sds://mine"}}}
---
apiVersion: v1
kind: Secret
metadata: {name: shown, namespace: shop}
stringData: {tls.crt: c, tls.key: k}
"""
VAULT = "{name: v, sds: {service: vault.keys.svc.cluster.local, port: 90}}"
OTHER = "{name: o, sds: {name: mine, service: keys/other.keys.svc.cluster.local, port: 91}}"
ABSENT = "{name: v, sds: {service: nowhere.example, port: 90}}"


def mesh_of(*providers: str) -> MeshModel:
    head = "\n---\napiVersion: mesh.istio.io/v1alpha1\nkind: MeshConfig\nmetadata: {name: istio}\nspec: "
    model = MeshModel()
    load(model, parse_documents(f"{SCENE}{head}{{extensionProviders: [{', '.join(providers)}]}}", "scene"))
    return model


def asked(model: MeshModel) -> dict[str, tuple[str, str]]:
    """The credentials of the gateway's listener and of its calls: the name of each, and whom it is asked of."""
    catalog = model.compile(EDGE)
    listener = Listener.FromString(catalog[LISTENER]["0.0.0.0_443"].body)
    server, client = DownstreamTlsContext(), UpstreamTlsContext()
    listener.filter_chains[0].transport_socket.typed_config.Unpack(server)
    cluster = Cluster.FromString(catalog[CLUSTER]["outbound|80||web.shop.svc.cluster.local"].body)
    cluster.transport_socket.typed_config.Unpack(client)
    contexts = (("server", server.common_tls_context), ("client", client.common_tls_context))
    found: dict[str, tuple[str, str]] = {}
    for name, common in contexts:
        found[name] = _asked(common.tls_certificate_sds_secret_configs[0])
        found[f"{name}'s peers"] = _asked(common.combined_validation_context.validation_context_sds_secret_config)
    return found


def _asked(config: SdsSecretConfig) -> tuple[str, str]:
    if config.sds_config.HasField("ads"):
        return config.name, "ads"
    (service,) = config.sds_config.api_config_source.grpc_services
    return config.name, f"{service.envoy_grpc.cluster_name} {service.envoy_grpc.authority}"


AT_VAULT = "outbound|90||vault.keys.svc.cluster.local vault.keys.svc.cluster.local"
AT_OTHER = "outbound|91||other.keys.svc.cluster.local other.keys.svc.cluster.local"


@pytest.mark.parametrize(
    ("providers", "served", "called"),
    [((VAULT,), AT_VAULT, AT_VAULT), ((VAULT, OTHER), AT_VAULT, AT_OTHER), ((OTHER,), AT_OTHER, AT_OTHER)],
)
def test_a_server_is_asked_by_the_bare_name(providers: tuple[str, ...], served: str, called: str) -> None:
    """The one that is for this credential, else the first. The Secret of the same name is nobody's business then."""
    model = mesh_of(*providers)
    assert asked(model) == {
        "server": ("shown", served),
        "server's peers": ("shown-cacert", served),
        "client": ("mine", called),
        "client's peers": ("mine-cacert", called),
    }
    assert not model.compile(EDGE).get(SECRET)
    assert not model.diagnostics()


@pytest.mark.parametrize(("providers", "told"), [((), 0), ((ABSENT,), 1)])
def test_without_a_server_it_is_a_secret(providers: tuple[str, ...], told: int) -> None:
    model = mesh_of(*providers)
    assert asked(model)["server"] == ("kubernetes://shown", "ads")
    if not providers:
        assert "kubernetes://shown" in model.compile(EDGE)[SECRET]
    with model.opened(EDGE):
        found = [one for one in model.diagnostics() if one.code == "FL2801"]
    assert len({one.message for one in found}) == told
