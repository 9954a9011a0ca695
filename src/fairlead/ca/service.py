"""The certificate service: `istio.v1.auth.IstioCertificateService`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal, Protocol, cast

import grpc
import msgspec

from fairlead.ca import istio_ca_pb2 as pb
from fairlead.ca.authority import MAX_TTL, Authority, Issued, RequestRefused
from fairlead.ca.oidc import ForeignTokens, named_issuer
from fairlead.ca.rate import Rate
from fairlead.ca.tokens import JOIN_AUDIENCE, TokenRefused, Tokens
from fairlead.model.identity import Identity

if TYPE_CHECKING:
    import grpc.aio

    Context = grpc.aio.ServicerContext[pb.IstioCertificateRequest, pb.IstioCertificateResponse]

SERVICE = "istio.v1.auth.IstioCertificateService"
METHOD = f"/{SERVICE}/CreateCertificate"
MAX_REQUEST_BYTES = 65536
"""Of a certificate request with all that is around it."""

Method = Literal["token", "certificate"]
Authenticate = Callable[["Context"], Identity]


class NotAuthenticated(Exception):
    """The caller did not prove who it is."""


class CertificateEvent(msgspec.Struct, frozen=True):
    """A certificate issued (`serial` set) or refused (`refused` says why). `identity` is None if it is not known."""

    identity: Identity | None
    method: Method
    peer: str
    serial: str = ""
    not_after: datetime | None = None
    refused: str = ""


class CertificateObserver(Protocol):
    """Told of every certificate request, on the event loop; must not block."""

    def certificate(self, event: CertificateEvent) -> None:
        """One request was answered."""
        ...


class Admit(Protocol):
    """A further condition for issuing, such as that the service account exists."""

    def __call__(self, identity: Identity) -> str | None:
        """Why this identity gets no certificate, or None."""
        ...


def by_token(
    tokens: Tokens, trust_domain: str, audience: str = JOIN_AUDIENCE, foreign: ForeignTokens | None = None
) -> Authenticate:
    """Callers prove themselves with `authorization: Bearer TOKEN`: a join token, or one of a `foreign` issuer."""

    def authenticate(context: Context) -> Identity:
        values = [value for key, value in context.invocation_metadata() or () if key == "authorization"]
        if not values:
            raise NotAuthenticated("no join token: send it as metadata `authorization: Bearer TOKEN`")
        header = values[0].decode("ascii", "replace") if isinstance(values[0], bytes) else values[0]
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer":
            raise NotAuthenticated("metadata `authorization` is not `Bearer TOKEN`")
        token = token.strip()
        try:
            issuer = foreign.issued(token) if foreign is not None else None
            if foreign is not None and issuer is not None:
                return foreign.identity(issuer, token, trust_domain)
            claims = tokens.verify(token, audience)
        except TokenRefused as error:
            raise NotAuthenticated(_stranger(token, tokens, foreign) or str(error)) from None
        if not claims.service_account:
            raise NotAuthenticated(f"the token of {claims.subject} is not bound to a service account")
        tokens.registry.used(claims.token_id)
        return Identity(trust_domain, claims.namespace, claims.service_account)

    return authenticate


def _stranger(token: str, tokens: Tokens, foreign: ForeignTokens | None) -> str:
    """What is to be said of a token whose issuer nobody has named; "" for others."""
    named, trusted = named_issuer(token), foreign.trusted if foreign is not None else ()
    if named in ("", tokens.issuer, *trusted):
        return ""
    return (
        f"the token's issuer {named[:200]!r} is not trusted: trusted are {', '.join((tokens.issuer, *trusted))}; "
        "get a token of one of these, or name the issuer in the file of `fairlead serve --join-issuers`"
    )


def by_certificate(trust_domain: str, aliases: Sequence[str] = ()) -> Authenticate:
    """Callers prove themselves with the client certificate that the TLS handshake has verified: renewal.

    Those of an alias keep the trust domain that they have, until they join anew.
    """

    def authenticate(context: Context) -> Identity:
        try:
            identity = Identity.of_peer(cast("Mapping[str, Sequence[bytes]]", context.auth_context()))
        except ValueError as error:
            raise NotAuthenticated(str(error)) from None
        if identity.trust_domain not in (trust_domain, *aliases):
            raise NotAuthenticated(f"{identity} is not of this mesh's trust domain {trust_domain}")
        return identity

    return authenticate


class CertificateService:
    """Answers CreateCertificate. One instance serves both ports, through one handler for each way to authenticate.

    At most 200 certificates a second are issued (burst 1,000), and 10 a second for one identity (burst 200).
    """

    def __init__(
        self,
        authority: Callable[[], Authority],
        *,
        observer: CertificateObserver | None = None,
        admit: Admit | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._authority = authority
        self._observer = observer
        self._admit = admit
        self._all = Rate(200, 1000, clock, keys=1)
        self._each = Rate(10, 200, clock)

    def handler(self, method: Method, authenticate: Authenticate) -> grpc.GenericRpcHandler:
        """The service as a gRPC handler for a server that authenticates in this way."""

        async def create(request: pb.IstioCertificateRequest, context: Context) -> pb.IstioCertificateResponse:
            return await self._create(request, context, method, authenticate)

        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "CreateCertificate": grpc.unary_unary_rpc_method_handler(
                    create,  # pyright: ignore[reportArgumentType]
                    request_deserializer=pb.IstioCertificateRequest.FromString,
                    response_serializer=pb.IstioCertificateResponse.SerializeToString,
                )
            },
        )

    async def _create(
        self, request: pb.IstioCertificateRequest, context: Context, method: Method, authenticate: Authenticate
    ) -> pb.IstioCertificateResponse:
        try:
            identity = authenticate(context)
        except NotAuthenticated as error:
            self._tell(CertificateEvent(None, method, context.peer(), refused=str(error)))
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, str(error))
        code, outcome = self._issue(request, identity)
        if isinstance(outcome, str):
            self._tell(CertificateEvent(identity, method, context.peer(), refused=outcome))
            await context.abort(code, outcome)
        self._tell(
            CertificateEvent(identity, method, context.peer(), serial=outcome.serial, not_after=outcome.not_after)
        )
        return pb.IstioCertificateResponse(cert_chain=outcome.chain)

    def _issue(self, request: pb.IstioCertificateRequest, identity: Identity) -> tuple[grpc.StatusCode, Issued | str]:
        if not (self._each.take(identity) and self._all.take("")):
            return (
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"too many certificate requests for {identity} or in all; try again in a second",
            )
        reason = self._admit(identity) if self._admit else None
        if reason is not None:
            return grpc.StatusCode.PERMISSION_DENIED, reason
        seconds = min(max(request.validity_duration, 0), int(MAX_TTL.total_seconds()))
        try:
            return grpc.StatusCode.OK, self._authority().issue(request.csr, identity, timedelta(seconds=seconds))
        except RequestRefused as error:
            code = grpc.StatusCode.PERMISSION_DENIED if error.denied else grpc.StatusCode.INVALID_ARGUMENT
            return code, str(error)

    def _tell(self, event: CertificateEvent) -> None:
        if self._observer is not None:
            self._observer.certificate(event)
