"""Sidecar to its fact."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fairlead.inc import Reader
from fairlead.ir import sidecar as ir
from fairlead.ir.gateway import ServerTls
from fairlead.ir.kind import Emission
from fairlead.ir.pools import http_pool, tcp_pool
from fairlead.ir.protocol import Protocol, parse_protocol
from fairlead.ir.route import Destination
from fairlead.ir.visibility import DOMAIN_SUFFIX, full_name
from fairlead.kinds.sidecar import spec as api
from fairlead.model.diagnostic import Origin
from fairlead.model.object import Object
from fairlead.model.path import SPEC
from fairlead.model.ref import NamespacedName
from fairlead.model.syntax import UNIX_PREFIX


def lower(_: Reader, obj: Object[api.SidecarSpec]) -> Iterable[Emission]:
    """One `Sidecar`."""
    spec = obj.spec
    key = NamespacedName(obj.ref.namespace, obj.ref.name)
    policy = spec.outbound_traffic_policy
    fact = ir.Sidecar(
        key=key,
        origin=Origin(obj.ref),
        selector=tuple(sorted(spec.workload_selector.labels.items())) if spec.workload_selector else (),
        egress=tuple(_egress(obj)),
        ingress=tuple(_ingress(obj)),
        outbound_mode=policy.mode if policy is not None else "",
        egress_proxy=_egress_proxy(policy, obj.ref.namespace),
        tcp=tcp_pool(spec.inbound_connection_pool),
        http=http_pool(spec.inbound_connection_pool),
        created=obj.meta.creation_timestamp or "",
    )
    yield ir.SIDECARS, key, fact


def imported(text: str) -> ir.Import:
    """`NAMESPACE/HOST` of an egress listener."""
    namespace, _, host = text.partition("/")
    return ir.Import(namespace, host.lower())


def _egress(obj: Object[api.SidecarSpec]) -> Iterator[ir.EgressListener]:
    for at, one in enumerate(obj.spec.egress):
        port = one.port or api.SidecarPort()
        socket = one.bind.startswith(UNIX_PREFIX)
        # `~/*` imports nothing: it is there so that the list is not empty.
        hosts = sorted(imported(host) for host in one.hosts if host != "~/*")
        yield ir.EgressListener(
            origin=Origin(obj.ref, SPEC.child("egress", at)),
            imports=tuple(hosts),
            port=port.number,
            protocol=parse_protocol(port.protocol) if port.protocol else Protocol.AUTO,
            bind=one.bind if port.number or socket else "",
            captured=not socket and one.capture_mode != "NONE",
        )


def _ingress(obj: Object[api.SidecarSpec]) -> Iterator[ir.IngressListener]:
    for at, one in enumerate(obj.spec.ingress):
        if one.port is None:
            continue
        yield ir.IngressListener(
            origin=Origin(obj.ref, SPEC.child("ingress", at)),
            port=one.port.number,
            name=one.port.name,
            protocol=parse_protocol(one.port.protocol) if one.port.protocol else Protocol.AUTO,
            bind=one.bind,
            captured=one.capture_mode != "NONE",
            endpoint=_endpoint(one.default_endpoint),
            tls=_tls(one.tls),
            tcp=tcp_pool(one.connection_pool),
            http=http_pool(one.connection_pool),
        )


def _endpoint(text: str) -> ir.Endpoint:
    if text.startswith(UNIX_PREFIX) or not text:
        return ir.Endpoint(text)
    address, _, port = text.rpartition(":")
    return ir.Endpoint(address.strip("[]"), int(port))


def _egress_proxy(policy: api.OutboundTrafficPolicy | None, namespace: str) -> Destination | None:
    if policy is None or policy.egress_proxy is None:
        return None
    to = policy.egress_proxy
    return Destination(full_name(to.host, namespace, DOMAIN_SUFFIX), to.subset, to.port.number if to.port else 0)


def _tls(tls: api.IngressTls | None) -> ServerTls | None:
    if tls is None:
        return None
    return ServerTls(
        mode=tls.mode,
        files=((tls.server_certificate, tls.private_key),) if tls.server_certificate else (),
        ca_certificates=tls.ca_certificates,
        min_version="" if tls.min_protocol_version == "TLS_AUTO" else tls.min_protocol_version,
        max_version="" if tls.max_protocol_version == "TLS_AUTO" else tls.max_protocol_version,
        cipher_suites=tuple(dict.fromkeys(tls.cipher_suites)),
        spki_pins=tls.verify_certificate_spki,
        certificate_hashes=tls.verify_certificate_hash,
        accept_untrusted=tls.insecure_skip_verify,
    )
