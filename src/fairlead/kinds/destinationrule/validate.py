"""What Istio's `ValidateDestinationRule` would say."""

from __future__ import annotations

from collections.abc import Iterator

from fairlead.kinds.destinationrule.spec import DestinationRuleSpec
from fairlead.model.diagnostic import Problem
from fairlead.model.object import Object


def validate(obj: Object[DestinationRuleSpec]) -> Iterator[Problem]:
    """Errors and warnings of a DestinationRule."""
    yield from ()
