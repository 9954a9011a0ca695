"""Replacing the root without an interruption: a state machine over the authority's files.

| phase | trusted | issuer | goes on when |
|---|---|---|---|
| stable | the root | the present | asked to |
| trusting | both roots | the present | every proxy trusts both |
| issuing | both roots | the next | every proxy has a certificate of the next |
| removing | the next root | the next | every proxy trusts the next only; then the next is the present: stable |

Each step can be undone. Whether proxies are far enough is for the caller to ask (`controlplane.fleet`): this module
keeps files. `rotation.json` is the truth and is written last in every step; `root-cert.pem` follows from it and is
written again at a start, so a process killed at any moment comes back in the old phase or in the new one.
"""

from __future__ import annotations

import shutil
from datetime import datetime
from pathlib import Path
from typing import Literal

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from fairlead.ca.authority import (
    CA_CERT,
    CA_KEY,
    CERT_CHAIN,
    ROOT_CERT,
    Authority,
    AuthorityError,
    Clock,
    Supplied,
    assemble,
    open_authority,
    read_authority,
)
from fairlead.ca.files import ensure_directory, write_atomic

Phase = Literal["stable", "trusting", "issuing", "removing"]
ORDER: tuple[Phase, ...] = ("stable", "trusting", "issuing", "removing")
STATE, NEXT, BEFORE = "rotation.json", "next", "previous-root-cert.pem"


class RotationRefused(Exception):
    """A step makes no sense in this phase; the message says what does."""


class _State(msgspec.Struct, frozen=True, omit_defaults=True):
    phase: Literal["stable", "trusting", "issuing", "removing", "finishing"] = "stable"
    since: float = 0
    retired: tuple[str, ...] = ()
    """Fingerprints of signing certificates that rotations have replaced."""


