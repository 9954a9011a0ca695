"""What agents report: the roots that each proxy trusts, who signed its certificate, who called it in plaintext.

The service stands on the xds port. A report is held until there is news for its agent, so a change of trust reaches
every proxy at once. What is known is kept on disk: a proxy that is away counts until its certificate ends.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import grpc
import grpc.aio
import msgspec

from fairlead.ca.authority import Authority
from fairlead.ca.files import write_atomic
from fairlead.ca.rotation import Phase
from fairlead.controlplane.draining import Connections
from fairlead.controlplane.plaintext import Entry, PlaintextLedger
from fairlead.controlplane.traffic import TrafficLedger
from fairlead.model.identity import Identity
from fairlead.model.nodeid import NodeId, called
from fairlead.model.report import (
    HOLD_SECONDS,
    MAX_AILMENT,
    MAX_CALLED,
    SERVICE,
    AgentReport,
    Ailments,
    ReportAnswer,
    anchors_id,
    bundle_id,
)

if TYPE_CHECKING:
    Context = grpc.aio.ServicerContext[AgentReport, ReportAnswer]

_log = logging.getLogger(__name__)
MAX_PROXIES = 20_000
BOOTSTRAP_REFUSED = "FL2403"
"""A proxy runs without the changes of its bootstrap, because Envoy refused them."""
_RENEWALS_A_SECOND = 100
"""How fast a fleet is asked to renew: half of what the certificate service grants."""
_SAVE_SECONDS = 2.0
_WELL = Ailments()


class _Saved(msgspec.Struct, frozen=True):
    proxies: dict[str, Known] = {}
    callers: tuple[Entry, ...] = ()


class Known(msgspec.Struct, frozen=True):
    """The last report of a proxy, who sent it, and when (Unix seconds)."""

    identity: str
    bundle: str
    issuer: str
    not_after: float
    seen: float


class Lagging(msgspec.Struct, frozen=True):
    """A proxy that a rotation waits for (NAME.NAMESPACE), and why."""

    proxy: str
    reason: str


class Ailing(msgspec.Struct, frozen=True):
    """A proxy (NAME.NAMESPACE) with which something is wrong, and when its certificate ends (Unix seconds)."""

    proxy: str
    said: Ailments
    not_after: float


class Fleet:
    """Reports by node id. `authority` gives the present authority, `live` the node ids of connected proxies."""

    def __init__(
        self,
        file: Path,
        authority: Callable[[], Authority],
        live: Callable[[], Iterable[str]],
        traffic: TrafficLedger,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._file = file
        self._authority = authority
        self._live = live
        self.traffic = traffic
        self._recalled: set[str] = set()
        self._problems: dict[str, str] = {}
        self._skews: dict[str, float] = {}
        self._ailing: dict[str, Ailments] = {}
        self.ended: Callable[[str, Identity], None] = lambda _node, _identity: None
        """Told of the proxies (node ids) that say goodbye, and who says so."""
        self._clock = clock
        saved = _load(file)
        self._known: dict[str, Known] = dict(saved.proxies)
        self.plaintext = PlaintextLedger(clock, saved.callers)
        self._news = asyncio.Event()
        self.connections = Connections(self._wake)
        self._dirty = False
        self._saving: asyncio.Task[None] | None = None
        self._bundle = ("", "")
        self.anchors: dict[str, str] = {}
        """The further roots that proxies are to trust, by trust domain."""

    # Questions.

    def lagging(self, phase: Phase, target: Authority | None) -> list[Lagging]:
        """Whom the step after `phase` waits for, in the order of names."""
        if phase == "stable" or target is None:
            return []
        issuer = target.issuer_id if phase == "issuing" else ""
        return self._behind((bundle_id(self._authority().root_pem),), issuer)

    def left_behind(self, phase: Phase, former: bytes) -> list[Lagging]:
        """Whom the step back from `phase` would cut off; `former` are the roots (PEM) from before the rotation.

        The former authority may sign again when every proxy trusts it, which after the step back from `removing` need
        not be so; and the next root may go when no proxy has a certificate of it. Whether a proxy trusts the next root
        at all does not matter then.
        """
        present = bundle_id(self._authority().root_pem)
        if phase == "issuing":
            return self._behind((present,), "")
        if phase == "trusting":
            return self._behind((present, bundle_id(former)), self._authority().issuer_id)
        return []

    def _behind(self, bundles: tuple[str, ...], issuer: str) -> list[Lagging]:
        """Who trusts none of these bundles, or has a certificate of another issuer ("": any will do)."""
        now, live = self._clock(), set(self._live())
        found = [Lagging(called(node), "it has not reported yet") for node in live if node not in self._known]
        for node, known in self._known.items():
            if node not in live and known.not_after <= now:
                continue  # its certificate has ended: it must join again, and then gets the present roots
            where = "" if node in live else f"; it is away, its certificate ends in {_span(known.not_after - now)}"
            if known.bundle not in bundles:
                said = "it has not taken the trust bundle" if known.bundle else "it has reported no trust bundle"
                found.append(Lagging(called(node), f"{said} (last heard {_span(now - known.seen)} ago){where}"))
            elif issuer and known.issuer != issuer:
                heard = f"(last heard {_span(now - known.seen)} ago)"
                found.append(Lagging(called(node), f"its certificate is of another issuer {heard}{where}"))
        return sorted(found, key=lambda one: one.proxy)

    def endings(self, most: int = 10) -> list[tuple[str, float]]:
        """The proxies whose certificates end first: NAME.NAMESPACE and Unix seconds."""
        now = self._clock()
        alive = [(known.not_after, called(node)) for node, known in self._known.items() if known.not_after > now]
        return [(name, end) for end, name in sorted(alive)[:most]]

    def strangers(self) -> list[Lagging]:
        """Connected proxies that trust other roots than the mesh has; to be asked where those are not being changed."""
        told = self._behind((bundle_id(self._authority().root_pem),), "")
        live = {called(node) for node in self._live() if self._known.get(node) is not None and self._known[node].bundle}
        return [one for one in told if one.proxy in live]

    def skews(self, most: int = 100) -> list[tuple[str, float]]:
        """How far the clocks of connected proxies' hosts are ahead of this one, in seconds; the largest first."""
        live = set(self._live())
        found = [(called(node), skew) for node, skew in self._skews.items() if node in live]
        return sorted(found, key=lambda one: (-abs(one[1]), one[0]))[:most]

    def ailing(self) -> list[Ailing]:
        """What connected proxies say is wrong with their hosts or workloads, in the order of names."""
        live = set(self._live())
        found = [
            Ailing(called(node), said, self._known[node].not_after)
            for node, said in self._ailing.items()
            if node in live and node in self._known
        ]
        return sorted(found, key=lambda one: one.proxy)

    def count(self) -> int:
        """How many proxies are known."""
        return len(self._known)

    def findings(self) -> list[str]:
        """The proxies that left out changes of their bootstrap, in order, and why."""
        remedy = f"Correct the patch, then restart the proxy. [{BOOTSTRAP_REFUSED}]"
        live = set(self._live())
        return sorted(f"{called(one)}: error: {said}. {remedy}" for one, said in self._problems.items() if one in live)

    # News.

    def changed(self) -> None:
        """The authority changed: remember whom to wait for, and answer who waits."""
        self._save()
        self._wake()

    def trust(self, anchors: dict[str, str]) -> None:
        """Have every proxy trust these further roots, by trust domain, and no others."""
        if anchors != self.anchors:
            self.anchors = anchors
            self._wake()

    async def recall(self, wanted: Callable[[str], bool], seconds: float = 3.0) -> None:
        """Have the agents of these proxies (node ids) report now; returns when they have, or after so long."""
        asked = {node: self._known[node].seen for node in self._live() if node in self._known and wanted(node)}
        self._recalled = {*asked}
        self._wake()
        end = self._clock() + seconds
        while self._clock() < end:
            left = [node for node, seen in asked.items() if node in self._known and self._known[node].seen == seen]
            if not left:
                return
            await asyncio.sleep(0.05)

    async def open_connections(self, nodes: Iterable[str]) -> dict[str, Mapping[str, int]]:
        """How many connections each listener of these proxies (node ids) has open; without those that do not say."""
        return await self.connections.count({*nodes}, self._known)

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def stop(self) -> None:
        """Write what is known."""
        if self._saving is not None:
            self._saving.cancel()
            await asyncio.gather(self._saving, return_exceptions=True)
        if self._dirty:
            self._save()

    # The service.

    def handler(self) -> grpc.GenericRpcHandler:
        """The report method, for the xds port."""
        method = grpc.unary_unary_rpc_method_handler(
            self._report,  # pyright: ignore[reportArgumentType]  # the stubs know synchronous methods only
            request_deserializer=msgspec.json.Decoder(AgentReport).decode,
            response_serializer=msgspec.json.encode,
        )
        return grpc.method_handlers_generic_handler(SERVICE, {"Report": method})

    async def _report(self, report: AgentReport, context: Context) -> ReportAnswer:
        try:
            identity = Identity.of_peer(cast("Mapping[str, Sequence[bytes]]", context.auth_context()))
        except ValueError as error:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, str(error))
        if not _owns(identity, report.proxy):
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, f"{identity} cannot report for {report.proxy[:200]}")
        self.receive(identity, report)
        end = self._clock() + min(max(report.hold, 0), HOLD_SECONDS)
        while True:
            answer, left = self._answer(report), end - self._clock()
            if self.connections.wanted(report.proxy):
                self.connections.asked(report.proxy)
                return msgspec.structs.replace(answer or ReportAnswer(), count=True)
            if report.proxy in self._recalled:
                self._recalled.discard(report.proxy)
                return answer or ReportAnswer()
            if answer is not None or left <= 0:
                return answer or ReportAnswer()
            try:
                await asyncio.wait_for(self._news.wait(), left)
            except TimeoutError:
                continue

    def receive(self, identity: Identity, report: AgentReport) -> None:
        """Take a report of an authenticated agent."""
        if report.ending:
            self._known.pop(report.proxy, None)
            self.ended(report.proxy, identity)
        elif report.proxy in self._known or len(self._known) < MAX_PROXIES:
            self._known[report.proxy] = Known(
                str(identity), report.bundle[:64], report.issuer[:128], report.not_after, self._clock()
            )
        self._skews.pop(report.proxy, None)
        if report.time and report.proxy in self._known:
            self._skews[report.proxy] = report.time - self._clock()
        self._ailing.pop(report.proxy, None)
        if report.ailments != _WELL and report.proxy in self._known:
            self._ailing[report.proxy] = _shortened(report.ailments)
        self._problems.pop(report.proxy, None)
        if report.problem and report.proxy in self._known:
            self._problems[report.proxy] = report.problem[:1000]
        self.connections.take(report)
        self.plaintext.add(called(report.proxy), identity, report.plaintext)
        self.traffic.add(report.proxy, report.called[:MAX_CALLED])
        self._dirty = True
        if self._saving is None or self._saving.done():
            self._saving = asyncio.get_running_loop().create_task(self._save_later())

    def _answer(self, report: AgentReport) -> ReportAnswer | None:
        """What there is to say to the agent, None for nothing."""
        if report.ending:
            return ReportAnswer()
        authority = self._authority()
        pem = authority.root_pem
        if self._bundle[0] != pem:
            self._bundle = (pem, bundle_id(pem))
        stale = report.bundle != self._bundle[1]
        renew = authority.issuer_id not in (report.issuer, report.asked)
        takes = report.anchors is not None and report.anchors != anchors_id(self.anchors)
        anchors = self.anchors if takes else None
        if not stale and not renew and anchors is None:
            return None
        within = len(self._known) / _RENEWALS_A_SECOND if renew else 0.0
        return ReportAnswer(pem if stale else "", authority.issuer_id if renew else "", within, anchors=anchors)

    async def _save_later(self) -> None:
        await asyncio.sleep(_SAVE_SECONDS)
        self._save()

    def _save(self) -> None:
        now = self._clock()
        live = set(self._live())
        for node in [node for node, known in self._known.items() if known.not_after <= now and node not in live]:
            del self._known[node]
            self._problems.pop(node, None)
            self._ailing.pop(node, None)
        self._dirty = False
        try:
            saved = _Saved(self._known, tuple(self.plaintext.entries()))
            write_atomic(self._file, msgspec.json.encode(saved))
        except OSError as error:
            _log.error("%s cannot be written: %s", self._file, error)


def _shortened(said: Ailments) -> Ailments:
    return Ailments(*(one[:MAX_AILMENT] for one in msgspec.structs.astuple(said)))


def _load(file: Path) -> _Saved:
    try:
        return msgspec.json.decode(file.read_bytes(), type=_Saved)
    except FileNotFoundError:
        return _Saved()
    except (OSError, msgspec.DecodeError) as error:
        # Agents report anew within a minute; only those that are away are forgotten.
        _log.warning("%s cannot be read, reports are awaited anew: %s", file, error)
        return _Saved()


def _owns(identity: Identity, proxy: str) -> bool:
    """Whether the node id is of the identity's namespace."""
    node = NodeId.of(proxy)
    return len(proxy) < 512 and bool(node.domain) and node.namespace == identity.namespace


def _span(seconds: float) -> str:
    whole = max(int(seconds), 0)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if whole >= size:
            return f"{whole // size} {unit}"
    return f"{whole} s"
