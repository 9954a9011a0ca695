"""A real Envoy against the real server, with both protocols."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.loopback import free_port
from xds_envoy import Envoy, cluster, endpoints, listener, route, until, workload_files

from fairlead.ca.authority import Authority, open_authority
from fairlead.ca.identity import Identity
from fairlead.envoy.resource import CLUSTER, ENDPOINT, LISTENER, ROUTE, Resource
from fairlead.xds.ledger import SyncState
from fairlead.xds.messages import Acked, Catalog, Event, Nacked
from fairlead.xds.server import Connection, Server, Wake
from fairlead.xds.wire import Node

WHO = Identity("cluster.local", "shop", "cart")
NODE = {
    "id": "sidecar~127.0.0.1~cart-1.shop~shop.svc.cluster.local",
    "cluster": "cart.shop",
    "metadata": {"NAMESPACE": "shop", "SERVICE_ACCOUNT": "cart"},
}


class Shelf:
    """A source that gives one catalog to everyone, and the subscription to it; also the observer."""

    def __init__(self, *resources: Resource) -> None:
        self._catalog: dict[str, dict[str, Resource]] = {}
        self._wakes: list[Wake] = []
        self.version = "1"
        self.seen: list[Event] = []
        self.live: list[Connection] = []
        self.put(*resources)

    @property
    def catalog(self) -> Catalog:
        return self._catalog

    def put(self, *resources: Resource, remove: Sequence[tuple[str, str]] = ()) -> None:
        catalog = {key: dict(named) for key, named in self._catalog.items()}
        changed: dict[str, set[str]] = {}
        for resource in resources:
            catalog.setdefault(resource.type_url, {})[resource.name] = resource
            changed.setdefault(resource.type_url, set()).add(resource.name)
        for type_url, name in remove:
            del catalog[type_url][name]
            changed.setdefault(type_url, set()).add(name)
        self._catalog = catalog
        self.version = str(int(self.version) + 1)
        for wake in self._wakes:
            wake(changed)

    async def open(self, peer: Identity, node: Node, wake: Wake) -> Shelf:
        self._wakes.append(wake)
        return self

    def close(self) -> None:
        self._wakes.pop()

    def connected(self, connection: Connection) -> None:
        self.live.append(connection)

    def events(self, connection: Connection, events: Sequence[Event]) -> None:
        self.seen += events

    def settled(self, connection: Connection) -> None:
        pass

    def disconnected(self, connection: Connection) -> None:
        self.live.remove(connection)

    def nacks(self) -> list[Nacked]:
        return [item for item in self.seen if isinstance(item, Nacked)]

    def acks(self, type_url: str, name: str) -> int:
        return sum(
            name in dict(item.resources) for item in self.seen if isinstance(item, Acked) and item.type_url == type_url
        )

    def states(self) -> dict[str, SyncState]:
        return {item.type_url: item.state for item in self.live[-1].status()} if self.live else {}


async def serve(authority: Authority, shelf: Shelf, port: int = 0) -> Server:
    certificate = authority.issue_server(["localhost", "127.0.0.1"])
    roots = authority.root_pem.encode()
    server = Server(
        f"127.0.0.1:{port}",
        shelf,
        shelf,
        lambda: (certificate.key, certificate.chain, roots),
        "cluster.local",
    )
    await server.start()
    return server


@pytest.mark.e2e
@pytest.mark.parametrize("delta", [True, False], ids=["delta", "sotw"])
def test_envoy_follows_the_catalog(tmp_path: Path, delta: bool) -> None:
    asyncio.run(follow(tmp_path, delta))


async def follow(tmp_path: Path, delta: bool) -> None:
    authority = open_authority(tmp_path / "ca", "cluster.local", lambda: datetime.now(UTC))
    door, backend_port, bad_port, new_port = (free_port() for _ in range(4))
    shelf = Shelf(
        cluster("backend"),
        endpoints("backend", backend_port),
        listener("front", door, "front"),
        route("front", cluster="backend"),
        # The backend is a second listener of the same Envoy.
        listener("backend", backend_port, "backend"),
        route("backend", body="one"),
    )
    server = await serve(authority, shelf)
    envoy = Envoy(tmp_path, server.port, workload_files(authority, WHO, tmp_path), NODE, delta=delta)
    url = f"http://127.0.0.1:{door}/"

    async def answers(text: str) -> bool:
        assert envoy.running(), envoy.log()
        return await envoy.get(url) == (200, text)

    try:
        await until(lambda: answers("one"), "first configuration")
        await until(lambda: set(shelf.states().values()) == {SyncState.SYNCED}, "synced")
        assert set(shelf.states()) == {CLUSTER, ENDPOINT, LISTENER, ROUTE}

        shelf.put(route("backend", body="two"))
        await until(lambda: answers("two"), "a changed route")

        # An updated cluster warms until its unchanged endpoints come again: well before the 15 s of Envoy's patience.
        shelf.put(cluster("backend", connect_timeout="3s"))
        await until(lambda: shelf.acks(CLUSTER, "backend") == 2, "the updated cluster", 12)
        assert await answers("two")

        # A bad listener among good changes: it alone is refused, everything else goes on.
        shelf.put(
            listener("bad", bad_port, "front", broken=True),
            listener("new", new_port, "new"),
            route("new", body="new"),
        )
        await until(shelf.nacks, "the refusal")
        assert [(item.type_url, item.name) for item in shelf.nacks()] == [(LISTENER, "bad")]
        assert "nobody.knows" in shelf.nacks()[0].message
        await until(
            lambda: same(envoy.get(f"http://127.0.0.1:{new_port}/"), (200, "new")), "the good listener beside it"
        )
        await until(lambda: shelf.states()[LISTENER] is SyncState.NACKED, "the ledger shows it")
        assert await answers("two")

        # A bad new version of a good listener: the last good one stays, while others change.
        shelf.put(listener("new", new_port, "new", broken=True))
        await until(lambda: len(shelf.nacks()) == 2, "the second refusal")
        assert shelf.nacks()[1].last_good
        shelf.put(listener("bad", bad_port, "front"))
        await until(lambda: same(envoy.get(f"http://127.0.0.1:{bad_port}/"), (200, "two")), "the mended listener")
        assert await envoy.get(f"http://127.0.0.1:{new_port}/") == (200, "new")
        shelf.put(listener("new", new_port, "new"))
        await until(lambda: set(shelf.states().values()) == {SyncState.SYNCED}, "mended")

        await restart(tmp_path, authority, shelf, server, envoy, url)
    finally:
        envoy.stop()


async def same(given, expected) -> bool:  # type: ignore[no-untyped-def]
    return await given == expected


async def restart(tmp_path: Path, authority: Authority, shelf: Shelf, server: Server, envoy: Envoy, url: str) -> None:
    """The server goes away, the catalog changes, the server comes back."""
    port = server.port
    await server.stop(0.2)
    await until(lambda: not shelf.live, "the stream's end")
    assert await envoy.get(url) == (200, "two"), "the proxy serves without a control plane"
    # A new path to the backend, and the old cluster gone: make before break over a reconnect.
    backend = next(iter(shelf.catalog[ENDPOINT].values()))
    assert backend.name == "backend"
    shelf.put(
        cluster("other"),
        Resource.of(ENDPOINT, "other", backend.body.replace(b"backend", b"other").replace(b"\n\x07", b"\n\x05", 1)),
        route("front", cluster="other"),
        remove=[(CLUSTER, "backend"), (ENDPOINT, "backend")],
    )
    shelf.seen.clear()
    again = await serve(authority, shelf, port)
    try:
        bad: list[tuple[int, str]] = []

        async def moved() -> bool:
            answer = await envoy.get(url)
            if answer != (200, "two"):
                bad.append(answer)
            clusters = await envoy.admin("/clusters?format=json")
            return {item["name"] for item in clusters["cluster_statuses"]} == {"xds", "other"}

        await until(moved, "the move to the other cluster", 30)
        # State of the world has no word for "what I still hold": to a new server the old cluster is just absent.
        if shelf.live[0].session.delta:
            assert not bad, "no request failed on the way"
        assert await envoy.get(url) == (200, "two")
        await until(lambda: set(shelf.states().values()) == {SyncState.SYNCED}, "synced after the restart")
        if shelf.live[0].session.delta:
            sent = {item.type_url: item for item in shelf.live[0].status()}
            assert sent[LISTENER].sent == 0, "what did not change is not sent again"
            assert not shelf.acks(ROUTE, "new")
    finally:
        await again.stop(0.2)
