"""Composition root of the host supervisor: runs Processes, captures their traffic, registers their endpoints."""
