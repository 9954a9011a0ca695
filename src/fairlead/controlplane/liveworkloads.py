"""The connected proxies as the workloads of a mesh that requests are walked through."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fairlead.compiler.endpoints import spiffe
from fairlead.controlplane.proxylist import Known
from fairlead.simulate.mesh import Proxy


class LiveWorkloads:
    """Proxies that were connected when this was made, for one question."""

    def __init__(self, known: Iterable[Known], trust_domain: str) -> None:
        self._domain = trust_domain
        self._known = list(known)
        self._at = {address: one for one in self._known for address in one.view.addresses}

    def named(self, name: str, namespace: str) -> Sequence[Proxy]:
        """The proxies of a workload or replica; `NAME.NAMESPACE` is understood, too."""
        short, _, where = name.partition(".")
        return [
            self._proxy(one)
            for one in self._known
            if namespace in ("", one.namespace)
            if name in (one.name, one.view.workload_name)
            or (where == one.namespace and short in (one.name, one.view.workload_name))
        ]

    def at(self, address: str) -> Proxy | None:
        """The proxy of the workload at an address."""
        found = self._at.get(address)
        return self._proxy(found) if found is not None else None

    def routers(self) -> Sequence[Proxy]:
        """The gateways, in the order of names."""
        found = [self._proxy(one) for one in self._known if one.view.type == "router"]
        return sorted(found, key=lambda one: one.shown)

    def names(self) -> Sequence[str]:
        """Workloads by name."""
        return tuple(sorted({f"{one.view.workload_name or one.name}.{one.namespace}" for one in self._known}))

    def _proxy(self, one: Known) -> Proxy:
        return Proxy(one.view, one.name, spiffe(self._domain, one.view.namespace, one.view.service_account))
