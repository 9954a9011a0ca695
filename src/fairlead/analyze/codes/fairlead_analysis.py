"""The codes of Fairlead's own analyzers: what Istio's miss."""

from __future__ import annotations

from fairlead.analyze.codes.code import ERROR, INFO, Code

ANALYSIS: tuple[Code, ...] = (
    Code(
        "FL3790",
        "UnusedSuppression",
        INFO,
        "A suppression hides nothing: what it was for has been corrected, or its code or object is misspelt.",
        "Remove it.",
    ),
    Code("FL3791", "WrongSuppressions", ERROR, "A file of suppressions cannot be read.", "Correct it."),
)
