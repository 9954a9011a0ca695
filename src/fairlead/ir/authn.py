"""Request authentication: which tokens (JWT) requests may carry, and the keys by which these are verified."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from fairlead.inc import Table
from fairlead.ir.attachment import Target, places
from fairlead.ir.filters import Pairs
from fairlead.model.diagnostic import Origin
from fairlead.model.ref import NamespacedName

DISCOVERY = "/.well-known/openid-configuration"
"""What follows an issuer's URL in that of its description, which names its keys (OpenID Connect Discovery)."""


class JwtRule(msgspec.Struct, frozen=True):
    """Tokens of one issuer. `issuer` "" accepts any.

    The keys are `jwks` (JSON), else what is found at `keys_uri`: a key set, or an issuer's description that names one.
    Both are "" where nobody can know the keys. `headers` are (name, prefix of the value), `claim_headers` are (header,
    claim). A rule that is `required` refuses requests without a token, one that is `ignored` none. `tells_failure`
    leaves what is wrong with a token in the metadata. `timeout` and `clock_skew` are in seconds (None: Envoy's).
    """

    origin: Origin
    issuer: str = ""
    audiences: tuple[str, ...] = ()
    jwks: str = ""
    keys_uri: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    params: tuple[str, ...] = ()
    cookies: tuple[str, ...] = ()
    forward: bool = False
    payload_header: str = ""
    claim_headers: tuple[tuple[str, str], ...] = ()
    space_delimited: tuple[str, ...] = ()
    required: bool = False
    ignored: bool = False
    tells_failure: bool = False
    clock_skew: int | None = None
    timeout: float = 5.0


class RequestPolicy(msgspec.Struct, frozen=True):
    """What one object says about tokens at the workloads that it is for."""

    key: NamespacedName
    origin: Origin
    selector: Pairs
    rules: tuple[JwtRule, ...]
    targets: tuple[Target, ...] = ()
    created: str = ""


class Jwks(msgspec.Struct, frozen=True):
    """What is known of the keys at a URI: the newest good key set ("" if there never was one), and why not a newer."""

    keys: str = ""
    problem: str = ""


class WantedKey(NamedTuple):
    """A rule that needs the keys at a URI."""

    uri: str
    policy: NamespacedName
    rule: int


class Wanted(msgspec.Struct, frozen=True):
    """How keys are wanted: how long to wait for them (seconds), and by whom."""

    timeout: float
    origin: Origin


REQUEST_POLICIES: Table[NamespacedName, RequestPolicy] = Table("request-policies", stage=1)
REQUEST_POLICIES_AT = REQUEST_POLICIES.index("at", lambda key, policy: places(key.namespace, policy))
REQUEST_POLICIES_BY_NAMESPACE = REQUEST_POLICIES.index("namespace", lambda key, policy: [key.namespace])
JWKS: Table[str, Jwks] = Table("jwks")
"""Fetched keys by URI: an input, written by whoever fetches them."""
JWKS_WANTED: Table[WantedKey, Wanted] = Table("jwks-wanted", stage=1)
"""What is to be fetched."""
