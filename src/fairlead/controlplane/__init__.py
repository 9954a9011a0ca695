"""Composition root of `fairlead serve`: store, API, compiler, xDS and CA in one process.

Decides nothing: it wires pure parts to sockets, clocks and threads.
"""
