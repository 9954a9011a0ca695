"""Network namespaces as the supervisor sees them: probed once, made, removed, and swept after a crash."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import sys
from pathlib import Path

import msgspec

from fairlead.node.capture.plan import NetworkPlan, network_plan

RUN_DIRECTORY = Path("/var/run/netns")
"""Where named namespaces stand, so that `ip netns exec` finds them too."""
_TIMEOUT = 20.0


class CaptureError(Exception):
    """A namespace could not be made; the text is one sentence for people."""


class Namespaces:
    """The namespaces of one node. `state` tells this node's namespaces from those of others on the host."""

    def __init__(self, state: Path, block: str) -> None:
        self._prefix = "fairlead-" + hashlib.sha256(str(state.resolve()).encode()).hexdigest()[:8] + "-"
        self._block = block
        self._refused: str | None = None
        self._probing = asyncio.Lock()

    def name(self, namespace: str, replica: str) -> str:
        """The name of a replica's namespace."""
        return f"{self._prefix}{namespace}-{replica}"

    @staticmethod
    def path(name: str) -> str:
        """The file that stands for a namespace: what Envoy and setns() open."""
        return str(RUN_DIRECTORY / name)

    async def refused(self) -> str:
        """Why namespaces cannot be made here, or "". Tried once, by making one with every rule."""
        async with self._probing:
            if self._refused is None:
                self._refused = await self._probe()
            return self._refused

    async def _probe(self) -> str:
        if not sys.platform.startswith("linux"):
            return "it needs Linux"
        if os.geteuid() != 0:
            return "it needs root"
        try:
            await self._run("probe", f"{self._prefix}probe-{secrets.token_hex(4)}", network_plan(self._block))
        except CaptureError as error:
            return str(error)
        return ""

    async def create(self, name: str, own_dns: bool = False) -> None:
        """Make a namespace, in place of an old one of that name. Raises CaptureError."""
        await self.remove(name)
        await self._run("create", name, network_plan(self._block, own_dns))

    async def remove(self, name: str) -> None:
        """Remove a namespace if it exists. Raises CaptureError."""
        if name and (RUN_DIRECTORY / name).exists():
            await self._run("remove", name)

    async def sweep(self, keep: set[str]) -> list[str]:
        """Remove this node's namespaces that no replica uses any more; returns their names."""
        removed = [name for name in _existing() if name.startswith(self._prefix) and name not in keep]
        for name in removed:
            await self.remove(name)
        return removed

    async def _run(self, command: str, name: str, plan: NetworkPlan | None = None) -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "fairlead.node.capture.netlink",
            command,
            name,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            said = await asyncio.wait_for(process.communicate(msgspec.json.encode(plan) if plan else b""), _TIMEOUT)
        except TimeoutError:
            process.kill()
            await process.wait()
            raise CaptureError(f"network namespace {name}: no answer within {_TIMEOUT:.0f} s") from None
        if process.returncode:
            reason = said[1].decode(errors="replace").strip().splitlines() or [f"exit status {process.returncode}"]
            raise CaptureError(f"network namespace {name}: {reason[-1]}")


def _existing() -> list[str]:
    return sorted(one.name for one in RUN_DIRECTORY.iterdir()) if RUN_DIRECTORY.is_dir() else []
