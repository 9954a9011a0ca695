"""Tokens: claims, binding, lifetime, and errors that say what is wrong."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jwt
import pytest

from fairlead.ca.tokens import ADMIN_GROUP, API_AUDIENCE, JOIN_AUDIENCE, TokenRefused, Tokens

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def tokens(path: Path, clock: list[datetime] | None = None) -> Tokens:
    times = clock or [NOW]
    return Tokens(path, "https://fairlead.cluster.local", lambda: times[0])


def test_join_token_has_the_claims_of_a_token_request(tmp_path: Path) -> None:
    token = tokens(tmp_path).service_account("shop", "cart")
    claims = tokens(tmp_path).verify(token, JOIN_AUDIENCE)
    assert (claims.namespace, claims.service_account) == ("shop", "cart")
    assert claims.expires_at == NOW + timedelta(hours=1)
    raw = jwt.decode(token, options={"verify_signature": False})
    assert raw["sub"] == "system:serviceaccount:shop:cart"
    assert raw["kubernetes.io"] == {"namespace": "shop", "serviceaccount": {"name": "cart"}}
    assert stat.S_IMODE((tmp_path / "token-key.pem").stat().st_mode) == 0o600


def test_user_token(tmp_path: Path) -> None:
    claims = tokens(tmp_path).verify(tokens(tmp_path).user("admin", timedelta(days=365)), API_AUDIENCE)
    assert (claims.subject, claims.groups, claims.service_account) == ("admin", (ADMIN_GROUP,), "")


def test_refusals_say_why(tmp_path: Path) -> None:
    clock = [NOW]
    here = tokens(tmp_path, clock)
    token = here.service_account("shop", "cart", timedelta(minutes=10))
    with pytest.raises(TokenRefused, match="meant for istio-ca, not for fairlead-api"):
        here.verify(token, API_AUDIENCE)
    with pytest.raises(TokenRefused, match="signature is wrong"):
        tokens(tmp_path / "other").verify(token, JOIN_AUDIENCE)
    with pytest.raises(TokenRefused, match="not a readable token"):
        here.verify("abc", JOIN_AUDIENCE)
    with pytest.raises(TokenRefused, match="longer than"):
        here.verify("a" * 20000, JOIN_AUDIENCE)
    with pytest.raises(TokenRefused, match="not a readable token"):
        here.verify("\ud800.b.c", JOIN_AUDIENCE)
    clock[0] = NOW + timedelta(hours=3, minutes=10)
    with pytest.raises(TokenRefused, match=r"expired at 2026-11-23T12:10:00Z \(3 h ago\)"):
        here.verify(token, JOIN_AUDIENCE)
    clock[0] = NOW - timedelta(hours=1)
    with pytest.raises(TokenRefused, match="not valid before"):
        here.verify(token, JOIN_AUDIENCE)


def test_what_was_verified_once_is_judged_again_but_not_decoded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tokens(tmp_path)
    token = here.service_account("shop", "cart")
    first = here.verify(token, JOIN_AUDIENCE)
    monkeypatch.delattr(jwt, "decode")
    assert here.verify(token, JOIN_AUDIENCE) == first
    assert here.registry.revoke(first.token_id)
    with pytest.raises(TokenRefused, match="revoked"):
        here.verify(token, JOIN_AUDIENCE)


def test_unsigned_and_foreign_algorithms_are_refused(tmp_path: Path) -> None:
    here = tokens(tmp_path)
    claims = jwt.decode(here.service_account("shop", "cart"), options={"verify_signature": False})
    with pytest.raises(TokenRefused):
        here.verify(jwt.encode(claims, None, algorithm="none"), JOIN_AUDIENCE)
    with pytest.raises(TokenRefused):
        here.verify(jwt.encode(claims, "k" * 40, algorithm="HS256"), JOIN_AUDIENCE)


@pytest.mark.parametrize("ttl", [timedelta(0), timedelta(days=400), timedelta(seconds=-5)])
def test_lifetime_is_bounded(tmp_path: Path, ttl: timedelta) -> None:
    with pytest.raises(ValueError, match="lifetime"):
        tokens(tmp_path).service_account("shop", "cart", ttl)


def test_names_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="namespace"):
        tokens(tmp_path).service_account("Shop", "cart")
    with pytest.raises(ValueError, match="cannot be a user"):
        tokens(tmp_path).user("system:serviceaccount:a:b", timedelta(hours=1))
