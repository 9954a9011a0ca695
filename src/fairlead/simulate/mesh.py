"""The mesh that a request is walked through: what each proxy has, where names lead, and who is at an address."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_address
from typing import Protocol

import msgspec

from fairlead.compiler.endpoints import EndpointsKey, SelectionKey, endpoints_of, selected, spiffe
from fairlead.compiler.gateways import GatewaysKey, translations
from fairlead.compiler.hosts import mesh as mesh_settings
from fairlead.compiler.model import MeshModel
from fairlead.envoy.endpoint import LbEndpoint
from fairlead.envoy.resource import CLUSTER, ENDPOINT, NAME_TABLE, Resource
from fairlead.inc import Reader, rule
from fairlead.ir.families import of_family
from fairlead.ir.host import HOSTS, HOSTS_BY_ADDRESS, HOSTS_BY_NAME, HOSTS_BY_NAMESPACE, HostKey
from fairlead.ir.mesh import MESH_KEY
from fairlead.ir.mesh import Mesh as Settings
from fairlead.ir.view import View
from fairlead.ir.workload import WORKLOADS, Workload
from fairlead.simulate.origins import Origins, Positions
from fairlead.simulate.world import World

Catalog = Mapping[str, Mapping[str, Resource]]


class Proxy(msgspec.Struct, frozen=True):
    """A proxy and whose it is: its view, its name (`web-v1-0`) and its application's identity (a SPIFFE id)."""

    view: View
    name: str
    identity: str

    @property
    def shown(self) -> str:
        """`NAME.NAMESPACE`."""
        return f"{self.name}.{self.view.namespace}"

    @property
    def address(self) -> str:
        """Where peers reach the workload, "" if that is not known."""
        return self.view.addresses[0] if self.view.addresses else ""


class Workloads(Protocol):
    """Which proxies there are."""

    def named(self, name: str, namespace: str) -> Sequence[Proxy]:
        """The proxies of a workload or instance, the first one first; an empty namespace is any."""
        ...

    def at(self, address: str) -> Proxy | None:
        """The proxy of the workload at an address."""
        ...

    def routers(self) -> Sequence[Proxy]:
        """The gateways."""
        ...

    def names(self) -> Sequence[str]:
        """What can be named as a caller, `NAME.NAMESPACE` each."""
        ...


class Resolved(msgspec.Struct, frozen=True):
    """Where a name leads a client: the mesh's name for it ("" if the mesh does not know it) and its addresses."""

    hostname: str
    addresses: tuple[str, ...]


