"""Sidecar: goldens and exact problem paths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lowering import check, inputs

from fairlead.compiler.registry import registry
from fairlead.ir.sidecar import EgressListener
from fairlead.kinds.sidecar.lower import imported
from fairlead.model.diagnostic import Origin, Problem, Severity
from fairlead.model.ref import Ref


@pytest.mark.parametrize("path", inputs("sidecar"), ids=lambda path: path.stem)
def test_golden(path: Path) -> None:
    check(path)


def problems(spec: dict[str, Any]) -> list[Problem]:
    meta = {"name": "x", "namespace": "shop"}
    return registry().read({"apiVersion": "networking.istio.io/v1", "kind": "Sidecar", "metadata": meta, "spec": spec})[
        1
    ]


def ingress(**over: Any) -> dict[str, Any]:
    return {"ingress": [{"port": {"number": 90, "protocol": "HTTP", "name": "http"}, **over}]}


def egress(**over: Any) -> dict[str, Any]:
    return {"egress": [{"hosts": ["*/*"], **over}]}


def port_of(bind: str) -> dict[str, Any]:
    return {"hosts": ["*/*"], "port": {"number": 80, "protocol": "HTTP"}, "bind": bind}


FOUND: list[tuple[str, dict[str, Any], str, str]] = [
    ("nothing", {}, "spec", "FL0004"),
    ("no hosts", {"egress": [{}]}, "spec.egress[0].hosts", "FL0004"),
    ("no namespace", egress(hosts=["a.b"]), "spec.egress[0].hosts[0]", "FL0001"),
    ("bad namespace", egress(hosts=["A_b/a.b"]), "spec.egress[0].hosts[0]", "FL0001"),
    ("bind without port", egress(bind="127.0.0.1"), "spec.egress[0].bind", "FL0001"),
    (
        "socket with number",
        egress(port={"number": 1, "protocol": "HTTP"}, bind="unix:///a"),
        "spec.egress[0].bind",
        "FL0001",
    ),
    (
        "pings without interval",
        {"inboundConnectionPool": {"http": {"http2KeepAlive": {"timeout": "1s"}}}},
        "spec.inboundConnectionPool.http.http2KeepAlive.interval",
        "FL0004",
    ),
    ("catch-all first", {"egress": [{"hosts": ["./*"]}, {"hosts": ["*/*"]}]}, "spec.egress[0]", "FL0001"),
    ("no port", {"ingress": [{}]}, "spec.ingress[0].port", "FL0004"),
    ("elsewhere", ingress(defaultEndpoint="10.0.0.1:1"), "spec.ingress[0].defaultEndpoint", "FL0001"),
    ("bind of a captured port", ingress(bind="10.0.0.1"), "spec.ingress[0].bind", "FL0100"),
    ("tls mode", ingress(tls={"mode": "ISTIO_MUTUAL"}), "spec.ingress[0].tls.mode", "FL0001"),
    ("tls without files", ingress(tls={"mode": "SIMPLE"}), "spec.ingress[0].tls.serverCertificate", "FL0004"),
    (
        "proxy needs ALLOW_ANY",
        {"outboundTrafficPolicy": {"egressProxy": {"host": "a.b", "port": {"number": 1}}}},
        "spec.outboundTrafficPolicy.egressProxy",
        "FL0001",
    ),
    (
        "subset of the proxy",
        {
            "outboundTrafficPolicy": {
                "mode": "ALLOW_ANY",
                "egressProxy": {"host": "a.b", "subset": "v.1", "port": {"number": 1}},
            }
        },
        "spec.outboundTrafficPolicy.egressProxy.subset",
        "FL0001",
    ),
    ("same port", {"egress": [port_of("127.0.0.1"), port_of("127.0.0.2")]}, "spec.egress[1]", "FL0001"),
    (
        "redirected socket",
        egress(port={"protocol": "HTTP"}, bind="unix:///a", captureMode="IPTABLES"),
        "spec.egress[0].captureMode",
        "FL0001",
    ),
    ("port name", egress(port={"number": 1, "name": "a_b"}), "spec.egress[0].port.name", "FL0001"),
    ("host twice", egress(hosts=["./a.b", "shop/a.b"]), "spec.egress[0].hosts[1]", "FL0103"),
    ("host of a namespace", egress(hosts=["front/*", "front/a.b"]), "spec.egress[0].hosts[1]", "FL0103"),
    ("namespace of a host", egress(hosts=["front/a.b", "front/*"]), "spec.egress[0].hosts[1]", "FL0103"),
    ("all and one", egress(hosts=["*/*", "front/a.b"]), "spec.egress[0].hosts", "FL0103"),
    ("tls on http", ingress(tls={"mode": "SIMPLE"}), "spec.ingress[0].tls", "FL0001"),
    (
        "requests of an unknown protocol",
        {"ingress": [{"port": {"number": 90}, "connectionPool": {"http": {"maxRetries": 1}}}]},
        "spec.ingress[0].connectionPool.http",
        "FL0103",
    ),
    ("empty pool", {"inboundConnectionPool": {}}, "spec.inboundConnectionPool", "FL0004"),
    ("unknown", {"egress": [{"host": ["*/*"]}]}, "spec.egress[0].host", "FL0003"),
]


@pytest.mark.parametrize(("name", "spec", "path", "code"), FOUND, ids=[one[0] for one in FOUND])
def test_problem(name: str, spec: dict[str, Any], path: str, code: str) -> None:
    found = problems(spec)
    assert (path, code) in [(str(one.path), one.code) for one in found], [(str(one.path), one.code) for one in found]
    assert all(one.message for one in found)


def test_what_is_right_has_no_problem() -> None:
    for spec in (
        egress(),
        egress(hosts=["*/*", "~/a.b"]),
        egress(hosts=["*/*", "~front/*", "~./a.b"]),
        egress(hosts=["*/b.c", "front/a.b"]),
        ingress(defaultEndpoint=":8080"),
    ):
        assert [one for one in problems(spec) if one.severity is not Severity.INFO] == []


@pytest.mark.parametrize(
    ("out", "seen"),
    [
        ("~/web.example", {("web.example", "one"): False, ("web.example", "two"): False, ("db.example", "one"): True}),
        ("~one/*", {("web.example", "one"): False, ("db.example", "one"): False, ("web.example", "two"): True}),
        ("~one/web.example", {("web.example", "one"): False, ("db.example", "one"): True}),
        ("~./*", {("web.example", "own"): False, ("web.example", "one"): True}),
        ("~one/*.example", {("web.example", "one"): False, ("web.other", "one"): True}),
    ],
)
def test_hosts_that_are_taken_out_are_not_seen(out: str, seen: dict[tuple[str, str], bool]) -> None:
    listener = EgressListener(Origin(Ref("", "Sidecar", "own", "s")), (imported("*/*"), imported(out)))
    for (host, namespace), expected in seen.items():
        assert listener.sees_host(host, namespace, "own") is expected
        assert listener.sees_routes((host,), namespace, "own", exact=False) is expected
    assert listener.sees_routes(("web.example", "kept.test"), "two", "own", exact=False), "one host is enough"
