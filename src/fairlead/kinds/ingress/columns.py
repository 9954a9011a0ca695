"""What `get` prints of an Ingress, as kubectl does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from fairlead.ir.kind import Column

_NONE = "<none>"


def _mapping(value: object) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


def _listed(value: object) -> Iterator[Mapping[str, Any]]:
    for one in cast("list[object]", value) if isinstance(value, list) else []:
        yield _mapping(one)


def _class(document: Mapping[str, Any]) -> str:
    said = _mapping(document.get("spec")).get("ingressClassName")
    annotated = _mapping(_mapping(document.get("metadata")).get("annotations")).get("kubernetes.io/ingress.class")
    return str(said or annotated or _NONE)


def _hosts(document: Mapping[str, Any]) -> str:
    hosts = [str(rule["host"]) for rule in _listed(_mapping(document.get("spec")).get("rules")) if rule.get("host")]
    more = f" + {len(hosts) - 3} more..." if len(hosts) > 3 else ""
    return (",".join(hosts[:3]) + more) or "*"


def _address(document: Mapping[str, Any]) -> str:
    balancer = _mapping(_mapping(document.get("status")).get("loadBalancer"))
    return ",".join(str(one.get("ip") or one.get("hostname") or "") for one in _listed(balancer.get("ingress")))


def _ports(document: Mapping[str, Any]) -> str:
    return "80, 443" if _mapping(document.get("spec")).get("tls") else "80"


def _created(document: Mapping[str, Any]) -> object:
    return _mapping(document.get("metadata")).get("creationTimestamp")


COLUMNS = (
    Column("Class", _class, description="The class that says who serves it."),
    Column("Hosts", _hosts, description="Hosts of its rules."),
    Column("Address", _address, description="Where clients reach it."),
    Column("Ports", _ports, description="Ports at the gateway."),
    Column("Age", _created, type="date", description="When this object was created."),
)
