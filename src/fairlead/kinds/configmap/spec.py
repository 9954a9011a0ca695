"""The fields of a ConfigMap."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from fairlead.model.object import Spec


class ConfigMapSpec(Spec, frozen=True):
    """A ConfigMap's fields beside its metadata."""

    data: Annotated[dict[str, str], Meta(description="Texts, by key.")] = {}
    binary_data: Annotated[dict[str, str], Meta(description="Bytes in base64, by key; no key may stand in both.")] = {}
    immutable: Annotated[bool | None, Meta(description="If true, the data can never be changed again.")] = None
