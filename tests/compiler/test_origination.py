"""TLS towards servers outside of the mesh (DestinationRule SIMPLE and MUTUAL): as Istio's `cluster_tls_test`."""

from __future__ import annotations

import pytest
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import UpstreamTlsContext
from envoy.extensions.upstreams.http.v3.http_protocol_options_pb2 import HttpProtocolOptions

from fairlead.compiler.model import MeshModel
from fairlead.compiler.offline import load
from fairlead.compiler.publish import Catalog
from fairlead.envoy.names import HTTP_OPTIONS
from fairlead.envoy.resource import CLUSTER, SECRET
from fairlead.ir.view import View
from fairlead.model.launch import Capture
from fairlead.model.yaml import parse_documents

SIDECAR = View("sidecar", "app", addresses=("10.0.0.1",), capture=Capture("redirect"))
GATEWAY = View("router", "app", addresses=("10.0.0.2",), capture=Capture("none"))
MESH = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: far, namespace: app}
spec:
  hosts: [far.example]
  location: MESH_EXTERNAL
  ports: [{number: 80, name: http, protocol: HTTP}, {number: 90, name: tcp, protocol: TCP}]
  resolution: STATIC
  endpoints: [{address: 192.0.2.1}]
  subjectAltNames: [NAMES]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: far, namespace: app}
spec:
  host: far.example
  trafficPolicy: {tls: {TLS}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: roots, namespace: app}
data: {ca.crt: ROOTS}
"""


def compiled(tls: str, view: View = SIDECAR, names: str = "") -> Catalog:
    model = MeshModel()
    found = load(model, parse_documents(MESH.replace("TLS}", f"{tls}}}").replace("NAMES", names), "mesh.yaml"))
    assert not [str(one) for one in found]
    return model.compile(view)


def far(catalog: Catalog, port: int = 80) -> tuple[UpstreamTlsContext, HttpProtocolOptions]:
    made = Cluster.FromString(catalog[CLUSTER][f"outbound|{port}||far.example"].body)
    context, options = UpstreamTlsContext(), HttpProtocolOptions()
    assert made.transport_socket.typed_config.Unpack(context)
    if HTTP_OPTIONS in made.typed_extension_protocol_options:
        assert made.typed_extension_protocol_options[HTTP_OPTIONS].Unpack(options)
    return context, options


@pytest.mark.parametrize(
    ("tls", "names", "by_request", "checked", "accepted"),
    [
        ("mode: SIMPLE", "", True, True, []),
        ("mode: SIMPLE, sni: x.example", "", False, False, []),
        ("mode: SIMPLE, subjectAltNames: [x.example]", "", True, False, ["x.example"]),
        ("mode: SIMPLE, subjectAltNames: [x.example]", "y.example", True, False, ["x.example"]),
        ("mode: SIMPLE", "y.example", True, False, ["y.example"]),
        ("mode: SIMPLE, insecureSkipVerify: true", "", True, False, []),
        ("mode: SIMPLE, credentialName: c", "", True, True, []),
        ("mode: MUTUAL, credentialName: c", "y.example", True, False, ["y.example"]),
    ],
)
def test_the_server_has_a_name_that_somebody_says(
    tls: str, names: str, *, by_request: bool, checked: bool, accepted: list[str]
) -> None:
    """Said by the rule, or by the ServiceEntry; else it is the name that is called."""
    for view in (SIDECAR, GATEWAY):
        context, options = far(compiled(tls, view, names))
        said = options.upstream_http_protocol_options
        assert (said.auto_sni, said.auto_san_validation) == (by_request, checked)
        assert options.explicit_http_config.HasField("http_protocol_options")
        validation = context.common_tls_context.combined_validation_context.default_validation_context
        assert [one.matcher.exact for one in validation.match_typed_subject_alt_names] == accepted


def test_bytes_have_no_request_that_names_the_server() -> None:
    context, options = far(compiled("mode: SIMPLE"), 90)
    assert not options.HasField("upstream_http_protocol_options")
    assert (context.auto_host_sni, context.auto_sni_san_validation) == (True, True)


def test_files_come_from_the_agent_that_sees_them_change() -> None:
    tls = "mode: MUTUAL, clientCertificate: /c, privateKey: /k, caCertificates: /r, caCrl: /l"
    common = far(compiled(tls))[0].common_tls_context
    assert [one.name for one in common.tls_certificate_sds_secret_configs] == ["file-cert:/c~/k"]
    roots = common.combined_validation_context
    assert roots.validation_context_sds_secret_config.name == "file-crl:/r~/l"
    for one in (*common.tls_certificate_sds_secret_configs, roots.validation_context_sds_secret_config):
        # A cluster that waits for ever keeps Envoy from starting.
        assert not one.sds_config.HasField("initial_fetch_timeout")


@pytest.mark.parametrize("view", [SIDECAR, GATEWAY], ids=["sidecar", "gateway"])
def test_authorities_in_a_config_map_are_for_everybody(view: View) -> None:
    """Unlike a Secret: that is for gateways, and for workloads that the rule selects."""
    catalog = compiled("mode: SIMPLE, credentialName: configmap://app/roots", view)
    name = "configmap://app/roots-cacert"
    wanted = far(catalog)[0].common_tls_context.combined_validation_context.validation_context_sds_secret_config.name
    assert wanted == name
    assert Secret.FromString(catalog[SECRET][name].body).validation_context.trusted_ca.inline_bytes == b"ROOTS"


def test_authorities_in_a_config_map_are_for_other_namespaces_too() -> None:
    other = View("router", "edge", addresses=("10.0.0.2",), capture=Capture("none"))
    catalog = compiled("mode: SIMPLE, credentialName: configmap://app/roots", other)
    assert "configmap://app/roots-cacert" in catalog[SECRET]
