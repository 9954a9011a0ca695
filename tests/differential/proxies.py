"""Real Envoys that run for as long as many meshes are tried, each given its configuration over ADS."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import grpc
from envoy.service.discovery.v3 import discovery_pb2 as discovery
from google.protobuf.any_pb2 import Any as Packed

from fairlead.envoy.resource import CLUSTER, LISTENER

ENVOY = Path(sys.executable).parent / "envoy"
SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
_PATIENCE = 60.0
_ADS = {"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"}


class RefusedError(Exception):
    """Envoy does not take a resource; the message is Envoy's."""


class _Type:
    """How far one type of resources of a proxy is."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.sent = 0
        self.waiting: asyncio.Future[str] | None = None
        self.content: dict[str, bytes] = {}


class Proxy:
    """One Envoy: what it was given, and the lines that it logs."""

    def __init__(self, name: str, said: Callable[[str, bytes], None]) -> None:
        self.name = name
        self._said = said
        self._types = {CLUSTER: _Type(), LISTENER: _Type()}
        self._out: asyncio.Queue[discovery.DiscoveryResponse] = asyncio.Queue()
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self.complaints = b""

    async def give(self, clusters: Mapping[str, bytes], listeners: Mapping[str, bytes]) -> None:
        """Have it run these, serialised; returns when it does. Raises RefusedError."""
        await self._push(CLUSTER, clusters)
        await self._push(LISTENER, listeners)

    async def _push(self, type_url: str, content: Mapping[str, bytes]) -> None:
        kind = self._types[type_url]
        if kind.sent and kind.content == content:
            return
        await asyncio.wait_for(kind.asked.wait(), _PATIENCE)
        kind.sent += 1
        kind.waiting = asyncio.get_running_loop().create_future()
        answer = discovery.DiscoveryResponse(type_url=type_url, version_info=str(kind.sent), nonce=str(kind.sent))
        answer.resources.extend(Packed(type_url=type_url, value=content[name]) for name in sorted(content))
        kind.content = dict(content)
        self._out.put_nowait(answer)
        refusal = await asyncio.wait_for(kind.waiting, _PATIENCE)
        if refusal:
            kind.content = {}
            raise RefusedError(f"{self.name}: {refusal}")

    def heard(self, request: discovery.DiscoveryRequest) -> None:
        """What Envoy says on its stream."""
        kind = self._types.get(request.type_url)
        if kind is None:
            return
        kind.asked.set()
        if request.response_nonce == str(kind.sent) and kind.waiting is not None and not kind.waiting.done():
            kind.waiting.set_result(request.error_detail.message)

    async def answers(self) -> AsyncIterator[discovery.DiscoveryResponse]:
        """What Envoy is sent."""
        while True:
            yield await self._out.get()

    async def start(self, folder: Path, bootstrap: Mapping[str, Any]) -> None:
        """Run Envoy."""
        path = folder / f"{self.name}.json"
        path.write_text(json.dumps(bootstrap))
        command = [str(ENVOY), "-c", str(path), "--concurrency", "1", "-l", "error", "--disable-hot-restart"]
        command += ["--file-flush-interval-msec", "10", "--drain-time-s", "1", "--drain-strategy", "immediate"]
        log = (folder / f"{self.name}.log").open("wb")
        with log:
            self._process = await asyncio.create_subprocess_exec(
                *command, stdout=asyncio.subprocess.PIPE, stderr=log, limit=1 << 20, cwd=folder
            )
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self._said(self.name, line)

    @property
    def running(self) -> bool:
        """Whether Envoy is still there."""
        return self._process is not None and self._process.returncode is None

    async def stop(self) -> None:
        """End it."""
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        if self._reading is not None:
            await self._reading


class Fleet:
    """The Envoys and the server that feeds them. An asynchronous context: they run as long as it does."""

    def __init__(self, folder: Path, sources: Mapping[str, str], said: Callable[[str, bytes], None]) -> None:
        """`sources`: proxies by name, each with the address from which it connects to others."""
        self.folder = folder
        self._sources = sources
        self.proxies = {name: Proxy(name, said) for name in sources}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Fleet:
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((self._handler(),))
        socket = self.folder / "xds.sock"
        server.add_insecure_port(f"unix:{socket}")
        await server.start()
        self._stack.push_async_callback(server.stop, 0)
        for name, proxy in self.proxies.items():
            await proxy.start(self.folder, dynamic(name, self._sources[name], socket))
            self._stack.push_async_callback(proxy.stop)
        return self

    async def static(self, name: str, bootstrap: Mapping[str, Any]) -> None:
        """Another Envoy, that is what its bootstrap says."""
        proxy = Proxy(name, lambda _name, _line: None)
        await proxy.start(self.folder, bootstrap)
        self._stack.push_async_callback(proxy.stop)

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def _handler(self) -> grpc.GenericRpcHandler:
        made = grpc.stream_stream_rpc_method_handler(
            self._stream,
            request_deserializer=discovery.DiscoveryRequest.FromString,
            response_serializer=discovery.DiscoveryResponse.SerializeToString,
        )
        return grpc.method_handlers_generic_handler(SERVICE, {"StreamAggregatedResources": made})

    async def _stream(self, requests: AsyncIterator[discovery.DiscoveryRequest], context: Any) -> None:
        first = await anext(requests)
        proxy = self.proxies[first.node.id]
        proxy.heard(first)

        async def answer() -> None:
            async for one in proxy.answers():
                await context.write(one)

        answering = asyncio.create_task(answer())
        try:
            async for one in requests:
                proxy.heard(one)
        finally:
            answering.cancel()
            with suppress(asyncio.CancelledError):
                await answering

    def ended(self) -> Sequence[str]:
        """The proxies that have ended, which none should."""
        return [name for name, one in self.proxies.items() if not one.running]


def dynamic(name: str, source: str, socket: Path) -> dict[str, Any]:
    """The bootstrap of a proxy that gets everything over ADS."""
    h2 = {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    endpoint = {"endpoint": {"address": {"pipe": {"path": str(socket)}}}}
    return {
        "node": {"id": name, "cluster": name},
        "stats_config": {"stats_matcher": {"reject_all": True}, "use_all_default_tags": False},
        "cluster_manager": {"upstream_bind_config": {"source_address": {"address": source, "port_value": 0}}},
        "dynamic_resources": {
            "lds_config": _ADS,
            "cds_config": _ADS,
            "ads_config": {
                "api_type": "GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": False,
                "grpc_services": [{"envoy_grpc": {"cluster_name": "xds"}}],
            },
        },
        "static_resources": {
            "clusters": [
                {
                    "name": "xds",
                    "type": "STATIC",
                    "connect_timeout": "5s",
                    # The address is a socket of the file system, which has nothing to do with where peers are.
                    "upstream_bind_config": {},
                    "load_assignment": {"cluster_name": "xds", "endpoints": [{"lb_endpoints": [endpoint]}]},
                    "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": h2},
                }
            ]
        },
    }
