"""The mesh that is demonstrated: its processes, and the API through which everything is done."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from fairlead.cli import manifests
from fairlead.cli.client import Client, ClientError, Refused, read_kubeconfig
from fairlead.cli.demo.cleanup import clean
from fairlead.cli.demo.failure import DemoError
from fairlead.cli.demo.place import Place
from fairlead.cli.resources import MANAGER, address
from fairlead.compiler.registry import registry
from fairlead.model.diagnostic import Severity
from fairlead.model.manifest import Json

T = TypeVar("T")
PROGRAM = (sys.executable, "-c", "from fairlead.cli.main import main; main()")
"""How this installation's commands are started."""
POLL = 0.05
LIMIT = 30.0
"""Seconds within which anything that is waited for must come about."""
_APPLY = "application/apply-patch+yaml"
_DONE = ("SYNCED", "NOT SENT")


async def until(what: str, probe: Callable[[], Awaitable[T | None]], limit: float = LIMIT) -> T:
    """Ask until the answer is neither None nor False. Raises DemoError after `limit` seconds."""
    deadline = time.monotonic() + limit
    while True:
        found = await probe()
        if found is not None and found is not False:
            return found
        if time.monotonic() > deadline:
            raise DemoError(f"{what}: not within {limit:.0f} s")
        await asyncio.sleep(POLL)


