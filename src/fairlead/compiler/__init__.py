"""The rule graph: from objects and facts to the Envoy resources of a view.

Pure: no clock, no randomness, no I/O, the same bytes every time. The compiler loads the kinds and knows none of them.
"""
