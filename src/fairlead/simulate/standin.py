"""Workloads and gateways of files, where no mesh runs: what their proxies would say of themselves.

Instances come from WorkloadEntries, and from what would register itself: each Process, and a member of each
WorkloadGroup. Where no file has a proxy for a Gateway's selector, a gateway stands in for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from zlib import crc32

from fairlead.compiler.endpoints import spiffe
from fairlead.compiler.hosts import mesh as mesh_settings
from fairlead.compiler.model import OBJECTS, MeshModel
from fairlead.ir.filters import Pairs
from fairlead.ir.gateway import GATEWAYS
from fairlead.ir.learned import OnDemand
from fairlead.ir.mesh import MESH_KEY
from fairlead.ir.view import View, pairs, selects
from fairlead.ir.workload import WORKLOADS, WORKLOADS_BY_ADDRESS, Workload, WorkloadKey
from fairlead.kinds.process.spec import ON_DEMAND, ProcessSpec
from fairlead.kinds.workloadgroup.spec import WorkloadGroup
from fairlead.model.entry import TLS_MODE
from fairlead.model.group import GROUP_ANNOTATION, WORKLOAD_LABEL, entry_document
from fairlead.model.launch import AppPort, Capture
from fairlead.model.manifest import Json
from fairlead.model.object import Object
from fairlead.model.ref import Ref
from fairlead.simulate.mesh import Proxy, Workloads

_ENTRIES = "networking.istio.io"
_BLOCK = "127.66"
_ADDRESSES = 15_000
"""Addresses of instances that have none in the files; a node gives addresses of this block, too."""
_APPLICATIONS, _OUTBOUND = "127.67", "127.68"


class FileWorkloads:
    """The workloads of a model that was loaded from files. Registers what would register itself."""

    def __init__(self, model: MeshModel) -> None:
        self._model = model
        objects = model.engine.items(OBJECTS)
        self._processes = {f"{ref.name}-0.{ref.namespace}": obj for ref, obj in objects if ref.kind == "Process"}
        model.apply(_registered(model, objects))
        self._routers: tuple[Proxy, ...] | None = None

    def named(self, name: str, namespace: str) -> Sequence[Proxy]:
        """The proxies of a workload or instance; `NAME.NAMESPACE` is understood, too."""
        known = self._instance(name, namespace)
        if known is not None:
            return [known]
        short, _, where = name.partition(".")
        found = [
            self._proxy(row)
            for key, row in self._model.engine.items(WORKLOADS)
            if row.mesh or f"{key.name}.{key.namespace}" in self._processes
            if namespace in ("", key.namespace)
            if name in (key.name, row.workload_name)
            or (short in (key.name, row.workload_name) and where == key.namespace)
        ]
        found += [
            one for one in self.routers() if name in (one.name, one.shown) and namespace in ("", one.view.namespace)
        ]
        return found

    def _instance(self, name: str, namespace: str) -> Proxy | None:
        """An instance by its own name, or the first one of a workload: without looking at all workloads."""
        if not namespace:
            name, _, namespace = name.partition(".")
        for called in (name, f"{name}-0"):
            row = self._model.engine.get(WORKLOADS, WorkloadKey("WorkloadEntry", namespace, called))
            if row is not None and row.mesh and name in (called, row.workload_name):
                return self._proxy(row)
        return None

    def at(self, address: str) -> Proxy | None:
        """The proxy of the workload at an address; None where it has none."""
        for one in self.routers():
            if one.address == address:
                return one
        for key in self._model.engine.find(WORKLOADS_BY_ADDRESS, address):
            row = self._model.engine.get(WORKLOADS, key)
            if row is not None and row.mesh:
                return self._proxy(row)
        return None

    def routers(self) -> Sequence[Proxy]:
        """The gateways: Processes that are routers, instances that a Gateway selects, and stand-ins."""
        if self._routers is None:
            self._routers = tuple(self._find_routers())
        return self._routers

    def names(self) -> Sequence[str]:
        """Workloads by name."""
        found = {f"{row.workload_name}.{key.namespace}" for key, row in self._model.engine.items(WORKLOADS) if row.mesh}
        return tuple(sorted(found))

    def _find_routers(self) -> Iterator[Proxy]:
        rows = [row for _, row in self._model.engine.items(WORKLOADS)]
        labels: list[Pairs] = []
        number = 0
        for ref, obj in self._model.engine.items(OBJECTS):
            if ref.kind != "Process" or obj.spec.proxy != "router":
                continue
            number += 1
            spec: ProcessSpec = obj.spec
            labels.append(pairs(spec.labels))
            yield self._router(f"{ref.name}-0", ref, labels[-1], spec.service_account_name, f"{_BLOCK}.255.{number}")
        for row in rows:
            if any(gateway.selector and selects(gateway.selector, row.labels) for gateway in self._gateways()):
                labels.append(row.labels)
                ref = Ref(_ENTRIES, row.key.kind, row.key.namespace, row.workload_name)
                yield self._router(row.key.name, ref, row.labels, row.service_account, row.address)
        for gateway in self._gateways():
            if not any(selects(gateway.selector, one) for one in labels):
                labels.append(gateway.selector)
                number += 1
                ref = gateway.origin.ref._replace(namespace=gateway.key.namespace)
                yield self._router(ref.name, ref, gateway.selector, ref.name, f"{_BLOCK}.255.{number}")

    def _gateways(self) -> list[Any]:
        return [row for _, row in self._model.engine.items(GATEWAYS)]

    def _router(self, name: str, ref: Ref, labels: Pairs, account: str, address: str) -> Proxy:
        view = View(
            "router",
            ref.namespace,
            labels,
            account or "default",
            (address,),
            workload_name=ref.name,
            capture=Capture("none"),
        )
        return Proxy(view, name, self._identity(ref.namespace, account))

    def _identity(self, namespace: str, account: str) -> str:
        domain = self._model.engine.call(mesh_settings, MESH_KEY).trust_domain
        return spiffe(domain, namespace, account)

    def _proxy(self, row: Workload) -> Proxy:
        process = self._processes.get(f"{row.key.name}.{row.key.namespace}")
        labels = row.labels if process is None else pairs(process.spec.labels)
        view = View(
            type="sidecar",
            namespace=row.key.namespace,
            labels=labels,
            service_account=row.service_account or "default",
            addresses=(row.address,) if row.address else (),
            network=row.network,
            locality=row.locality,
            workload_name=row.workload_name,
            capture=Capture("redirect") if process is None else _capture(process.spec, row.address),
            ports=() if process is None else _ports(process.spec),
            on_demand="" if process is None else _on_demand(process),
        )
        return Proxy(view, row.key.name, self._identity(row.key.namespace, row.service_account))


def proxies(workloads: Workloads) -> tuple[Proxy, ...]:
    """All proxies of workloads, in the order of names, then the gateways; each once."""
    found = [one for name in workloads.names() for one in workloads.named(*name.rsplit(".", 1))]
    return tuple(dict.fromkeys((*found, *workloads.routers())))


def _capture(spec: ProcessSpec, address: str) -> Capture:
    """As a node would that may make network namespaces, unless the Process asks for something else."""
    if spec.proxy == "none" or spec.capture == "none":
        return Capture("none")
    if spec.capture == "explicit":
        last = address.removeprefix(_BLOCK)
        return Capture("explicit", app_address=f"{_APPLICATIONS}{last}", outbound_address=f"{_OUTBOUND}{last}")
    return Capture("redirect")


def _on_demand(process: Object[Any]) -> OnDemand:
    """As the Process's annotation says, "" where the mesh's settings decide."""
    said = process.meta.annotations.get(ON_DEMAND, "")
    return "true" if said == "true" else "false" if said == "false" else ""


def _ports(spec: ProcessSpec) -> tuple[AppPort, ...]:
    return tuple(AppPort(one.port, one.name, one.app_protocol or one.protocol) for one in spec.ports)


def _registered(model: MeshModel, objects: Sequence[tuple[Ref, Object[Any]]]) -> list[Object[Any]]:
    """The entries of Processes and members of groups that have not got one in the files.

    Their addresses come from their names, so that they stay while others come and go.
    """
    made: list[Object[Any]] = []
    known = {ref for ref, _ in objects}
    taken: set[int] = set()
    for document in _documents(objects):
        meta = document["metadata"]
        if Ref(_ENTRIES, "WorkloadEntry", meta["namespace"], meta["name"]) in known:
            continue
        number = crc32(f"{meta['namespace']}/{meta['name']}".encode()) % _ADDRESSES
        while number in taken:
            number = (number + 1) % _ADDRESSES
        taken.add(number)
        document["spec"]["address"] = f"{_BLOCK}.{number // 250}.{number % 250 + 1}"
        obj, _ = model.kinds.read(document, meta["namespace"])
        if obj is not None:
            made.append(obj)
    return made


def _documents(objects: Sequence[tuple[Ref, Object[Any]]]) -> Iterator[Json]:
    grouped = {
        (ref.namespace, obj.meta.annotations.get(GROUP_ANNOTATION))
        for ref, obj in objects
        if ref.kind == "WorkloadEntry"
    }
    for ref, obj in objects:
        if ref.kind == "Process" and obj.spec.proxy != "router" and obj.spec.replicas:
            yield _process_entry(ref, obj.spec)
        elif ref.kind == "WorkloadGroup" and (ref.namespace, ref.name) not in grouped:
            spec: WorkloadGroup = obj.spec
            document = entry_document(ref.name, "", ref.namespace, spec, "127.66.0.1", probed=False)
            document["metadata"]["name"] = f"{ref.name}-0"
            yield document


def _process_entry(ref: Ref, spec: ProcessSpec) -> Json:
    """As a node registers a replica."""
    labels = {**spec.labels, WORKLOAD_LABEL: ref.name}
    body: Json = {"labels": labels, "ports": {one.name: one.port for one in spec.ports if one.name}}
    if spec.proxy == "sidecar":
        labels[TLS_MODE] = "istio"
        body["serviceAccount"] = spec.service_account_name
    meta = {"name": f"{ref.name}-0", "namespace": ref.namespace, "labels": dict(spec.labels)}
    return {"apiVersion": f"{_ENTRIES}/v1", "kind": "WorkloadEntry", "metadata": meta, "spec": body}
