"""A request at one proxy's connection manager, and the route that is chosen for it."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar

from envoy.config.route.v3.route_components_pb2 import Route, VirtualHost
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)
from google.protobuf.message import Message as Proto

from fairlead.envoy import names
from fairlead.envoy.messages import unpacked as unpacked_any
from fairlead.envoy.resource import ROUTE
from fairlead.envoy.route import CONNECT_ROUTE, DEFAULT_ROUTE
from fairlead.model.diagnostic import Origin
from fairlead.simulate.message import Message
from fairlead.simulate.request import Request
from fairlead.simulate.routing import Share, Taken, match_words, shares, take
from fairlead.simulate.visit import Visit
from fairlead.simulate.walk import Setting
from fairlead.simulate.world import Routes

_MADE = (DEFAULT_ROUTE, CONNECT_ROUTE, names.ALLOW_ANY, names.BLOCK_ALL)
"""Routes that no rule of an object makes."""

P = TypeVar("P", bound=Proto)


class Selected(NamedTuple):
    """What routing has come to: each is None (or -1) as far as nothing was found."""

    name: str
    routes: Routes | None
    host: VirtualHost | None
    domain: str
    host_at: int
    taken: Taken | None

    @property
    def route(self) -> Route | None:
        """The route."""
        return self.taken.route if self.taken is not None else None


class Exchange:
    """A request inside of a connection manager. The route is chosen when it is first asked for."""

    def __init__(self, visit: Visit, manager: HttpConnectionManager, request: Request, message: Message) -> None:
        self.visit = visit
        self.manager = manager
        self.request = request
        self.message = message
        self.passes_by: set[str] = set()
        self._selected: Selected | None = None

    def choose(self) -> None:
        """Have the route chosen before any filter asks for it, as Envoy does."""
        _ = self.selected

    def forget_route(self) -> None:
        """Have the route chosen again: what it depends on has changed."""
        self._selected = None

    @property
    def selected(self) -> Selected:
        """The route for the request as it is now."""
        if self._selected is None:
            self._selected = self._select()
            self._name(self._selected)
        return self._selected

    def _name(self, found: Selected) -> None:
        """Note the choice as Envoy logs it, also for a request that a filter then refuses."""
        # A redirect to TLS stands in the place of any route.
        route = None if self._asks_for_tls(found.host) else found.route
        led = (
            shares(route.route, self.message, self.visit.preferred_cluster)
            if route is not None and route.HasField("route")
            else ()
        )
        self.visit.name(
            virtual_host=found.host.name if found.host is not None else "",
            route=route.name if route is not None else "",
            cluster=led[0].cluster if led else "",
        )

    def _asks_for_tls(self, host: VirtualHost | None) -> bool:
        if host is None or host.require_tls != VirtualHost.ALL:
            return False
        return self.message.header("x-forwarded-proto") != "https"

    @property
    def leads_nowhere(self) -> bool:
        """Whether there is no route, nor a redirect that stands in its place."""
        return self.selected.route is None and not self._asks_for_tls(self.selected.host)

    def _select(self) -> Selected:
        name, routes = self._routes()
        found = routes.find(self.message.authority) if routes is not None else None
        if routes is None or found is None:
            return Selected(name, routes, None, "", -1, None)
        host, domain, at = found
        return Selected(name, routes, host, domain, at, take(host, self.message))

    def _routes(self) -> tuple[str, Routes | None]:
        manager = self.manager
        if manager.HasField("route_config"):
            return manager.route_config.name, Routes(manager.route_config)
        name = manager.rds.route_config_name
        resource = self.visit.catalog[ROUTE].get(name)
        return name, self.visit.mesh.world.routes(resource) if resource is not None else None

    def setting(self) -> Setting:
        """Where in the configuration the chosen route stands."""
        found = self.selected
        path = f"virtualHosts[{found.host_at}]" if found.host_at >= 0 else ""
        if found.taken is not None and found.taken.at >= 0:
            path += f".routes[{found.taken.at}]"
        return Setting(ROUTE, found.name, path)

    def origins(self) -> tuple[Origin, ...]:
        """The objects behind the chosen route."""
        route = self.selected.route
        if route is None:
            return ()
        origins = self.visit.mesh.origins
        own = origins.route(route)
        patched = origins.patches(self.visit.proxy.view, ROUTE, self.selected.name)
        # A route that the compiler does not make is one that a patch has added.
        added = not own and route.name not in _MADE
        return (*patched, *self.host_origins()) if added else (*(own or self.host_origins()), *patched)

    def host_origins(self) -> tuple[Origin, ...]:
        """The object that defines the host of the chosen route's cluster."""
        route = self.selected.route
        parts = route.route.cluster.split("|") if route is not None else []
        if len(parts) != 4 or not parts[3]:
            return ()
        return self.visit.mesh.origins.seen_host(self.visit.proxy.view.namespace, parts[3])

    def per_route(self, filter_name: str, kind: type[P]) -> P | None:
        """What the route, else its virtual host, else the configuration, tells a filter."""
        found = self._per_route(filter_name)
        if found is None:
            return None
        made = unpacked_any(found)
        return made if isinstance(made, kind) else None

    def _per_route(self, filter_name: str) -> Any:
        chosen = self.selected
        if self._asks_for_tls(chosen.host):
            return None  # a redirect to TLS stands in the place of the route, and says nothing to filters
        for holder in (chosen.route, chosen.host, chosen.routes.config if chosen.routes is not None else None):
            if holder is not None and filter_name in holder.typed_per_filter_config:
                return holder.typed_per_filter_config[filter_name]
        return None

    def shares(self) -> tuple[Share, ...]:
        """The clusters that may get the request."""
        route = self.selected.route
        return shares(route.route, self.message, self.visit.preferred_cluster) if route is not None else ()

    def tell_route(self) -> None:
        """Add the steps of routing; raises Ended where there is no virtual host or no route."""
        visit, found = self.visit, self.selected
        if found.routes is None:
            said = "the proxy has no route configuration of this name"
            visit.say("route configuration", found.name, said, setting=self.setting(), passed=False)
            raise visit.end(404, "NR", "route_not_found")
        visit.name(routes=found.name)
        if found.host is None:
            said = f"no virtual host is for Host {self.message.authority}"
            origins: tuple[Origin, ...] = ()
            if visit.hop == "gateway":
                origins = visit.mesh.origins.gateway(visit.proxy.view, visit.listener.name, visit.connection.port)
                origins = visit.mesh.origins.each(origins, "hosts")
            visit.say("virtual host", self.message.authority, said, origins, setting=self.setting(), passed=False)
            raise visit.end(404, "NR", "route_not_found")
        visit.name(virtual_host=found.host.name)
        said = f"of {found.name}: Host {self.message.authority} is for {found.domain}"
        visit.say("virtual host", found.host.name, said, setting=self.setting())
        self._tell_match()

    def _tell_match(self) -> None:
        visit, found = self.visit, self.selected
        host, taken = found.host, found.taken
        if host is None or taken is None:
            return
        if self._asks_for_tls(host):
            servers = visit.mesh.origins.gateway(visit.proxy.view, visit.listener.name, visit.connection.port)
            origins = visit.mesh.origins.only(servers, "tls", "httpsRedirect")
            said = "the host asks for TLS: answered by a redirect to https"
            visit.say("route", host.name, said, origins, passed=False)
            raise visit.end(301, "", "direct_response")
        for reason in taken.undecided:
            visit.trail.doubt(reason)
        if taken.route is None:
            nearest = "; ".join(f"{one.route.name or one.at}: {one.why}" for one in taken.missed[:3])
            said = f"none of {len(host.routes)} routes takes {self.message.method} {self.message.path} ({nearest})"
            origins = visit.mesh.origins.route(taken.missed[0].route) if taken.missed else ()
            visit.say("route", host.name, said, origins, setting=self.setting(), passed=False)
            raise visit.end(404, "NR", "route_not_found")
        visit.name(route=taken.route.name)
        said = f"takes {match_words(taken.route.match)}"
        if taken.missed:
            last = taken.missed[-1]
            said += f"; not {last.route.name or f'routes[{last.at}]'} before it: {last.why}"
        after = visit.mesh.origins.shadowed(taken.route) if not visit.inbound else ()
        if after:
            said += f"; never reached after it: {', '.join(after[:3])}{' ...' if len(after) > 3 else ''}"
        origins = self.origins()
        if taken.missed:
            # What the request was meant for may be the rule that just did not take it.
            missed = visit.mesh.origins.route(taken.missed[-1].route)
            origins = tuple(dict.fromkeys((*origins[:1], *missed[:1], *origins)))
        visit.say("route", taken.route.name or f"routes[{taken.at}]", said, origins, setting=self.setting())
