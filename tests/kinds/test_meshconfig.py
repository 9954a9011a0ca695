"""Mesh settings out of texts and ConfigMaps, and credentials out of Secrets."""

from __future__ import annotations

import base64

import msgspec
import pytest
from envoy.extensions.access_loggers.file.v3.file_pb2 import FileAccessLog

from fairlead.envoy.accesslog import JSON_FIELDS, TEXT_FORMAT, LogTarget, access_logs
from fairlead.envoy.tls import mesh_server
from fairlead.ir.credential import credential_of
from fairlead.ir.locality import LocalityLb
from fairlead.ir.mesh import Mesh
from fairlead.ir.meshconfig import configmap_problems, mesh_of_configmap, read_mesh_config
from fairlead.ir.meshnetworks import read_networks
from fairlead.ir.proxystart import read_annotation
from fairlead.model.diagnostic import Origin, Severity
from fairlead.model.ref import NamespacedName, Ref

TEXT = """
accessLogFile: /dev/stdout
outboundTrafficPolicy:
  mode: REGISTRY_ONLY
defaultConfig:
  concurrency: 2
  discoveryAddress: x:15012
"""


def test_defaults_are_istios() -> None:
    assert read_mesh_config("").mesh == Mesh()


def test_settings_and_a_warning_for_what_has_no_effect() -> None:
    mesh, findings = read_mesh_config(TEXT, "mesh.yaml")
    assert mesh == Mesh(access_log_file="/dev/stdout", outbound_policy="REGISTRY_ONLY", proxy_concurrency=2)
    assert [(str(one.path), one.severity, one.code, str(at)) for one, at in findings] == [
        ("defaultConfig.discoveryAddress", Severity.WARNING, "FL0100", "mesh.yaml:7:3"),
    ]


def test_sidecars_may_be_given_what_they_call() -> None:
    assert read_mesh_config("fairlead: {scope: learned}").mesh == Mesh(scope="learned")
    mesh, findings = read_mesh_config("fairlead: {scope: known}")
    assert mesh is None and [str(one.path) for one, _ in findings] == ["fairlead.scope"]


def test_what_happens_anyway_gets_no_warning() -> None:
    assert read_mesh_config("defaultConfig: {holdApplicationUntilProxyStarts: true}").findings == ()
    findings = read_mesh_config("defaultConfig: {holdApplicationUntilProxyStarts: false}").findings
    assert [str(one.path) for one, _ in findings] == ["defaultConfig.holdApplicationUntilProxyStarts"]


def test_localities_are_checked_as_those_of_destination_rules() -> None:
    mesh, findings = read_mesh_config("localityLbSetting: {distribute: [{from: a/*, to: {b/*: 70}}]}")
    assert mesh is None
    assert [str(one.path) for one, _ in findings] == ["localityLbSetting.distribute[0].to"]
    mesh, findings = read_mesh_config("localityLbSetting: {failover: [{from: a, to: a}]}")
    assert mesh is None
    assert [str(one.path) for one, _ in findings] == ["localityLbSetting.failover[0]"]
    assert read_mesh_config("localityLbSetting: {failover: [{from: a, to: b}]}").findings == ()
    mesh, findings = read_mesh_config("zoneAwareLbSetting: {minClusterSize: 3, failover: [{from: a, to: b}]}")
    assert mesh is not None
    assert mesh.locality == LocalityLb(failover=(("a", "b"),), forced=True, zone_aware=True, minimum=3)
    assert findings == ()
    mesh, findings = read_mesh_config("{zoneAwareLbSetting: {failover: [{from: a, to: a}]}, localityLbSetting: {}}")
    assert mesh is None
    assert [str(one.path) for one, _ in findings] == ["zoneAwareLbSetting.failover[0]", "zoneAwareLbSetting"]


