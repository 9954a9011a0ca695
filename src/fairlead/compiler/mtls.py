"""Which mTLS mode holds for a workload's port.

Istio's rules (PeerAuthentication): a policy without a selector in the root namespace speaks for the mesh, elsewhere for
its namespace; one with a selector speaks for the workloads that it covers in its own namespace, and only such a one may
speak of single ports. The narrower wins, UNSET inherits, and of several of one kind the oldest stands.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec

from fairlead.compiler.hosts import settings
from fairlead.inc import Reader, rule
from fairlead.ir.filters import Pairs
from fairlead.ir.security import PEER_POLICIES_BY_NAMESPACE, PeerPolicy
from fairlead.ir.view import selects
from fairlead.model.diagnostic import Diagnostic, Severity

Mode = Literal["DISABLE", "PERMISSIVE", "STRICT"]


class MtlsKey(NamedTuple):
    """A port of a workload; port 0 asks for whatever is not said of single ports."""

    namespace: str
    labels: Pairs
    port: int = 0


class WorkloadMtls(msgspec.Struct, frozen=True):
    """The modes of a workload: the general one, and those of single ports in the order of numbers."""

    mode: Mode = "PERMISSIVE"
    ports: tuple[tuple[int, Mode], ...] = ()

    def on(self, port: int) -> Mode:
        """The mode of a port."""
        return dict(self.ports).get(port, self.mode)


@rule
def workload_mtls(r: Reader, key: tuple[str, Pairs]) -> WorkloadMtls:
    """The modes that hold for a workload with these labels in a namespace."""
    namespace, labels = key
    root = settings(r).root_namespace
    mode = _general(r, root, "PERMISSIVE")
    if namespace == root:
        return WorkloadMtls(mode)
    mode = _general(r, namespace, mode)
    special = [one for one in _policies(r, namespace) if one.selector and selects(one.selector, labels)]
    if not special:
        return WorkloadMtls(mode)
    chosen = _oldest(r, special)
    mode = _said(chosen.mode, mode)
    return WorkloadMtls(mode, tuple(sorted((port, _said(said, mode)) for port, said in chosen.ports)))


@rule
def inbound_mtls(r: Reader, key: MtlsKey) -> Mode:
    """The mode of one port: PERMISSIVE where nobody says anything."""
    return workload_mtls(r, (key.namespace, key.labels)).on(key.port)


def _general(r: Reader, namespace: str, inherited: Mode) -> Mode:
    found = [one for one in _policies(r, namespace) if not one.selector]
    return _said(_oldest(r, found).mode, inherited) if found else inherited


def _policies(r: Reader, namespace: str) -> list[PeerPolicy]:
    return [policy for _, policy in r.rows(PEER_POLICIES_BY_NAMESPACE, namespace)]


def _oldest(r: Reader, policies: list[PeerPolicy]) -> PeerPolicy:
    """The policy that stands; reports those of the same level that it leaves without effect."""
    chosen = min(policies, key=lambda one: (one.created, one.key))
    for one in policies:
        if one is not chosen:
            said = f"PeerAuthentication {chosen.key} is older and speaks for the same workloads: this one has no effect"
            remedy = "Delete one of the two, or give them selectors that do not meet."
            r.report(Diagnostic("FL2611", Severity.WARNING, said, one.origin, remedy))
    return chosen


def _said(mode: Literal["UNSET", "DISABLE", "PERMISSIVE", "STRICT"], inherited: Mode) -> Mode:
    return inherited if mode == "UNSET" else mode
