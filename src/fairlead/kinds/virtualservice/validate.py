"""What Istio's `ValidateVirtualService` would say."""

from __future__ import annotations

from collections.abc import Iterator

from fairlead.kinds.virtualservice.spec import VirtualServiceSpec
from fairlead.model.diagnostic import Problem
from fairlead.model.object import Object


def validate(obj: Object[VirtualServiceSpec]) -> Iterator[Problem]:
    """Errors and warnings of a VirtualService."""
    yield from ()
