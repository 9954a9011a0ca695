"""The spec of an IngressClass: every field of Kubernetes' `networking.k8s.io/v1`."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from fairlead.model.object import Spec


class Parameters(Spec, frozen=True):
    """An object with settings of the controller."""

    api_group: Annotated[str | None, Meta(description="Its API group.")] = None
    kind: Annotated[str, Meta(description="Its kind.")] = ""
    name: Annotated[str, Meta(description="Its name.")] = ""
    scope: Annotated[str | None, Meta(description="Cluster or Namespace.")] = None
    namespace: Annotated[str | None, Meta(description="Its namespace, for scope Namespace.")] = None


class IngressClassSpec(Spec, frozen=True):
    """Who serves the Ingresses of a class."""

    controller: Annotated[
        str, Meta(description="The controller; `istio.io/ingress-controller` is the mesh. It cannot change.")
    ] = ""
    parameters: Annotated[Parameters | None, Meta(description="Kept, without effect.")] = None
