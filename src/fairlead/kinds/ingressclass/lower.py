"""IngressClass to its fact."""

from __future__ import annotations

from collections.abc import Iterable

from fairlead.inc import Reader
from fairlead.ir import ingress as ir
from fairlead.ir.kind import Emission
from fairlead.kinds.ingressclass.spec import IngressClassSpec
from fairlead.model.object import Object

DEFAULT = "ingressclass.kubernetes.io/is-default-class"
"""The annotation of the class that Ingresses without one have."""


def lower(_: Reader, obj: Object[IngressClassSpec]) -> Iterable[Emission]:
    """One `IngressClass`."""
    default = obj.meta.annotations.get(DEFAULT) == "true"
    created = obj.meta.creation_timestamp or ""
    yield ir.INGRESS_CLASSES, obj.ref.name, ir.IngressClass(obj.ref.name, obj.spec.controller, default, created)
