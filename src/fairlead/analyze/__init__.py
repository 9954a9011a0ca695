"""Findings about objects and about what they compile to, with Istio's codes and our own.

Values in, values out: documents and a compiled mesh are looked at and nothing is changed. A finding that claims that
traffic misbehaves is an error only with a witness: a request that `simulate` confirms to fail. One analyzer does not
call another; they stand in modules of `families`, which are found by scanning.
"""
