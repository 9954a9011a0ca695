"""All codes of the product, Istio's (IST) and our own (FL), with their meaning."""

from __future__ import annotations

from types import MappingProxyType

from fairlead.analyze.codes.code import Code
from fairlead.analyze.codes.fairlead import OWN
from fairlead.analyze.codes.istio_config import CONFIG
from fairlead.analyze.codes.istio_platform import PLATFORM
from fairlead.model.diagnostic import Severity

CODES = MappingProxyType({one.code: one for one in sorted((*CONFIG, *PLATFORM, *OWN), key=lambda one: one.code)})
"""Every code, by its name, in order."""

__all__ = ["CODES", "Code", "severity_of"]


def severity_of(code: str) -> Severity:
    """The severity with which an analyzer's finding begins; raises KeyError for a code that nobody has described."""
    return CODES[code].severity
