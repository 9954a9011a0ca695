"""Kubernetes-style REST over the store, with admission by the kinds.

Knows no particular kind; what differs between kinds comes from their descriptors.
"""
