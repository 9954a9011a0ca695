"""What Kubernetes' validation says of an IngressClass (`pkg/apis/networking/validation`)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from fairlead.kinds.ingressclass.spec import IngressClassSpec, Parameters
from fairlead.model.diagnostic import Problem
from fairlead.model.findings import forbidden, invalid, no_effect, required, unsupported
from fairlead.model.names import is_dns_label, is_dns_subdomain
from fairlead.model.object import Object
from fairlead.model.path import SPEC

_LONGEST_CONTROLLER = 250
_PATH = re.compile(r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+")


def validate(obj: Object[IngressClassSpec]) -> Iterator[Problem]:
    """The controller is a domain and a path; parameters have no effect."""
    path, controller = SPEC / "controller", obj.spec.controller
    domain, _, rest = controller.partition("/")
    if not controller:
        yield required(path, "a class needs a controller", "istio.io/ingress-controller is the mesh.")
    elif len(controller) > _LONGEST_CONTROLLER:
        yield invalid(path, f"is longer than {_LONGEST_CONTROLLER} characters")
    elif not is_dns_subdomain(domain) or not _PATH.fullmatch(rest):
        yield invalid(path, f"{controller!r} is not a domain and a path", "Such as istio.io/ingress-controller.")
    if obj.spec.parameters is not None:
        yield from _parameters(obj.spec.parameters)
        yield no_effect(SPEC / "parameters", "There are no such settings: remove it.")


def validate_update(old: Object[IngressClassSpec], new: Object[IngressClassSpec]) -> Iterator[Problem]:
    """The controller stays."""
    if old.spec.controller != new.spec.controller:
        yield forbidden(SPEC / "controller", "field is immutable", "Make another class.")


def _parameters(to: Parameters) -> Iterator[Problem]:
    path = SPEC / "parameters"
    for name, value in (("kind", to.kind), ("name", to.name)):
        if not value:
            yield required(path / name, f"parameters need {name}")
    if to.scope not in (None, "Cluster", "Namespace"):
        yield unsupported(path / "scope", f"{to.scope!r} is not a scope", "Use Cluster or Namespace.")
    if to.scope == "Namespace" and not to.namespace:
        yield required(path / "namespace", "`parameters.scope` is set to 'Namespace'")
    elif to.scope == "Namespace" and to.namespace and not is_dns_label(to.namespace):
        yield invalid(path / "namespace", f"{to.namespace!r} is not a namespace")
    elif to.scope != "Namespace" and to.namespace is not None:
        yield forbidden(path / "namespace", "`parameters.scope` is set to 'Cluster'", "Remove it.")
