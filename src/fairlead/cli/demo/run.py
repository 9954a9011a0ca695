"""Runs the demonstration from beginning to end."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

import click
import msgspec

from fairlead.cli.client import ClientError, Refused
from fairlead.cli.demo import operations, report, resilience, routing, security
from fairlead.cli.demo.failure import DemoError
from fairlead.cli.demo.mesh import Mesh
from fairlead.cli.demo.place import Place
from fairlead.cli.demo.progress import Progress
from fairlead.cli.demo.shop import Shop
from fairlead.cli.demo.step import Check, Result, Step
from fairlead.cli.demo.traffic import Traffic
from fairlead.cli.printing import show
from fairlead.node.ends import ends

STEPS: tuple[Step, ...] = tuple(
    sorted(
        (
            security.IDENTITIES,
            routing.CANARY,
            routing.HEADERS,
            resilience.FAULT,
            resilience.RETRIES,
            resilience.OUTLIER,
            routing.MIRROR,
            security.STRICT,
            security.AUTHORIZATION,
            security.GATEWAY,
            routing.TCP,
            operations.ROLLING,
            operations.KILLED,
            operations.MALFORMED,
            security.METRICS,
        ),
        key=lambda one: one.number,
    )
)


class Wish(msgspec.Struct, frozen=True):
    """What the command line asked for. `only` names steps by number, none: all."""

    once: bool
    capture: str
    output: str | None
    verbose: bool
    only: tuple[int, ...] = ()


def demonstrate(place: Place, wish: Wish) -> int:
    """Bring the shop up, run the steps, clean up; the exit status."""
    return asyncio.run(_Demonstration(place, wish).run())


class _Demonstration:
    def __init__(self, place: Place, wish: Wish) -> None:
        self._wish = wish
        self._mesh = Mesh(place, wish.verbose)
        self._progress = Progress()
        self._results: list[Result] = []
        self._began = time.monotonic()

    async def run(self) -> int:
        """Everything; the exit status. Raises DemoError if the shop does not come up."""
        left: list[str] = []
        task = asyncio.current_task()
        for number in ends():
            asyncio.get_running_loop().add_signal_handler(number, _cancel(task))
        interrupted = False
        try:
            self._mesh.start_guard()
            async with Traffic(f"http://127.0.0.1:{self._mesh.place.http_port}") as traffic:
                await self._perform(Shop(self._mesh, traffic, self._wish.capture))
        except asyncio.CancelledError:
            interrupted = True
        except (ClientError, Refused) as error:
            raise DemoError(str(error)) from None
        finally:
            with self._progress.doing("Cleaning up"):
                left = await self._mesh.stop()
            for one in left:
                click.echo(f"left behind: {one}", err=True)
        if interrupted and self._wish.once:
            return 130
        return self._conclude(left)

    def _conclude(self, left: list[str]) -> int:
        if not self._wish.once:
            return 1 if left else 0
        seconds = time.monotonic() - self._began
        ok = all(one.ok for one in self._results) and not left
        if self._wish.output:
            show(report.document(self._results, seconds, self._capture, left), self._wish.output)
        else:
            report.table(self._results)
            good = sum(one.ok for one in self._results)
            click.echo(f"\n{good} of {len(self._results)} steps hold, in {seconds:.0f} s ({self._capture} capture)")
        return 0 if ok else 1

    _capture = ""

    async def _perform(self, shop: Shop) -> None:
        with self._progress.doing("Starting the control plane"):
            await self._mesh.start_control_plane()
        with self._progress.doing("Starting the shop: ten workloads, each with its Envoy"):
            shop.write_files()
            self._mesh.start_node()
            await self._mesh.apply(*shop.policy("access-log"))
            await shop.open()
        self._capture = str((await shop.replica("web-v1")).get("capture") or "")
        for step in STEPS:
            if self._wish.only and step.number not in self._wish.only:
                continue
            if not self._wish.once:
                report.introduce(step, shop)
            self._results.append(await self._take(step, shop))
            if not self._wish.once:
                report.outcome(self._results[-1])
        if not self._wish.once:
            report.addresses(shop)
            await asyncio.Event().wait()

    async def _take(self, step: Step, shop: Shop) -> Result:
        began = time.monotonic()
        with self._progress.doing(f"{step.number}/{len(STEPS)} {step.title}"):
            try:
                checks = await step.run(shop)
            except (DemoError, ClientError, Refused) as error:
                checks = [Check("the step can be done", "yes", str(error), False)]
        seconds = round(time.monotonic() - began, 2)
        return Result(step.number, step.title, seconds, all(one.ok for one in checks), tuple(checks))


def _cancel(task: asyncio.Task[object] | None) -> Callable[[], None]:
    def asked() -> None:
        if task is not None:
            with contextlib.suppress(RuntimeError):
                task.cancel()

    return asked
