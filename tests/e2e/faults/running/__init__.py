"""Faults of a running mesh: of hosts, processes and edits, each a description here and what causes it in `causes`."""
