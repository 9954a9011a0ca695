"""Findings about objects and about what they compile to, with Istio's codes and our own.

Values in, values out: documents and a compiled mesh are looked at and nothing is changed. A finding that claims that
traffic misbehaves has a witness that `simulate` confirms. One analyzer does not call another.
"""
