"""API kinds, one folder each: everything that Fairlead knows about a kind stands in its folder.

A folder exports `KIND` (see `fairlead.ir.kind`) and is found by scanning; nothing else names it. Kinds do not
import each other: they meet through the facts of `fairlead.ir`. Nothing in here performs I/O.
"""
