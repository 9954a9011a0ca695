"""Fields of RateLimit."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from fairlead.model.object import Spec
from fairlead.model.target import TargetReference, WorkloadSelector

Text = Annotated[str, Meta(min_length=1)]
Count = Annotated[int, Meta(ge=1, le=4294967295)]


class Per(Spec, frozen=True):
    """What requests are told apart by: exactly one field beside `value`."""

    header: Annotated[str, Meta(description="A request header.")] = ""
    query: Annotated[str, Meta(description="A parameter of the query.")] = ""
    attribute: Annotated[
        Literal["", "PRINCIPAL", "ADDRESS", "PATH", "METHOD", "HOST"],
        Meta(description="The caller's identity by mTLS, the caller's address, or a part of the request."),
    ] = ""
    value: Annotated[
        str, Meta(description="The limit is for this value only; without it each value is counted by itself.")
    ] = ""


class When(Spec, frozen=True):
    """Which requests count; all that is given must hold."""

    methods: Annotated[tuple[Text, ...], Meta(description="One of these methods.")] = ()
    paths: Annotated[tuple[Text, ...], Meta(description="One of these paths; `*` at the end is any rest.")] = ()
    headers: Annotated[dict[str, str], Meta(description="These headers; `*` is any value.")] = {}


class LocalLimit(Spec, frozen=True):
    """A limit that each proxy keeps by itself."""

    name: Annotated[Text, Meta(description="Name of the limit, unique in the object.")]
    requests: Annotated[Count, Meta(description="How many requests there may be in a unit of time.")]
    unit: Annotated[Literal["SECOND", "MINUTE", "HOUR", "DAY"], Meta(description="The unit of time.")]
    burst: Annotated[
        int, Meta(ge=0, le=4294967295, description="How many there may be at once; 0: as many as in a unit.")
    ] = 0
    when: Annotated[When | None, Meta(description="Which requests count; none: all.")] = None
    per: Annotated[tuple[Per, ...], Meta(description="What requests are told apart by; none: nothing.")] = ()


class Descriptor(Spec, frozen=True):
    """What a server is asked about; it knows how many requests there may be."""

    name: Annotated[Text, Meta(description="Value of the descriptor's first entry, whose key is `limit`.")]
    when: Annotated[When | None, Meta(description="Which requests count; none: all.")] = None
    per: Annotated[tuple[Per, ...], Meta(description="Further entries of the descriptor.")] = ()


class Service(Spec, frozen=True):
    """A server that speaks Envoy's rate limit protocol (envoy.service.ratelimit.v3)."""

    host: Annotated[Text, Meta(description="Full host name of the server, as the mesh knows it.")]
    port: Annotated[int, Meta(ge=1, le=65535, description="Port of the server; it must be known as gRPC.")]
    domain: Annotated[Text, Meta(description="Domain of the limits, as the server knows it.")]
    descriptors: Annotated[tuple[Descriptor, ...], Meta(description="What the server is asked about.")]
    timeout: Annotated[str, Meta(description="How long a request waits for the answer.")] = "100ms"
    failure_mode: Annotated[
        Literal["ALLOW", "DENY"], Meta(description="What happens to requests while the server does not answer.")
    ] = "ALLOW"


class RateLimit(Spec, frozen=True):
    """Limits of the HTTP requests that workloads get."""

    selector: Annotated[WorkloadSelector | None, Meta(description="The workloads; none: all of the namespace.")] = None
    target_refs: Annotated[tuple[TargetReference, ...], Meta(description="The Gateways, instead of a selector.")] = ()
    limits: Annotated[tuple[LocalLimit, ...], Meta(description="Limits that each proxy keeps by itself.")] = ()
    bucket: Annotated[
        Literal["SHARED", "CONNECTION"],
        Meta(description="Whether all connections of a proxy share its limits, or each has its own."),
    ] = "SHARED"
    max_values: Annotated[
        int, Meta(ge=0, le=1000000, description="How many values a proxy counts apart; 0: Envoy's default (20).")
    ] = 1000
    global_: Annotated[Service | None, Meta(description="Limits that a server keeps for all proxies.")] = None
    shadow: Annotated[bool, Meta(description="Count, and let everything through.")] = False
    response_headers: Annotated[bool, Meta(description="Tell clients in x-ratelimit-* headers.")] = True
    status: Annotated[int, Meta(ge=400, le=599, description="The status of what is over a limit.")] = 429
