"""The relay's shell: Envoy's stream on the Unix socket, the control plane's over mutual TLS, files for the cache."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, cast

import grpc
import grpc.aio
from envoy.service.discovery.v3 import discovery_pb2 as discovery

from fairlead.agent import cache, certificates
from fairlead.agent.backoff import RECONNECT, Backoff, retry_hint
from fairlead.agent.certificates import Certificates
from fairlead.agent.complaints import Complaints
from fairlead.agent.effects import (
    CloseUpstream,
    Effect,
    Fetch,
    HealthSeen,
    Look,
    OpenUpstream,
    Save,
    ToEnvoy,
    ToUpstream,
    Withheld,
)
from fairlead.agent.filewatch import FileWatch
from fairlead.agent.modulefetch import ModuleFetch
from fairlead.agent.obstacles import Obstacles
from fairlead.agent.relaystate import NAME_TABLE, Relay, Unhealthy

SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
METHOD = f"/{SERVICE}/DeltaAggregatedResources"
CONNECT_SECONDS = 3.0
SILENCE_SECONDS = 6.0

log = logging.getLogger("relay")


class RelayServer:
    """Carries out what the relay machine decides."""

    def __init__(self, xds_address: str, held: Certificates, directory: Path) -> None:
        self._address = xds_address
        self._certificates = held
        self.machine = Relay(cache.load(directory))
        self._cache = cache.CacheWriter(directory, self.machine.good)
        self._modules = ModuleFetch(
            directory.parent / "modules",
            lambda module, outcome: self._carry(self.machine.module(module, outcome)),
            self.machine.wants,
        )
        self.files = FileWatch(
            directory.parent, lambda name, problem: self._carry(self.machine.file(name, problem)), self.machine.files
        )
        self._to_envoy: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._to_upstream: asyncio.Queue[bytes] = asyncio.Queue()
        self._upstream: asyncio.Task[None] | None = None
        self._silence: asyncio.TimerHandle | None = None
        self._stream = 0
        self._table_listeners: list[Callable[[], None]] = []
        self.alongside: Callable[[grpc.aio.Channel], Awaitable[None]] | None = None
        """Runs while a stream to the control plane is open, on the same connection."""
        self.health_seen = asyncio.Event()
        self.complaints = Complaints()
        self._obstacles = Obstacles(directory.parent, lambda: self._carry(self.machine.again()))
        self.refusals = 0
        self.last_refusal = ""
        self.problem = ""

    def on_name_table(self, listener: Callable[[], None]) -> None:
        """Call `listener` when the name table changed."""
        self._table_listeners.append(listener)

    def report(self, problem: Unhealthy | None) -> None:
        """Tell the control plane of the workload's health (repeated after every reconnect)."""
        self.health_seen.clear()
        self._carry(self.machine.health(problem))

    def handler(self) -> grpc.GenericRpcHandler:
        """For a grpc.aio server."""
        methods: dict[str, Any] = {"DeltaAggregatedResources": grpc.stream_stream_rpc_method_handler(self._envoy)}
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    async def close(self) -> None:
        """End the upstream stream and write the cache."""
        if self._upstream is not None:
            self._upstream.cancel()
            await asyncio.gather(self._upstream, return_exceptions=True)
        await self._modules.close()
        await self._obstacles.close()
        await self.files.close()
        await self._cache.flush()

    # Envoy's side.

    async def _envoy(self, requests: AsyncIterator[bytes], _: object) -> AsyncIterator[bytes]:
        self._stream += 1
        stream = self._stream
        self._to_envoy.put_nowait(None)  # an older stream, if any, ends
        out: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._to_envoy = out
        self._carry(self.machine.envoy_opened())
        self._silence = asyncio.get_running_loop().call_later(SILENCE_SECONDS, self._silent)
        reading = asyncio.create_task(self._read_envoy(requests, out))
        try:
            while (body := await out.get()) is not None:
                yield body
        finally:
            reading.cancel()
            if stream == self._stream:
                self._silence.cancel()
                self._carry(self.machine.envoy_closed())

    async def _read_envoy(self, requests: AsyncIterator[bytes], out: asyncio.Queue[bytes | None]) -> None:
        try:
            async for body in requests:
                request = discovery.DeltaDiscoveryRequest.FromString(body)
                if request.HasField("error_detail"):
                    request.error_detail.message = await self.complaints.whole(request.error_detail.message)
                    self._obstacles.refused(request.error_detail.message)
                    self._refused("Envoy refused", request.type_url, request.error_detail.message)
                self._carry(self.machine.envoy_request(request))
        finally:
            out.put_nowait(None)

    def _refused(self, what: str, type_url: str, words: str) -> None:
        self.refusals += 1
        self.last_refusal = words[:2000]
        log.error("%s %s: %s", what, type_url.rpartition(".")[2], self.last_refusal)

    def _silent(self) -> None:
        effects = self.machine.upstream_silent()
        if effects:
            log.warning("the control plane is silent: serving the last good configuration")
        self._carry(effects)

    def _carry(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            match effect:
                case ToEnvoy(body):
                    self._to_envoy.put_nowait(body)
                case ToUpstream(body):
                    self._to_upstream.put_nowait(body)
                case OpenUpstream():
                    self._end_upstream()
                    self._upstream = asyncio.create_task(self._keep_upstream())
                case CloseUpstream():
                    self._end_upstream()
                case Fetch(module):
                    self._modules.fetch(module)
                case Look(name):
                    self.files.look(name)
                case Withheld(kind, words):
                    self._refused("not given to Envoy, as it would refuse it:", kind, words)
                case HealthSeen():
                    self.health_seen.set()
                case Save(kind):
                    self._save(kind)

    def _save(self, kind: str) -> None:
        self._cache.mark(kind)
        if kind == NAME_TABLE:
            for listener in self._table_listeners:
                listener()

    # The control plane's side.

    def _end_upstream(self) -> None:
        if self._upstream is not None:
            self._upstream.cancel()
            self._upstream = None

    async def _keep_upstream(self) -> None:
        backoff = Backoff(*RECONNECT)
        while True:
            self.problem = await self._connect(backoff)
            self._carry(self.machine.upstream_closed())
            delay = backoff.next()
            log.warning("control plane %s: %s; next try in %.1f s", self._address, self.problem, delay)
            await asyncio.sleep(delay)

    async def _connect(self, backoff: Backoff) -> str:
        """One upstream stream from beginning to end; says why it ended."""
        identity = self._certificates.current
        if identity is None:
            return "no certificate yet"
        async with certificates.channel(self._address, identity.roots, identity) as channel:
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    reached = await _reached(channel)
            except TimeoutError:
                reached = False
            if not reached:
                return "cannot be reached"
            call = cast("Callable[[], Any]", channel.stream_stream(METHOD))()
            self._to_upstream = asyncio.Queue()
            self._carry(self.machine.upstream_opened())
            self.problem = ""
            working = [asyncio.create_task(_write(call, self._to_upstream))]
            if self.alongside is not None:
                working.append(asyncio.ensure_future(self.alongside(channel)))
            try:
                async for body in call:
                    backoff.reset()
                    self._carry(self.machine.upstream_response(body))
                return "closed the stream"
            except grpc.aio.AioRpcError as error:
                backoff.hint(retry_hint(error.trailing_metadata() or ()))
                return f"{error.code().name}: {(error.details() or 'no detail').splitlines()[0][:200]}"
            finally:
                for one in working:
                    one.cancel()
                await asyncio.gather(*working, return_exceptions=True)


async def _reached(channel: grpc.aio.Channel) -> bool:
    """Whether the channel connects. A refusal counts at once: Envoy may be waiting for what is in the cache."""
    state = channel.get_state(try_to_connect=True)
    while state is not grpc.ChannelConnectivity.READY:
        if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
            return False
        await channel.wait_for_state_change(state)
        state = channel.get_state(try_to_connect=True)
    return True


async def _write(call: Any, queue: asyncio.Queue[bytes]) -> None:
    """Send what is queued; the reader reports how the stream ended."""
    while True:
        await call.write(await queue.get())
