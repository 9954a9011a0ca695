"""Telemetry: goldens, and precedence between levels, providers and directions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.extensions.access_loggers.file.v3.file_pb2 import FileAccessLog
from envoy.extensions.access_loggers.filters.cel.v3.cel_pb2 import ExpressionFilter
from lowering import check, inputs, read

from fairlead.compiler.model import MeshModel
from fairlead.compiler.registry import registry
from fairlead.compiler.standing import workload_standing
from fairlead.compiler.telemetry import merged_logs, merged_metrics, merged_tracing
from fairlead.envoy.resource import LISTENER
from fairlead.envoy.stats import MetricChange
from fairlead.ir.observability import VARIABLES, Observability
from fairlead.ir.telemetry import TELEMETRY, Mode, TelemetryPolicy
from fairlead.ir.view import View
from fairlead.model.cel import check as check_cel
from fairlead.model.cel import without_string
from fairlead.model.launch import AppPort, Capture


@pytest.mark.parametrize("path", inputs("telemetry"), ids=lambda path: path.stem)
def test_golden(path: Path) -> None:
    check(path)


def policies(*specs: str) -> tuple[TelemetryPolicy, ...]:
    """Policies of these specs, the widest first."""
    head = "apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {name: a%d}\nspec: %s"
    objects = read("\n---\n".join(head % (at, spec) for at, spec in enumerate(specs)))
    model = MeshModel()
    model.apply(objects)
    return tuple(one for _, one in sorted(model.engine.items(TELEMETRY)))


@pytest.mark.parametrize(
    ("specs", "mode", "wanted"),
    [
        ((), "CLIENT", {"envoy": ""}),
        (("{accessLogging: [{disabled: true}]}",), "CLIENT", {}),
        (("{accessLogging: [{providers: [{name: a}]}]}",), "SERVER", {"a": ""}),
        # The narrower object's providers replace those of the wider one.
        (
            ("{accessLogging: [{providers: [{name: a}]}]}", "{accessLogging: [{providers: [{name: b}]}]}"),
            "SERVER",
            {"b": ""},
        ),
        (("{accessLogging: [{providers: [{name: a}]}]}", "{accessLogging: [{disabled: true}]}"), "SERVER", {}),
        (
            ("{accessLogging: [{providers: [{name: a}], match: {mode: CLIENT}, filter: {expression: a == b}}]}",),
            "CLIENT",
            {"a": "a == b"},
        ),
        # What is said of one side of calls leaves the other as it is.
        (("{accessLogging: [{providers: [{name: a}], match: {mode: CLIENT}}]}",), "SERVER", {"envoy": ""}),
        (("{accessLogging: [{disabled: true, match: {mode: CLIENT}}]}",), "SERVER", {"envoy": ""}),
        (
            (
                "{accessLogging: [{providers: [{name: a}]}]}",
                "{accessLogging: [{providers: [{name: b}], match: {mode: SERVER}}]}",
            ),
            "CLIENT",
            {"a": ""},
        ),
        (
            (
                "{accessLogging: [{providers: [{name: a}], match: {mode: SERVER}},"
                " {providers: [{name: b}], match: {mode: CLIENT}}]}",
            ),
            "CLIENT",
            {"b": ""},
        ),
        (
            (
                "{accessLogging: [{providers: [{name: a}], match: {mode: SERVER}},"
                " {providers: [{name: a}], match: {mode: CLIENT_AND_SERVER}, disabled: true}]}",
            ),
            "SERVER",
            {},
        ),
        (
            (
                "{accessLogging: [{providers: [{name: a}], filter: {expression: x}},"
                " {providers: [{name: a}], filter: {expression: y}}]}",
            ),
            "SERVER",
            {"a": "y"},
        ),
        (("{accessLogging: [{filter: {expression: x}}]}",), "SERVER", {"envoy": "x"}),
    ],
)
def test_access_logs(specs: tuple[str, ...], mode: Mode, wanted: dict[str, str]) -> None:
    assert merged_logs(policies(*specs), ("envoy",), mode) == wanted


def changes(*specs: str, mode: Mode = "CLIENT") -> tuple[MetricChange, ...] | None:
    return merged_metrics(policies(*specs), Observability(), mode)


def test_metrics() -> None:
    off = "{metrics: [{overrides: [{match: {metric: ALL_METRICS}, disabled: true}]}]}"
    what = "match: {metric: REQUEST_SIZE, mode: CLIENT}, disabled: true, tagOverrides: {a: {value: b.c}}"
    some = f"{{metrics: [{{overrides: [{{{what}}}]}}]}}"
    assert changes() == ()
    assert changes(off) is None
    assert changes(off, "{metrics: [{providers: [{name: prometheus}]}]}") is None
    assert changes(off, "{metrics: [{overrides: [{match: {metric: ALL_METRICS}}]}]}") == (MetricChange("ALL_METRICS"),)
    tagged = "{metrics: [{overrides: [{match: {metric: REQUEST_SIZE}, tagOverrides: {a: {operation: REMOVE}}}]}]}"
    assert changes(off, tagged) == (MetricChange("REQUEST_SIZE", tags=(("a", None),)),)
    assert changes(tagged, off) is None
    assert changes(some) == (MetricChange("REQUEST_SIZE", disabled=True, tags=(("a", "b.c"),)),)
    assert changes(some, mode="SERVER") == ()
    assert changes("{metrics: [{providers: [{name: stackdriver}]}]}") is None
    later = "{metrics: [{overrides: [{tagOverrides: {a: {operation: REMOVE}}}]}]}"
    found = changes(some, later)
    assert found is not None
    assert {one.metric: one.tags for one in found} == {"ALL_METRICS": (("a", None),), "REQUEST_SIZE": (("a", None),)}


def test_traces_are_merged_field_by_field() -> None:
    wide, narrow = policies(
        "{tracing: [{providers: [{name: z}], randomSamplingPercentage: 10, customTags: {a: {literal: {value: b}}}}]}",
        "{tracing: [{disableSpanReporting: true, customTags: {}}]}",
    )
    found = merged_tracing((*wide.tracing, *narrow.tracing))
    assert (found.providers, found.sampling, found.disabled, found.tags) == (("z",), 10, True, ())


TOLD = """
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {{name: a, namespace: default}}
spec: {spec}
"""


def test_a_metric_is_known_by_its_name_in_prometheus() -> None:
    said = "{metrics: [{overrides: [{match: {customMetric: %s}, disabled: true}]}]}"
    assert changes(said % "request_bytes") == (MetricChange("REQUEST_SIZE", disabled=True),)

    def told(override: dict[str, Any]) -> list[str]:
        head = {"apiVersion": "telemetry.istio.io/v1", "kind": "Telemetry", "metadata": {"name": "a"}}
        found = registry().read({**head, "spec": {"metrics": [{"overrides": [override]}]}})[1]
        return [str(one.path).rpartition(".")[2] for one in found]

    assert told({"match": {"customMetric": "requests_total"}, "disabled": True}) == []
    assert told({"match": {"customMetric": "own_total"}, "disabled": True}) == ["customMetric"]
    labels = {"tagOverrides": {"a": {"value": "request.host"}}}
    assert told({"match": {"metric": "GRPC_REQUEST_MESSAGES"}, **labels}) == []
    assert told({"match": {"metric": "REQUEST_COUNT"}, **labels}) == []


@pytest.mark.parametrize(
    ("spec", "counted"),
    [
        ("{metrics: [{overrides: [{match: {metric: GRPC_REQUEST_MESSAGES}, disabled: true}]}]}", True),
        (
            "{metrics: [{overrides: [{match: {metric: GRPC_REQUEST_MESSAGES}, disabled: true},"
            " {match: {customMetric: response_messages_total}, disabled: true}]}]}",
            False,
        ),
        ("{metrics: [{overrides: [{disabled: true}]}]}", False),
        ("{metrics: [{overrides: [{match: {mode: CLIENT}, disabled: true}]}]}", True),
    ],
)
def test_messages_of_grpc_are_counted_or_not(spec: str, counted: bool) -> None:
    model = MeshModel()
    model.apply(read(TOLD.format(spec=spec)))
    view = View("sidecar", "default", addresses=("127.66.0.9",), ports=(AppPort(8080, "grpc", "grpc"),))
    inbound = model.compile(view)[LISTENER]["virtualInbound"]
    assert (b"filters.http.grpc_stats" in inbound.body) == counted


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        ("{tracing: [{providers: [{name: nobody}]}]}", "MeshConfig has no tracer 'nobody'"),
        ("{accessLogging: [{providers: [{name: nobody}]}]}", "MeshConfig has no logger 'nobody'"),
        ("{metrics: [{providers: [{name: nobody}]}]}", "'nobody' is not a provider of metrics"),
        ("{tracing: [{providers: [{name: lost}]}]}", "there is no host 'lost.example.com'"),
        (
            "{tracing: [{providers: [{name: plain}]}]}",
            "port 80 of 'web.default.svc.cluster.local' is not known as gRPC",
        ),
        ("{accessLogging: [{providers: [{name: port}]}]}", "has no port 81"),
    ],
)
def test_a_provider_that_cannot_be_used_is_told(spec: str, wanted: str) -> None:
    mesh = """
