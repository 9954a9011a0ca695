"""Istio-named metrics of a proxy: what Envoy is told to count, and the page that shows it.

Pure text and values; sockets belong to the agent.
"""
