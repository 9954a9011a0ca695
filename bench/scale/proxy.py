"""One simulated proxy: what an agent with its Envoy asks for over delta ADS, and honest answers.

As an agent does, it takes differences of large resources, applies them to what it has acknowledged, and knows all
that it holds by name and version.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from envoy.config.cluster.v3 import cluster_pb2
from envoy.service.discovery.v3 import discovery_pb2

from bench.scale.link import Link, context, framed
from fairlead.agent.backoff import RECONNECT, Backoff
from fairlead.envoy import pack
from fairlead.xds.patch import METADATA as PATCHES
from fairlead.xds.patch import PATCH, NotApplicable, apply
from fairlead.xds.patch_pb2 import Patch

_PREFIX = "type.googleapis.com/"
CLUSTER = _PREFIX + "envoy.config.cluster.v3.Cluster"
ENDPOINT = _PREFIX + "envoy.config.endpoint.v3.ClusterLoadAssignment"
LISTENER = _PREFIX + "envoy.config.listener.v3.Listener"
ROUTE = _PREFIX + "envoy.config.route.v3.RouteConfiguration"
NAME_TABLE = _PREFIX + "istio.networking.nds.v1.NameTable"
METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
POISON = b"refuse-this"
"""A proxy that refuses does so to any resource with these bytes."""


KEPT = 1024
"""Resources of at least so many bytes may come as differences: their bytes are kept."""
REPEATED_BYTES = 1 << 22
"""Responses of fewer bytes are often sent to others too: what was merged for seconds is large, and for all the same."""
TAKEN_BYTES = 1 << 26
"""Of responses that are kept for that."""
_SAID = 8
"""So many of the last requests in which proxies said what they have are kept."""
KEPT_BYTES = 1 << 30
"""Of one process. Who comes with a difference from what was given up connects anew."""


class Body(NamedTuple):
    """A resource as it was received, whole."""

    name: str
    version: str
    value: bytes


class Taken(NamedTuple):
    """A response as it was understood: many proxies are sent the same bytes."""

    type_url: str
    nonce: str
    bodies: list[Body]
    versions: dict[str, str]
    bases: list[tuple[str, str]]
    """Names of which differences were sent, and the versions that must be held for that."""
    removed: tuple[str, ...]


class Shared:
    """What proxies of one process have in common: names, versions, and what a resource's bytes lead to.

    What one proxy has worked out of a message (a difference applied, a message parsed) the others do not repeat: in
    earnest each has a machine of its own.
    """

    def __init__(self) -> None:
        self.text: dict[str, str] = {}
        self.known: dict[tuple[str, str], tuple[str, ...]] = {}
        self._bodies: OrderedDict[tuple[str, str, str], bytes] = OrderedDict()
        self._size = 0
        self._taken: OrderedDict[bytes, Taken] = OrderedDict()
        self._taken_size = 0
        self._said: OrderedDict[str, deque[tuple[set[str], dict[str, str], bytes]]] = OrderedDict()

    def returning(self, type_url: str, names: set[str], held: dict[str, str]) -> bytes:
        """The first request about a type of who asks for these names (nothing: for all) and has these versions."""
        said = self._said.setdefault(type_url, deque(maxlen=_SAID))
        for asked, had, request in said:
            if asked == names and had == held:
                return request
        request = b"".join(
            (
                pack.framed(2, type_url.encode()),
                *[pack.framed(3, name.encode()) for name in sorted(names)],
                *[_claim(name, held[name]) for name in sorted(held)],
            )
        )
        said.append((set(names), dict(held), request))
        return request

    def taken(self, data: bytes) -> Taken:
        """A response, with its resources whole. Raises KeyError if a difference is against what nobody has kept."""
        found = self._taken.get(data)
        if found is None:
            found = self._take(discovery_pb2.DeltaDiscoveryResponse.FromString(data))
            if len(data) < REPEATED_BYTES:
                self._taken[data] = found
                self._taken_size += len(data)
                while len(self._taken) > 500 or self._taken_size > TAKEN_BYTES:
                    self._taken_size -= len(self._taken.popitem(last=False)[0])
        return found

    def _take(self, response: discovery_pb2.DeltaDiscoveryResponse) -> Taken:
        text, type_url = self.text, response.type_url
        bodies: list[Body] = []
        bases: list[tuple[str, str]] = []
        for one in response.resources:
            name, version = text.setdefault(one.name, one.name), text.setdefault(one.version, one.version)
            value = one.resource.value
            if one.resource.type_url == PATCH:
                patch = Patch.FromString(value)
                bases.append((name, patch.base))
                known = self._bodies.get((type_url, name, version))
                value = apply(patch, patch.base, self._bodies[type_url, name, patch.base]) if known is None else known
            self._keep((type_url, name, version), value)
            bodies.append(Body(name, version, value))
        versions = {one.name: one.version for one in bodies}
        return Taken(type_url, response.nonce, bodies, versions, bases, tuple(response.removed_resources))

    def _keep(self, key: tuple[str, str, str], value: bytes) -> None:
        if len(value) >= KEPT:
            if key not in self._bodies:
                self._bodies[key] = value
                self._size += len(value)
            self._bodies.move_to_end(key)
            while self._size > KEPT_BYTES:
                self._size -= len(self._bodies.popitem(last=False)[1])

    def leads_to(self, resource: Body, type_url: str) -> tuple[str, ...]:
        """The endpoint sets that a cluster needs, or the routes that a listener needs."""
        key = (resource.name, resource.version)
        found = self.known.get(key)
        if found is None:
            found = _assignment(resource.value) if type_url == CLUSTER else _routes(resource.value)
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
        self._found: dict[str, bool] = {}
        self.done = asyncio.Event()
        if not self.waiting:
            self.done.set()

    def seen(self, proxy: int, response: Taken) -> bool:
        """Whether what is expected of this proxy is in a response."""
        if response.type_url != self.type_url or proxy not in self.waiting:
            return False
        if self.name and self.name not in response.versions:
            return False
        return any(self._marked(one) for one in response.bodies if not self.name or one.name == self.name)

    def _marked(self, resource: Body) -> bool:
        if not self.mark:
            return True
        found = self._found.get(resource.version)
        if found is None:
            found = self._found[resource.version] = self.mark in resource.value
        return found

    def met(self, proxy: int) -> None:
        """The proxy has acknowledged it."""
        self.waiting.discard(proxy)
        self.times.append(time.monotonic())
        if not self.waiting:
            self.done.set()


class Fleet:
    """What all proxies of a process count and wait for."""

    def __init__(self, host: str, port: int, roots: str) -> None:
        self.host, self.port, self.roots = host, port, roots
        self.shared = Shared()
        self.responses = self.bytes = self.acks = self.nacks = self.connections = 0
        self.expected: list[Expectation] = []
        self.errors: dict[str, int] = {}
        self.digests = False
        """Whether proxies keep a hash of the bytes of each resource (the soak compares them)."""

    def failed(self, said: str) -> None:
        """Count why a stream ended."""
        self.errors[said[:200]] = self.errors.get(said[:200], 0) + 1


def claimed(spec: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The node id and the metadata with which a proxy describes itself."""
    name, namespace, ip = spec["name"], spec["namespace"], spec["address"]
    metadata = {
        "NAMESPACE": namespace,
        "SERVICE_ACCOUNT": spec["account"],
        "LABELS": {"app": spec["account"]},
        "INSTANCE_IPS": ip,
        "NAME": name,
        PATCHES: True,
    }
    return f"sidecar~{ip}~{name}.{namespace}~{namespace}.svc.cluster.local", metadata


