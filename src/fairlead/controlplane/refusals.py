"""GET `/fairlead/v1/refusals`: what connected proxies refuse, and the fields behind it. Administrators only.

`refusals` has each refused version of a resource once: `type`, `name`, Envoy's `error`, the `proxies` that refuse it,
and `behind`, the origins (`provenance.refused`), which are found out in a copy of the process and kept while it stands.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from fairlead.controlplane.aside import Answer, Aside, Unanswered
from fairlead.controlplane.feed import Feed
from fairlead.controlplane.operations import administrators, refused
from fairlead.controlplane.places import Places
from fairlead.controlplane.proxies import Proxies
from fairlead.controlplane.proxylist import TITLES, Known, refusing
from fairlead.envoy.settings import PathError
from fairlead.ir.view import View
from fairlead.model.path import path_of
from fairlead.model.ref import Ref
from fairlead.provenance.refused import culprits

MOST_STUDIED = 20
"""Of so many refusals it is found out at once what is behind them; of more, who asks again gets the next ones."""
Json = dict[str, Any]
Version = tuple[str, str, str]
"""Type, name and version of a resource."""


class Refusal(msgspec.Struct, frozen=True):
    """A refused version: of a view, with what one of its proxies holds, and the objects under suspicion."""

    view: View
    held: bytes
    error: str
    suspects: tuple[Ref, ...]
    proxies: tuple[str, ...]


class Refusals:
    """The route and what it needs."""

    def __init__(self, feed: Feed, proxies: Proxies, aside: Aside, places: Places) -> None:
        self._feed = feed
        self._proxies = proxies
        self._aside = aside
        self._places = places
        self._behind: dict[Version, list[Json]] = {}

    def routes(self) -> list[BaseRoute]:
        """The route."""
        return [Route("/fairlead/v1/refusals", administrators(self._list))]

    async def _list(self, _: Request) -> Response:
        found = self._found()
        self._behind = {at: known for at, known in self._behind.items() if at in found}
        lacking = [(at, one) for at, one in found.items() if at not in self._behind][:MOST_STUDIED]
        if lacking:
            try:
                answer = await self._aside.ask(lambda _: self._studied(lacking))
            except Unanswered as error:
                return refused(503, str(error))
            self._behind.update(zip((at for at, _ in lacking), answer.document["behind"], strict=True))
        titles = {type_url: title for title, type_url in TITLES.items()}
        told = [
            {
                "type": titles.get(at[0], at[0]),
                "name": at[1],
                "error": one.error,
                "proxies": list(one.proxies),
                "behind": [self._placed(each) for each in self._behind.get(at, [])],
            }
            for at, one in found.items()
        ]
        return JSONResponse({"refusals": told})

    def _placed(self, origin: Json) -> Json:
        found = self._places.of(Ref(**origin["object"]), path_of(origin["field"]))
        return origin if found is None else {**origin, "position": str(found)}

    def _found(self) -> dict[Version, Refusal]:
        found: dict[Version, Refusal] = {}
        proxies = (one for one in self._proxies.known() if one.connection.session.refused)
        for known in sorted(proxies, key=lambda one: one.key):
            for at, made in self._of(known):
                before = found.get(at)
                if before is None:
                    found[at] = made
                else:
                    suspects = tuple(dict.fromkeys((*before.suspects, *made.suspects)))
                    found[at] = msgspec.structs.replace(
                        before, suspects=suspects, proxies=(*before.proxies, known.called)
                    )
        return found

    def _of(self, known: Known) -> Iterator[tuple[Version, Refusal]]:
        for type_url, ledger, name, nack in refusing(known):
            held = ledger.acked.get(name)
            suspects = self._proxies.programmed.blamed(known.connection.node.id, type_url, name)
            body = held.body if held is not None else b""
            yield (type_url, name, nack.version), Refusal(known.view, body, nack.message, suspects, (known.called,))

    def _studied(self, lacking: list[tuple[Version, Refusal]]) -> Answer:
        """Called in a copy of the process."""
        return Answer(200, {"behind": [self._studied_one(at, one) for at, one in lacking]})

    def _studied_one(self, at: Version, one: Refusal) -> list[Json]:
        type_url, name, version = at
        model = self._feed.model
        present = model.publisher.catalog(one.view).get(type_url, {}).get(name)
        if present is None or present.version != version:
            # It is refused no longer as soon as what there is now has been sent.
            return []
        try:
            found = culprits(model, one.view, (type_url, name), one.held, one.error, one.suspects)
        except PathError:
            return []
        return [{"object": dict(each.ref._asdict()), "field": str(each.path)} for each in found]
