"""The spec of an Ingress: every field of Kubernetes' `networking.k8s.io/v1`."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from fairlead.model.object import Spec

_WHOLE_LIST = {"x-kubernetes-list-type": "atomic"}


class ServiceBackendPort(Spec, frozen=True):
    """A port of a Service: its number or its name."""

    number: Annotated[int, Meta(description="The port's number.")] = 0
    name: Annotated[str, Meta(description="The port's name.")] = ""


class ServiceBackend(Spec, frozen=True):
    """A Service of the Ingress's own namespace."""

    name: Annotated[str, Meta(description="Name of the Service.")] = ""
    port: Annotated[ServiceBackendPort, Meta(description="The port that clients call.")] = ServiceBackendPort()


class ResourceBackend(Spec, frozen=True):
    """Another object of the Ingress's own namespace."""

    api_group: Annotated[str | None, Meta(description="Its API group.")] = None
    kind: Annotated[str, Meta(description="Its kind.")] = ""
    name: Annotated[str, Meta(description="Its name.")] = ""


class Backend(Spec, frozen=True):
    """Where requests go: one of the two."""

    service: Annotated[ServiceBackend | None, Meta(description="A Service.")] = None
    resource: Annotated[ResourceBackend | None, Meta(description="Another object; not served.")] = None


class Path(Spec, frozen=True):
    """The requests of a path, and where they go."""

    backend: Annotated[Backend, Meta(description="Where requests go.")] = Backend()
    path: Annotated[str, Meta(description="The path, or its beginning.")] = ""
    path_type: Annotated[
        Literal["Exact", "Prefix", "ImplementationSpecific"] | None,
        Meta(
            description="Exact: the whole path. Prefix: whole segments at its beginning. ImplementationSpecific: as "
            "Exact, and as Prefix where the path ends with `/*` or `.*`."
        ),
    ] = None


class HttpRules(Spec, frozen=True):
    """The paths of a host."""

    paths: Annotated[tuple[Path, ...], Meta(description="Paths.", extra_json_schema=_WHOLE_LIST)] = ()


class Rule(Spec, frozen=True):
    """The paths of a host."""

    host: Annotated[str, Meta(description="A host name, `*.domain` for its subdomains; empty: every host.")] = ""
    http: Annotated[HttpRules | None, Meta(description="Its paths.")] = None


class Tls(Spec, frozen=True):
    """The certificate of some hosts."""

    hosts: Annotated[
        tuple[str, ...], Meta(description="Hosts of the certificate; all if none.", extra_json_schema=_WHOLE_LIST)
    ] = ()
    secret_name: Annotated[str, Meta(description="The Secret with it, in the namespace of the gateway.")] = ""


class IngressSpec(Spec, frozen=True):
    """Rules for requests that come into the mesh."""

    ingress_class_name: Annotated[str | None, Meta(description="The IngressClass that says who serves it.")] = None
    default_backend: Annotated[
        Backend | None, Meta(description="Where requests go that no rule takes; Istio does not act on it.")
    ] = None
    tls: Annotated[tuple[Tls, ...], Meta(description="Certificates of hosts.", extra_json_schema=_WHOLE_LIST)] = ()
    rules: Annotated[tuple[Rule, ...], Meta(description="Hosts and their paths.", extra_json_schema=_WHOLE_LIST)] = ()
