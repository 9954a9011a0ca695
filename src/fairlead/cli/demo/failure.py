"""The demonstration's error."""

from __future__ import annotations


class DemoError(Exception):
    """Something did not come about; the text says what, where, and what to do."""
