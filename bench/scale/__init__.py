"""The scale benchmark: a real control plane, and a fleet of simulated proxies in processes of their own.

`python -m bench.scale --services 1000 --endpoints 10 --namespaces 50 --proxies 1000` prints a table and writes JSON.
Proxies are simulated in what they do with a configuration, not in how they get it: each has a gRPC connection with
mutual TLS and a certificate of its service account, speaks delta ADS, subscribes as Envoy does, and acknowledges what
it has read.
"""
