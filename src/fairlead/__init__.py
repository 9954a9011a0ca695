"""Fairlead: a service mesh whose operations explain themselves."""

__version__ = "0.1.0"
