"""Where an Envoy setting comes from: objects, fields and places; and what depends on an object.

Values in, values out: a compiled mesh is asked, and left as it was. Knows no particular kind and guesses nothing: reads
that the engine recorded name the objects, and compiling with a field left out names the field.
"""

from fairlead.provenance.trace import Study, Traced, study, trace

__all__ = ["Study", "Traced", "study", "trace"]
