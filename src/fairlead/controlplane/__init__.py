"""Composition root of `fairlead serve`: store, API, compiler, xDS and CA in one process.

Decides nothing: it wires pure parts to sockets, clocks and threads.

Long questions are answered in copies of the process (`aside`). gRPC would start threads of its own in each copy, unless
it is told before it begins that copies do not speak gRPC.
"""

import os

os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
