"""Validation of a Process."""

from __future__ import annotations

import re
from collections.abc import Iterator

from fairlead.ir.proxystart import annotation_problems
from fairlead.kinds.process.spec import ON_DEMAND, ProcessPort, ProcessSpec
from fairlead.model.diagnostic import Problem, Severity
from fairlead.model.names import is_dns_label, is_dns_subdomain, nearest
from fairlead.model.object import Object
from fairlead.model.path import METADATA, SPEC, FieldPath
from fairlead.model.probe import Probe

PROTOCOLS = (
    "tcp",
    "udp",
    "http",
    "http2",
    "https",
    "grpc",
    "grpc-web",
    "tls",
    "mongo",
    "mysql",
    "redis",
    "kubernetes.io/h2c",
    "kubernetes.io/ws",
    "kubernetes.io/wss",
)
RESERVED_PORTS = frozenset({15000, 15001, 15002, 15006, 15020, 15021, 15053, 15090})
"""Istio's own ports beside an application."""
_ENV_NAME = re.compile(r"^[-._a-zA-Z][-._a-zA-Z0-9]*$")
_MAX_ITEMS = 1000
_MAX_NAME = 54
"""A replica is called `NAME-N` and must be a DNS label."""


def validate(obj: Object[ProcessSpec]) -> Iterator[Problem]:
    """Findings about a decoded Process."""
    spec = obj.spec
    if not is_dns_label(obj.ref.name) or len(obj.ref.name) > _MAX_NAME:
        yield Problem(
            FieldPath(("metadata", "name")),
            f"{obj.ref.name!r} is not a DNS label of at most {_MAX_NAME} characters",
            remedy="Replicas are named after the process: use lower-case letters, digits and '-'.",
        )
    yield from _validate_on_demand(obj)
    yield from annotation_problems(obj.meta.annotations, METADATA / "annotations")
    yield from _validate_role(spec)
    yield from _validate_ports(spec)
    yield from _validate_env(spec)
    if not is_dns_subdomain(spec.service_account_name):
        yield Problem(SPEC / "serviceAccountName", f"{spec.service_account_name!r} is not a name")
    if spec.working_dir and not spec.working_dir.startswith(("/", "$(")):
        yield Problem(SPEC / "workingDir", "must be an absolute path", remedy="Begin with '/' or a $(VARIABLE).")
    for field, probe in (("readinessProbe", spec.readiness_probe), ("livenessProbe", spec.liveness_probe)):
        if probe is not None:
            yield from _validate_probe(SPEC / field, probe, spec)


def _validate_on_demand(obj: Object[ProcessSpec]) -> Iterator[Problem]:
    said = obj.meta.annotations.get(ON_DEMAND)
    path = METADATA.child("annotations", ON_DEMAND)
    if said is not None and said not in ("true", "false"):
        yield Problem(path, f"{said!r} is neither true nor false", remedy="Write it in quotes.", code="FL3500")
    elif said is not None and obj.spec.proxy == "router":
        why, remedy = "a gateway has all clusters to which its routes lead", "Remove it."
        yield Problem(path, f"no effect: {why}", Severity.WARNING, remedy, "FL3501")


def _validate_role(spec: ProcessSpec) -> Iterator[Problem]:
    if spec.proxy != "router" and not spec.command:
        yield Problem(
            SPEC / "command",
            "required",
            remedy="Only a gateway (proxy: router) runs without a command.",
            code="FL0004",
            reason="FieldValueRequired",
        )
    if spec.proxy == "router" and spec.command:
        yield Problem(
            SPEC / "command", "a gateway runs no command", remedy="Use proxy: sidecar.", reason="FieldValueForbidden"
        )
    if spec.proxy == "router" and spec.capture in ("netns", "explicit"):
        yield Problem(
            SPEC / "capture", "a gateway captures nothing", remedy="Leave capture out.", reason="FieldValueForbidden"
        )
    if spec.args and not spec.command:
        yield Problem(SPEC / "args", "args without a command", reason="FieldValueForbidden")
    if spec.proxy == "none" and spec.capture in ("netns", "explicit"):
        yield Problem(SPEC / "capture", "without a proxy there is nothing to capture to", remedy="Use proxy: sidecar.")


