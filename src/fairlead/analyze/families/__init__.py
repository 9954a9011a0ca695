"""The analyzers, a module for each family; each exports `ANALYZERS`, a tuple, and is found by scanning."""
