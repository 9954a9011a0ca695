"""Which services this workload calls, out of Envoy's own counters: what the control plane learns scopes from.

Only what was really called counts, never what may be called. Sources: the counters `istio_requests_total` and
`istio_tcp_connections_opened_total` where this proxy is the source.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Awaitable, Callable

from fairlead.agent import http
from fairlead.envoy.peer import Workload
from fairlead.model.report import MAX_CALLED, CalledService
from fairlead.telemetry import page

PATH = "/stats/prometheus?usedonly&filter=istio.(requests_total|tcp_connections_opened_total)"
_SAMPLE = re.compile(
    r'istio_(?:requests_total|tcp_connections_opened_total)\{(?=.*\breporter="source")'
    r'(?=.*\bdestination_service="([^"]+)")(?=.*\bdestination_service_namespace="([^"]*)").*\} (\S+)'
)
_HOST = re.compile(r"[a-z0-9_*]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)+", re.ASCII)
MAX_HOST = 253

log = logging.getLogger("traffic")

Counters = dict[tuple[str, str], float]
"""Calls since Envoy started, by host and the host's namespace (empty where it has none)."""


def counters(text: str) -> Counters:
    """The calls that a metrics page (with Istio's names) has counted at the source."""
    found: Counters = {}
    for line in text.splitlines():
        sample = _SAMPLE.match(line)
        if sample is None or len(sample[1]) > MAX_HOST or not _HOST.fullmatch(sample[1]):
            continue  # traffic to nowhere that is known has no host
        key = (sample[1], "" if sample[2] == "unknown" else sample[2])
        found[key] = found.get(key, 0.0) + float(sample[3])
    return found


class Traffic:
    """Tells what has been called since it was told last. `fetch` reads a path of Envoy's admin interface."""

    def __init__(self, workload: Callable[[], Workload], fetch: Callable[[str], Awaitable[http.Response]]) -> None:
        self._workload = workload
        self._fetch = fetch
        self._told: Counters = {}
        self._offered: Counters = {}

    async def called(self) -> tuple[CalledService, ...]:
        """What is new, at most MAX_CALLED services: the rest comes the next time."""
        try:
            body = (await self._fetch(PATH)).body
        except http.HTTPFailure as error:
            log.debug("no counters from Envoy: %s", error)
            return ()
        now = counters(page.istio_names(self._workload(), body).decode("utf-8", "replace"))
        # Counters that have fallen are those of an Envoy that was started anew.
        self._told = {key: value for key, value in self._told.items() if value <= now.get(key, 0.0)}
        self._offered = {}
        found: list[CalledService] = []
        for (host, namespace), value in sorted(now.items()):
            new = int(value - self._told.get((host, namespace), 0.0))
            if new > 0 and len(found) < MAX_CALLED:
                self._offered[host, namespace] = value
                found.append(CalledService(host, namespace, new, time.time()))
        return tuple(found)

    def told(self) -> None:
        """What was given last has reached the control plane."""
        self._told.update(self._offered)
        self._offered = {}
