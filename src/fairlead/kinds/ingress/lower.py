"""Ingress to its fact (Istio `pilot/pkg/config/kube/ingress`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fairlead.inc import Reader
from fairlead.ir import ingress as ir
from fairlead.ir.kind import Emission
from fairlead.ir.route import StringMatch
from fairlead.ir.visibility import DOMAIN_SUFFIX
from fairlead.kinds.ingress import spec as api
from fairlead.model.diagnostic import Origin
from fairlead.model.object import Object
from fairlead.model.path import SPEC
from fairlead.model.ref import NamespacedName

CLASS = "kubernetes.io/ingress.class"
"""The annotation that named a class before there was `ingressClassName`; it still goes before it."""
_EVERYTHING = ("", "*", "/*", ".*")


def lower(_: Reader, obj: Object[api.IngressSpec]) -> Iterable[Emission]:
    """One `Ingress`: without rules that have no paths, certificates without a Secret, backends that are no Service."""
    key = NamespacedName(obj.ref.namespace, obj.ref.name)
    fact = ir.Ingress(
        key=key,
        origin=Origin(obj.ref),
        rules=tuple(_rules(obj)),
        tls=tuple(_tls(obj)),
        class_name=obj.spec.ingress_class_name or "",
        annotated=obj.meta.annotations.get(CLASS),
        created=obj.meta.creation_timestamp or "",
    )
    yield ir.INGRESSES, key, fact


def uri(path: api.Path) -> StringMatch | None:
    """Which paths are meant; None for all. A path without a type, or of the mesh's own, may end with a wildcard."""
    if path.path_type == "Exact":
        return StringMatch("exact", path.path)
    if path.path_type == "Prefix":
        return StringMatch("prefix", path.path)
    if path.path in _EVERYTHING:
        return None
    for suffix in (".*", "/*"):
        if path.path.endswith(suffix):
            return StringMatch("prefix", path.path.removesuffix(suffix))
    return StringMatch("exact", path.path)


def _rules(obj: Object[api.IngressSpec]) -> Iterator[ir.IngressRule]:
    for at, rule in enumerate(obj.spec.rules):
        if rule.http is None:
            continue
        paths: list[ir.IngressPath] = []
        for position, path in enumerate(rule.http.paths):
            to = path.backend.service
            if to is None:
                continue
            origin = Origin(obj.ref, SPEC.child("rules", at, "http", "paths", position))
            host = f"{to.name}.{obj.ref.namespace}.svc.{DOMAIN_SUFFIX}"
            paths.append(ir.IngressPath(origin, uri(path), host, to.port.number, to.port.name))
        yield ir.IngressRule(rule.host or "*", tuple(paths))


def _tls(obj: Object[api.IngressSpec]) -> Iterator[ir.IngressTls]:
    for at, one in enumerate(obj.spec.tls):
        if one.secret_name:
            yield ir.IngressTls(Origin(obj.ref, SPEC.child("tls", at)), one.hosts or ("*",), one.secret_name, at)
