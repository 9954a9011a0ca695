"""How a client says who asks and why: headers of its requests, kept with the commit that comes of them.

Both are percent-encoded UTF-8. They are what the client claims: the author of a commit is who was authenticated.
"""

from __future__ import annotations

from urllib.parse import quote, unquote

MESSAGE_HEADER = "Fairlead-Message"
COMMAND_HEADER = "Fairlead-Command"
LONGEST = 2000
"""Characters that are kept of each."""


def encoded(text: str) -> str:
    """For a header."""
    return quote(text[:LONGEST], safe=" /:=,.@-_")


def decoded(text: str) -> str:
    """From a header: one line of printable characters."""
    return "".join(one if one.isprintable() else " " for one in unquote(text)).strip()[:LONGEST]
