"""The fields of a ServiceAccount."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from fairlead.model.object import Spec

_BY_NAME = {
    "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": ["name"],
    "x-kubernetes-patch-merge-key": "name",
    "x-kubernetes-patch-strategy": "merge",
}


class SecretReference(Spec, frozen=True):
    """Names a Secret of the same namespace."""

    name: str = ""
    kind: str = ""
    namespace: str = ""
    uid: str = ""
    api_version: str = ""
    resource_version: str = ""
    field_path: str = ""


class PullSecret(Spec, frozen=True):
    """Names a Secret with credentials of an image registry."""

    name: str = ""


class ServiceAccountSpec(Spec, frozen=True):
    """A ServiceAccount's fields beside its metadata."""

    secrets: Annotated[
        tuple[SecretReference, ...],
        Meta(description="Secrets that workloads of this account may use.", extra_json_schema=_BY_NAME),
    ] = ()
    image_pull_secrets: Annotated[
        tuple[PullSecret, ...], Meta(description="Taken for compatibility; Fairlead pulls no images.")
    ] = ()
    automount_service_account_token: Annotated[
        bool | None, Meta(description="Taken for compatibility; workloads join with a join token.")
    ] = None
