"""Seeded faults: what a user sees, the one command that names object and field, and the fix.

docs/troubleshooting is made of them (tools/troubledocs.py).
"""
