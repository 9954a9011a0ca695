"""RateLimit to the mesh's words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, cast

from fairlead.inc import Reader
from fairlead.ir import ratelimit as ir
from fairlead.ir.attachment import targets_of
from fairlead.ir.kind import Emission
from fairlead.ir.view import pairs
from fairlead.kinds.ratelimit.spec import Per, RateLimit, Service, When
from fairlead.model.diagnostic import Origin
from fairlead.model.duration import parse_duration
from fairlead.model.object import Object
from fairlead.model.ref import NamespacedName

Attribute = Literal["path", "method", "host", "principal", "address"]


def lower(_: Reader, obj: Object[RateLimit]) -> Iterator[Emission]:
    """One policy."""
    spec = obj.spec
    key = NamespacedName(obj.ref.namespace, obj.ref.name)
    yield (
        ir.RATE_POLICIES,
        key,
        ir.RatePolicy(
            key=key,
            origin=Origin(obj.ref),
            selector=pairs(spec.selector.match_labels) if spec.selector is not None else (),
            targets=targets_of(None, spec.target_refs),
            limits=tuple(
                ir.Limit(one.name, _when(one.when), _per(one.per), one.requests, ir.SECONDS[one.unit], one.burst)
                for one in spec.limits
            ),
            service=_service(spec.global_) if spec.global_ is not None else None,
            shadow=spec.shadow,
            headers=spec.response_headers,
            status=spec.status,
            by_connection=spec.bucket == "CONNECTION",
            max_values=spec.max_values,
        ),
    )


def _service(said: Service) -> ir.LimitService:
    return ir.LimitService(
        host=said.host,
        port=said.port,
        domain=said.domain,
        limits=tuple(ir.Limit(one.name, _when(one.when), _per(one.per)) for one in said.descriptors),
        timeout=parse_duration(said.timeout),
        fail_open=said.failure_mode == "ALLOW",
    )


def _when(said: When | None) -> ir.Condition:
    if said is None:
        return ir.Condition()
    return ir.Condition(said.methods, said.paths, pairs({key.lower(): one for key, one in said.headers.items()}))


def _per(said: tuple[Per, ...]) -> tuple[ir.Counted, ...]:
    return tuple(map(_counted, said))


def _counted(said: Per) -> ir.Counted:
    if said.header:
        return ir.Counted("header", said.header.lower(), said.value)
    if said.query:
        return ir.Counted("query", said.query, said.value)
    return ir.Counted(cast("Attribute", said.attribute.lower()), "", said.value)
