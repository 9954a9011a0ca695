"""The fields of a Namespace."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from fairlead.model.object import Spec


class NamespaceSpec(Spec, frozen=True):
    """What must happen before a namespace may go."""

    finalizers: Annotated[
        tuple[str, ...], Meta(description="Taken for compatibility; Fairlead deletes a namespace with its content.")
    ] = ()
