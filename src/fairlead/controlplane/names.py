"""A route for completion: names of the running mesh, few and quickly. Administrators only.

`/fairlead/v1/names?of=WHAT&prefix=TEXT` gives pairs of a name and a word about it, at most MOST of them. WHAT is one of
`kinds`, `objects` (with `kind`, `namespace`), `namespaces`, `proxies` (with `namespace`, `type`, `short`), `revisions`
(with `kind`, `namespace`, `name`), `urls`, `events`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from fairlead.compiler.model import MeshModel
from fairlead.controlplane import past
from fairlead.controlplane.operations import administrators, refused
from fairlead.controlplane.proxies import Proxies
from fairlead.controlplane.told import KINDS
from fairlead.ir.host import HOSTS
from fairlead.model.ref import Ref
from fairlead.store.change import Wanted
from fairlead.store.store import Store

MOST = 200
_REVISIONS = 30
Pair = tuple[str, str]
Query = Mapping[str, str]


class Names:
    """The route and what it needs."""

    def __init__(self, store: Store, model: MeshModel, proxies: Proxies) -> None:
        self._store = store
        self._model = model
        self._proxies = proxies
        self._of: dict[str, Callable[[Query], Iterable[Pair]]] = {
            "kinds": self._kinds,
            "objects": self._objects,
            "namespaces": lambda _: ((one, "") for one in self._store.namespaces()),
            "proxies": self._of_proxies,
            "revisions": self._revisions,
            "urls": lambda _: self._urls(),
            "events": lambda _: ((one, "") for one in KINDS),
        }

    def routes(self) -> list[BaseRoute]:
        """The route."""
        return [Route("/fairlead/v1/names", administrators(self._names))]

    async def _names(self, request: Request) -> Response:
        query = dict(request.query_params)
        of = self._of.get(query.get("of", ""))
        if of is None:
            return refused(400, f"of: one of {', '.join(self._of)}")
        prefix = query.get("prefix", "")
        # Of proxies and hosts the loop alone may know; the store has a lock of its own.
        found = of(query) if query["of"] in ("proxies", "urls") else await asyncio.to_thread(lambda: list(of(query)))
        named = sorted(pair for pair in dict.fromkeys(found) if pair[0].startswith(prefix))[:MOST]
        if query["of"] == "revisions":
            named.sort(key=lambda pair: -int(pair[0]))
        return Response(msgspec.json.encode(named), media_type="application/json")

    def _kinds(self, query: Query) -> Iterator[Pair]:
        """By the singular; by plural or short name only where that is what is being written."""
        prefix = query.get("prefix", "").lower()
        for kind in self._model.kinds.kinds:
            names = (kind.singular or kind.kind.lower(), kind.plural, *kind.short_names)
            name = next((one for one in names if one.startswith(prefix)), None)
            if name is not None:
                yield name, kind.group or "core"

    def _objects(self, query: Query) -> Iterator[Pair]:
        prefix = query.get("prefix", "")
        for kind in self._model.kinds.named(query.get("kind", "")):
            namespace = query.get("namespace", "default") if kind.namespaced else None
            for at, name in self._store.names(kind.group, kind.kind, namespace, prefix, MOST):
                yield name, f"{kind.kind} {at}".strip()

    def _of_proxies(self, query: Query) -> Iterator[Pair]:
        sort, namespace, short = query.get("type", ""), query.get("namespace", ""), query.get("short") == "true"
        for one in self._proxies.known():
            if sort in ("", one.view.type) and namespace in ("", one.namespace):
                yield one.name if short else one.called, one.view.type

    def _revisions(self, query: Query) -> Iterator[Pair]:
        wanted = Wanted(limit=_REVISIONS)
        kinds = self._model.kinds.named(query.get("kind", "")) if query.get("name") else ()
        if kinds:
            namespace = query.get("namespace", "default") if kinds[0].namespaced else ""
            ref: Ref = kinds[0].ref(namespace, query["name"])
            wanted = Wanted(ref.group, ref.kind, ref.namespace, ref.name, limit=_REVISIONS)
        for one in self._store.commits(wanted):
            yield str(one.revision), f"{one.ref} {past.summary(one)}"[:80]

    def _urls(self) -> Iterator[Pair]:
        for key, host in self._model.engine.items(HOSTS):
            for port in host.ports:
                short = f"{host.name}.{key.namespace}" if host.kubernetes and host.name else key.hostname
                yield f"http://{short}:{port.number}/", port.name
