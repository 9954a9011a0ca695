"""Versioned objects with history and watch; SQLite by default.

Knows nothing of particular kinds: it keeps JSON documents. Every acknowledged write is on disk.
"""
