"""One simulated proxy: what Envoy asks for over delta ADS, and honest answers."""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections.abc import Callable, Iterable
from typing import Any

import grpc.aio
from envoy.config.cluster.v3 import cluster_pb2
from envoy.service.discovery.v3 import discovery_pb2

_PREFIX = "type.googleapis.com/"
CLUSTER = _PREFIX + "envoy.config.cluster.v3.Cluster"
ENDPOINT = _PREFIX + "envoy.config.endpoint.v3.ClusterLoadAssignment"
LISTENER = _PREFIX + "envoy.config.listener.v3.Listener"
ROUTE = _PREFIX + "envoy.config.route.v3.RouteConfiguration"
NAME_TABLE = _PREFIX + "istio.networking.nds.v1.NameTable"
METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
POISON = b"refuse-this"
"""A proxy that refuses does so to any resource with these bytes."""


class Shared:
    """What proxies of one process have in common: names, versions, and what a resource's bytes lead to."""

    def __init__(self) -> None:
        self.text: dict[str, str] = {}
        self.known: dict[tuple[str, str], tuple[str, ...]] = {}

    def leads_to(self, resource: discovery_pb2.Resource, type_url: str) -> tuple[str, ...]:
        """The endpoint sets that a cluster needs, or the routes that a listener needs."""
        key = (resource.name, resource.version)
        found = self.known.get(key)
        if found is None:
            body = resource.resource.value
            found = _assignment(body) if type_url == CLUSTER else _routes(body)
            self.known[key] = found
        return found


def _assignment(body: bytes) -> tuple[str, ...]:
    made = cluster_pb2.Cluster.FromString(body)
    if made.type != cluster_pb2.Cluster.EDS:
        return ()
    return (made.eds_cluster_config.service_name or made.name,)


def _routes(body: bytes) -> tuple[str, ...]:
    from envoy.config.listener.v3 import listener_pb2
    from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm

    found: dict[str, None] = {}
    made = listener_pb2.Listener.FromString(body)
    for chain in (*made.filter_chains, made.default_filter_chain):
        for one in chain.filters:
            if one.typed_config.Is(hcm.HttpConnectionManager.DESCRIPTOR):
                manager = hcm.HttpConnectionManager()
                one.typed_config.Unpack(manager)
                if manager.HasField("rds"):
                    found[manager.rds.route_config_name] = None
    return tuple(found)


class Expectation:
    """A resource that proxies are to acknowledge: when each of `among` did."""

    def __init__(self, type_url: str, name: str, mark: bytes, among: Iterable[int]) -> None:
        self.type_url = type_url
        self.name = name
        self.mark = mark
        self.waiting = set(among)
        self.times: list[float] = []
        self.done = asyncio.Event()
        if not self.waiting:
            self.done.set()

    def seen(self, proxy: int, resource: discovery_pb2.Resource) -> bool:
        """Whether this resource is what is expected of this proxy."""
        return (
            proxy in self.waiting
            and (not self.name or resource.name == self.name)
            and self.mark in resource.resource.value
        )

    def met(self, proxy: int) -> None:
        """The proxy has acknowledged it."""
        self.waiting.discard(proxy)
        self.times.append(time.monotonic())
        if not self.waiting:
            self.done.set()


class Fleet:
    """What all proxies of a process count and wait for."""

    def __init__(self) -> None:
        self.shared = Shared()
        self.responses = self.bytes = self.acks = self.nacks = self.connections = 0
        self.expected: list[Expectation] = []
        self.errors: dict[str, int] = {}
        self.digests = False
        """Whether proxies keep a hash of the bytes of each resource (the soak compares them)."""