@pytest.mark.parametrize(
    ("said", "path"),
    [
        ("protocolDetectionTimeout: 1.5ms", "protocolDetectionTimeout"),
        ("defaultConfig: {drainDuration: 1500ms}", "defaultConfig.drainDuration"),
        (
            "{enableTracing: true, defaultConfig: {tracing: {zipkin: {address: zipkin}}}}",
            "defaultConfig.tracing.zipkin.address",
        ),
        ("defaultConfig: {tracing: {datadog: {}}}", "defaultConfig.tracing.datadog.address"),
        (
            "{enableEnvoyAccessLogService: true, defaultConfig: {envoyAccessLogService: {address: als}}}",
            "defaultConfig.envoyAccessLogService.address",
        ),
        ("extensionProviders: [{name: a, zipkin: {service: a*b, port: 1}}]", "extensionProviders[0].zipkin.service"),
        ("extensionProviders: [{name: a, zipkin: {service: a/b/c, port: 1}}]", "extensionProviders[0].zipkin.service"),
        (
            "extensionProviders: [{name: a, opentelemetry: {service: a, port: 1, http: {path: /}, grpc: {}}}]",
            "extensionProviders[0].opentelemetry.grpc",
        ),
        (
            "outboundTrafficPolicy: {mode: ALLOW_ANY_DYNAMIC_DNS, tls: {mode: MUTUAL, privateKey: k}}",
            "outboundTrafficPolicy.tls.clientCertificate",
        ),
        (
            "outboundTrafficPolicy: {mode: ALLOW_ANY_DYNAMIC_DNS, tls: {mode: ISTIO_MUTUAL}}",
            "outboundTrafficPolicy.tls.mode",
        ),
        (
            "outboundTrafficPolicy: {mode: ALLOW_ANY_DYNAMIC_DNS, tls: {mode: SIMPLE, credentialName: a}}",
            "outboundTrafficPolicy.tls.credentialName",
        ),
        (
            "defaultConfig: {connectionSettings: {httpIdleTimeout: -1s}}",
            "defaultConfig.connectionSettings.httpIdleTimeout",
        ),
        (
            "defaultConfig: {connectionSettings: {http2InitialStreamWindowSize: 1}}",
            "defaultConfig.connectionSettings.http2InitialStreamWindowSize",
        ),
        (
            "serviceEntryVisibility: {applyToSidecars: true, policies: [{matchingRules: [{namespaceSelector: "
            "{matchExpressions: [{key: a, operator: In}]}}]}]}",
            "serviceEntryVisibility.policies[0].matchingRules[0].namespaceSelector.matchExpressions[0].values",
        ),
    ],
)
def test_what_envoy_would_not_take_that_envoy_would_not_take(said: str, path: str) -> None:
    mesh, findings = read_mesh_config(said)
    assert mesh is None
    assert [str(one.path) for one, _ in findings] == [path]


@pytest.mark.parametrize(
    ("said", "path"),
    [
        ("outboundTrafficPolicy: {mode: ALLOW_ANY, tls: {mode: SIMPLE}}", "outboundTrafficPolicy.tls"),
        ("serviceEntryVisibility: {defaultVisibility: NONE}", "serviceEntryVisibility"),
        ("serviceSettings: [{settings: {clusterLocal: true}}]", "serviceSettings[0].hosts"),
        (
            "defaultConfig: {envoyMetricsService: {address: 'a:1',"
            " tlsSettings: {mode: SIMPLE, insecureSkipVerify: true}}}",
            "defaultConfig.envoyMetricsService.tlsSettings.insecureSkipVerify",
        ),
    ],
)
def test_what_means_nothing_where_it_stands(said: str, path: str) -> None:
    mesh, findings = read_mesh_config(said)
    assert mesh is not None
    assert [(str(one.path), one.code) for one, _ in findings] == [(path, "FL0100")]


@pytest.mark.parametrize(("sampling", "percent", "doubt"), [(0, 1, True), (101, 1, True), (0.5, 0.5, False)])
def test_a_share_of_traces_that_is_none_is_the_usual_one(sampling: float, percent: float, doubt: bool) -> None:
    """Istio's `proxyConfigSamplingValue`: 0 is what nobody has said, and more than everything is not taken."""
    mesh, findings = read_mesh_config(f"defaultConfig: {{tracing: {{sampling: {sampling}}}}}")
    assert mesh is not None
    assert mesh.observability.proxy.sampling == percent
    assert [(str(one.path), one.code) for one, _ in findings] == [("defaultConfig.tracing.sampling", "FL0103")] * doubt


@pytest.mark.parametrize(
    ("domain", "valid"), [("1.2", True), ("td.123", True), ("a.", True), ("a_b", False), ("*", False), ("a..b", False)]
)
def test_trust_domains_may_be_numbers(domain: str, valid: bool) -> None:
    """Istio's `ValidateTrustDomain` asks for labels alone."""
    mesh, _ = read_mesh_config(f"trustDomain: {domain!r}")
    assert (mesh is not None) == valid


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("{endpoints: [{fromRegistry: a b}]}", "networks.one.endpoints[0].fromRegistry"),
        ("{endpoints: [{fromCidr: 10.0.0.0/33}]}", "networks.one.endpoints[0].fromCidr"),
        ("{endpoints: [{fromCidr: 10.0.0.5/8}, {fromCidr: '2001:1::1/64'}, {fromRegistry: c1}]}", ""),
        ("{gateways: [{address: 1.1.1.1, port: 0}]}", "networks.one.gateways[0].port"),
        ("{gateways: [{address: a_b, port: 80}]}", "networks.one.gateways[0].address"),
        ("{gateways: [{registryServiceName: gate.way.svc.cluster.local, port: 80}]}", ""),
    ],
)
def test_networks_are_checked_as_istio_does(text: str, path: str) -> None:
    found, problems = read_networks(f"networks: {{one: {text}}}")
    assert ([str(one.path) for one in problems], bool(found)) == ([path] * bool(path), not path)


