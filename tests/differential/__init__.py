"""The simulator against real Envoy: random meshes, random calls, and what both say of them.

`topology` is what stands still: workloads, their addresses, services. `meshes` makes the policies around it, `calls`
the requests that come near their edges. `proxies` runs the Envoys, `standing` has compiled resources stand on the
loopback, `wire` makes the calls and `logs` tells them by what the Envoys logged. `agreement` compares with
`fairlead.simulate`, `shrinking` makes what disagrees small, `cases` keeps it.
"""