apiVersion: mesh.istio.io/v1alpha1
kind: MeshConfig
metadata: {name: istio}
spec:
  extensionProviders:
  - {name: lost, zipkin: {service: lost.example.com, port: 9411}}
  - {name: plain, opentelemetry: {service: web.default.svc.cluster.local, port: 80}}
  - {name: port, envoyHttpAls: {service: web.default.svc.cluster.local, port: 81}}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {clusterIP: 10.0.0.1, ports: [{name: http, port: 80}]}
---"""
    model = MeshModel()
    model.apply(read(mesh + TOLD.format(spec=spec)))
    with model.opened(View("sidecar", "default", addresses=("127.66.0.9",), capture=Capture("redirect"))):
        found = [str(one) for one in model.diagnostics()]
    assert any(wanted in one and "Telemetry default/a" in one and "[FL2801]" in one for one in found), found


LOGGED = """
apiVersion: mesh.istio.io/v1alpha1
kind: MeshConfig
metadata: {name: istio}
spec:
  accessLogFile: /mesh.log
  accessLogFormat: "said by the mesh"
  extensionProviders:
  - {name: mine, envoyFileAccessLog: {path: /mine.log}}
  - {name: more, envoyFileAccessLog: {path: /more.log}}
"""
CHOSEN = """
---
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: %s, namespace: default, creationTimestamp: "2026-01-01T00:00:%02dZ"}
spec: {selector: {matchLabels: {app: web}}, %s}
"""


def logs(*specs: str) -> tuple[list[str], list[str]]:
    """The files of logs of calls served and of calls made, each with its filter, where these objects choose both."""
    model = MeshModel()
    model.apply(read(LOGGED + "".join(CHOSEN % (f"a{at}", at, spec) for at, spec in enumerate(specs))))
    view = View("sidecar", "default", (("app", "web"),), addresses=("127.66.0.9",), capture=Capture("redirect"))
    made = model.compile(view)[LISTENER]
    return _files(made["virtualInbound"].body), _files(made["virtualOutbound"].body)


def _files(listener: bytes) -> list[str]:
    found = Listener.FromString(listener).access_log
    files = [FileAccessLog.FromString(one.typed_config.value) for one in found]
    chosen = [one.filter.and_filter.filters[1] if one.filter.HasField("and_filter") else None for one in found]
    said = [
        "" if one is None else f" {ExpressionFilter.FromString(one.extension_filter.typed_config.value).expression}"
        for one in chosen
    ]
    return [f"{file.path}{condition}" for file, condition in zip(files, said, strict=True)]


@pytest.mark.parametrize(
    ("specs", "served", "made"),
    [
        ((), ["/mesh.log"], ["/mesh.log"]),
        (("accessLogging: [{providers: [{name: mine}]}]",), ["/mine.log"], ["/mine.log"]),
        (
            ("accessLogging: [{providers: [{name: mine}], match: {mode: SERVER}}]",),
            ["/mine.log"],
            ["/mesh.log"],
        ),
        (("accessLogging: [{disabled: true}]",), [], []),
        (("accessLogging: [{disabled: true, match: {mode: CLIENT}}]",), ["/mesh.log"], []),
        (("accessLogging: [{filter: {expression: response.code >= 400}}]",), *[["/mesh.log response.code >= 400"]] * 2),
        # A log is better than none.
        (("accessLogging: [{providers: [{name: nobody}]}]",), ["/mesh.log"], ["/mesh.log"]),
        (("accessLogging: [{providers: [{name: nobody}, {name: mine}]}]",), ["/mine.log"], ["/mine.log"]),
        # All that choose a workload count, the youngest last.
        (
            ("tracing: [{disableSpanReporting: true}]", "accessLogging: [{providers: [{name: mine}]}]"),
            ["/mine.log"],
            ["/mine.log"],
        ),
        (
            (
                "accessLogging: [{providers: [{name: mine}]}]",
                "accessLogging: [{providers: [{name: more}], match: {mode: CLIENT}}]",
            ),
            ["/mine.log"],
            ["/more.log"],
        ),
    ],
)
def test_where_logs_go(specs: tuple[str, ...], served: list[str], made: list[str]) -> None:
    assert logs(*specs) == (served, made)


def test_without_a_telemetry_object_the_settings_are_told_of_a_provider_that_cannot_be_used() -> None:
    mesh = """
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    enableEnvoyAccessLogService: true
    defaultConfig: {envoyAccessLogService: {address: "als.logs:9000"}}
    defaultProviders: {tracing: [span], accessLogging: [old]}
    extensionProviders:
    - name: old
      stackdriver: {}
    - name: span
      opentelemetry:
        service: istio-system/otel.example.com
        port: 4318
        http: {path: /v1/traces, headers: [{name: authorization, envName: TOKEN}]}
        dynatraceSampler: {tenant: abc, clusterId: -3, rootSpansPerMinute: 9}