@pytest.mark.parametrize(
    "labels", ["", "logFormat: {labels: {}}", "path: /dev/stderr, logFormat: {labels: {a: '%ROUTE_NAME%'}}"]
)
def test_file_logs_without_a_path_or_fields(labels: str) -> None:
    """Istio writes to /dev/stdout; an empty object of fields asks for its own ones."""
    mesh, findings = read_mesh_config(f"extensionProviders: [{{name: log, envoyFileAccessLog: {{{labels}}}}}]")
    assert mesh is not None and not findings
    logger = mesh.observability.find_logger("log")
    assert logger is not None and logger.path == ("/dev/stderr" if "path" in labels else "/dev/stdout")
    (made,) = access_logs(mesh, (LogTarget(logger),))
    written = FileAccessLog()
    made.typed_config.Unpack(written)
    wanted = {"a"} if "path" in labels else set(JSON_FIELDS)
    assert (set(written.log_format.json_format.fields) == wanted) == bool(labels)


PROTO = """
mesh_mTLS: {min_protocol_version: TLSV1_3}
service_settings: [{settings: {cluster_local: true}, hosts: ["*.a.svc.cluster.local"]}]
extensionProviders: [{name: o, opentelemetry: {port: 443, service: a.b, resource_detectors: {environment: {}}}}]
default_config: {tracing: {custom_tags: {a: {header: {name: x, default_value: y}}}}}
"""


def test_fields_have_the_names_of_istios_own_documents_too() -> None:
    """Istio reads protobuf's JSON, which knows both names; values and names of maps are nobody's fields."""
    mesh, findings = read_mesh_config(PROTO)
    assert mesh is not None and not findings
    assert mesh.mesh_tls.min_version == "TLSV1_3"
    assert ("*.a.svc.cluster.local", True) in mesh.cluster_local
    assert mesh.observability.tracers[0][1].detectors == ("environment",)
    assert [one.default for one in mesh.observability.proxy.tags] == ["y"]
    found, _ = read_annotation("{proxy_metadata: {a_b: c}, drain_duration: 5s}")
    assert found is not None and (found.proxy_metadata, found.drain_duration) == ({"a_b": "c"}, "5s")
    networks, problems = read_networks("networks: {one: {endpoints: [{from_cidr: 10.0.0.0/8}]}}")
    assert not problems and networks[0].cidrs == ("10.0.0.0/8",)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("rootNamespace: null\ntrustDomain:\naccessLogFile:", "{}"),
        ("extensionProviders:\ndefaultConfig: {proxyMetadata: , concurrency: }", "{}"),
        ("outboundTrafficPolicy: {mode: }", "outboundTrafficPolicy: {}"),
        ("proxyListenPort: '15101'", "proxyListenPort: 15101"),
        ("defaultConfig: {concurrency: '2'}", "defaultConfig: {concurrency: 2}"),
        ("defaultConfig: {tracing: {sampling: '12.5'}}", "defaultConfig: {tracing: {sampling: 12.5}}"),
    ],
)
def test_null_is_no_field_and_a_number_may_be_a_string(text: str, same: str) -> None:
    """Charts write null for values that nobody has set, and quote what they are given."""
    mesh, findings = read_mesh_config(text)
    assert mesh is not None and not findings
    assert mesh == read_mesh_config(same)[0]


def test_a_network_may_be_null() -> None:
    """Charts list networks that have gateways of their own labels only."""
    networks, problems = read_networks("networks:\n  vm:\n  one: {gateways: [{address: 192.0.2.1, port: '15443'}]}")
    assert not problems and [one.name for one in networks] == ["one", "vm"]
    assert networks[0].gateways[0].port == 15443


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("proxyListenPort: '15001.5'", "proxyListenPort"),
        ("proxyListenPort: 'x'", "proxyListenPort"),
        ("enableTracing: 'true'", "enableTracing"),
        ("defaultConfig: {proxyMetadata: {A: 1}}", "defaultConfig.proxyMetadata.A"),
        ("defaultConfig: {proxyMetadata: {A: }}", "defaultConfig.proxyMetadata.A"),
        ("extensionProviders: null\nextensionProvider: []", "extensionProvider"),
        ("rootNamespaces:", "rootNamespaces"),
    ],
)
def test_what_protobuf_refuses_is_an_error(text: str, path: str) -> None:
    mesh, findings = read_mesh_config(text)
    assert mesh is None
    assert [str(one.path) for one, _ in findings] == [path]


