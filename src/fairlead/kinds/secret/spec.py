"""The fields of a Secret."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from fairlead.model.object import Spec


class SecretSpec(Spec, frozen=True):
    """A Secret's fields beside its metadata."""

    type: Annotated[
        str, Meta(description="Says what the data is for; kubernetes.io/tls needs tls.crt and tls.key.")
    ] = "Opaque"
    data: Annotated[dict[str, str], Meta(description="Values in base64, by key.")] = {}
    string_data: Annotated[
        dict[str, str], Meta(description="Values as plain text; the server moves them into data, where they win.")
    ] = {}
    immutable: Annotated[bool | None, Meta(description="If true, data can never be changed again.")] = None