class Rotation:
    """The authority of a mesh and the one that will follow it. Raises AuthorityError where files cannot be used."""

    def __init__(self, directory: Path, trust_domain: str, clock: Clock, supplied: Supplied | None = None) -> None:
        self._directory = directory
        self._trust_domain = trust_domain
        self._clock = clock
        ensure_directory(directory)
        self._state = self._read()
        self.ignored = ""
        """A supplied certificate that was not taken over, because a rotation has replaced it."""
        if supplied is not None and self._is_retired(supplied):
            self.ignored, supplied = str(supplied.cert), None
        if supplied is not None and self.phase != "stable":
            raise AuthorityError(
                f"{supplied.cert} cannot be taken over while the root is rotated ({self.phase}): "
                "start without --ca-cert, and finish or undo the rotation"
            )
        if self._state.phase == "finishing":
            self._finish()
        elif self._state.phase == "stable":
            open_authority(directory, trust_domain, clock, supplied)
            shutil.rmtree(directory / NEXT, ignore_errors=True)
        self._use()

    @property
    def phase(self) -> Phase:
        """Where the rotation stands."""
        return "removing" if self._state.phase == "finishing" else self._state.phase

    @property
    def since(self) -> float:
        """When this phase began (Unix seconds; 0 where none ever did)."""
        return self._state.since

    @property
    def target(self) -> Authority | None:
        """The authority to come, while there is one."""
        return self._next

    @property
    def former_roots(self) -> bytes:
        """The roots (PEM) from before the rotation, while one is under way; those there are where none is."""
        return (self._directory / (ROOT_CERT if self.phase == "stable" else BEFORE)).read_bytes()

    # Steps.

    def start(self, supplied: Supplied | None = None) -> Phase:
        """Make the next authority, or take it from files, and publish its root beside the present one."""
        if self.phase != "stable":
            raise RotationRefused(f"a rotation is under way ({self.phase}): `fairlead ca rotate next` or `undo`")
        directory = self._directory / NEXT
        shutil.rmtree(directory, ignore_errors=True)
        made = open_authority(directory, self._trust_domain, self._clock, supplied)
        if made.issuer_id == self.authority.issuer_id:
            shutil.rmtree(directory)
            raise RotationRefused("the next authority has the key of the present one: there is nothing to rotate")
        write_atomic(self._directory / BEFORE, (self._directory / ROOT_CERT).read_bytes())
        return self._enter("trusting")

    def advance(self) -> Phase:
        """The next phase; after `removing` the rotation is over. The caller has asked the proxies."""
        match self.phase:
            case "stable":
                raise RotationRefused("no rotation is under way: `fairlead ca rotate start` begins one")
            case "trusting":
                return self._enter("issuing")
            case "issuing":
                return self._enter("removing")
            case "removing":
                retired = (*self._state.retired, _fingerprint(self._directory / CA_CERT))
                self._state = msgspec.structs.replace(self._state, retired=retired)
                self._write("finishing")
                self._finish()
                self._use()
                return self.phase

    def undo(self) -> Phase:
        """The phase before this one."""
        if self.phase == "stable":
            raise RotationRefused("no rotation is under way: there is nothing to undo")
        return self._enter(ORDER[ORDER.index(self.phase) - 1])

    # Files.

    def _enter(self, phase: Phase) -> Phase:
        self._write(phase)
        if phase == "stable":
            write_atomic(self._directory / ROOT_CERT, (self._directory / BEFORE).read_bytes())
            shutil.rmtree(self._directory / NEXT, ignore_errors=True)
        self._use()
        return phase

    def _finish(self) -> None:
        source = self._directory / NEXT
        if source.is_dir():
            # The key last: with `finishing` on disk this is done again until it is done whole.
            for name in (CA_CERT, CERT_CHAIN, ROOT_CERT, CA_KEY):
                write_atomic(self._directory / name, (source / name).read_bytes())
        self._write("stable")
        shutil.rmtree(source, ignore_errors=True)

    def _use(self) -> None:
        """Open what the phase says, and publish its roots."""
        self._next: Authority | None = None
        if self._state.phase == "stable":
            if (self._directory / BEFORE).exists():
                # An undo that was cut off: its roots are those from before.
                if not (self._directory / NEXT).exists() and self._undone():
                    write_atomic(self._directory / ROOT_CERT, (self._directory / BEFORE).read_bytes())
                (self._directory / BEFORE).unlink()
            self.authority = open_authority(self._directory, self._trust_domain, self._clock)
            return
        before = _pem_list((self._directory / BEFORE).read_bytes())
        after = _pem_list((self._directory / NEXT / ROOT_CERT).read_bytes())
        trusted = after if self.phase == "removing" else list(dict.fromkeys([*before, *after]))
        bundle = b"".join(trusted)
        if (self._directory / ROOT_CERT).read_bytes() != bundle:
            write_atomic(self._directory / ROOT_CERT, bundle)
        following = read_authority(self._directory / NEXT)
        self._next = assemble({**following, ROOT_CERT: bundle}, str(self._directory / NEXT), self._clock)
        if self.phase == "trusting":
            present = read_authority(self._directory)
            self.authority = assemble({**present, ROOT_CERT: bundle}, str(self._directory), self._clock)
        else:
            self.authority = self._next

    def _undone(self) -> bool:
        """Whether the roots from before are those of the present signing certificate."""
        present = read_authority(self._directory)
        before = (self._directory / BEFORE).read_bytes()
        try:
            assemble({**present, ROOT_CERT: before}, str(self._directory), self._clock)
        except AuthorityError:
            return False
        return True

    def _is_retired(self, supplied: Supplied) -> bool:
        """Whether a unit file still names what a rotation has replaced: taking it over again would undo that."""
        return bool(self._state.retired) and _fingerprint(supplied.cert) in self._state.retired

    def _read(self) -> _State:
        path = self._directory / STATE
        if not path.exists():
            return _State()
        try:
            return msgspec.json.decode(path.read_bytes(), type=_State)
        except (OSError, msgspec.DecodeError) as error:
            raise AuthorityError(f"{path} cannot be read: {error}; restore it from a backup") from None

    def _write(self, phase: Literal["stable", "trusting", "issuing", "removing", "finishing"]) -> None:
        self._state = msgspec.structs.replace(self._state, phase=phase, since=self._clock().timestamp())
        write_atomic(self._directory / STATE, msgspec.json.encode(self._state))


def _fingerprint(path: Path) -> str:
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())[0].fingerprint(hashes.SHA256()).hex()
    except (OSError, ValueError):
        return ""


def _pem_list(content: bytes) -> list[bytes]:
    return [one.public_bytes(serialization.Encoding.PEM) for one in x509.load_pem_x509_certificates(content)]


class Ending(msgspec.Struct, frozen=True):
    """A certificate of the authority and when it ends (Unix seconds). `left` is the share of its life that is left."""

    role: Literal["root", "intermediate", "issuer", "server"]
    name: str
    serial: str
    not_before: float
    not_after: float
    left: float


def endings(authority: Authority, now: datetime) -> list[Ending]:
    """What ends when, the soonest first."""
    found: list[tuple[Literal["root", "intermediate", "issuer"], x509.Certificate]] = [
        *(("root", one) for one in authority.roots),
        *(("intermediate", one) for one in authority.intermediates),
    ]
    if authority.issuer not in authority.roots:
        found.append(("issuer", authority.issuer))
    return sorted((ending(role, one, now) for role, one in found), key=lambda one: one.not_after)


def ending(role: Literal["root", "intermediate", "issuer", "server"], one: x509.Certificate, now: datetime) -> Ending:
    """When a certificate ends."""
    begin, end = one.not_valid_before_utc.timestamp(), one.not_valid_after_utc.timestamp()
    left = (end - now.timestamp()) / max(end - begin, 1)
    return Ending(role, one.subject.rfc4514_string(), f"{one.serial_number:x}", begin, end, round(left, 4))