def digest(body: bytes) -> str:
    """What is compared of a resource's bytes."""
    return hashlib.blake2b(body, digest_size=12).hexdigest()


@lru_cache(1 << 16)
def _claim(name: str, version: str) -> bytes:
    """That a version of a resource is there, as an entry of `initial_resource_versions`."""
    return pack.framed(5, pack.framed(1, name.encode()) + pack.framed(2, version.encode()))


@lru_cache(4096)
def _acknowledgement(type_url: str, nonce: str) -> bytes:
    return framed(discovery_pb2.DeltaDiscoveryRequest(type_url=type_url, response_nonce=nonce).SerializeToString())


class Proxy:
    """A proxy's life: connect, follow, and connect again when the stream ends."""

    def __init__(self, fleet: Fleet, spec: dict[str, Any], identity: str) -> None:
        self.fleet = fleet
        self.index: int = spec["index"]
        self.role: str = spec.get("role", "prompt")
        self._spec = spec
        self._tls = context(fleet.roots, identity)
        self.held: dict[str, dict[str, str]] = {CLUSTER: {}, ENDPOINT: {}, LISTENER: {}, ROUTE: {}, NAME_TABLE: {}}
        self.bodies: dict[str, dict[str, str]] = {}
        self._wanted: dict[str, set[str]] = {ENDPOINT: set(), ROUTE: set()}
        self._link: Link | None = None
        self._answered: set[str] = set()
        self._backoff = Backoff(*RECONNECT)
        self.in_sync = asyncio.Event()
        self.synced_at = 0.0

    async def run(self) -> None:
        """Never ends by itself. Waits between tries as an agent does."""
        while True:
            try:
                await self._connect()
            except OSError as error:
                self.fleet.failed(str(error))
            self.in_sync.clear()
            await asyncio.sleep(self._backoff.next())

    async def _connect(self) -> None:
        fleet = self.fleet
        link = Link(METHOD, "localhost", self)
        await link.connect(fleet.host, fleet.port, self._tls)
        self._link = link
        self._answered.clear()
        fleet.connections += 1
        try:
            link.send_all(self._first())
            async with asyncio.timeout(random.uniform(3, 12) if self.role == "reconnect" else None):
                fleet.failed(await asyncio.shield(link.over))
        except TimeoutError:
            pass
        finally:
            self._link = None
            self._backoff.hint(link.hint)
            link.close()

    def _first(self) -> Iterator[bytes]:
        """What is asked for and said at the begin of a stream: who it is, and all that it has."""
        described = discovery_pb2.DeltaDiscoveryRequest()
        described.node.id, metadata = claimed(self._spec)
        described.node.metadata.update(metadata)
        who, shared = described.SerializeToString(deterministic=True), self.fleet.shared
        for type_url in (CLUSTER, LISTENER, NAME_TABLE):
            yield who + shared.returning(type_url, set(), self.held[type_url])
            who = b""
        for type_url, names in self._wanted.items():
            if names:
                yield shared.returning(type_url, names, self.held[type_url])

    def _send(self, request: discovery_pb2.DeltaDiscoveryRequest) -> None:
        if self._link is not None:
            self._link.send(request.SerializeToString(deterministic=True))

    def _subscribe(self, type_url: str, names: Iterable[str]) -> None:
        request = discovery_pb2.DeltaDiscoveryRequest(type_url=type_url)
        request.resource_names_subscribe.extend(sorted(names))
        self._send(request)

    def received(self, body: bytes) -> None:
        """A response has come."""
        self._backoff.reset()
        if self.role == "slow":
            asyncio.get_running_loop().call_later(1, self._take, body, self._link)
        else:
            self._take(body, self._link)

    def _take(self, data: bytes, link: Link | None) -> None:
        if link is not self._link:
            return
        fleet = self.fleet
        if self.role in ("prompt", "nack"):
            # Those that come and go are told everything anew at any time, and the slow take things late.
            fleet.responses += 1
            fleet.bytes += len(data)
        try:
            response = fleet.shared.taken(data)
            type_url = response.type_url
            held = self.held.setdefault(type_url, {})
            for name, base in response.bases:
                if held.get(name, "") != base:
                    raise NotApplicable(f"{name}: against {base}, but {held.get(name)} is held")
        except (NotApplicable, KeyError) as error:
            # As an agent does: it comes again and says what it has; what it cannot name it is sent whole.
            fleet.failed(f"difference: {error}")
            self.held = {kind: {} for kind in self.held}
            self.bodies.clear()
            if link is not None:
                link.close()
            return
        bodies = response.bodies
        if self.role == "nack":
            bad = [one.name for one in bodies if POISON in one.value]
            if bad:
                answer = discovery_pb2.DeltaDiscoveryRequest(type_url=type_url, response_nonce=response.nonce)
                answer.error_detail.code = 13
                answer.error_detail.message = "; ".join(f"{name}: will not have it" for name in bad[:10])
                fleet.nacks += 1
                self._send(answer)
                return
        met = [one for one in fleet.expected if one.seen(self.index, response)]
        self._keep(response, held)
        if link is not None:
            link.send_framed(_acknowledgement(type_url, response.nonce))
        fleet.acks += 1
        self._answered.add(type_url)
        for one in met:
            one.met(self.index)
        self._follow_up(type_url, bodies, response.removed)
        if not self.in_sync.is_set() and self._is_complete():
            self.synced_at = time.monotonic()
            self.in_sync.set()

    def _keep(self, response: Taken, held: dict[str, str]) -> None:
        held.update(response.versions)
        hashes = self.bodies.setdefault(response.type_url, {}) if self.fleet.digests else {}
        if self.fleet.digests:
            hashes.update((one.name, digest(one.value)) for one in response.bodies)
        for name in response.removed:
            held.pop(name, None)
            hashes.pop(name, None)

    def _follow_up(self, type_url: str, bodies: list[Body], removed: Iterable[str]) -> None:
        """Subscribe to what new clusters and listeners need."""
        below = {CLUSTER: ENDPOINT, LISTENER: ROUTE}.get(type_url)
        if below is None:
            return
        shared, wanted = self.fleet.shared, self._wanted[below]
        new = {shared.text.setdefault(name, name) for one in bodies for name in shared.leads_to(one, type_url)} - wanted
        wanted |= new
        gone = wanted.intersection(removed) if below == ENDPOINT else set[str]()
        if gone:
            wanted -= gone
            for name in gone:
                self.held[below].pop(name, None)
                self.bodies.get(below, {}).pop(name, None)
            request = discovery_pb2.DeltaDiscoveryRequest(type_url=below)
            request.resource_names_unsubscribe.extend(gone)
            self._send(request)
        if new:
            self._subscribe(below, new)

    def _is_complete(self) -> bool:
        """Whether everything that was asked for is there, and the server has spoken since the connection began."""
        return (
            {CLUSTER, LISTENER} <= self._answered
            and bool(self.held[CLUSTER])
            and bool(self.held[LISTENER])
            and all(names <= self.held[type_url].keys() for type_url, names in self._wanted.items())
        )