class Mesh:
    """One control plane, one node and what they run."""

    def __init__(self, place: Place, verbose: bool = False) -> None:
        self.place = place
        self._verbose = ("-v",) if verbose else ()
        self._serve: subprocess.Popen[bytes] | None = None
        self._node: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._client: Client | None = None
        self._asking = asyncio.Lock()

    # Processes

    def start_guard(self) -> None:
        """Start what cleans up in the end; from here on nothing stays behind."""
        mode = "remove" if self.place.temporary else "keep"
        self._guard = subprocess.Popen(
            [sys.executable, "-m", "fairlead.cli.demo.guard", str(self.place.root), mode],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            pass_fds=self.place.kept,
        )

    async def stop(self) -> list[str]:
        """End and remove everything; what could not be done."""
        if self._client is not None:
            self._client.close()
        if self._guard is None:
            return []
        said, _ = await asyncio.to_thread(self._guard.communicate)
        if self._guard.returncode < 0:
            # Somebody has killed it.
            return await asyncio.to_thread(clean, self.place.root, remove=self.place.temporary)
        for process in (self._serve, self._node):
            if process is not None:
                process.wait()
        return said.decode(errors="replace").splitlines()

    async def start_control_plane(self) -> float:
        """Start `fairlead serve`, wait until it answers; how long that took, in seconds."""
        place = self.place
        began = time.monotonic()
        ports = ("--api-port", place.api_port, "--xds-port", place.xds_port, "--join-port", place.join_port)
        self._serve = self._start("serve", *map(str, ports), *self._verbose)
        await until("the control plane answers", self._answers)
        return time.monotonic() - began

    def kill_control_plane(self) -> int:
        """kill -9; its process id."""
        assert self._serve is not None
        self._serve.kill()
        self._serve.wait()
        return self._serve.pid

    def start_node(self) -> None:
        """Start `fairlead node`."""
        self._node = self._start("node", "--loopback", self.place.block, *self._verbose)

    def _start(self, verb: str, *options: str) -> subprocess.Popen[bytes]:
        log = self.place.root / f"{verb}.log"
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            return subprocess.Popen(
                [*PROGRAM, verb, "--state", str(self.place.state), *options],
                stdin=subprocess.DEVNULL,
                stdout=handle,
                stderr=handle,
                start_new_session=True,
            )
        finally:
            os.close(handle)

    async def _answers(self) -> bool:
        for process, name in ((self._serve, "serve"), (self._node, "node")):
            if process is not None and process.poll() is not None:
                lines = (self.place.root / f"{name}.log").read_text(errors="replace").splitlines()
                said = lines[-1] if lines else f"exit status {process.returncode}"
                raise DemoError(f"`fairlead {name}` has ended: {said}")
        try:
            # Both in a thread: the file is written while this waits.
            if self._client is None:
                self._client = await asyncio.to_thread(self._connect)
            await self.request("GET", "/api/v1/namespaces")
        except (ClientError, OSError):
            return False
        return True

    def _connect(self) -> Client:
        return Client(read_kubeconfig(self.place.state / "kubeconfig"))

    # The API

    async def request(self, method: str, path: str, body: object = None, content_type: str = "application/json") -> Any:
        """The document that the API answers with. Raises Refused and ClientError."""
        if self._client is None:
            raise DemoError("the control plane does not run")
        client = self._client
        async with self._asking:
            answer = await asyncio.to_thread(client.request, method, path, body, content_type=content_type)
        return answer.document

    async def apply(self, *files: Path) -> None:
        """Do what `fairlead apply -f` does. Raises DemoError with every complaint."""
        for entry in self._entries(files):
            query = {"fieldManager": MANAGER, "force": "true"}
            path = address(entry.kind, entry.version, entry.ref.namespace, entry.ref.name, **query)
            try:
                await self.request("PATCH", path, entry.manifest.data, _APPLY)
            except Refused as refused:
                said = "; ".join(str(one) for one in manifests.complaints(entry, refused))
                raise DemoError(f"apply: {said}") from None

    async def delete(self, *files: Path) -> None:
        """Do what `fairlead delete -f --ignore-not-found` does."""
        for entry in reversed(self._entries(files)):
            await self.delete_path(address(entry.kind, entry.version, entry.ref.namespace, entry.ref.name))

    async def delete_path(self, path: str) -> None:
        """Delete an object if it is there."""
        try:
            await self.request("DELETE", path)
        except Refused as refused:
            if refused.code != 404:
                raise

    def _entries(self, files: Iterable[Path]) -> list[manifests.Entry]:
        documents, unread = manifests.read([str(one) for one in files])
        entries, wrong = manifests.check(registry(), documents, "default", given=False)
        errors = [str(one) for one in (*unread, *wrong) if one.severity is Severity.ERROR]
        if errors:
            raise DemoError("; ".join(errors))
        return entries

    async def revision(self) -> int:
        """The store's newest revision."""
        listed = await self.request("GET", "/api/v1/namespaces")
        return int(listed["metadata"]["resourceVersion"])

    async def proxies(self) -> Json:
        """What the control plane knows of connected proxies."""
        found: Json = await self.request("GET", "/fairlead/v1/proxies")
        return found

    async def settled(self, names: Iterable[str] = ()) -> float:
        """Wait until all proxies, `names` among them, have acknowledged all that is stored now; the seconds it took.

        Raises DemoError with what is behind.
        """
        began = time.monotonic()
        target = await self.revision()
        wanted = set(names)
        said = ""

        async def probe() -> bool:
            nonlocal said
            listing = await self.proxies()
            said = _behind(listing, target, wanted)
            return not said

        try:
            await until("the proxies acknowledge", probe)
        except DemoError as error:
            raise DemoError(f"{error}: {said}") from None
        return time.monotonic() - began

    @contextlib.asynccontextmanager
    async def applied(self, *files: Path) -> AsyncGenerator[float]:
        """The objects of files for as long as the body runs; gives the seconds from apply to acknowledgement."""
        began = time.monotonic()
        try:
            await self.apply(*files)
            await self.settled()
            yield time.monotonic() - began
        finally:
            await self.delete(*files)
            await self.settled()


def _behind(listing: Mapping[str, Any], target: int, wanted: set[str]) -> str:
    """What is missing until everything is acknowledged, or ""."""
    if listing["revision"] < target:
        return f"revision {target} is not compiled yet"
    missing = wanted - {one["name"] for one in listing["proxies"]}
    if missing:
        return f"not connected: {', '.join(sorted(missing))}"
    for proxy in listing["proxies"]:
        for name, one in proxy["types"].items():
            if one["state"] not in _DONE:
                why = "; ".join(f"{entry['name']} {entry['error']}".strip() for entry in one["behind"])
                return f"{proxy['name']} {name} {one['state']}: {why}"
    return ""
