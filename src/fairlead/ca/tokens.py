"""Signed tokens: join tokens that start a workload's identity, and bearer tokens of the API.

Their claims are those of a Kubernetes TokenRequest, so what reads one reads the other.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import jwt
import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fairlead.ca.files import ensure_directory, write_atomic
from fairlead.ca.registry import IssuedToken, TokenRegistry
from fairlead.model.identity import Identity

JOIN_AUDIENCE = "istio-ca"
API_AUDIENCE = "fairlead-api"
ADMIN_GROUP = "system:masters"
MAX_TOKEN_BYTES = 16384
JOIN_TTL = timedelta(hours=1)
MAX_TTL = timedelta(days=366)
_SHORTEST = timedelta(seconds=10)
_LEEWAY = timedelta(minutes=1)
_ALGORITHM = "ES256"
_KEY_FILE = "token-key.pem"
_PREFIX = "system:serviceaccount:"
_REMEMBERED = 512


class TokenRefused(Exception):
    """A token is not accepted; the message says why and is safe to show (it never holds the token)."""


class Claims(msgspec.Struct, frozen=True):
    """What a valid token says. `namespace` and `service_account` are empty for users such as the administrator."""

    subject: str
    audiences: tuple[str, ...]
    token_id: str
    issued_at: datetime
    expires_at: datetime
    namespace: str = ""
    service_account: str = ""
    groups: tuple[str, ...] = ()


class Tokens:
    """Signs and verifies tokens with the key in `directory` (made on the first start, mode 0600).

    `issuer` is the `iss` claim; the clock returns aware UTC times.
    """

    def __init__(self, directory: Path, issuer: str, clock: Callable[[], datetime]) -> None:
        ensure_directory(directory)
        self._key = _signing_key(directory / _KEY_FILE)
        self._public = self._key.public_key()
        spki = self._public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        self._key_id = hashlib.sha256(spki).hexdigest()[:32]
        self.issuer = issuer
        self._clock = clock
        self._signed: OrderedDict[bytes, dict[str, Any]] = OrderedDict()
        """What tokens say whose signature was checked before, by the hash of the token: clients send theirs always."""
        self.registry = TokenRegistry(directory, clock)
        """Of the tokens of service accounts."""

    def service_account(
        self, namespace: str, service_account: str, ttl: timedelta = JOIN_TTL, audience: str = JOIN_AUDIENCE
    ) -> str:
        """A token bound to a service account: with the default audience, a join token.

        Raises ValueError for a bad name or a lifetime outside 10 seconds to 366 days.
        """
        Identity("cluster.local", namespace, service_account).checked()
        extra = {"kubernetes.io": {"namespace": namespace, "serviceaccount": {"name": service_account}}}
        token_id = secrets.token_hex(16)
        made = self._sign(f"{_PREFIX}{namespace}:{service_account}", audience, ttl, extra, token_id)
        now = int(self._clock().timestamp())
        end = now + ttl.total_seconds()
        self.registry.issued(IssuedToken(token_id, namespace, service_account, audience, now, end))
        return made

    def user(
        self,
        name: str,
        ttl: timedelta,
        groups: tuple[str, ...] = (ADMIN_GROUP,),
        audience: str = API_AUDIENCE,
    ) -> str:
        """A bearer token of a person or tool at the API; by default an administrator's. Raises ValueError."""
        if not name or name.startswith(_PREFIX):
            raise ValueError(f"{name!r} cannot be a user's name")
        return self._sign(name, audience, ttl, {"groups": list(groups)}, secrets.token_hex(16))

    def _sign(self, subject: str, audience: str, ttl: timedelta, extra: dict[str, Any], token_id: str) -> str:
        if not _SHORTEST <= ttl <= MAX_TTL:
            raise ValueError(f"a token's lifetime is {_SHORTEST.seconds} s to {MAX_TTL.days} days, not {ttl}")
        now = int(self._clock().timestamp())
        claims = {
            "iss": self.issuer,
            "sub": subject,
            "aud": [audience],
            "iat": now,
            "nbf": now,
            "exp": now + int(ttl.total_seconds()),
            "jti": token_id,
            **extra,
        }
        return jwt.encode(claims, self._key, algorithm=_ALGORITHM, headers={"kid": self._key_id})

    def verify(self, token: str, audience: str) -> Claims:
        """The claims of a token signed here, in its lifetime, and meant for `audience`. Raises TokenRefused."""
        if len(token) > MAX_TOKEN_BYTES:
            raise TokenRefused(f"the token is longer than {MAX_TOKEN_BYTES} bytes")
        if not token.isascii():
            raise TokenRefused("this is not a readable token: it holds characters that no token has")
        digest = hashlib.sha256(token.encode()).digest()
        payload = self._signed.get(digest)
        if payload is None:
            payload = self._signed[digest] = self._decoded(token)
            if len(self._signed) > _REMEMBERED:
                self._signed.popitem(last=False)
        # Its lifetime, its audience, and whether it was revoked are another matter each time.
        return self._checked(payload, audience)

    def _decoded(self, token: str) -> dict[str, Any]:
        """What a token says that was signed here."""
        try:
            # Times and audience are checked below: with our clock, and with messages that say what to do.
            return jwt.decode(
                token,
                self._public,
                algorithms=[_ALGORITHM],
                issuer=self.issuer,
                options={
                    "require": ["exp", "iat", "nbf", "sub", "aud", "jti", "iss"],
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                    "verify_aud": False,
                },
            )
        except jwt.InvalidSignatureError:
            raise TokenRefused("the token's signature is wrong: it was not made by this control plane") from None
        except jwt.InvalidIssuerError:
            raise TokenRefused(f"the token's issuer is not {self.issuer}") from None
        except jwt.MissingRequiredClaimError as error:
            raise TokenRefused(f"the token lacks the claim {error.claim}") from None
        except jwt.InvalidTokenError as error:
            raise TokenRefused(f"this is not a readable token: {error}") from None

    def _checked(self, payload: dict[str, Any], audience: str) -> Claims:
        times: dict[str, datetime] = {}
        for claim in ("exp", "nbf", "iat"):
            try:
                times[claim] = datetime.fromtimestamp(payload[claim], UTC)
            except (TypeError, ValueError, OverflowError, OSError):
                raise TokenRefused(f"the token's claim {claim} is not a time") from None
        now = self._clock()
        if now >= times["exp"]:
            ago = span((now - times["exp"]).total_seconds())
            raise TokenRefused(
                f"the token expired at {times['exp']:%Y-%m-%dT%H:%M:%SZ} ({ago} ago): "
                "make a new one with `fairlead token create`"
            )
        if now + _LEEWAY < times["nbf"]:
            raise TokenRefused(
                f"the token is not valid before {times['nbf']:%Y-%m-%dT%H:%M:%SZ} "
                f"(in {span((times['nbf'] - now).total_seconds())}): check the clocks"
            )
        audiences = _strings(payload["aud"]) or (str(payload["aud"]),)
        if audience not in audiences:
            raise TokenRefused(f"the token is meant for {', '.join(audiences) or 'nobody'}, not for {audience}")
        namespace, account = _account(payload)
        if account:
            refused = self.registry.refusal(str(payload["jti"]), namespace, account, times["iat"].timestamp())
            if refused:
                raise TokenRefused(refused)
        groups = payload.get("groups", [])
        return Claims(
            subject=str(payload["sub"]),
            audiences=audiences,
            token_id=str(payload["jti"]),
            issued_at=times["iat"],
            expires_at=times["exp"],
            namespace=namespace,
            service_account=account,
            groups=_strings(groups),
        )


def _strings(value: object) -> tuple[str, ...]:
    items = cast("list[object]", value) if isinstance(value, list) else []
    return tuple(str(item) for item in items)


def _account(payload: dict[str, Any]) -> tuple[str, str]:
    """Namespace and name of the service account that the token is bound to; empty for a user's token."""
    subject = str(payload["sub"])
    if not subject.startswith(_PREFIX):
        return "", ""
    namespace, _, account = subject.removeprefix(_PREFIX).partition(":")
    bound: Any = payload.get("kubernetes.io")
    if bound != {"namespace": namespace, "serviceaccount": {"name": account}}:
        raise TokenRefused("the token's subject and its kubernetes.io claim name different service accounts")
    return namespace, account


def span(seconds: float) -> str:
    """A time in words, such as `5 min`."""
    seconds = int(seconds)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def _signing_key(path: Path) -> ec.EllipticCurvePrivateKey:
    if not path.exists():
        key = ec.generate_private_key(ec.SECP256R1())
        write_atomic(
            path,
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
        )
        return key
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ValueError(
            f"{path} is not a readable private key: restore it, or delete it to void all tokens"
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
        raise ValueError(f"{path} is not an ECDSA P-256 key: restore it, or delete it to void all tokens")
    return key
