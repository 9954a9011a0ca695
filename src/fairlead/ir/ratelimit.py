"""Limits of requests to workloads: which requests are counted together, and how many there may be."""

from __future__ import annotations

from typing import Literal

import msgspec

from fairlead.inc import Table
from fairlead.ir.attachment import Target, places
from fairlead.ir.filters import Pairs
from fairlead.model.diagnostic import Origin
from fairlead.model.ref import NamespacedName

SECONDS = {"SECOND": 1, "MINUTE": 60, "HOUR": 3600, "DAY": 86400}


class Counted(msgspec.Struct, frozen=True):
    """What tells requests apart. With `value` the limit is for this value only, else each value is counted by itself.

    `name` is that of the header or of the query parameter.
    """

    by: Literal["header", "query", "path", "method", "host", "principal", "address"]
    name: str = ""
    value: str = ""


class Condition(msgspec.Struct, frozen=True):
    """Which requests count: one of the methods, one of the paths (`*` at the end: a prefix), all of the headers."""

    methods: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    headers: Pairs = ()


class Limit(msgspec.Struct, frozen=True):
    """So many requests of each sort in `seconds`, and at most `burst` at once. A global limit has no numbers here."""

    name: str
    condition: Condition = Condition()
    per: tuple[Counted, ...] = ()
    requests: int = 0
    seconds: int = 0
    burst: int = 0


class LimitService(msgspec.Struct, frozen=True):
    """A server of Envoy's rate limit protocol; `timeout` in seconds. `namespace` is "" where the host alone tells."""

    host: str
    port: int
    domain: str
    limits: tuple[Limit, ...]
    timeout: float
    fail_open: bool
    namespace: str = ""


class RatePolicy(msgspec.Struct, frozen=True):
    """The limits of one object, for the workloads that it is for (see `fairlead.ir.attachment.attaches`)."""

    key: NamespacedName
    origin: Origin
    selector: Pairs = ()
    targets: tuple[Target, ...] = ()
    limits: tuple[Limit, ...] = ()
    service: LimitService | None = None
    shadow: bool = False
    headers: bool = True
    status: int = 429
    by_connection: bool = False
    max_values: int = 0


RATE_POLICIES: Table[NamespacedName, RatePolicy] = Table("rate-policies", stage=1)
RATE_POLICIES_AT = RATE_POLICIES.index("at", lambda key, policy: places(key.namespace, policy))
RATE_POLICIES_BY_NAMESPACE = RATE_POLICIES.index("namespace", lambda key, policy: [key.namespace])
RATE_POLICIES_CALLING = RATE_POLICIES.index("calling", lambda key, policy: [""] if policy.service is not None else [])
"""The policies that have proxies call a service, under ""."""
