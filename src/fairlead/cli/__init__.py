"""The command line: talks to the API, or compiles offline.

Decides nothing about the mesh: it reads, asks and prints.
"""
