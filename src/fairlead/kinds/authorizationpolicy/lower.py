"""AuthorizationPolicy to access policies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import msgspec

from fairlead.inc import Reader
from fairlead.ir import security
from fairlead.ir.attachment import targets_of
from fairlead.ir.kind import DRY_RUN, Emission
from fairlead.ir.security import ACCESS_POLICIES, AccessPolicy, AccessRule
from fairlead.ir.view import pairs
from fairlead.kinds.authorizationpolicy.spec import AuthorizationPolicy, Rule
from fairlead.model.diagnostic import Origin
from fairlead.model.object import Object, Spec
from fairlead.model.path import SPEC
from fairlead.model.ref import NamespacedName

TRUE = frozenset(("1", "t", "T", "TRUE", "true", "True"))
FALSE = frozenset(("0", "f", "F", "FALSE", "false", "False"))

F = TypeVar("F", bound=msgspec.Struct)


def lower(_: Reader, obj: Object[AuthorizationPolicy]) -> Iterator[Emission]:
    """One policy."""
    spec = obj.spec
    key = NamespacedName(obj.ref.namespace, obj.ref.name)
    yield (
        ACCESS_POLICIES,
        key,
        AccessPolicy(
            key=key,
            origin=Origin(obj.ref),
            selector=pairs(spec.selector.match_labels) if spec.selector is not None else (),
            action=spec.action,
            rules=tuple(
                _rule(rule, Origin(obj.ref, SPEC.child("rules", at))) for at, rule in enumerate(spec.rules or ())
            ),
            provider=spec.provider.name if spec.provider is not None else "",
            dry_run=obj.meta.annotations.get(DRY_RUN) in TRUE,
            created=obj.meta.creation_timestamp or "",
            targets=targets_of(spec.target_ref, spec.target_refs),
        ),
    )


def _rule(rule: Rule, origin: Origin) -> AccessRule:
    return AccessRule(
        origin=origin,
        sources=tuple(_same(one.source, security.Source) for one in rule.callers or () if one.source is not None),
        operations=tuple(_same(one.operation, security.Operation) for one in rule.to or () if one.operation),
        conditions=tuple(_same(one, security.Condition) for one in rule.when),
    )


def _same(spec: Spec, fact: type[F]) -> F:
    """The fact whose fields have the names and values of the spec's."""
    return fact(**{name: getattr(spec, name) for name in fact.__struct_fields__})
