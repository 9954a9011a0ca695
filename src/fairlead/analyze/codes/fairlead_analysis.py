"""The codes of Fairlead's own analyzers: what Istio's miss."""

from fairlead.analyze.codes.code import Code

ANALYSIS: tuple[Code, ...] = ()
