"""JSON responses, and those that carry a refusal."""

from __future__ import annotations

import msgspec
from starlette.responses import Response

from fairlead.apiserver.refusal import Refusal


class JSON(Response):
    """A JSON response."""

    media_type = "application/json"

    def render(self, content: object) -> bytes:
        """The bytes of a document (bytes are taken as they are)."""
        return content if isinstance(content, bytes) else msgspec.json.encode(content)


def refused(refusal: Refusal) -> JSON:
    """The response that carries a refusal."""
    headers = {"WWW-Authenticate": "Bearer"} if refusal.code == 401 else None
    return JSON(refusal.status(), refusal.code, headers=headers)
