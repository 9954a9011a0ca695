"""Kubernetes' Ingress: rules for requests at the mesh's edge, and the classes that say whose they are.

What they become (servers of gateways, and rule sets) depends on the mesh's settings and on other Ingresses of a host,
so the compiler makes it (`fairlead.compiler.ingresses`); these facts are what the objects say.
"""

from __future__ import annotations

import msgspec

from fairlead.inc import Table
from fairlead.ir.route import StringMatch
from fairlead.model.diagnostic import Origin
from fairlead.model.ref import NamespacedName

CONTROLLER = "istio.io/ingress-controller"
"""`spec.controller` of the IngressClasses that the mesh serves (Istio's own name, so that objects stay as they are)."""


SERVICE = "istio-ingressgateway"
"""The Service of the gateways that serve Ingresses, where the mesh's settings name no other."""
_LABEL = "ingressgateway"


def gateway_label(selector: str, service: str) -> str:
    """The label `istio` of the gateways that serve Ingresses, by ingressSelector and ingressService ("": not said).

    Istio's `getIngressGatewaySelector`: the name of its own default service stands for its own default label.
    """
    return selector or ("" if service == SERVICE else service) or _LABEL


class IngressPath(msgspec.Struct, frozen=True):
    """Requests of a path (`uri` None: of every path) to a port of a host, by number or by name."""

    origin: Origin
    uri: StringMatch | None
    host: str
    port: int = 0
    port_name: str = ""


class IngressRule(msgspec.Struct, frozen=True):
    """The paths of a host; `*` for all hosts."""

    host: str
    paths: tuple[IngressPath, ...]


class IngressTls(msgspec.Struct, frozen=True):
    """The Secret with the certificate of some hosts, which lies in the namespace of the gateway."""

    origin: Origin
    hosts: tuple[str, ...]
    secret: str
    position: int
    """Where it stands in the object's list."""


class Ingress(msgspec.Struct, frozen=True):
    """What one object says. `annotated` is the class that its annotation names; None where there is no annotation."""

    key: NamespacedName
    origin: Origin
    rules: tuple[IngressRule, ...] = ()
    tls: tuple[IngressTls, ...] = ()
    class_name: str = ""
    annotated: str | None = None
    created: str = ""


class IngressClass(msgspec.Struct, frozen=True):
    """Which controller serves the Ingresses of a class. `default`: and those that name no class."""

    name: str
    controller: str
    default: bool = False
    created: str = ""


INGRESSES: Table[NamespacedName, Ingress] = Table("ingresses", stage=1)
INGRESSES_BY_HOST = INGRESSES.index("host", lambda key, one: {rule.host for rule in one.rules})
"""Ingresses under each host of their rules."""
INGRESSES_ALL = INGRESSES.index("all", lambda key, one: [""])
"""All of them, under ""."""
INGRESS_CLASSES: Table[str, IngressClass] = Table("ingress-classes", stage=1)
INGRESS_CLASSES_DEFAULT = INGRESS_CLASSES.index("default", lambda key, one: [""] if one.default else [])
"""Classes of Ingresses that name none, under ""."""
