"""What a policy is for: workloads chosen by labels, or gateways named by references (istio `policyattachment`)."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from typing import Any, Protocol, TypeVar, cast

import msgspec

from fairlead.inc import Index, Reader
from fairlead.ir.filters import Pairs
from fairlead.ir.view import selects
from fairlead.model.target import TargetReference

GATEWAY_NAME_LABELS = ("gateway.networking.k8s.io/gateway-name", "istio.io/gateway-name")
"""Labels by which a proxy says which Gateway of the Gateway API it serves; the second is the older one."""


class Target(msgspec.Struct, frozen=True):
    """An object that a policy names: `group/kind` and the name, in the policy's own namespace."""

    kind: str
    name: str


GATEWAY_KIND = "gateway.networking.k8s.io/Gateway"


def targets_of(target: TargetReference | None, targets: tuple[TargetReference, ...]) -> tuple[Target, ...]:
    """The targets that an object names in either of its fields."""
    return tuple(Target(f"{one.group}/{one.kind}", one.name) for one in ((target,) if target is not None else targets))


def attaches(
    policy_namespace: str, selector: Pairs, targets: tuple[Target, ...], namespace: str, labels: Pairs
) -> bool:
    """Whether a policy is for the workload with these labels in a namespace.

    With targets it is for the proxies of the Gateways that they name, and for nobody else: Services, ServiceEntries
    and GatewayClasses are served by waypoints. Without, its selector decides. Whether the policy's namespace speaks for
    the workload at all (its own, or the root namespace) is for the caller to know.
    """
    if not targets:
        return selects(selector, labels)
    names = {value for key, value in labels if key in GATEWAY_NAME_LABELS}
    return policy_namespace == namespace and any(
        target.kind == GATEWAY_KIND and target.name in names for target in targets
    )


Place = tuple[str, str, str]
"""Where a policy is looked for: its namespace, and a label and value of the workload ("" and "": any workload)."""


class Attached(Protocol):
    """What is for some workloads: a policy, an extension."""

    @property
    def selector(self) -> Pairs:
        """Labels of the workloads."""
        ...

    @property
    def targets(self) -> tuple[Target, ...]:
        """Gateways, in place of a selector."""
        ...


_K = TypeVar("_K", bound=Hashable)
_V = TypeVar("_V", bound=Attached)


def places(namespace: str, one: Attached) -> Iterator[Place]:
    """The buckets of an index by which `attached` finds what is for a workload, and nothing that is for others.

    One label of the selector is enough: whoever lacks it is not meant.
    """
    if one.targets:
        yield from ((namespace, label, target.name) for target in one.targets for label in GATEWAY_NAME_LABELS)
    else:
        yield (namespace, *one.selector[0]) if one.selector else (namespace, "", "")


def attached(
    r: Reader, index: Index[Place, _K, _V], namespaces: Iterable[str], namespace: str, labels: Pairs
) -> Iterator[_V]:
    """What some namespaces have for a workload of `namespace` with these labels, each namespace's in order of keys.

    `index` is one by `places`. A change of what is for workloads with other labels does not concern the reader.
    """
    for speaking in dict.fromkeys(namespaces):
        at: tuple[Place, ...] = ((speaking, "", ""), *((speaking, *pair) for pair in labels))
        found = {key: row for place in at for key, row in r.rows(index, place)}
        # Keys of one table can be compared, as the buckets of its indexes are sorted by them.
        for one in (found[key] for key in sorted(cast("list[Any]", [*found]))):
            if attaches(speaking, one.selector, one.targets, namespace, labels):
                yield one
