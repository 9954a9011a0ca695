"""What stands for certificates, keys and key sets in the files of faults: real ones, made for a run."""

from __future__ import annotations

import datetime
import json
from functools import cache
from pathlib import Path

from tests.e2e.apps import Certificates
from tests.e2e.faults.case import ISSUER
from tests.e2e.issuers import Issuer


class Keys:
    """An authority for gateways' certificates and an issuer of tokens."""

    def __init__(self, directory: Path) -> None:
        self.certificates = Certificates(directory)
        self.issuer = Issuer(ISSUER)
        self._issued = cache(self._issue)

    def made(self, kind: str, argument: str) -> str:
        """For `case.filled`: `CERTIFICATE(NAME[ until DATE])`, the `KEY` of the same words, `JWKS(...)`."""
        if kind == "JWKS":
            return json.dumps(self.issuer.jwks)
        return self._issued(argument)[0 if kind == "CERTIFICATE" else 1]

    def _issue(self, argument: str) -> tuple[str, str]:
        name, _, until = argument.partition(" until ")
        ends = datetime.datetime.fromisoformat(until).replace(tzinfo=datetime.UTC) if until else None
        return self.certificates.issue(name, ends=ends)
