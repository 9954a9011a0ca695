"""Delivery of resources to proxies: the ADS session machine without I/O, and its gRPC shell.

Knows no kinds and builds no resources.
"""
