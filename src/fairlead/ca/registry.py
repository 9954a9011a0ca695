"""Join tokens that were issued, and those that are revoked. No token is kept: only its id and whom it stands for."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import msgspec

from fairlead.ca.files import write_atomic

FILE = "tokens.json"
MAX_ISSUED = 20_000
_SAVE_SECONDS = 2.0


class IssuedToken(msgspec.Struct, frozen=True):
    """A token by its id (`jti`); times are Unix seconds. `used` counts the certificates that it has fetched."""

    id: str
    namespace: str
    service_account: str
    audience: str
    issued: float
    expires: float
    used: int = 0
    revoked: bool = False


class _Content(msgspec.Struct):
    issued: dict[str, IssuedToken] = {}
    revoked: dict[str, float] = {}
    """Ids, with the time after which they have ended anyway (0: not known)."""
    accounts: dict[str, float] = {}
    """NAMESPACE/ACCOUNT, with the time (Unix seconds): tokens issued before it are refused."""


class TokenRegistry:
    """The registry in `directory`. Revocations are on the disk when the call returns; the list follows in seconds."""

    def __init__(self, directory: Path, clock: Callable[[], datetime]) -> None:
        self._file = directory / FILE
        self._clock = clock
        self._content = self._read()
        self._dirty = False
        self._saved = 0.0

    def issued(self, token: IssuedToken) -> None:
        """A token was made."""
        now = self._now()
        if len(self._content.issued) >= MAX_ISSUED:
            self._forget(now)
        if len(self._content.issued) < MAX_ISSUED:
            self._content.issued[token.id] = token
        self._save_later(now)

    def used(self, token_id: str) -> None:
        """A token has fetched a certificate."""
        known = self._content.issued.get(token_id)
        if known is not None:
            self._content.issued[token_id] = msgspec.structs.replace(known, used=known.used + 1)
            self._save_later(self._now())

    def revoke(self, token_id: str) -> bool:
        """Refuse a token from now on; whether it was in the list (it is refused in any case)."""
        known = self._content.issued.get(token_id)
        self._content.revoked[token_id] = known.expires if known else 0
        self.save()
        return known is not None

    def revoke_account(self, namespace: str, service_account: str) -> int:
        """Refuse every token of a service account that was issued until now; how many in the list still ran."""
        now = self._now()
        self._content.accounts[f"{namespace}/{service_account}"] = now
        self.save()
        mine = (namespace, service_account)
        return sum(one.expires > now for one in self._content.issued.values() if _owner(one) == mine)

    def refusal(self, token_id: str, namespace: str, service_account: str, issued: float) -> str:
        """Why a token is refused, empty if it is not."""
        if token_id in self._content.revoked:
            return f"the token {token_id[:12]} is revoked"
        # A token carries whole seconds: one of the same second as the revocation counts as older.
        before = self._content.accounts.get(f"{namespace}/{service_account}")
        if before is not None and issued <= before:
            return (
                f"the tokens of {namespace}/{service_account} are revoked: make a new one with `fairlead token create`"
            )
        return ""

    def listing(self) -> list[IssuedToken]:
        """The tokens that have not ended, the newest first."""
        self._forget(self._now())
        found = [
            msgspec.structs.replace(one, revoked=bool(self.refusal(one.id, *_owner(one), one.issued)))
            for one in self._content.issued.values()
        ]
        return sorted(found, key=lambda one: (-one.issued, one.id))

    def save(self) -> None:
        """Write the file. Raises OSError."""
        now = self._now()
        self._forget(now)
        write_atomic(self._file, msgspec.json.encode(self._content))
        self._dirty, self._saved = False, now

    def close(self) -> None:
        """Write what is not written yet."""
        if self._dirty:
            self.save()

    def _save_later(self, now: float) -> None:
        self._dirty = True
        if now - self._saved >= _SAVE_SECONDS:
            self.save()

    def _forget(self, now: float) -> None:
        content = self._content
        content.issued = {key: one for key, one in content.issued.items() if one.expires > now}
        content.revoked = {key: end for key, end in content.revoked.items() if not end or end > now}

    def _now(self) -> float:
        return self._clock().timestamp()

    def _read(self) -> _Content:
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=_Content)
        except FileNotFoundError:
            return _Content()
        except (OSError, msgspec.DecodeError) as error:
            # To go on without it would accept tokens that were revoked.
            raise ValueError(f"{self._file} cannot be read: {error}; restore it from a backup") from None


def _owner(token: IssuedToken) -> tuple[str, str]:
    return token.namespace, token.service_account
