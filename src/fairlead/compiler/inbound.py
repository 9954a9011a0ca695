"""The inbound listener of a sidecar: what reaches the application, and over what (`inboundchains`)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, islice

from msgspec.structs import replace

from fairlead.compiler.hosts import settings
from fairlead.compiler.inboundchains import Chained, Inside, Spoken, WaysKey, black_hole, chained, passing
from fairlead.compiler.inboundports import InboundPort, inbound_ports
from fairlead.compiler.labels import filter_labels
from fairlead.compiler.loggers import listener_loggers
from fairlead.compiler.mtls import Mode, workload_mtls
from fairlead.compiler.own import settings_of
from fairlead.compiler.statnames import inbound_stat_name
from fairlead.compiler.telemetry import WorkloadKey, applying
from fairlead.envoy import names
from fairlead.envoy.hcm import InboundRoute, inbound_stat_prefix
from fairlead.envoy.listener import Shape, Socket, assemble
from fairlead.envoy.resource import Resource
from fairlead.inc import Reader, rule
from fairlead.ir.families import version_of, wildcards
from fairlead.ir.protocol import Protocol
from fairlead.ir.sidecar import IngressListener
from fairlead.ir.view import View
from fairlead.model.diagnostic import Diagnostic, Severity


@rule
def inbound_listener(r: Reader, view: View) -> Resource | None:
    """`virtualInbound`, or None where nothing is captured."""
    mode = view.capture.mode
    if view.type != "sidecar" or mode == "none":
        return None
    redirected = mode == "redirect"
    if not redirected and not view.addresses:
        return None
    ports = tuple(one for one in inbound_ports(r, view) if not is_own(view, one))
    mtls = workload_mtls(r, (view.namespace, view.labels))
    inside = _inside(r, view)
    at = settings(r).inbound_port if redirected else names.INBOUND_PORT
    made = [black_hole(r, (inside, at))]
    if redirected:
        served = {port.port for port in ports}
        special = [number for number, _ in mtls.ports if number not in served]
        for number in (0, *special):
            made.extend(passing(r, (inside, number, mtls.on(number))))
    for port in ports:
        made.extend(_chains(r, view, inside, port, mtls.on(port.port)))
    shape = _shape(view, ports, settings(r).protocol_detection_timeout, at)
    return _assembled(r, inside, _balanced(r, view, shape), made, at)


@rule
def ingress_listener(r: Reader, key: tuple[View, InboundPort]) -> Resource:
    """A listener that a Sidecar has bound at an address of its own."""
    view, port = key
    mode = workload_mtls(r, (view.namespace, view.labels)).on(port.port)
    inside = _inside(r, view)
    made = _chains(r, view, inside, port, mode)
    address = ingress_address(view, port)
    timeout = settings(r).protocol_detection_timeout
    shape = Shape(names.listener(address, port.port), Socket(address, port.port), "inbound", detection_timeout=timeout)
    return _assembled(r, inside, _balanced(r, view, shape), made, port.port)


def _balanced(r: Reader, view: View, shape: Shape) -> Shape:
    return replace(shape, exact_balance=settings_of(r, view.own).node.balance_inbound)


def _assembled(r: Reader, inside: Inside, shape: Shape, made: Sequence[Chained], port: int) -> Resource:
    logs = listener_loggers(r, inside.scope(port, tcp=True))
    shape = replace(shape, buffer=settings_of(r, inside.own).connections.listener_buffer)
    return assemble(shape, chain.from_iterable(one.pieces for one in made), [one.matching for one in made], logs)


def own_ingress(r: Reader, view: View) -> tuple[InboundPort, ...]:
    """The ports that a Sidecar has bound at addresses of their own."""
    if view.type != "sidecar" or view.capture.mode == "none":
        return ()
    return tuple(one for one in inbound_ports(r, view) if is_own(view, one))


def is_own(view: View, port: InboundPort) -> bool:
    """Whether a port has a listener of its own. Without redirection all are bound at the workload's address."""
    said = port.ingress
    if said is None or said.captured or not view.addresses:
        return False
    return view.capture.mode == "redirect" or said.bind not in ("", view.addresses[0])


def ingress_address(view: View, port: InboundPort) -> str:
    """Where a Sidecar's ingress listener is: the workload's address unless it says so."""
    bind = port.ingress.bind if port.ingress is not None else ""
    return bind or (view.addresses or wildcards(view.speaks))[0]


def _inside(r: Reader, view: View) -> Inside:
    telemetry = applying(r, WorkloadKey(view.namespace, view.labels))
    return Inside(view.namespace, filter_labels(r, view.labels), telemetry, view.own)


def _chains(r: Reader, view: View, inside: Inside, port: InboundPort, mode: Mode) -> tuple[Chained, ...]:
    """The chains of a port of the application."""
    said = port.ingress
    tls = said.tls if said is not None and mode == "DISABLE" else None
    if said is not None and said.tls is not None and tls is None:
        r.report(_not_terminated(said, mode))
    # Istio's name for a port of any address
    address = wildcards(view.speaks)[0] if said is None else ingress_address(view, port)
    name, cluster = names.listener(address, port.port), names.inbound_cluster(port.port)
    http = port.protocol.is_http or (tls is not None and port.protocol is Protocol.HTTPS)
    key = WaysKey(
        inside,
        port.port,
        cluster,
        "http" if http else _protocol(port.protocol),
        mode,
        (name, name),
        inbound_stat_prefix(name),
        inbound_stat_name(r, view.namespace, port),
        port.protocol.is_http2,
        port.protocol is Protocol.GRPC_WEB,
        tls,
    )
    operation = f"{port.hostname}:{port.service_port}/*"
    return chained(r, key, InboundRoute(cluster, port.service_port, operation, settings(r).inbound_retry))


def _shape(view: View, ports: tuple[InboundPort, ...], timeout: float, at: int) -> Shape:
    """Redirected connections arrive on one port; without redirection every port is bound at the workload's address."""
    if view.capture.mode == "redirect":
        # Whatever address the host redirects.
        first, *more = (Socket(one, at) for one in wildcards(view.speaks))
        return Shape(
            names.VIRTUAL_INBOUND,
            first,
            "inbound",
            more_sockets=tuple(more),
            original_dst=True,
            transparent=view.capture.transparent,
            detection_timeout=timeout,
        )
    first, *more = (
        Socket(address, number)
        for address in own_addresses(view)
        for number in dict.fromkeys((at, *(one.port for one in ports)))
    )
    return Shape(
        names.VIRTUAL_INBOUND,
        first,
        "inbound",
        more_sockets=tuple(more),
        detection_timeout=timeout,
    )


def own_addresses(view: View) -> tuple[str, ...]:
    """Where peers reach the workload: its first address, and its first one of the other family."""
    first = view.addresses[0]
    other = (one for one in view.addresses if version_of(one) not in (0, version_of(first)))
    return first, *islice(other, 1)


def _protocol(protocol: Protocol) -> Spoken:
    if protocol.is_http:
        return "http"
    return "auto" if protocol is Protocol.AUTO else "tcp"


def _not_terminated(said: IngressListener, mode: Mode) -> Diagnostic:
    return Diagnostic(
        "FL2001",
        Severity.WARNING,
        f"the TLS settings of port {said.port} are not used: its mesh mTLS mode is {mode}",
        said.origin,
        f"Set portLevelMtls {said.port} to DISABLE in a PeerAuthentication, or remove tls.",
    )


__all__ = ["InboundPort", "inbound_listener", "inbound_ports"]
