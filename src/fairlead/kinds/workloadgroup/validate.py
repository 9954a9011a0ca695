"""Istio's validation of WorkloadGroup, by its webhook and its CRD."""

from __future__ import annotations

import re
from collections.abc import Iterator

from fairlead.ir.proxystart import annotation_problems
from fairlead.kinds.workloadgroup.spec import WorkloadGroup
from fairlead.model.diagnostic import Problem, Severity
from fairlead.model.entry import EntrySpec, named_port_problems, unix_problems
from fairlead.model.findings import invalid, required, unused
from fairlead.model.names import is_dns_subdomain
from fairlead.model.object import Object
from fairlead.model.path import SPEC, FieldPath
from fairlead.model.probe import HTTPGet, Probe
from fairlead.model.syntax import UNIX_PREFIX, label_problems, port_problems

_HEADER = re.compile(r"[-_A-Za-z0-9]+\Z")
_MOST = 2**31 - 1


def validate(obj: Object[WorkloadGroup]) -> Iterator[Problem]:
    """The template's fields but for the address, the labels of the metadata, and the probe."""
    spec = obj.spec
    yield from _template(spec.template, SPEC / "template")
    if spec.metadata is not None:
        yield from label_problems(spec.metadata.labels, SPEC.child("metadata", "labels"))
        yield from annotation_problems(spec.metadata.annotations, SPEC.child("metadata", "annotations"))
    if spec.probe is not None:
        yield from _probe(spec.probe, SPEC / "probe")


def _template(template: EntrySpec, path: FieldPath) -> Iterator[Problem]:
    if template.address:
        remedy = "Remove it: a group is for many; write a WorkloadEntry for one."
        yield unused(path / "address", "each member has its own address", remedy)
    if template.address.startswith(UNIX_PREFIX):
        yield from unix_problems(template, path)
    yield from named_port_problems(template.ports, path / "ports")
    yield from label_problems(template.labels, path / "labels")
    if template.service_account and not is_dns_subdomain(template.service_account):
        said = f"{template.service_account!r} is not a name: nothing can have this identity"
        yield Problem(path / "serviceAccount", said, Severity.WARNING, "Name a ServiceAccount.", "FL3302")


def _probe(probe: Probe, path: FieldPath) -> Iterator[Problem]:
    ways = (probe.http_get, probe.tcp_socket, probe.grpc, probe.exec)
    if sum(one is not None for one in ways) != 1:
        yield required(path, "unsupported health check method", "Give one of httpGet, tcpSocket, exec, grpc.")
    for field in (
        "initial_delay_seconds",
        "timeout_seconds",
        "period_seconds",
        "success_threshold",
        "failure_threshold",
    ):
        value = getattr(probe, field)
        if not 0 <= value <= _MOST or value % 1:
            name = re.sub("_(.)", lambda found: found.group(1).upper(), field)
            said = "must be a whole number, and greater than or equal to 0"
            yield invalid(path / name, said, "0 stands for Kubernetes' default.")
    if probe.http_get is not None:
        yield from _http(probe.http_get, path / "httpGet")
    if probe.tcp_socket is not None:
        yield from _port(probe.tcp_socket.port, path.child("tcpSocket", "port"))
    if probe.grpc is not None:
        yield from _port(probe.grpc.port, path.child("grpc", "port"))
    if probe.exec is not None:
        yield from _command(probe.exec.command, path.child("exec", "command"))


def _command(command: tuple[str, ...], path: FieldPath) -> Iterator[Problem]:
    if not (command and command[0]):
        yield required(path, "exec.command is required", "Name a program.")
    for at, one in enumerate(command[1:], 1):
        if not one:
            yield required(path / at, "an argument is empty", "Istio's definition wants each to say something.")


def _http(get: HTTPGet, path: FieldPath) -> Iterator[Problem]:
    yield from _port(get.port, path / "port")
    if get.path and not get.path.startswith("/"):
        yield invalid(path / "path", f"{get.path!r} does not begin with '/'", "Begin with '/'.")
    if get.scheme not in ("", "HTTP", "HTTPS"):
        yield invalid(path / "scheme", f"unsupported scheme {get.scheme!r}", "Use HTTP or HTTPS.")
    for at, header in enumerate(get.http_headers):
        where = path.child("httpHeaders", at)
        if not _HEADER.match(header.name):
            yield invalid(where / "name", f"{header.name!r} is not a header's name", "Use letters, digits, '-', '_'.")
        if any(ord(character) < 32 for character in header.value):
            yield invalid(where / "value", "contains control characters", "Remove them.")


def _port(port: int | str, path: FieldPath) -> Iterator[Problem]:
    if isinstance(port, str):
        yield invalid(path, f"{port!r} is not a number", "A group's ports have numbers here.")
    else:
        yield from port_problems(port, path)
