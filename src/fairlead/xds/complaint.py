"""What Envoy says of a resource that it refuses, in the words that matter.

For a value out of bounds Envoy writes the whole message out, over hundreds of lines, and gives the reason after it (or
before, as it happens). The message is known; whoever looks for what is wrong needs the reason.
"""

from __future__ import annotations

import re

MAX_MESSAGE = 4096
"""Characters that are kept of one complaint."""
_CUT_OFF = "Envoy's answer ends before its reason; the proxy's log has it (`fairlead logs NAME --proxy`)"
_WRITTEN_OUT = re.compile(r"goo\.gle/debug\w*\s.*?(?=\n[^\S\n]*: |\Z)", re.DOTALL)
"""A message as text, with the word that stands before it so that nobody takes it for a format to be read."""


def reason(message: str) -> str:
    """Envoy's complaint on one line, without messages that are written out in it."""
    parts = [" ".join(part.split()).strip(": ") for part in _WRITTEN_OUT.split(message)]
    return (": ".join(filter(None, parts)) or (_CUT_OFF if message else ""))[:MAX_MESSAGE]