"""
    entry = """
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: otel, namespace: istio-system}
spec: {hosts: [otel.example.com], ports: [{number: 4318, name: http, protocol: HTTP}], resolution: DNS}
"""
    view = View("sidecar", "default", addresses=("127.66.0.9",), capture=Capture("redirect"))
    model = MeshModel()
    model.apply(read(mesh))
    with model.opened(view):
        found = [one for one in model.diagnostics() if one.code == "FL2801"]
    assert {str(one.origin.ref) for one in found} == {"ConfigMap istio-system/istio"}
    said = " ".join(one.message for one in found)
    assert "there is no host 'istio-system/otel.example.com'" in said
    assert "there is no host 'als.logs'" in said
    assert "provider 'old' is of kind stackdriver, for which Envoy has no code any more" in said
    told = [one.said for one in model.engine.call(workload_standing, view) if one.section == "Telemetry"]
    assert len([one for one in told if one.startswith("NOT USED")]) == 3
    model.apply(read(entry))
    with model.opened(view):
        assert any("no environment variable TOKEN" in one.message for one in model.diagnostics())
    with model.engine.transaction():
        model.engine.put(VARIABLES, "TOKEN", "Api-Token x")
    body = model.compile(view)[LISTENER]["virtualInbound"].body
    for part in (b"samplers.dynatrace", b"Api-Token x", b"/api/v2/samplingConfiguration", b"/v1/traces"):
        assert part in body


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"tracing": [{"customTags": {"a": {"literal": {"value": "b"}, "header": {"name": "c"}}}}]}, "customTags.a"),
        ({"tracing": [{"customTags": {"a": {"formatter": {"value": "%NOPE%"}}}}]}, "customTags.a.formatter.value"),
        (
            {"tracing": [{"customTags": {"a": {"formatter": {"value": "%REQ_WITHOUT_QUERY(:PATH)%"}}}}]},
            "customTags.a.formatter.value",
        ),
        ({"tracing": [{"randomSamplingPercentage": 101}]}, "tracing[0].randomSamplingPercentage"),
        ({"metrics": [{"overrides": [{"tagOverrides": {"a": {"value": "b("}}}]}]}, "tagOverrides.a.value"),
        ({"metrics": [{"overrides": [{"tagOverrides": {"a b": {"value": "b"}}}]}]}, "tagOverrides[a b]"),
        ({"metrics": [{"reportingInterval": "1ns"}]}, "metrics[0].reportingInterval"),
        ({"accessLogging": [{"filter": {"expression": "a.exists(x, true)"}}]}, "accessLogging[0].filter.expression"),
    ],
)
def test_a_wrong_field_is_named(spec: dict[str, Any], path: str) -> None:
    head = {"apiVersion": "telemetry.istio.io/v1", "kind": "Telemetry", "metadata": {"name": "a"}}
    obj, found = registry().read({**head, "spec": spec})
    assert obj is None
    assert any(path in str(one.path) for one in found), found


def test_a_tag_is_named_as_prometheus_shows_it() -> None:
    tags = "{trace-id: {value: request.id}, response.code: {operation: REMOVE}}"
    spec = f"{{metrics: [{{overrides: [{{tagOverrides: {tags}}}]}}]}}"
    (said,) = policies(spec)
    assert said.metrics[0].overrides[0].tags == (("response_code", None), ("trace_id", "request.id"))


def test_several_entries_for_traces() -> None:
    head = {"apiVersion": "telemetry.istio.io/v1", "kind": "Telemetry", "metadata": {"name": "a"}}
    obj, found = registry().read({**head, "spec": {"tracing": [{}, {}]}})
    assert obj is not None
    assert [(str(one.path), one.code) for one in found] == [("spec.tracing", "FL0103")]


@pytest.mark.parametrize(
    "text",
    ["a.b['c'] ? 1u : -2.5e3", "!has(a.b) || 'x' in [1, 2,]", '{"a": [b]}["a"][0] // c', 'r\'\\d\' + """a\nb"""'],
)
def test_cel(text: str) -> None:
    checked = check_cel(text)
    assert checked.wrong == ""
    assert check_cel(checked.text).wrong == ""


@pytest.mark.parametrize(
    "text",
    ["", "a b", "a.b(", "f(1)", "a.map(x, x)", "(" * 60 + ")" * 60, "'a", "a ? b", "1 in", "a.in", "if", "a" * 5000],
)
def test_no_cel(text: str) -> None:
    assert check_cel(text).wrong


def test_values_that_become_text_anyway() -> None:
    assert without_string("string(destination.port)") == "destination.port"
    assert without_string("string(a) + string(b)") == "string(a) + string(b)"
