"""Join tokens listed and revoked, tokens of other issuers, and hostile input to all of it."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.e2e.issuers import Issuer

from fairlead.ca.authority import RequestRefused, open_authority
from fairlead.ca.oidc import ForeignTokens, JoinIssuer, read_issuers
from fairlead.ca.tokens import JOIN_AUDIENCE, TokenRefused, Tokens
from fairlead.controlplane.fetching import FetchError
from fairlead.controlplane.issuers import IssuerKeys
from fairlead.model.identity import Identity
from fairlead.model.report import bundle_id

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
DOMAIN = "cluster.local"
CI = "https://ci.example"


def utc() -> datetime:
    return datetime.now(UTC)


# Our own tokens.


def test_tokens_are_listed_without_their_secret_and_revoked_one_by_one(tmp_path: Path) -> None:
    clock = [NOW]
    made = Tokens(tmp_path, "https://cp", lambda: clock[0])
    first, second = made.service_account("shop", "cart"), made.service_account("shop", "web")
    rows = made.registry.listing()
    assert {(one.namespace, one.service_account) for one in rows} == {("shop", "cart"), ("shop", "web")}
    claims = made.verify(first, JOIN_AUDIENCE)
    assert made.registry.revoke(claims.token_id)
    # On the disk when the call returns: a control plane that is killed and started again refuses it too.
    again = Tokens(tmp_path, "https://cp", lambda: clock[0])
    with pytest.raises(TokenRefused, match="revoked"):
        again.verify(first, JOIN_AUDIENCE)
    assert again.verify(second, JOIN_AUDIENCE).service_account == "web"
    content = (tmp_path / "tokens.json").read_text()
    assert first not in content
    assert first.rpartition(".")[2] not in content
    clock[0] += timedelta(hours=2)
    assert again.registry.listing() == []


def test_all_tokens_of_a_service_account_are_revoked_and_new_ones_work(tmp_path: Path) -> None:
    clock = [NOW]
    made = Tokens(tmp_path, "https://cp", lambda: clock[0])
    old = [made.service_account("shop", "cart") for _ in range(3)]
    other = made.service_account("shop", "web")
    assert made.registry.revoke_account("shop", "cart") == 3
    for one in old:
        with pytest.raises(TokenRefused, match="make a new one"):
            made.verify(one, JOIN_AUDIENCE)
    clock[0] += timedelta(seconds=1)
    assert made.verify(made.service_account("shop", "cart"), JOIN_AUDIENCE)
    assert made.verify(other, JOIN_AUDIENCE)


# Tokens of others.


def foreign(issuer: Issuer, rules: list[dict[str, Any]], missing: list[str] | None = None) -> ForeignTokens:
    given_ = {"issuer": CI, "audience": "mesh", "jwks": json.dumps(issuer.jwks), "rules": rules}
    found = read_issuers({"issuers": [given_]})
    told = missing if missing is not None else []
    return ForeignTokens(found, lambda one: one.jwks, lambda one: told.append(one.issuer), utc)


def who(tokens: ForeignTokens, token: str) -> Identity:
    issuer = tokens.issued(token)
    assert issuer is not None
    return tokens.identity(issuer, token, DOMAIN)


RULES = [
    {"claims": {"sub": "repo:shop/*", "env.name": "prod"}, "namespace": "shop", "serviceAccount": "deployer"},
    {"claims": {"groups": "meshers"}, "namespace": "{team}", "serviceAccount": "{kubernetes.io.account}"},
]


def test_rules_map_claims_to_service_accounts() -> None:
    issuer = Issuer(CI)
    made = foreign(issuer, RULES)
    token = issuer.token("repo:shop/cart", aud="mesh", env={"name": "prod"})
    assert who(made, token) == Identity(DOMAIN, "shop", "deployer")
    inner = {"account": "bob"}
    token = issuer.token("x", aud=["a", "mesh"], groups=["all", "meshers"], team="blue", **{"kubernetes.io": inner})
    assert who(made, token) == Identity(DOMAIN, "blue", "bob")
    token = issuer.token("x", aud="mesh", groups=["meshers"], team="blue", kubernetes={"io": inner})
    assert who(made, token) == Identity(DOMAIN, "blue", "bob")


def test_foreign_tokens_are_refused_with_a_reason() -> None:
    issuer, stranger = Issuer(CI), Issuer(CI)
    missing: list[str] = []
    made = foreign(issuer, RULES, missing)
    good = {"aud": "mesh", "env": {"name": "prod"}}
    for token, said in (
        (issuer.token("repo:shop/x", lasts=-120, **good), "expired"),
        (issuer.token("repo:shop/x", aud="other", env={"name": "prod"}), "udience"),
        (issuer.token("repo:shop/x", aud="mesh", env={"name": "test"}), "no rule"),
        (issuer.token("repo:shopping/x", **good), "no rule"),
        (
            issuer.token("x", aud="mesh", groups=["meshers"], team="Not A Label", kubernetes={"io": {"account": "b"}}),
            "gives",
        ),
        (stranger.token("repo:shop/x", **good), "has no key"),
        (
            jwt.encode({"iss": CI, "aud": "mesh", "exp": time.time() + 60}, "x" * 32, "HS256", {"kid": issuer.kid}),
            "refused",
        ),
        (
            jwt.encode({"iss": CI, "aud": "mesh", "exp": True}, ec.generate_private_key(ec.SECP256R1()), "ES256"),
            "refused",
        ),
    ):
        with pytest.raises(TokenRefused, match=said):
            who(made, token)
    assert missing == [CI]
    assert made.issued(Issuer("https://other.example").token()) is None


def test_a_file_of_issuers_must_make_sense() -> None:
    base = {"issuer": CI, "audience": "mesh", "jwksUri": "https://x", "rules": RULES}
    for change, said in (
        ({"jwks": "{}"}, "either jwksUri or jwks"),
        ({"rules": []}, "without a rule"),
        ({"rules": [{"namespace": "a", "serviceAccount": "b"}]}, "say which tokens"),
        ({"audience": ""}, "must not be empty"),
        ({"wrong": 1}, "wrong"),
    ):
        with pytest.raises(ValueError, match=said):
            read_issuers({"issuers": [{**base, **change}]})


def test_keys_are_fetched_and_fetched_anew_for_an_unknown_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fairlead.controlplane.issuers._SOONEST", 0.02)
    asked: list[str] = []

    async def fetch(uri: str, _: float) -> str:
        asked.append(uri)
        if len(asked) == 1:
            raise FetchError("not yet")
        return str(len(asked))

    async def run() -> None:
        issuer = JoinIssuer(CI, "mesh", (), jwks_uri="https://keys")
        keys = IssuerKeys([issuer], fetch, 3600)
        keys.start()
        try:
            async with asyncio.timeout(5):
                while keys.keys(issuer) in (None, "2"):
                    await asyncio.sleep(0.01)
                    keys.missing(issuer)
        finally:
            await keys.stop()

    asyncio.run(run())
    assert set(asked) == {"https://keys"}


# Hostile input: refused, never a crash.

_SEGMENT = st.text("ABCDEFabcdef0123456789-_=", max_size=40)
_CLAIMS = st.dictionaries(
    st.sampled_from(["iss", "aud", "exp", "nbf", "iat", "sub", "jti", "kubernetes.io", "groups", "team", "env"]),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=6,
    ),
)


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tokens, ForeignTokens, Issuer]:
    issuer = Issuer(CI)
    return Tokens(tmp_path_factory.mktemp("ca"), "https://cp", utc), foreign(issuer, RULES), issuer


@settings(max_examples=300, deadline=None)
@given(token=st.one_of(st.text(max_size=300), st.builds(".".join, st.lists(_SEGMENT, max_size=4))))
def test_no_text_crashes_the_verification_of_tokens(fuzzed: Any, token: str) -> None:
    own, others, _ = fuzzed
    with pytest.raises(TokenRefused):
        own.verify(token, JOIN_AUDIENCE)
    assert others.issued(token) is None


@settings(max_examples=150, deadline=None)
@given(claims=_CLAIMS, header=st.dictionaries(st.sampled_from(["kid", "x5u"]), st.text(max_size=9), max_size=2))
def test_no_claims_crash_it_even_where_they_are_signed(
    fuzzed: Any, claims: dict[str, Any], header: dict[str, Any]
) -> None:
    own, others, issuer = fuzzed
    key = own._key
    # jwt.encode itself refuses some claims; what it signs must be judged.
    try:
        mine = jwt.encode({**claims, "iss": "https://cp"}, key, "ES256", header)
        theirs = jwt.encode({**claims, "iss": CI}, issuer._key, issuer.algorithm, {**header, "kid": issuer.kid})
    except (TypeError, ValueError, jwt.PyJWTError):
        return
    for verify in (lambda: own.verify(mine, JOIN_AUDIENCE), lambda: who(others, theirs)):
        try:
            verify()
        except TokenRefused as error:
            assert str(error)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return open_authority(tmp_path_factory.mktemp("fuzz") / "ca", DOMAIN, utc)


def _csr() -> bytes:
    from fairlead.agent.identity import new_key, signing_request

    return signing_request(new_key(), "spiffe://cluster.local/ns/shop/sa/cart").encode()


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_no_signing_request_crashes_the_authority(authority: Any, data: st.DataObject) -> None:
    import base64

    valid = base64.b64decode("".join(_CSR.decode().splitlines()[1:-1]))
    if data.draw(st.booleans()):
        body = bytearray(valid)
        for at in data.draw(st.lists(st.integers(0, len(body) - 1), min_size=1, max_size=4)):
            body[at] = data.draw(st.integers(0, 255))
        raw = bytes(body)[: data.draw(st.integers(0, len(body)))]
    else:
        raw = data.draw(st.binary(max_size=200))
    pem = b"-----BEGIN CERTIFICATE REQUEST-----\n" + base64.encodebytes(raw) + b"-----END CERTIFICATE REQUEST-----\n"
    for request in (pem, raw):
        try:
            authority.issue(request, Identity(DOMAIN, "shop", "cart"))
        except RequestRefused as error:
            assert str(error)


_CSR = _csr()


@given(pem=st.text(max_size=200))
def test_any_text_has_a_bundle_id(pem: str) -> None:
    wrapped = f"-----BEGIN CERTIFICATE-----{pem}-----END CERTIFICATE-----"
    assert bundle_id(wrapped + wrapped) == bundle_id(wrapped)
