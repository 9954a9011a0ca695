"""What a policy is for: workloads chosen by labels, or gateways named by references (istio `policyattachment`)."""

from __future__ import annotations

import msgspec

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
