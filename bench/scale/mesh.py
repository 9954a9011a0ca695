"""The mesh that is measured: services, endpoints, and the documents of each change."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

Json = dict[str, Any]
NETWORKING = "networking.istio.io/v1"
SECURITY = "security.istio.io/v1"


class Size(NamedTuple):
    """How large the mesh is."""

    services: int
    endpoints: int
    namespaces: int

    def namespace(self, service: int) -> str:
        """The namespace of a service."""
        return f"ns{service % self.namespaces}"

    def host(self, service: int) -> str:
        """The full name of a service."""
        return f"s{service}.{self.namespace(service)}.svc.cluster.local"


def address(service: int, endpoint: int) -> str:
    """The address of an endpoint (256 services share a /16, so up to 250 endpoints and 60,000 services)."""
    return f"10.{service // 250 % 250}.{service % 250}.{endpoint + 1}"


def document(api_version: str, kind: str, namespace: str, name: str, spec: Json) -> Json:
    """An object."""
    meta = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": api_version, "kind": kind, "metadata": meta, "spec": spec}


def service(size: Size, index: int, name: str = "") -> Json:
    """A Service with one HTTP port."""
    called = name or f"s{index}"
    return document(
        "v1",
        "Service",
        size.namespace(index),
        called,
        {
            "clusterIP": f"10.{96 + index // 62500}.{index // 250 % 250}.{index % 250 + 1}",
            "selector": {"app": called},
            "ports": [{"name": "http", "port": 80, "targetPort": 8080}],
        },
    )


def entry(size: Size, index: int, endpoint: int) -> Json:
    """A WorkloadEntry behind a service."""
    return document(
        NETWORKING,
        "WorkloadEntry",
        size.namespace(index),
        f"s{index}-{endpoint}",
        {"address": address(index, endpoint), "labels": {"app": f"s{index}"}, "serviceAccount": f"s{index}"},
    )


def virtual_service(size: Size, index: int, name: str, mark: str, *, private: bool = False) -> Json:
    """Routes for a service; `mark` is found in the compiled route."""
    spec: Json = {
        "hosts": [size.host(index)],
        "http": [{"name": mark, "timeout": "3s", "route": [{"destination": {"host": size.host(index)}}]}],
    }
    if private:
        spec["exportTo"] = ["."]
    return document(NETWORKING, "VirtualService", size.namespace(index), name, spec)


def destination_rule(size: Size, index: int, name: str, mark: str) -> Json:
    """A traffic policy for a service; `mark` is found in the compiled cluster."""
    spec = {"host": size.host(index), "trafficPolicy": {"tls": {"mode": "SIMPLE", "sni": mark}}}
    return document(NETWORKING, "DestinationRule", size.namespace(index), name, spec)


def authorization(size: Size, index: int, name: str, mark: str) -> Json:
    """A policy for the workloads of a service; `mark` is found in the compiled listener."""
    spec = {
        "selector": {"matchLabels": {"app": f"s{index}"}},
        "action": "DENY",
        "rules": [{"from": [{"source": {"principals": [mark]}}]}],
    }
    return document(SECURITY, "AuthorizationPolicy", size.namespace(index), name, spec)


def documents(size: Size) -> Iterator[Json]:
    """Everything that is there before the first change."""
    for number in range(size.namespaces):
        made = document("v1", "Namespace", "", f"ns{number}", {})
        del made["spec"]
        yield made
    for index in range(size.services):
        yield service(size, index)
        for endpoint in range(size.endpoints):
            yield entry(size, index, endpoint)