def _validate_ports(spec: ProcessSpec) -> Iterator[Problem]:
    names: set[str] = set()
    numbers: set[int] = set()
    for at, port in enumerate(spec.ports):
        path = SPEC / "ports" / at
        if port.name and not is_dns_label(port.name):
            yield Problem(path / "name", f"{port.name!r} is not a DNS label")
        if port.name and port.name in names:
            yield Problem(path / "name", f"a second port named {port.name!r}", reason="FieldValueDuplicate")
        if port.port in numbers:
            yield Problem(path / "port", f"port {port.port} twice", reason="FieldValueDuplicate")
        if spec.proxy == "sidecar" and port.port in RESERVED_PORTS:
            yield Problem(path / "port", f"port {port.port} belongs to the proxy", remedy="Choose another port.")
        names.add(port.name)
        numbers.add(port.port)
        yield from _validate_protocol(path, port)


def _validate_protocol(path: FieldPath, port: ProcessPort) -> Iterator[Problem]:
    for field, value in (("protocol", port.protocol), ("appProtocol", port.app_protocol)):
        if value and value.lower() not in PROTOCOLS:
            near = nearest(value, PROTOCOLS)
            yield Problem(
                path / field,
                f"unknown protocol {value!r}",
                severity=Severity.ERROR if field == "protocol" else Severity.WARNING,
                remedy=f"Did you mean {near!r}?" if near else f"One of: {', '.join(PROTOCOLS)}.",
                code="FL0005",
                reason="FieldValueNotSupported",
            )


def _validate_env(spec: ProcessSpec) -> Iterator[Problem]:
    for field, size in (("command", len(spec.command)), ("args", len(spec.args)), ("env", len(spec.env))):
        if size > _MAX_ITEMS:
            yield Problem(SPEC / field, f"more than {_MAX_ITEMS} items")
    for at, word in enumerate((*spec.command, *spec.args)):
        if "\0" in word:
            field, index = ("command", at) if at < len(spec.command) else ("args", at - len(spec.command))
            yield Problem(SPEC / field / index, "contains a NUL character")
    for at, one in enumerate(spec.env):
        if not _ENV_NAME.match(one.name):
            yield Problem(SPEC / "env" / at / "name", f"{one.name!r} is not a variable name")
        if "\0" in one.value:
            yield Problem(SPEC / "env" / at / "value", "contains a NUL character")


def _validate_probe(path: FieldPath, probe: Probe, spec: ProcessSpec) -> Iterator[Problem]:
    ways = [probe.http_get, probe.tcp_socket, probe.grpc, probe.exec]
    if sum(one is not None for one in ways) != 1:
        yield Problem(path, "needs exactly one of httpGet, tcpSocket, grpc, exec")
    if spec.proxy == "none":
        yield Problem(path, "probes are run beside the sidecar", remedy="Use proxy: sidecar.")
    names = {port.name for port in spec.ports}
    for field, way in (("httpGet", probe.http_get), ("tcpSocket", probe.tcp_socket)):
        if way is None:
            continue
        if isinstance(way.port, str) and way.port not in names:
            near = nearest(way.port, names)
            yield Problem(
                path / field / "port",
                f"no port named {way.port!r}",
                remedy=f"Did you mean {near!r}?" if near else "Name one of spec.ports, or give the number.",
            )
        elif isinstance(way.port, int) and not 0 < way.port < 65536:
            yield Problem(path / field / "port", f"{way.port} is not a port")
    for field, value in (("periodSeconds", probe.period_seconds), ("timeoutSeconds", probe.timeout_seconds)):
        if value <= 0:
            yield Problem(path / field, "must be more than 0")
    if min(probe.success_threshold, probe.failure_threshold) < 1:
        yield Problem(path, "thresholds must be at least 1")
