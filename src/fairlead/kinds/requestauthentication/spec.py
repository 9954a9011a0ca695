"""Fields of RequestAuthentication."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from fairlead.model.object import Spec
from fairlead.model.target import TargetReference, WorkloadSelector

Text = Annotated[str, Meta(min_length=1)]
Uri = Annotated[str, Meta(min_length=1, max_length=2048)]
Presence = Literal["OPTIONAL", "REQUIRED", "IGNORED"]


class JWTHeader(Spec, frozen=True):
    """A header that carries a token."""

    name: Annotated[str, Meta(min_length=1, description="Name of the header.")]
    prefix: Annotated[str, Meta(description="What stands before the token, such as 'Bearer ' with its space.")] = ""


class ClaimToHeader(Spec, frozen=True):
    """A claim that the application gets as a header."""

    header: Annotated[str, Meta(min_length=1, description="Name of the header; one that a caller sent is replaced.")]
    claim: Annotated[str, Meta(min_length=1, description="The claim; a.b is b inside of a.")]


class JWTRule(Spec, frozen=True):
    """Tokens of one issuer."""

    issuer: Annotated[Text | None, Meta(description="The tokens' iss claim. Absent: any, which needs jwksUri.")] = None
    audiences: Annotated[tuple[Text, ...], Meta(description="Of which the aud claim must have one; absent: any.")] = ()
    jwks_uri: Annotated[
        Uri | None, Meta(description="Where the issuer's keys are, http(s). The control plane fetches them.")
    ] = None
    jwks_uri_alias: Annotated[Uri | None, Meta(description="Another way to write jwksUri.")] = msgspec.field(
        default=None, name="jwks_uri"
    )
    jwks: Annotated[str | None, Meta(description='The issuer\'s keys, as JSON: {"keys": [...]}.')] = None
    from_headers: Annotated[tuple[JWTHeader, ...], Meta(description="Headers that carry the token.")] = ()
    from_params: Annotated[tuple[Text, ...], Meta(description="Query parameters that carry the token.")] = ()
    from_cookies: Annotated[tuple[Text, ...], Meta(description="Cookies that carry the token.")] = ()
    output_payload_to_header: Annotated[
        str, Meta(description="Header in which the application gets the token's payload, base64url.")
    ] = ""
    forward_original_token: Annotated[bool, Meta(description="Whether the application gets the token.")] = False
    output_claim_to_headers: Annotated[
        tuple[ClaimToHeader, ...], Meta(description="Claims that the application gets as headers.")
    ] = ()
    timeout: Annotated[str | None, Meta(description="How long to wait for the keys; 5s.")] = None
    space_delimited_claims: Annotated[
        tuple[Text, ...],
        Meta(max_length=64, description="Claims that are lists written with spaces, beside scope and permission."),
    ] = ()
    presence: Annotated[
        Presence,
        Meta(
            description="REQUIRED: a request without such a token is refused (401)."
            " IGNORED: none is, whatever is wrong with its token."
        ),
    ] = "OPTIONAL"
    failed_status_in_metadata: Annotated[
        bool, Meta(description="What is wrong with a token is left in the request's metadata, for access logs.")
    ] = False
    clock_skew_seconds: Annotated[
        Annotated[int, Meta(ge=0, le=4294967295)] | None,
        Meta(description="Seconds by which clocks may differ; 60 if not given."),
    ] = None


class RequestAuthentication(Spec, frozen=True):
    """Which tokens (JWT) requests may carry, and how they are verified."""

    selector: Annotated[
        WorkloadSelector | None,
        Meta(description="Workloads; absent: all of the namespace (of the mesh, in the root namespace)."),
    ] = None
    target_ref: Annotated[TargetReference | None, Meta(description="Deprecated: use targetRefs.")] = None
    target_refs: Annotated[tuple[TargetReference, ...], Meta(description="Gateways it is for.")] = ()
    jwt_rules: Annotated[tuple[JWTRule, ...], Meta(max_length=4096, description="The issuers.")] = ()
