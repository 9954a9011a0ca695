"""The fixture of this directory; what it runs stands in `running_api` (a name of its own, to be imported by)."""

from __future__ import annotations

from running_api import api

__all__ = ["api"]
