"""Which listeners a view has, and each of them.

Those at which calls of other hosts arrive are the same for all proxies of which filters know no difference; the others
are a view's own.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any, NamedTuple

from msgspec.structs import replace

from fairlead.compiler.clients import caller, seen_as
from fairlead.compiler.filters import FilterKey, filters
from fairlead.compiler.gatewaylisteners import gateway_listener, gateway_listener_names
from fairlead.compiler.hosts import settings
from fairlead.compiler.inbound import inbound_listener, ingress_listener, own_ingress
from fairlead.compiler.labels import filter_labels
from fairlead.compiler.outbound import (
    At,
    OutboundKey,
    VirtualKey,
    http_proxy_listener,
    outbound_route,
    outbound_sockets,
    virtual_outbound,
)
from fairlead.compiler.outboundports import LOOPBACK, Caller
from fairlead.compiler.own import settings_of
from fairlead.compiler.serving import stands_at
from fairlead.compiler.sidecars import binds_itself, on_port, on_socket, proxy_of
from fairlead.compiler.telemetry import WorkloadKey, applying
from fairlead.envoy import names
from fairlead.inc import Reader, Rule, rule
from fairlead.ir.filters import FilterScope, Pairs
from fairlead.ir.kind import Stage
from fairlead.ir.view import View


class Calls(NamedTuple):
    """What of a proxy its outbound listeners depend on, but the ones of its own.

    `labels` are those at which filters look. `excluded` are addresses of its own: a headless host of which the proxy
    itself is an instance has no listener there. `netns` is where the application is, if a Sidecar has listeners bound.
    """

    caller: Caller
    namespace: str
    labels: Pairs = ()
    excluded: tuple[str, ...] = ()
    netns: str = ""


def own_listener_keys(r: Reader, view: View) -> Iterator[tuple[Rule[Any, Any], Hashable]]:
    """The listeners that lead to the workload, or that depend on its network namespace: what makes each, and its key.

    What comes out may be None.
    """
    if view.type == "router":
        yield from ((gateway_listener, (view, name)) for name in gateway_listener_names(r, view))
        return
    proxy = http_proxy(r, view)
    if proxy is not None:
        wanted = _filtered(r, calls_of(r, view), At(caller_of(r, view), *proxy))
        yield http_proxy_listener, (wanted, view.capture.netns)
    if _is_redirected(view):
        yield virtual_outbound, _virtual_key(r, view)
    if view.capture.mode != "none":
        yield inbound_listener, view
    yield from ((ingress_listener, (view, one)) for one in own_ingress(r, view))


@rule
def outbound_listeners(r: Reader, calls: Calls) -> tuple[OutboundKey, ...]:
    """The listeners at which calls of other hosts arrive, in the order in which they are sent."""
    return tuple(_filtered(r, calls, At(_on(r, calls, socket), *socket)) for socket in _sockets(r, calls))


@rule
def outbound_routes(r: Reader, calls: Calls) -> tuple[str, ...]:
    """The names of all route configurations to which outbound listeners refer."""
    found = (outbound_route(r, At(_on(r, calls, socket), *socket)) for socket in _sockets(r, calls))
    return tuple(dict.fromkeys(name for name in found if name))


def calls_of(r: Reader, view: View) -> Calls:
    """What of a view its outbound listeners depend on."""
    excluded = tuple(one for one in view.addresses if stands_at(r, one))
    asking = caller_of(r, view)
    netns = view.capture.netns if binds_itself(r, asking.namespace) else ""
    return Calls(asking, view.namespace, filter_labels(r, view.labels), excluded, netns)


def caller_of(r: Reader, view: View) -> Caller:
    """What of a view its outbound listeners depend on."""
    seen = seen_as(r, caller(r, view))
    telemetry = applying(r, WorkloadKey(view.namespace, view.labels))
    on_demand = view.on_demand == "true"
    made = Caller(
        seen.namespace, seen.labels, telemetry=telemetry, on_demand=on_demand, own=view.own, families=view.speaks
    )
    if view.capture.mode == "explicit":
        return replace(made, bind=view.capture.outbound_address, http_proxy_port=view.capture.http_proxy_port)
    return made


def is_captured(view: View) -> bool:
    """Whether the application's calls go through the proxy."""
    return _is_redirected(view) or _is_explicit(view)


def http_proxy(r: Reader, view: View) -> tuple[str, int] | None:
    """Where the application finds its proxy as an HTTP proxy, if at all."""
    if _is_explicit(view):
        return view.capture.outbound_address, view.capture.http_proxy_port
    if not _is_redirected(view):
        return None
    said, port = proxy_of(r, caller_of(r, view).namespace), settings_of(r, view.own).http_proxy_port
    if said is not None:
        return said[0] or LOOPBACK, said[1]
    return (LOOPBACK, port) if port else None


def _virtual_key(r: Reader, view: View) -> VirtualKey:
    calls = calls_of(r, view)
    # Where the host redirects to is up to whoever made its rules; in a namespace of its own the node has made them.
    port = settings(r).outbound_port if view.capture.mode == "redirect" else names.OUTBOUND_PORT
    added = filters(r, FilterKey(Stage.HTTP_FILTERS, _scope(calls, port, tcp=False)))
    return VirtualKey(calls.caller, view.capture.netns, added, port)


def _on(r: Reader, calls: Calls, socket: tuple[str, int]) -> Caller:
    """The caller on a port or Unix socket: a Sidecar may let it see something else there."""
    address, port = socket
    scope = calls.caller.namespace
    return replace(calls.caller, namespace=on_port(r, scope, port) if port else on_socket(r, scope, address))


def _sockets(r: Reader, calls: Calls) -> tuple[tuple[str, int], ...]:
    found = outbound_sockets(r, calls.caller)
    return tuple(one for one in found if one[0] not in calls.excluded) if calls.excluded else found


def _filtered(r: Reader, calls: Calls, at: At) -> OutboundKey:
    """A listener with the filters that kinds contribute."""
    return OutboundKey(
        at,
        filters(r, FilterKey(Stage.HTTP_FILTERS, _scope(calls, at.port, tcp=False))),
        filters(r, FilterKey(Stage.NETWORK_FILTERS, _scope(calls, at.port, tcp=True))),
        calls.netns,
    )


def _is_redirected(view: View) -> bool:
    return view.capture.mode in ("redirect", "netns")


def _is_explicit(view: View) -> bool:
    return view.capture.mode == "explicit" and bool(view.capture.outbound_address)


def _scope(calls: Calls, port: int, *, tcp: bool) -> FilterScope:
    return FilterScope("outbound", calls.namespace, calls.labels, port, tcp)