def claimed(spec: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The node id and the metadata with which a proxy describes itself."""
    name, namespace, ip = spec["name"], spec["namespace"], spec["address"]
    metadata = {
        "NAMESPACE": namespace,
        "SERVICE_ACCOUNT": spec["account"],
        "LABELS": {"app": spec["account"]},
        "INSTANCE_IPS": ip,
        "NAME": name,
    }
    return f"sidecar~{ip}~{name}.{namespace}~{namespace}.svc.cluster.local", metadata


def digest(body: bytes) -> str:
    """What is compared of a resource's bytes."""
    return hashlib.blake2b(body, digest_size=12).hexdigest()


class Proxy:
    """A proxy's life: connect, follow, and connect again when the stream ends."""

    def __init__(self, fleet: Fleet, spec: dict[str, Any], dial: Callable[[], grpc.aio.Channel]) -> None:
        self.fleet = fleet
        self.index: int = spec["index"]
        self.role: str = spec.get("role", "prompt")
        self._spec = spec
        self._dial = dial
        self.held: dict[str, dict[str, str]] = {CLUSTER: {}, ENDPOINT: {}, LISTENER: {}, ROUTE: {}, NAME_TABLE: {}}
        self.bodies: dict[str, dict[str, str]] = {}
        self._wanted: dict[str, set[str]] = {ENDPOINT: set(), ROUTE: set()}
        self._stream: Any = None
        self._answered: set[str] = set()
        self.in_sync = asyncio.Event()
        self.synced_at = 0.0

    async def run(self) -> None:
        """Never ends by itself."""
        delay = 0.1
        while True:
            begun = time.monotonic()
            try:
                await self._connect()
            except grpc.aio.AioRpcError as error:
                said = f"{error.code().name}: {error.details()}"[:200]
                self.fleet.errors[said] = self.fleet.errors.get(said, 0) + 1
            self.in_sync.clear()
            delay = 0.1 if time.monotonic() - begun > 5 else min(delay * 2, 2.0)
            await asyncio.sleep(delay * (0.5 + random.random()))

    async def _connect(self) -> None:
        channel = self._dial()
        try:
            call = channel.stream_stream(METHOD)
            self._stream = call(wait_for_ready=False)
            self._answered.clear()
            self.fleet.connections += 1
            first = discovery_pb2.DeltaDiscoveryRequest()
            self._describe(first.node)
            for type_url in (CLUSTER, LISTENER, NAME_TABLE):
                first.type_url = type_url
                first.initial_resource_versions.update(self.held[type_url])
                await self._stream.write(first.SerializeToString())
                first = discovery_pb2.DeltaDiscoveryRequest()
            for type_url, names in self._wanted.items():
                if names:
                    await self._subscribe(type_url, names, self.held[type_url])
            async with asyncio.timeout(self._lifetime()):
                await self._follow()
        except TimeoutError:
            pass
        finally:
            self._stream = None
            await channel.close()

    def _lifetime(self) -> float | None:
        return random.uniform(3, 12) if self.role == "reconnect" else None

    def _describe(self, node: Any) -> None:
        node.id, metadata = claimed(self._spec)
        node.metadata.update(metadata)

    async def _subscribe(self, type_url: str, names: Iterable[str], held: dict[str, str] | None = None) -> None:
        request = discovery_pb2.DeltaDiscoveryRequest(type_url=type_url)
        request.resource_names_subscribe.extend(names)
        if held:
            request.initial_resource_versions.update(held)
        await self._stream.write(request.SerializeToString())

    async def _follow(self) -> None:
        while True:
            data = await self._stream.read()
            if data is grpc.aio.EOF:
                return
            if self.role == "slow":
                await asyncio.sleep(1)
            response = discovery_pb2.DeltaDiscoveryResponse.FromString(data)
            if self.role in ("prompt", "nack"):
                # Those that come and go are told everything anew at any time, and the slow take things late.
                self.fleet.responses += 1
                self.fleet.bytes += len(data)
            await self._take(response)

    async def _take(self, response: discovery_pb2.DeltaDiscoveryResponse) -> None:
        type_url = response.type_url
        answer = discovery_pb2.DeltaDiscoveryRequest(type_url=type_url, response_nonce=response.nonce)
        if self.role == "nack":
            bad = [one.name for one in response.resources if POISON in one.resource.value]
            if bad:
                answer.error_detail.code = 13
                answer.error_detail.message = "; ".join(f"{name}: will not have it" for name in bad[:10])
                self.fleet.nacks += 1
                await self._stream.write(answer.SerializeToString())
                return
        met = [
            one
            for one in self.fleet.expected
            if one.type_url == type_url and any(one.seen(self.index, found) for found in response.resources)
        ]
        self._keep(response)
        await self._stream.write(answer.SerializeToString())
        self.fleet.acks += 1
        self._answered.add(type_url)
        for one in met:
            one.met(self.index)
        await self._follow_up(response)
        if not self.in_sync.is_set() and self._is_complete():
            self.synced_at = time.monotonic()
            self.in_sync.set()

    def _keep(self, response: discovery_pb2.DeltaDiscoveryResponse) -> None:
        text = self.fleet.shared.text
        held = self.held.setdefault(response.type_url, {})
        for one in response.resources:
            held[text.setdefault(one.name, one.name)] = text.setdefault(one.version, one.version)
        for name in response.removed_resources:
            held.pop(name, None)
        if self.fleet.digests:
            bodies = self.bodies.setdefault(response.type_url, {})
            bodies.update((text[one.name], digest(one.resource.value)) for one in response.resources)
            for name in response.removed_resources:
                bodies.pop(name, None)

    async def _follow_up(self, response: discovery_pb2.DeltaDiscoveryResponse) -> None:
        """Subscribe to what new clusters and listeners need."""
        below = {CLUSTER: ENDPOINT, LISTENER: ROUTE}.get(response.type_url)
        if below is None:
            return
        shared, wanted = self.fleet.shared, self._wanted[below]
        new = {
            shared.text.setdefault(name, name)
            for one in response.resources
            for name in shared.leads_to(one, response.type_url)
        } - wanted
        wanted |= new
        gone = wanted.intersection(response.removed_resources) if below == ENDPOINT else set()
        if gone:
            wanted -= gone
            for name in gone:
                self.held[below].pop(name, None)
                self.bodies.get(below, {}).pop(name, None)
            request = discovery_pb2.DeltaDiscoveryRequest(type_url=below)
            request.resource_names_unsubscribe.extend(gone)
            await self._stream.write(request.SerializeToString())
        if new:
            await self._subscribe(below, new)

    def _is_complete(self) -> bool:
        """Whether everything that was asked for is there, and the server has spoken since the connection began."""
        return (
            {CLUSTER, LISTENER} <= self._answered
            and bool(self.held[CLUSTER])
            and bool(self.held[LISTENER])
            and all(names <= self.held[type_url].keys() for type_url, names in self._wanted.items())
        )
