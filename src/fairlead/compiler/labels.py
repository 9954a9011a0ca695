"""Which labels of proxies matter: those for which some object asks (`ir.selecting`)."""

from __future__ import annotations

from fairlead.inc import Reader, rule
from fairlead.ir.filters import Pairs
from fairlead.ir.selecting import FILTERING, SELECTING, Label


@rule
def is_asked_for(r: Reader, label: Label) -> bool:
    """Whether some object asks for proxies with this label."""
    return any(r.has(index, label) for index in SELECTING)


@rule
def is_filtered_by(r: Reader, label: Label) -> bool:
    """Whether some object that makes filters asks for proxies with this label."""
    return any(r.has(index, label) for index in FILTERING)


def filter_labels(r: Reader, labels: Pairs) -> Pairs:
    """Those labels on which filters may depend."""
    return tuple(pair for pair in labels if is_filtered_by(r, pair))
