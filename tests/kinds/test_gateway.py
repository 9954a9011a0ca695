"""Gateway: goldens, exact problem paths, robustness."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lowering import check, inputs

from fairlead.compiler.registry import registry
from fairlead.kinds.gateway import KIND
from fairlead.model.diagnostic import Problem, Severity


@pytest.mark.parametrize("path", inputs("gateway"), ids=lambda path: path.stem)
def test_golden(path: Path) -> None:
    check(path)


def document(spec: Any, name: str = "x") -> dict[str, Any]:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "Gateway",
        "metadata": {"name": name, "namespace": "front"},
        "spec": spec,
    }


def problems(*servers: dict[str, Any]) -> list[Problem]:
    return registry().read(document({"selector": {"a": "b"}, "servers": list(servers)}))[1]


def server(**over: Any) -> dict[str, Any]:
    return {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["a.b"], **over}


def https(**tls: Any) -> dict[str, Any]:
    return server(port={"number": 443, "name": "https", "protocol": "HTTPS"}, tls=tls)


ERRORS: list[tuple[str, list[dict[str, Any]], str]] = [
    ("no server", [], "spec.servers"),
    ("no port", [{"hosts": ["a.b"]}], "spec.servers[0].port"),
    ("no host", [server(hosts=[])], "spec.servers[0].hosts"),
    ("short host", [server(hosts=["a.b", "foo"])], "spec.servers[0].hosts[1]"),
    ("partial wildcard", [server(hosts=["*x.b"])], "spec.servers[0].hosts[0]"),
    ("namespace", [server(hosts=["a_b/c.d"])], "spec.servers[0].hosts[0]"),
    ("protocol", [server(port={"number": 1, "name": "a", "protocol": "kafka"})], "spec.servers[0].port.protocol"),
    ("port number", [server(port={"number": 66000, "name": "a", "protocol": "HTTP"})], "spec.servers[0].port.number"),
    ("port name", [server(port={"number": 1, "protocol": "HTTP"})], "spec.servers[0].port.name"),
    (
        "port name twice",
        [server(), server(port={"number": 81, "name": "http", "protocol": "HTTP"})],
        "spec.servers[1].port.name",
    ),
    (
        "target port",
        [server(port={"number": 1, "name": "a", "protocol": "HTTP", "targetPort": 2})],
        "spec.servers[0].port.targetPort",
    ),
    ("bind", [server(bind="foo.bar")], "spec.servers[0].bind"),
    ("socket with number", [server(bind="unix://@foobar")], "spec.servers[0].port.number"),
    ("no tls", [server(port={"number": 1, "name": "a", "protocol": "HTTPS"})], "spec.servers[0].tls"),
    ("tls on http", [server(tls={"mode": "SIMPLE", "credentialName": "c"})], "spec.servers[0].tls"),
    (
        "tls on tcp",
        [server(port={"number": 1, "name": "a", "protocol": "TCP"}, tls={"credentialName": "c"})],
        "spec.servers[0].tls",
    ),
    ("no key", [https(mode="SIMPLE", serverCertificate="c")], "spec.servers[0].tls.privateKey"),
    (
        "no key of a list",
        [https(mode="SIMPLE", tlsCertificates=[{"serverCertificate": "c"}])],
        "spec.servers[0].tls.tlsCertificates[0].privateKey",
    ),
    (
        "no authorities",
        [https(mode="MUTUAL", serverCertificate="c", privateKey="k")],
        "spec.servers[0].tls.caCertificates",
    ),
    (
        "two sources",
        [https(mode="SIMPLE", serverCertificate="c", privateKey="k", credentialName="n")],
        "spec.servers[0].tls",
    ),
    ("mesh certificates", [https(mode="ISTIO_MUTUAL", credentialName="n")], "spec.servers[0].tls.credentialName"),
    (
        "revocation",
        [https(mode="SIMPLE", serverCertificate="c", privateKey="k", caCrl="l")],
        "spec.servers[0].tls.caCrl",
    ),
    ("mode", [https(mode="simple")], "spec.servers[0].tls.mode"),
]


@pytest.mark.parametrize(("servers", "path"), [one[1:] for one in ERRORS], ids=[one[0] for one in ERRORS])
def test_error(servers: list[dict[str, Any]], path: str) -> None:
    found = [one for one in problems(*servers) if one.severity is Severity.ERROR]
    assert path in [str(one.path) for one in found]


WARNINGS: list[tuple[str, dict[str, Any], str, str]] = [
    (
        "clients of SIMPLE",
        https(mode="SIMPLE", credentialName="c", subjectAltNames=["a"]),
        "spec.servers[0].tls.subjectAltNames",
        "FL0100",
    ),
    (
        "roots beside a Secret",
        https(mode="MUTUAL", credentialName="c", caCertificates="/a"),
        "spec.servers[0].tls.caCertificates",
        "FL0100",
    ),
    (
        "limits without an end",
        https(mode="PASSTHROUGH", minProtocolVersion="TLSV1_2"),
        "spec.servers[0].tls.minProtocolVersion",
        "FL0100",
    ),
    (
        "limits of the mesh",
        https(mode="ISTIO_MUTUAL", ecdhCurves=["P-256"]),
        "spec.servers[0].tls.ecdhCurves",
        "FL0100",
    ),
    (
        "unknown source",
        https(mode="SIMPLE", credentialName="vault://x"),
        "spec.servers[0].tls.credentialName",
        "FL0103",
    ),
    ("passthrough", https(credentialName="c"), "spec.servers[0].tls", "FL0103"),
    (
        "cipher",
        https(mode="SIMPLE", credentialName="c", cipherSuites=["x"]),
        "spec.servers[0].tls.cipherSuites[0]",
        "FL0103",
    ),
    (
        "old tls",
        https(mode="SIMPLE", credentialName="c", minProtocolVersion="TLSV1_0"),
        "spec.servers[0].tls.minProtocolVersion",
        "FL0103",
    ),
    (
        "redirect",
        https(mode="SIMPLE", credentialName="c", httpsRedirect=True),
        "spec.servers[0].tls.httpsRedirect",
        "FL0103",
    ),
    ("endpoint", server(defaultEndpoint="127.0.0.1:80"), "spec.servers[0].defaultEndpoint", "FL0100"),
]


@pytest.mark.parametrize(("one", "path", "code"), [one[1:] for one in WARNINGS], ids=[one[0] for one in WARNINGS])
def test_warning(one: dict[str, Any], path: str, code: str) -> None:
    found = problems(one)
    assert [item for item in found if item.severity is Severity.ERROR] == []
    assert (path, code) in [(str(item.path), item.code) for item in found]


def test_half_a_pair_of_files_beside_a_secret_does_not_count() -> None:
    assert problems(https(mode="SIMPLE", serverCertificate="c", credentialName="n")) == []


def test_names_have_no_dots() -> None:
    _, found = registry().read(document({"servers": [server()]}, name="a.b"))
    assert [str(one.path) for one in found] == ["metadata.name"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 70000) | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
TEXT = (
    st.sampled_from(["", "*", "a", "a.b", "a/*.b", "./a", "/", "unix://", "unix:///a", "10.0.0.1", "[", "-", "::1"])
    | JSON
)


def struct(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries({}, optional=fields) | JSON


TLS = struct(
    mode=st.sampled_from(["SIMPLE", "MUTUAL", "PASSTHROUGH", "ISTIO_MUTUAL"]) | JSON,
    credentialName=TEXT,
    cipherSuites=st.lists(TEXT, max_size=3),
    tlsCertificates=st.lists(struct(privateKey=TEXT), max_size=3),
    ecdhCurves=st.lists(TEXT, max_size=3),
)
SPEC = struct(
    selector=st.dictionaries(st.text(max_size=4), TEXT, max_size=2),
    servers=st.lists(
        struct(
            port=struct(
                number=st.integers() | JSON, protocol=st.sampled_from(["HTTP", "HTTPS", "x"]) | JSON, name=TEXT
            ),
            hosts=st.lists(TEXT, max_size=3),
            bind=TEXT,
            tls=TLS,
        ),
        max_size=3,
    ),
)


@settings(max_examples=200, deadline=None)
@given(SPEC)
def test_no_input_raises(spec: Any) -> None:
    obj, found = registry().read(document(spec))
    assert (obj is None) == any(one.severity is Severity.ERROR for one in found)
    if obj is not None and KIND.lower is not None:
        list(KIND.lower(None, obj))  # type: ignore[arg-type]  # lowering reads nothing
