"""Composition root of the agent: beside a workload it holds the key, supervises Envoy and relays xDS.

Private keys stay in this process and in 0600 files of its directory.
"""
