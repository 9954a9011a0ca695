"""What a code means: the one source of `fairlead explain-code` and of the pages in docs/codes."""

from __future__ import annotations

import msgspec

from fairlead.model.diagnostic import Severity

ERROR, WARNING, INFO = Severity.ERROR, Severity.WARNING, Severity.INFO


class Code(msgspec.Struct, frozen=True):
    """A code of findings: `title` a few words, `meaning` what is the case, `remedy` what to do.

    `traffic`: the finding claims that requests go wrong, so that it is an error only with a witness. `instead` is the
    code under which Fairlead says it; `absent` is why it cannot be the case here. Both mean that it is never reported.
    """

    code: str
    title: str
    severity: Severity
    meaning: str
    remedy: str = ""
    traffic: bool = False
    instead: str = ""
    absent: str = ""