@pytest.mark.parametrize(
    ("text", "path", "line"),
    [
        ("default_config:\n  drain_duration: x", "defaultConfig.drainDuration", 2),
        ("trust_domain: a\ntrustDomain: b", "trust_domain", 1),
        ("default_config:\n  drain_durations: 5s", "defaultConfig.drain_durations", 2),
    ],
)
def test_what_is_wrong_of_them_has_its_place(text: str, path: str, line: int) -> None:
    mesh, findings = read_mesh_config(text, "m")
    assert mesh is None
    assert [(str(one.path), at.line if at is not None else 0) for one, at in findings] == [(path, line)]


OLD = """
disablePolicyChecks: true
ambientMesh: {mode: "OFF"}
trustDomain: example.org
defaultConfig:
  connectTimeout: 10s
  drainDuration: 5s
"""


def test_what_istio_had_before_is_a_warning() -> None:
    """Istio passes over it: settings that are older than their control plane have it."""
    mesh, findings = read_mesh_config(OLD, "m")
    assert mesh is not None and mesh.trust_domain == "example.org"
    assert [(str(one.path), one.severity, at.line if at is not None else 0) for one, at in findings] == [
        ("disablePolicyChecks", Severity.WARNING, 2),
        ("ambientMesh", Severity.WARNING, 3),
        ("defaultConfig.connectTimeout", Severity.WARNING, 6),
    ]
    config, problems = read_annotation("{connectTimeout: 10s, drainDuration: 5s}")
    assert config is not None and config.drain_duration == "5s"
    assert [(str(one.path), one.severity) for one in problems] == [("connectTimeout", Severity.WARNING)]
    assert read_mesh_config("authPolicy: NONE").mesh == Mesh()


@pytest.mark.parametrize(
    ("text", "path", "message"),
    [
        (
            "accessLogFormat: '%PROTOCOL% %CODES%'",
            "accessLogFormat",
            "Envoy has no operator %CODES%",
        ),
        ("accessLogFormat: '%REQ(:PATH)'", "accessLogFormat", "no operator begins at '%REQ(:PATH)'"),
        (
            '{accessLogEncoding: JSON, accessLogFormat: \'{"a": "%A%"}\'}',
            "accessLogFormat",
            "Envoy has no operator %A%",
        ),
        (
            "extensionProviders: [{name: a, envoyFileAccessLog: {logFormat: {labels: {b: {c: ['%A%']}}}}}]",
            "extensionProviders[0].envoyFileAccessLog.logFormat.labels.b.c[0]",
            "Envoy has no operator %A%",
        ),
        (
            "extensionProviders: [{name: a, envoyOtelAls: {service: a.b, port: 1, logFormat: {text: '%A%'}}}]",
            "extensionProviders[0].envoyOtelAls.logFormat.text",
            "Envoy has no operator %A%",
        ),
    ],
)
def test_an_operator_that_envoy_does_not_know(text: str, path: str, message: str) -> None:
    """Envoy would refuse every listener, and go on with what it has."""
    mesh, findings = read_mesh_config(text)
    assert mesh is None
    assert [(str(one.path), one.message) for one, _ in findings] == [(path, message)]


def test_formats_that_envoy_takes() -> None:
    for text in (
        "%START_TIME(%Y/%m/%dT%H:%M:%S%z)% 100%% %REQ(X-A?:PATH):10%",
        TEXT_FORMAT,
        "plain",
        *JSON_FIELDS.values(),
    ):
        assert not read_mesh_config(msgspec.json.encode({"accessLogFormat": text}).decode()).findings


def test_an_address_that_only_pods_fill_in_is_a_warning() -> None:
    mesh, findings = read_mesh_config("defaultConfig: {tracing: {datadog: {address: '$(HOST_IP):8126'}}}")
    assert mesh is not None
    assert [(str(one.path), one.code) for one, _ in findings] == [("defaultConfig.tracing.datadog.address", "FL0100")]


