"""Gateway to its fact."""

from __future__ import annotations

from collections.abc import Iterable

from fairlead.inc import Reader
from fairlead.ir import gateway as ir
from fairlead.ir.ciphers import usable, usable_curves
from fairlead.ir.kind import Emission
from fairlead.ir.protocol import Protocol, parse_protocol
from fairlead.kinds.gateway import spec as api
from fairlead.model.diagnostic import Origin
from fairlead.model.object import Object
from fairlead.model.path import SPEC
from fairlead.model.ref import NamespacedName

SERVICES = "internal.istio.io/gateway-service"
"""The annotation that names the services (separated by commas) whose proxies serve a Gateway, in place of a selector.

Istio sets it on Gateways that it makes out of those of the Gateway API.
"""


_EVERYWHERE = "0.0.0.0"  # noqa: S104 - where servers listen that say nothing


def lower(_: Reader, obj: Object[api.GatewaySpec]) -> Iterable[Emission]:
    """One `Gateway`."""
    key = NamespacedName(obj.ref.namespace, obj.ref.name)
    servers: list[ir.GatewayServer] = []
    for at, server in enumerate(obj.spec.servers):
        if server.port is None:
            continue
        protocol = parse_protocol(server.port.protocol)
        if protocol is Protocol.UDP:
            continue
        servers.append(
            ir.GatewayServer(
                origin=Origin(obj.ref, SPEC.child("servers", at)),
                port=server.port.number,
                protocol=protocol,
                port_name=server.port.name,
                name=server.name,
                bind="" if server.bind == _EVERYWHERE else server.bind,
                hosts=tuple(host.lower() for host in server.hosts),
                tls=_tls(server.tls, protocol),
            )
        )
    gateway = ir.Gateway(
        key=key,
        origin=Origin(obj.ref),
        selector=tuple(sorted(obj.spec.selector.items())),
        servers=tuple(servers),
        created=obj.meta.creation_timestamp or "",
        services=tuple(one.strip() for one in obj.meta.annotations.get(SERVICES, "").split(",") if one.strip()),
    )
    yield ir.WRITTEN_GATEWAYS, key, gateway


def _tls(tls: api.ServerTLSSettings | None, protocol: Protocol) -> ir.ServerTls | None:
    """TLS settings. On a plain port they can only ask for the redirect, so they have no mode there."""
    if tls is None:
        return None
    return ir.ServerTls(
        mode=tls.mode if protocol.is_tls else "",
        credential_names=tls.credential_names or ((tls.credential_name,) if tls.credential_name else ()),
        ca_credential_name=tls.ca_cert_credential_name,
        files=_files(tls),
        ca_certificates=tls.ca_certificates,
        ca_crl=tls.ca_crl,
        subject_alt_names=tls.subject_alt_names,
        https_redirect=tls.https_redirect,
        min_version="" if tls.min_protocol_version == "TLS_AUTO" else tls.min_protocol_version,
        max_version="" if tls.max_protocol_version == "TLS_AUTO" else tls.max_protocol_version,
        cipher_suites=usable(tls.cipher_suites),
        curves=usable_curves(tls.ecdh_curves),
        spki_pins=tls.verify_certificate_spki,
        certificate_hashes=tls.verify_certificate_hash,
        accept_untrusted=tls.insecure_skip_verify,
        alpn=tls.alpn_protocols,
    )


def _files(tls: api.ServerTLSSettings) -> tuple[tuple[str, str], ...]:
    """The certificates in files: the list of them, which stands before the single one."""
    if tls.tls_certificates:
        return tuple((one.server_certificate, one.private_key) for one in tls.tls_certificates)
    return ((tls.server_certificate, tls.private_key),) if tls.server_certificate else ()
