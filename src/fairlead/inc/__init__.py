"""The incremental engine: tables, indexes, derivations and memoised rules with recorded reads.

Role: everything that Fairlead compiles is a pure function that reads its inputs through a `Reader`. The engine
remembers what each evaluation read, re-runs only what a change can have touched, and stops a change where a
recomputed value equals the old one.

Nothing in here knows of Kubernetes, Istio or Envoy, performs I/O, reads a clock or draws randomness; the package
uses the standard library only. One thread owns an `Engine`.
"""

from fairlead.inc.cells import CycleError, EngineError, Failure
from fairlead.inc.engine import Conflict, Engine
from fairlead.inc.reader import Reader
from fairlead.inc.schema import Derivation, Index, Rule, Table, rule

__all__ = [
    "Conflict",
    "CycleError",
    "Derivation",
    "Engine",
    "EngineError",
    "Failure",
    "Index",
    "Reader",
    "Rule",
    "Table",
    "rule",
]
