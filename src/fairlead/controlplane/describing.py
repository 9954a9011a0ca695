"""GET `/fairlead/v1/describe`: an object or a proxy, what applies to it and why, how it stands. Administrators only.

`?group=&kind=&namespace=&name=` names an object, `kind=Proxy` a connected one; `at` is a revision.
`/fairlead/v1/proxies/NAME.NAMESPACE` gives what the control plane has for a proxy, with `/at/REV` what it had then. All
is worked on in copies of the process (`aside`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from fairlead.analyze import hostside
from fairlead.analyze.finding import Finding
from fairlead.analyze.hostside import AgentFacts, Clock, RefusalFacts
from fairlead.compiler.standing import Applies, HostAs, host_standing, workload_standing
from fairlead.controlplane import past
from fairlead.controlplane.aside import Answer, Aside, Inquiry
from fairlead.controlplane.delivery import view_of
from fairlead.controlplane.feed import Feed
from fairlead.controlplane.fleet import Fleet
from fairlead.controlplane.historyroutes import ref_of
from fairlead.controlplane.operations import administrators, answered, refused, shown_catalog
from fairlead.controlplane.places import Places, Positions
from fairlead.controlplane.proxies import Proxies
from fairlead.controlplane.proxylist import TITLES, Known, refusing
from fairlead.ir.gateway import GATEWAYS, GATEWAYS_BY_OBJECT
from fairlead.ir.host import HOSTS, HOSTS_BY_NAME
from fairlead.ir.route import ROUTES
from fairlead.ir.traffic import TRAFFIC_POLICIES
from fairlead.ir.view import View, pairs
from fairlead.model.ref import NamespacedName, Ref
from fairlead.store.change import Json, Wanted
from fairlead.store.errors import Gone
from fairlead.store.store import Store

PROXY = "Proxy"
_MOST = 50
_VIEWS = 1000
_RECENT = 5


class Descriptions:
    """The route and what it needs."""

    def __init__(self, store: Store, feed: Feed, proxies: Proxies, aside: Aside, places: Places, fleet: Fleet) -> None:
        self._fleet = fleet
        self._aside = aside
        self._places = places
        self._store = store
        self._feed = feed
        self._proxies = proxies

    def routes(self) -> list[BaseRoute]:
        """The route."""
        return [
            Route("/fairlead/v1/describe", administrators(self._describe)),
            Route("/fairlead/v1/proxies/{name}", administrators(self._catalog)),
            Route("/fairlead/v1/proxies/{name}/at/{revision:int}", administrators(self._catalog)),
        ]

    async def _catalog(self, request: Request) -> Response:
        """What a connected proxy has, or would have been given at a revision."""
        name, at = request.path_params["name"], request.path_params.get("revision")
        connection = self._proxies.connection(name)
        if connection is None:
            return refused(404, self._proxies.missing(name))

        def work(_: Inquiry) -> Answer:
            if at is None:
                return Answer(200, shown_catalog(self._proxies.catalog(connection)))
            found = self._feed.model.publisher.catalog(view_of(connection.node))
            rows = {url: {one: kept.body for one, kept in sorted(listed.items())} for url, listed in found.items()}
            return Answer(200, shown_catalog(rows))

        return await self._answered(request, at, work)

    async def _describe(self, request: Request) -> Response:
        try:
            ref = ref_of(request.query_params)
            at = int(request.query_params.get("at", "0")) or None
            document, history = await asyncio.to_thread(self._stored, ref, at)
        except Gone as error:
            return refused(410, f"{error} [FL3902]")
        except ValueError as error:
            return refused(400, str(error))
        if ref.kind != PROXY and document is None:
            return refused(404, past.missing(self._store, ref, at))

        def work(inquiry: Inquiry) -> Answer:
            known = self._behind(ref, document)
            if document is None and not known:
                return Answer(404, refusal=self._proxies.missing(f"{ref.name}.{ref.namespace}"))
            told = self._told(ref, document, known)
            if at is None:
                # What is wrong with proxies at this moment says nothing of the past.
                told["findings"] += self._unwell(known)
            # Where objects stand in files is known of them as they are now.
            placed = told if at is not None else Positions(inquiry).put_in(told)
            return Answer(200, {**placed, "history": history})

        return await self._answered(request, at, work)

    def _stored(self, ref: Ref, at: int | None) -> tuple[Json | None, list[Json]]:
        """The object, and the last changes of it: read before, since a copy of the process may not ask the store."""
        if ref.kind == PROXY:
            return None, []
        document = self._store.get(ref) if at is None else self._store.get_at(ref, at)
        return document, past.commits(self._store, _recent(ref, at)) if document is not None else []

    async def _answered(self, request: Request, at: int | None, work: Callable[[Inquiry], Answer]) -> Response:
        """What `work` says in a copy of the process, as things stood at a revision (None: now)."""
        try:
            before = await asyncio.to_thread(self._store.then, at) if at is not None else {}
        except Gone as error:
            return refused(410, f"{error} [FL3902]")

        def then(inquiry: Inquiry) -> Answer:
            try:
                self._feed.becoming(before)
            except ValueError as error:
                return Answer(422, refusal=f"what was stored then cannot be read any more: {error} [FL3812]")
            return work(inquiry)

        return await answered(request, self._aside.ask(then, self._places.place))

    def _told(self, ref: Ref, document: Json | None, known: list[Known]) -> Json:
        sections: dict[str, list[Json]] = {}

        def add(found: Iterable[Applies]) -> None:
            for one in found:
                row: Json = {"said": one.said, "object": None}
                if one.origin is not None:
                    row |= {"object": past.named(one.origin.ref), "field": str(one.origin.path)}
                rows = sections.setdefault(one.section, [])
                if row not in rows:
                    rows.append(row)

        for view in dict.fromkeys(one.view for one in known):
            add(self._feed.model.engine.call(workload_standing, view))
        if document is not None:
            if not known and ref.kind == "WorkloadEntry":
                add(self._feed.model.engine.call(workload_standing, _view_of_entry(ref, document)))
            add(self._of_object(ref))
        proxies = [_proxy(one, self._proxies) for one in known]
        status = cast("Json", (document or {}).get("status") or {})
        model = self._feed.model
        return {
            "object": past.named(ref),
            "labels": (document or {}).get("metadata", {}).get("labels", {}),
            "conditions": status.get("conditions") or [],
            "proxies": proxies[:_MOST],
            "proxyCount": len(proxies),
            "sections": [{"title": name, "rows": rows[:_MOST], "count": len(rows)} for name, rows in sections.items()],
            "findings": [str(one) for one in model.diagnostics() if one.origin.ref == ref],
        }

    def _unwell(self, known: list[Known]) -> list[str]:
        """What is wrong with proxies and their hosts, as findings."""
        return [f"{one.severity.lower()}: {one.message}. {one.remedy} [{one.code}]" for one in self._facts(known)]

    def _facts(self, known: list[Known]) -> Iterator[Finding]:
        """What proxies refuse, and what their agents say of hosts, certificates, capture and names."""
        refs = {one.called: Ref("networking.istio.io", "WorkloadEntry", one.namespace, one.name) for one in known}
        ailing = (
            AgentFacts(
                refs[one.proxy], one.said.certificate, one.not_after, one.said.capture, one.said.names, one.said.files
            )
            for one in self._fleet.ailing()
            if one.proxy in refs
        )
        yield from hostside.of_agents(ailing, time.time())
        yield from hostside.of_clocks(Clock(refs[name], skew) for name, skew in self._fleet.skews() if name in refs)
        titles = {type_url: title for title, type_url in TITLES.items()}
        yield from hostside.of_refusals(
            RefusalFacts(f"{titles[type_url]}/{name}", nack.message, (refs[one.called],))
            for one in known
            for type_url, _, name, nack in refusing(one)
        )

    def _behind(self, ref: Ref, document: Json | None) -> list[Known]:
        """The connected proxies of an object: its own, or those to which it applies."""
        listed = list(self._proxies.known())
        match ref.kind:
            case "Proxy":
                return [one for one in listed if _is_called(one, ref)]
            case "Process":
                return [
                    one for one in listed if one.namespace == ref.namespace and one.name.rpartition("-")[0] == ref.name
                ]
            case "WorkloadEntry":
                address = str(cast("Json", (document or {}).get("spec") or {}).get("address") or "")
                return [
                    one
                    for one in listed
                    if one.namespace == ref.namespace
                    and (
                        one.connection.node.metadata.get("FAIRLEAD_ENTRY") == ref.name or address in one.view.addresses
                    )
                ]
            case _:
                return []

    def _of_object(self, ref: Ref) -> Iterable[Applies]:
        engine = self._feed.model.engine
        key = NamespacedName(ref.namespace, ref.name)
        hosts = [at for at, one in engine.items(HOSTS) if one.origin.ref == ref]
        for at in hosts:
            yield Applies("Host", at.hostname)
            yield from engine.call(host_standing, HostAs(at.namespace, at))
        routes = engine.get(ROUTES, key) if ref.kind in ("VirtualService", "HTTPRoute") else None
        policy = engine.get(TRAFFIC_POLICIES, key) if ref.kind == "DestinationRule" else None
        named = routes.hosts if routes is not None else (policy.host,) if policy is not None else ()
        for name in named:
            for at in engine.find(HOSTS_BY_NAME, name):
                yield Applies("Host", f"{at.hostname} of namespace {at.namespace}")
                yield from engine.call(host_standing, HostAs(ref.namespace, at))
        if not hosts and not named:
            yield from self._applied(ref)

    def _applied(self, ref: Ref) -> Iterable[Applies]:
        """To which connected workloads an object applies, and as what."""
        engine = self._feed.model.engine
        gateway = next((engine.get(GATEWAYS, at) for at in engine.find(GATEWAYS_BY_OBJECT, ref)), None)
        for server in gateway.servers if gateway is not None else ():
            said = f"{server.port} {server.protocol} for {', '.join(server.hosts)}"
            yield Applies("Servers", said, server.origin)
        members: dict[View, list[str]] = {}
        for one in self._proxies.known():
            members.setdefault(one.view, []).append(f"{one.name}.{one.namespace}")
        for view, names in list(members.items())[:_VIEWS]:
            found = engine.call(workload_standing, view)
            said = [one.said for one in found if one.ref == ref]
            if said:
                yield Applies("Applies to", f"{', '.join(sorted(names)[:5])} ({len(names)}): {said[0]}")
            if gateway is not None and said:
                yield from (one for one in found if one.section == "Routes" and one.said.endswith(str(gateway.key)))


def _recent(ref: Ref, at: int | None) -> Wanted:
    return Wanted(ref.group, ref.kind, ref.namespace, ref.name, before=at + 1 if at else 0, limit=_RECENT)


def _is_called(one: Known, ref: Ref) -> bool:
    full = f"{one.name}.{one.namespace}"
    return ref.name == full or (one.namespace == ref.namespace and ref.name in (one.name, one.view.workload_name))


def _view_of_entry(ref: Ref, document: Json) -> View:
    """A workload whose proxy is not connected, as its entry describes it."""
    spec = cast("Json", document.get("spec") or {})
    labels = cast("dict[str, Any]", spec.get("labels") or {})
    return View(
        "sidecar",
        ref.namespace,
        pairs({key: str(value) for key, value in labels.items()}),
        str(spec.get("serviceAccount") or "default"),
        (str(spec.get("address") or ""),),
    )


def _proxy(one: Known, proxies: Proxies) -> Json:
    behind = one.standing.behind_since
    return {
        "name": f"{one.name}.{one.namespace}",
        "type": one.view.type,
        "identity": str(one.connection.peer),
        "inSync": behind is None and not one.connection.session.refused,
        "refused": one.connection.session.refused,
        "behindSeconds": None if behind is None else round(max(proxies.progress.clock() - behind, 0.0), 3),
    }
