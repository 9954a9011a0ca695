"""What a change does to proxies, in words: two sets of Envoy resources compared by meaning, with what is dangerous.

Values in, values out. Compares what the compiler made, never texts of objects, and says nothing of what stays equal.
"""

from fairlead.effect.behind import attributed, objects_of
from fairlead.effect.change import DANGERS, Change, Field
from fairlead.effect.drains import counted, draining
from fairlead.effect.effects import Effect, effects
from fairlead.effect.report import lines, origin, placed, report, told
from fairlead.effect.seen import Caller, Known

__all__ = [
    "DANGERS",
    "Caller",
    "Change",
    "Effect",
    "Field",
    "Known",
    "attributed",
    "counted",
    "draining",
    "effects",
    "lines",
    "objects_of",
    "origin",
    "placed",
    "report",
    "told",
]
