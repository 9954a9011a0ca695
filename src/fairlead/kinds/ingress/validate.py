"""What Kubernetes' validation says of an Ingress (`pkg/apis/networking/validation`), and what Istio does not serve."""

from __future__ import annotations

import re
from collections.abc import Iterator

from fairlead.kinds.ingress.lower import CLASS
from fairlead.kinds.ingress.spec import Backend, IngressSpec, Path, ServiceBackend
from fairlead.model.diagnostic import Problem
from fairlead.model.findings import doubtful, invalid, no_effect, required
from fairlead.model.names import is_dns_subdomain
from fairlead.model.object import Object
from fairlead.model.path import METADATA, SPEC, FieldPath
from fairlead.model.syntax import is_ip, port_problems

_SERVICE = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
_PORT_NAME = re.compile(r"(?=.*[a-z])[a-z0-9](?:-?[a-z0-9])*")
_LONGEST_PORT_NAME = 15
_NOT_IN_PATH = ("//", "/./", "/../", "%2f", "%2F")
_NOT_AT_END = ("/..", "/.")
_NO_RESOURCE = "Istio does not act on it either: name a service."


def validate(obj: Object[IngressSpec]) -> Iterator[Problem]:
    """Errors and warnings of an Ingress."""
    spec = obj.spec
    if not spec.rules and spec.default_backend is None:
        yield invalid(SPEC, "either `defaultBackend` or `rules` must be specified", "Give rules.")
    if spec.default_backend is not None:
        path = SPEC / "defaultBackend"
        yield from _backend(path, spec.default_backend)
        remedy = "Istio does not act on it either: write a rule without host, for path / of type Prefix."
        yield no_effect(path, remedy)
    for at, rule in enumerate(spec.rules):
        path = SPEC.child("rules", at)
        if rule.host:
            yield from _host(path / "host", rule.host)
        if rule.http is None:
            yield doubtful(path, "a rule without http.paths does nothing", "Give it paths, or remove it.")
        elif not rule.http.paths:
            yield required(path.child("http", "paths"), "a rule needs paths")
        for position, one in enumerate(rule.http.paths if rule.http is not None else ()):
            yield from _path(path.child("http", "paths", position), one)
    yield from _tls(spec)
    yield from _class(obj)


def _host(path: FieldPath, host: str) -> Iterator[Problem]:
    if is_ip(host):
        yield invalid(path, "must be a DNS name, not an IP address", "Leave host out: the rule is for every host then.")
    elif not is_dns_subdomain(host.removeprefix("*.")):
        wild = "A wildcard is the whole first label: *.example.com." if "*" in host else "Use lower-case letters."
        yield invalid(path, f"{host!r} is not a host name", wild)


def _path(path: FieldPath, one: Path) -> Iterator[Problem]:
    if one.path_type is None:
        yield required(path / "pathType", "pathType must be specified", "Exact, Prefix or ImplementationSpecific.")
    elif one.path_type == "ImplementationSpecific":
        if one.path and not one.path.startswith("/"):
            yield invalid(path / "path", f"{one.path!r} must be an absolute path", "Begin it with /.")
    else:
        if not one.path.startswith("/"):
            yield invalid(path / "path", f"{one.path!r} must be an absolute path", "Begin it with /.")
        for part in _NOT_IN_PATH:
            if part in one.path:
                yield invalid(path / "path", f"must not contain {part!r}")
        for end in _NOT_AT_END:
            if one.path.endswith(end):
                yield invalid(path / "path", f"cannot end with {end!r}")
    yield from _backend(path / "backend", one.backend)


def _backend(path: FieldPath, backend: Backend) -> Iterator[Problem]:
    if backend.service is not None and backend.resource is not None:
        yield invalid(path, "cannot set both resource and service backends", "Leave the service.")
    elif backend.service is not None:
        yield from _service(path / "service", backend.service)
    elif backend.resource is not None:
        for name, value in (("kind", backend.resource.kind), ("name", backend.resource.name)):
            if not value:
                yield required(path.child("resource", name), f"a resource backend needs {name}")
        yield no_effect(path / "resource", _NO_RESOURCE)
    else:
        yield invalid(path, "resource or service backend is required", "Name a service and its port.")


def _service(path: FieldPath, to: ServiceBackend) -> Iterator[Problem]:
    if not to.name:
        yield required(path / "name", "the backend needs the name of a Service")
    elif not _SERVICE.fullmatch(to.name):
        yield invalid(path / "name", f"{to.name!r} is not the name of a Service")
    where = path / "port"
    if to.port.name and to.port.number:
        yield invalid(where, "cannot set both port name & port number", "Leave one of them.")
    elif to.port.name:
        if len(to.port.name) > _LONGEST_PORT_NAME or not _PORT_NAME.fullmatch(to.port.name):
            yield invalid(where / "name", f"{to.port.name!r} is not a port name")
    elif to.port.number:
        yield from port_problems(to.port.number, where / "number")
    else:
        yield required(where, "port name or number is required")


def _tls(spec: IngressSpec) -> Iterator[Problem]:
    for at, one in enumerate(spec.tls):
        path = SPEC.child("tls", at)
        for position, host in enumerate(one.hosts):
            if not is_dns_subdomain(host.removeprefix("*.")):
                yield invalid(path.child("hosts", position), f"{host!r} is not a host name")
        if one.secret_name and not is_dns_subdomain(one.secret_name):
            yield invalid(path / "secretName", f"{one.secret_name!r} is not the name of a Secret")
        if not one.secret_name:
            yield doubtful(path, "without secretName there is no certificate: TLS is not served", "Name a Secret.")


def _class(obj: Object[IngressSpec]) -> Iterator[Problem]:
    name, annotated = obj.spec.ingress_class_name, obj.meta.annotations.get(CLASS)
    if name is not None and not is_dns_subdomain(name):
        yield invalid(SPEC / "ingressClassName", f"{name!r} is not the name of an IngressClass")
    if name is not None and annotated is not None and annotated != name:
        path = METADATA.child("annotations", CLASS)
        yield invalid(path, "must match `ingressClassName` when both are specified", "Remove the annotation.")
