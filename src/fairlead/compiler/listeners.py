"""Which listeners a view has, and each of them."""

from __future__ import annotations

from typing import NamedTuple

from msgspec.structs import replace

from fairlead.compiler.clients import caller, seen_as
from fairlead.compiler.filters import FilterKey, filters
from fairlead.compiler.gatewaylisteners import gateway_listener, gateway_listener_names, gateway_route_names
from fairlead.compiler.hosts import settings
from fairlead.compiler.inbound import inbound_listener, ingress_address, ingress_listener, own_ingress
from fairlead.compiler.outbound import (
    At,
    OutboundKey,
    VirtualKey,
    http_proxy_listener,
    outbound_listener,
    outbound_route,
    outbound_sockets,
    virtual_outbound,
)
from fairlead.compiler.outboundports import Caller
from fairlead.compiler.sidecars import on_port
from fairlead.compiler.telemetry import WorkloadKey, applying
from fairlead.envoy import names
from fairlead.envoy.resource import Resource
from fairlead.inc import Reader, rule
from fairlead.ir.filters import FilterScope
from fairlead.ir.kind import Stage
from fairlead.ir.view import View


class ListenerKey(NamedTuple):
    """A listener of a view, by name."""

    view: View
    name: str


@rule
def listener_names(r: Reader, view: View) -> tuple[str, ...]:
    """The names of a view's listeners, in the order in which they are sent: outbound, then inbound."""
    if view.type == "router":
        return gateway_listener_names(r, view)
    found = [names.listener(address, port) for address, port in _sockets(r, view)]
    proxy = _http_proxy(r, view)
    if proxy is not None:
        found.append(names.listener(*proxy))
    if _is_redirected(view):
        found.append(names.VIRTUAL_OUTBOUND)
    if inbound_listener(r, view) is not None:
        found.append(names.VIRTUAL_INBOUND)
    found.extend(names.listener(ingress_address(view, one), one.port) for one in own_ingress(r, view))
    return tuple(dict.fromkeys(found))


@rule
def listener(r: Reader, key: ListenerKey) -> Resource | None:
    """One listener, or None if the view has none of this name."""
    view, name = key
    if view.type == "router":
        return gateway_listener(r, (view, name))
    if name == names.VIRTUAL_INBOUND:
        return inbound_listener(r, view)
    address, _, number = name.rpartition("_")
    for one in own_ingress(r, view):
        if (ingress_address(view, one), str(one.port)) == (address, number):
            return ingress_listener(r, (view, one))
    if not _is_redirected(view) and not _is_explicit(view):
        return None
    asking = caller_of(r, view)
    if name == names.VIRTUAL_OUTBOUND:
        added = filters(r, FilterKey(Stage.HTTP_FILTERS, _scope(view, names.OUTBOUND_PORT, tcp=False)))
        return virtual_outbound(r, VirtualKey(asking, view.capture.netns, added)) if _is_redirected(view) else None
    if not address or not number.isdecimal():
        return None
    proxied = (address, int(number)) == _http_proxy(r, view)
    at = At(asking if proxied else _on(r, asking, int(number)), address, int(number))
    wanted = OutboundKey(
        at,
        filters(r, FilterKey(Stage.HTTP_FILTERS, _scope(view, at.port, tcp=False))),
        filters(r, FilterKey(Stage.NETWORK_FILTERS, _scope(view, at.port, tcp=True))),
        view.capture.netns,
    )
    if proxied:
        return http_proxy_listener(r, (wanted, view.capture.netns))
    return None if address in view.addresses else outbound_listener(r, wanted)


@rule
def route_names(r: Reader, view: View) -> tuple[str, ...]:
    """The names of all route configurations that a view's listeners refer to."""
    if view.type == "router":
        return gateway_route_names(r, view)
    asking = caller_of(r, view)
    found = [outbound_route(r, At(_on(r, asking, port), address, port)) for address, port in _sockets(r, view)]
    if _http_proxy(r, view) is not None:
        found.append(names.HTTP_PROXY_ROUTE)
    return tuple(dict.fromkeys(name for name in found if name))


def caller_of(r: Reader, view: View) -> Caller:
    """What of a view its outbound listeners depend on."""
    seen = seen_as(r, caller(r, view))
    telemetry = applying(r, WorkloadKey(view.namespace, view.labels))
    if view.capture.mode == "explicit":
        bind, port = view.capture.outbound_address, view.capture.http_proxy_port
        return Caller(seen.namespace, seen.labels, bind, port, telemetry)
    return Caller(seen.namespace, seen.labels, telemetry=telemetry)


def _on(r: Reader, asking: Caller, port: int) -> Caller:
    """A caller on a port: a Sidecar may let it see something else there."""
    return replace(asking, namespace=on_port(r, asking.namespace, port))


def _sockets(r: Reader, view: View) -> tuple[tuple[str, int], ...]:
    """Outbound addresses and ports. A headless host that the proxy itself is part of does not stand at its address."""
    if not _is_redirected(view) and not _is_explicit(view):
        return ()
    found = outbound_sockets(r, caller_of(r, view))
    return tuple(one for one in found if one[0] not in view.addresses)


def _http_proxy(r: Reader, view: View) -> tuple[str, int] | None:
    if _is_explicit(view):
        return view.capture.outbound_address, view.capture.http_proxy_port
    port = settings(r).http_proxy_port
    return ("127.0.0.1", port) if port and _is_redirected(view) else None


def _is_redirected(view: View) -> bool:
    return view.capture.mode in ("redirect", "netns")


def _is_explicit(view: View) -> bool:
    return view.capture.mode == "explicit" and bool(view.capture.outbound_address)


def _scope(view: View, port: int, *, tcp: bool) -> FilterScope:
    return FilterScope("outbound", view.namespace, view.labels, port, tcp)
