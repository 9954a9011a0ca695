"""Reports to the control plane: the roots that Envoy trusts, who signed the certificate, who called in plaintext, and
what is wrong.

The answer brings new roots, the wish to renew, and the question how many connections are open. It runs beside the
configuration stream, on the same connection.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Protocol, cast

import grpc
import grpc.aio
import msgspec

from fairlead.agent import identity
from fairlead.agent.certificates import Certificates
from fairlead.agent.identity import Identity
from fairlead.agent.sds import SecretServer
from fairlead.agent.traffic import Traffic
from fairlead.model.report import (
    HOLD_SECONDS,
    METHOD,
    AgentReport,
    Ailments,
    CalledService,
    OpenConnections,
    PlaintextCaller,
    ReportAnswer,
    bundle_id,
)

_SETTLE_SECONDS = 5.0
_PAUSE_SECONDS = 0.2
_GOODBYE_SECONDS = 2.0

log = logging.getLogger("reporter")


class Callers(Protocol):
    """Where plaintext callers come from."""

    def take(self) -> tuple[PlaintextCaller, ...]:
        """Those to report."""
        ...

    def give_back(self, callers: tuple[PlaintextCaller, ...]) -> None:
        """They were not reported."""
        ...


class Reporter:
    """Keeps one report with the control plane at any time."""

    def __init__(
        self,
        proxy: str,
        held: Certificates,
        secrets: SecretServer,
        traffic: Traffic | None = None,
        problem: Callable[[], str] = str,
        connections: Callable[[], Awaitable[tuple[OpenConnections, ...] | None]] | None = None,
        ailments: Callable[[], Ailments] = Ailments,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._proxy = proxy
        self._problem = problem
        self._certificates = held
        self._secrets = secrets
        self._traffic = traffic
        self._connections = connections
        self._ailments = ailments
        self._clock = clock
        self._count = False
        self.callers: Callers | None = None
        """Gives who called in plaintext, and takes back what did not arrive."""
        self._asked = ""
        self._changed = asyncio.Event()
        self._channel: grpc.aio.Channel | None = None
        held.on_change(lambda _: self._changed.set())

    def wake(self) -> None:
        """There is something new to report."""
        self._changed.set()

    async def run(self, channel: grpc.aio.Channel) -> None:
        """Report until cancelled, or until the control plane turns out not to know reports."""
        self._channel = channel
        try:
            while True:
                self._changed.clear()
                if not await self._round(channel):
                    return
                await asyncio.sleep(_PAUSE_SECONDS)
        finally:
            self._channel = None

    async def goodbye(self) -> None:
        """Say that this proxy ends: nobody waits for it any more."""
        if self._channel is None or self._certificates.current is None:
            return
        callers = self.callers.take() if self.callers else ()
        report = AgentReport(self._proxy, ending=True, plaintext=callers, called=await self._called())
        try:
            await _call(self._channel, report, _GOODBYE_SECONDS)
        except grpc.aio.AioRpcError as error:
            log.debug("the control plane was not told: %s", error.code())

    async def _round(self, channel: grpc.aio.Channel) -> bool:
        """One report and what its answer asks for; False if reports are not known there."""
        current = await self._certificates.ready()
        bundle = bundle_id(current.roots) if await self._settled() else ""
        found = self.callers.take() if self.callers is not None else ()
        report = AgentReport(
            self._proxy,
            bundle,
            current.issuer,
            current.not_after,
            self._asked,
            HOLD_SECONDS,
            plaintext=found,
            called=await self._called(),
            problem=self._problem(),
            open=await self._open(),
            time=self._clock(),
            ailments=self._ailments(),
            anchors=self._secrets.anchors_id,
        )
        if found:
            # Not held: whether they arrived must be known before anything interrupts this.
            report = msgspec.structs.replace(report, hold=0)
        answering = asyncio.ensure_future(_call(channel, report, HOLD_SECONDS + 15))
        changing = asyncio.ensure_future(self._changed.wait())
        try:
            await asyncio.wait((answering, changing), return_when=asyncio.FIRST_COMPLETED)
            if not answering.done() and not found:
                self._told()  # it is held there, so it has arrived
                return True
            await asyncio.wait((answering,))
            answer = answering.result()
            self._told()
            await self._take(answer, current)
        except grpc.aio.AioRpcError as error:
            if self.callers is not None:
                self.callers.give_back(found)
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                return False
            log.debug("report: %s %s", error.code(), error.details())
            await asyncio.sleep(1)
        finally:
            answering.cancel()
            changing.cancel()
            await asyncio.gather(answering, changing, return_exceptions=True)
        return True

    async def _called(self) -> tuple[CalledService, ...]:
        return await self._traffic.called() if self._traffic is not None else ()

    async def _open(self) -> tuple[OpenConnections, ...] | None:
        """What was asked for last time, and None otherwise: it is not counted for nothing."""
        asked, self._count = self._count, False
        return await self._connections() if asked and self._connections is not None else None

    def _told(self) -> None:
        if self._traffic is not None:
            self._traffic.told()

    async def _take(self, answer: ReportAnswer, current: Identity) -> None:
        if answer.bundle:
            await self._certificates.trust(answer.bundle.encode())
            log.info("trusting %s from now on", bundle_id(answer.bundle))
        if answer.anchors is not None:
            await asyncio.to_thread(identity.save_anchors, self._certificates.directory, answer.anchors)
            self._secrets.trust(answer.anchors)
            log.info("further roots: %s", ", ".join(one or "for everybody" for one in answer.anchors) or "none")
        self._count = answer.count
        self._asked = answer.renew_from or self._asked
        if answer.renew_from and answer.renew_from != current.issuer:
            log.info("asked to renew from another issuer, within %.0f s", answer.within)
            self._certificates.renew(answer.within)

    async def _settled(self) -> bool:
        """Whether Envoy has acknowledged the newest secrets; asked for some seconds."""
        loop = asyncio.get_running_loop()
        end = loop.time() + _SETTLE_SECONDS
        while not self._secrets.settled:
            if loop.time() > end:
                log.warning(
                    "Envoy has not taken the newest certificate or roots: %s", self._secrets.refusal or "silent"
                )
                return False
            await asyncio.sleep(0.05)
        return True


async def _call(channel: grpc.aio.Channel, report: AgentReport, seconds: float) -> ReportAnswer:
    call = cast("Callable[..., Awaitable[bytes]]", channel.unary_unary(METHOD))
    answer = await call(msgspec.json.encode(report), timeout=seconds)
    return msgspec.json.decode(answer, type=ReportAnswer)