def test_an_object_has_its_settings_under_spec() -> None:
    text = "apiVersion: mesh.istio.io/v1alpha1\nkind: MeshConfig\nmetadata: {name: istio}\nspec: {trustDomain: td}\n"
    mesh, findings = read_mesh_config(text)
    assert mesh == Mesh(trust_domain="td")
    assert findings == ()


def test_errors_have_a_path_and_a_position() -> None:
    mesh, findings = read_mesh_config("connectTimeout: 5\nacessLogFile: x\n", "m")
    assert mesh is None
    assert [(str(one.path), str(at)) for one, at in findings] == [
        ("connectTimeout", "m:1:1"),
        ("acessLogFile", "m:2:1"),
    ]
    assert "accessLogFile" in findings[1][0].remedy


def test_a_text_that_is_not_yaml_is_told() -> None:
    mesh, findings = read_mesh_config("a: [", "m")
    assert mesh is None
    assert str(findings[0][1]).startswith("m:1:")
    assert read_mesh_config("- 1").mesh is None
    assert read_mesh_config("a: 1\n---\nb: 2").mesh is None


def test_only_the_meshs_configmap_counts() -> None:
    data = {"mesh": "trustDomain: td"}
    assert mesh_of_configmap("istio-system", "istio", data) == Mesh(trust_domain="td")
    assert mesh_of_configmap("shop", "istio", data) is None
    assert mesh_of_configmap("istio-system", "other", data) is None
    assert mesh_of_configmap("istio-system", "istio", {}) is None
    wrong = {"mesh": "\nrootNamespace: [x]"}
    assert [(str(one.path), one.message) for one in configmap_problems("istio-system", "istio", wrong)] == [
        ("data.mesh", "rootNamespace: expected a string, found a list (line 2 of the value)")
    ]
    assert list(configmap_problems("shop", "istio", wrong)) == []


def _credential(name: str, **data: str) -> tuple[bytes, bytes, bytes, bytes, bytes]:
    key = NamespacedName("shop", name)
    names = {one.replace("__", "-").replace("_", "."): value for one, value in data.items()}
    encoded = {one: base64.b64encode(value.encode()).decode() for one, value in names.items()}
    made = credential_of(key, Origin(Ref("", "Secret", "shop", name)), encoded)
    return made.certificate_chain, made.private_key, made.ca_certificates, made.ca_crl, made.ocsp_staple


def test_credentials_by_both_conventions() -> None:
    """As in Istio's `TestSecretsController`."""
    tls = {"tls_crt": "C", "tls_key": "K"}
    assert _credential("a", **tls) == (b"C", b"K", b"", b"", b"")
    assert _credential("a", **tls, tls_ocsp__staple="O") == (b"C", b"K", b"", b"", b"O")
    assert _credential("a", **tls, ca_crt="A", ca_crl="R") == (b"C", b"K", b"A", b"R", b"")
    assert _credential("a", cert="c", key="k", cacert="a", crl="r") == (b"c", b"k", b"a", b"r", b"")
    # Both: the generic names count, if they are a pair.
    both = {**tls, "ca_crt": "A", "ca_crl": "R", "cert": "c", "cacert": "a", "crl": "r"}
    assert _credential("a", **both) == (b"C", b"K", b"a", b"r", b"")
    assert _credential("a", **both, key="k") == (b"c", b"k", b"a", b"r", b"")
    assert _credential("a-cacert", cacert="A", key="K", crl="R") == (b"", b"", b"A", b"R", b"")
    assert _credential("a", foo__bar="C", tls_key="K") == (b"", b"K", b"", b"", b"")
    unreadable = credential_of(NamespacedName("a", "b"), Origin(Ref("", "Secret", "a", "b")), {"cert": "?"})
    assert unreadable.certificate_chain == b""


def test_limits_of_tls_are_kept_and_unknown_names_refused() -> None:
    said = "{meshMTLS: {minProtocolVersion: TLSV1_3, ecdhCurves: [P-384]}, tlsDefaults: {ecdhCurves: [P-1]}}"
    found = read_mesh_config(said)
    assert [(str(one.path), one.severity) for one, _ in found.findings] == [
        ("tlsDefaults.ecdhCurves[0]", Severity.ERROR)
    ]
    good = read_mesh_config(said.replace("P-1]", "P-256]")).mesh
    assert good is not None
    assert (good.mesh_tls.min_version, good.mesh_tls.curves, good.other_tls.curves) == (
        "TLSV1_3",
        ("P-384",),
        ("P-256",),
    )
    params = mesh_server((), good.mesh_tls).common_tls_context.tls_params
    assert (params.tls_minimum_protocol_version, list(params.ecdh_curves)) == (params.TLSv1_3, ["P-384"])