class Mesh:
    """A model of the mesh with its proxies. What is opened for a walk stays open until `close`."""

    def __init__(
        self,
        model: MeshModel,
        workloads: Workloads,
        positions: Positions = lambda _: None,
        served: Callable[[View], Catalog] | None = None,
        world: World | None = None,
        *,
        complete: bool = True,
    ) -> None:
        self.model = model
        self.workloads = workloads
        self.world = world or World()
        self.complete = complete
        """Whether everything that the mesh has is in the model: files seldom have Secrets."""
        self.origins = Origins(model, positions)
        self._served = served or model.publisher.catalog
        self._opened: dict[View, None] = {}

    def catalog(self, view: View) -> Catalog:
        """What the proxies of a view have."""
        if view not in self._opened and view not in self.model.publisher.views:
            self.model.publisher.open(view)
            self._opened[view] = None
        return self.model.publisher.catalog(view) if view in self._opened else self._served(view)

    def close(self) -> None:
        """Let go of what was opened."""
        for view in self._opened:
            self.model.publisher.close(view)
        self._opened = {}

    def asks(self, view: View) -> bool:
        """Whether the proxies of a view ask for clusters when they need them."""
        self.catalog(view)
        return self.model.publisher.asks(view)

    def on_demand(self, view: View, name: str) -> tuple[Resource | None, Resource | None]:
        """A cluster, and its endpoints, that a proxy which asks for clusters is given when it asks."""
        whole = self.catalog(msgspec.structs.replace(view, on_demand="false"))
        return whole[CLUSTER].get(name), whole[ENDPOINT].get(name)

    @property
    def settings(self) -> Settings:
        """The mesh-wide settings."""
        return self.model.engine.call(mesh_settings, MESH_KEY)

    def identity(self, namespace: str, account: str) -> str:
        """The SPIFFE id of a service account."""
        return spiffe(self.settings.trust_domain, namespace, account)

    def resolve(self, view: View, host: str) -> Resolved:
        """Where the names of the mesh lead a client; a name that the mesh does not know has no addresses."""
        tables = self.catalog(view)[NAME_TABLE]
        for name in names_of(host, view.namespace, view.domain_suffix):
            owner = name.split(".")[1] if name.count(".") > 1 else ""
            chosen = [tables[owner]] if owner in tables else []
            for table in (*chosen, *(one for at, one in tables.items() if at != owner)):
                found = self.world.names(table).get(name)
                if found is not None:
                    return Resolved(name, of_family(found.ips, view.speaks))
        return Resolved("", ())

    def hostname(self, host: str, namespace: str, suffix: str = "cluster.local") -> str:
        """The mesh's name for a host, "" if it has none; of wildcards the nearest."""
        for name in names_of(host, namespace, suffix):
            if self.model.engine.find(HOSTS_BY_NAME, name):
                return name
        return ""

    def is_nowhere(self, view: View, host: str) -> bool:
        """Whether a name can only be one of the mesh, and is none: one word, or inside of a namespace or its domain."""
        if is_address(host) or self.hostname(host, view.namespace, view.domain_suffix):
            return False
        parts = host.lower().rstrip(".").split(".")
        inside = len(parts) > 2 and parts[2] == "svc" and ".".join(parts[3:]) in ("", view.domain_suffix)
        namespaced = len(parts) == 2 and bool(self.model.engine.find(HOSTS_BY_NAMESPACE, parts[1]))
        return len(parts) == 1 or inside or namespaced

    def hosts_of(self, namespace: str) -> tuple[str, ...]:
        """The short names of a namespace's hosts."""
        return tuple(one.hostname.partition(".")[0] for one in self.model.engine.find(HOSTS_BY_NAMESPACE, namespace))

    def instances(self, hostname: str, port: int) -> tuple[LbEndpoint, ...]:
        """The instances of a host's port, whoever calls it."""
        found: list[LbEndpoint] = []
        for key in self.model.engine.find(HOSTS_BY_NAME, hostname):
            found.extend(self.model.engine.call(endpoints_of, EndpointsKey(key, port)))
        return tuple(found)

    def selected(self, hostname: str) -> tuple[Workload, ...]:
        """The workloads that a host's selector chooses, healthy or not."""
        found: list[Workload] = []
        for key in self.model.engine.find(HOSTS_BY_NAME, hostname):
            row = self.model.engine.get(HOSTS, key)
            if row is None or row.selector is None:
                continue
            for at in self.model.engine.call(selected, SelectionKey(key.namespace, row.selector)):
                workload = self.model.engine.get(WORKLOADS, at)
                found.extend([workload] if workload is not None else ())
        return tuple(found)

    def ports(self, hostname: str) -> tuple[int, ...]:
        """The ports of a host."""
        rows = (self.model.engine.get(HOSTS, key) for key in self.model.engine.find(HOSTS_BY_NAME, hostname))
        return tuple(dict.fromkeys(port.number for row in rows if row is not None for port in row.ports))

    def virtual(self, address: str) -> HostKey | None:
        """The host whose virtual address this is; None for addresses of instances and of others."""
        return next(iter(self.model.engine.find(HOSTS_BY_ADDRESS, address)), None)

    def listening_port(self, router: Proxy, port: int) -> int:
        """The port on which a gateway listens for what clients call a port: services may lead from one to another."""
        found = self.model.engine.call(_translated, router.view)
        return dict(found).get(port, port)


@rule
def _translated(r: Reader, view: View) -> tuple[tuple[int, int], ...]:
    return tuple((one.port, one.target) for one in translations(r, GatewaysKey.of(r, view)))


def names_of(host: str, namespace: str, suffix: str) -> Iterator[str]:
    """The full names that a host's name may stand for, in the order in which the mesh's DNS looks."""
    plain = host.lower().rstrip(".")
    yield plain
    parts = plain.split(".")
    if len(parts) == 1:
        yield f"{plain}.{namespace}.svc.{suffix}"
    elif len(parts) == 2:
        yield f"{plain}.svc.{suffix}"
    elif len(parts) == 3 and parts[2] == "svc":
        yield f"{plain}.{suffix}"
    rest = plain
    while "." in rest:
        rest = rest.partition(".")[2]
        yield f"*.{rest}"


def is_address(text: str) -> bool:
    """Whether a text is an IP address."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def chosen(found: Iterable[Proxy]) -> Proxy | None:
    """The first one by name: instances of a workload are alike to whom nothing tells them apart."""
    return min(found, key=lambda one: (one.name, one.view.namespace), default=None)
