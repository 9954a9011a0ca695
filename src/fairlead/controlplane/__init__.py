"""Composition root of `fairlead serve`: store, API, compiler, xDS and CA in one process.

Decides nothing: it wires pure parts to sockets, clocks and threads.

Long questions are answered in copies of the process (`aside`), so gRPC's own transport, whose threads do not survive
that, must not be used here: all ports are `xds.port`'s.
"""
