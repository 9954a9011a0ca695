"""What Istio's `ValidateGateway` would say."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from fairlead.ir.ciphers import is_cipher_suite, is_curve
from fairlead.ir.credential import read_name
from fairlead.ir.protocol import Protocol, parse_protocol
from fairlead.kinds.gateway.spec import GatewaySpec, Port, Server, ServerTLSSettings, TLSCertificate
from fairlead.model.diagnostic import Problem, has_errors
from fairlead.model.findings import doubtful, duplicate, forbidden, invalid, no_effect, required, unsupported
from fairlead.model.object import Object
from fairlead.model.path import METADATA, SPEC, FieldPath
from fairlead.model.syntax import (
    UNIX_PREFIX,
    is_ip,
    is_name_label,
    is_partial_wildcard,
    label_problems,
    port_problems,
    wrong_unix_path,
    wrong_wildcard_domain,
)

_FILES = ("server_certificate", "private_key", "ca_certificates")
_SPKI = re.compile(r"[A-Za-z0-9+/]{43}=")
_HASH = re.compile(r"[0-9A-Fa-f]{64}|[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){31}")


def validate(obj: Object[GatewaySpec]) -> Iterator[Problem]:
    """Errors and warnings of a Gateway."""
    if obj.meta.name and not is_name_label(obj.meta.name):
        yield invalid(METADATA / "name", f"invalid gateway name {obj.meta.name!r}", "Use a name without dots.")
    if not obj.spec.servers:
        yield required(SPEC / "servers", "a gateway must have at least one server")
    names: set[str] = set()
    for at, server in enumerate(obj.spec.servers):
        path = SPEC.child("servers", at)
        yield from _server(path, server)
        if server.port is None:
            continue
        if server.port.name and server.port.name in names:
            message = f"port names in servers must be unique: {server.port.name!r} stands twice"
            yield duplicate(path.child("port", "name"), message, "Give each server's port a name of its own.")
        names.add(server.port.name)
        plain_http = parse_protocol(server.port.protocol).is_http
        if server.tls is not None and server.tls.https_redirect and not plain_http:
            where = path.child("tls", "httpsRedirect")
            yield doubtful(where, "tls.httpsRedirect should only be used with http servers", "Remove it here.")
    yield from label_problems(obj.spec.selector, SPEC / "selector")


def _server(path: FieldPath, server: Server) -> Iterator[Problem]:
    if not server.hosts:
        yield required(path / "hosts", "a server must have at least one host", "Use '*' for all hosts.")
    for at, host in enumerate(server.hosts):
        yield from _host(path.child("hosts", at), host)
    faults = list(_port(path / "port", server.port, server.bind))
    yield from faults
    yield from _bind(path, server)
    if server.tls is not None:
        yield from _tls(path / "tls", server.tls)
    if server.port is not None and not has_errors(faults):
        yield from _tls_of_port(path, server, parse_protocol(server.port.protocol))
    if server.default_endpoint:
        yield no_effect(path / "defaultEndpoint", "Istio does not act on it either: remove it.")


def _host(path: FieldPath, host: str) -> Iterator[Problem]:
    namespace, slash, name = host.partition("/")
    if not slash:
        namespace, name = "*", host
    elif not namespace or not name:
        yield invalid(path, f"{host!r} has no namespace or no host", "Write namespace/host.")
        return
    if namespace not in ("*", ".") and not is_name_label(namespace):
        yield invalid(path, f"invalid namespace {namespace!r} in {host!r}", "Use a namespace, '.' or '*'.")
    if name != "*" and "." not in name and ":" not in name:
        yield invalid(path, f"short names (not fully qualified) are not allowed: {name!r}", "Write the full host name.")
    fault = wrong_wildcard_domain(name)
    if fault and not is_ip(name):
        yield invalid(path, fault)
    if is_partial_wildcard(name):
        yield invalid(path, f"partial wildcard {name!r} is not allowed", "Use '*' or '*.domain'.")


def _port(path: FieldPath, port: Port | None, bind: str) -> Iterator[Problem]:
    if port is None:
        yield required(path, "port is required")
        return
    protocol = parse_protocol(port.protocol)
    if protocol is Protocol.UDP:
        yield no_effect(path / "protocol", "Gateways serve no UDP, Istio's neither: remove the server.")
    elif protocol is Protocol.AUTO:
        message = f"invalid protocol {port.protocol!r}"
        known = "Use one of HTTP, HTTPS, HTTP2, GRPC, GRPC-WEB, MONGO, MYSQL, REDIS, TCP, TLS."
        yield unsupported(path / "protocol", message, known)
    if port.number > 0 or not bind.startswith(UNIX_PREFIX):
        yield from port_problems(port.number, path / "number")
    if port.target_port:
        yield forbidden(path / "targetPort", "targetPort has no impact on gateways", "Remove it.")
    if not port.name:
        yield required(path / "name", "port name must be set", "Name it after its protocol, such as http or https.")


def _bind(path: FieldPath, server: Server) -> Iterator[Problem]:
    bind = server.bind
    if bind.startswith(UNIX_PREFIX):
        if fault := wrong_unix_path(bind):
            yield invalid(path / "bind", fault)
        if server.port is not None and server.port.number:
            message = "port number must be 0 for unix domain socket"
            yield invalid(path.child("port", "number"), message, "Remove the number or bind an address.")
    elif bind and not is_ip(bind):
        yield invalid(path / "bind", f"{bind} is not a valid IP", "Use an IPv4 or IPv6 address.")


def _tls_of_port(path: FieldPath, server: Server, protocol: Protocol) -> Iterator[Problem]:
    tls = server.tls
    if protocol.is_tls:
        if tls is None:
            yield required(path / "tls", "server must have TLS settings for HTTPS/TLS protocols")
    elif tls is not None and not protocol.is_http:
        message = "server cannot have TLS settings for non HTTPS/TLS ports"
        yield forbidden(path / "tls", message, "Use protocol TLS, or remove tls.")
    elif tls is not None and (
        tls.mode not in ("PASSTHROUGH", "AUTO_PASSTHROUGH") or any(getattr(tls, name) for name in _FILES)
    ):
        message = "server cannot have TLS settings for plain text HTTP ports"
        yield forbidden(path / "tls", message, "Use protocol HTTPS, or leave only httpsRedirect.")


def _tls(path: FieldPath, tls: ServerTLSSettings) -> Iterator[Problem]:
    yield from _versions_and_ciphers(path, tls)
    yield from _pins(path, tls)
    yield from _idle(path, tls)
    if tls.mode == "ISTIO_MUTUAL":
        yield from _mesh_tls(path, tls)
        return
    if tls.mode in ("PASSTHROUGH", "AUTO_PASSTHROUGH"):
        if _uses_certificates(tls):
            message = f"{tls.mode} mode does not use certificates, they will be ignored"
            yield doubtful(path, message, "Use mode SIMPLE or MUTUAL to terminate TLS here.")
        return
    yield from _sources(path, tls)
    yield from _names(path, tls)
    if tls.credential_name or tls.credential_names:
        return
    yield from _certificates(path, tls)
    if tls.ca_crl and tls.mode == "SIMPLE":
        yield forbidden(path / "caCrl", "CRL is not supported with SIMPLE TLS", "Use MUTUAL, or remove caCrl.")


def _versions_and_ciphers(path: FieldPath, tls: ServerTLSSettings) -> Iterator[Problem]:
    if tls.min_protocol_version in ("TLSV1_0", "TLSV1_1") and not tls.cipher_suites:
        message = "TLS versions below TLSV1_2 need compatible cipher suites, which are not among the default ones"
        yield doubtful(path / "minProtocolVersion", message, "Set cipherSuites too.")
    versions = ("TLS_AUTO", "TLSV1_0", "TLSV1_1", "TLSV1_2", "TLSV1_3")
    lowest, highest = versions.index(tls.min_protocol_version), versions.index(tls.max_protocol_version)
    if highest and lowest > highest:
        yield doubtful(path / "minProtocolVersion", "is above maxProtocolVersion: no client can connect")
    for at, suite in enumerate(tls.cipher_suites):
        if not is_cipher_suite(suite):
            yield doubtful(path.child("cipherSuites", at), f"ignoring invalid cipher suite {suite}")
        elif suite in tls.cipher_suites[:at]:
            yield doubtful(path.child("cipherSuites", at), f"ignoring duplicate cipher suite {suite}")
    for curve, times in Counter(tls.ecdh_curves).items():
        at = path.child("ecdhCurves", tls.ecdh_curves.index(curve))
        if not is_curve(curve):
            yield doubtful(at, f"unrecognized ECDH curve {curve}")
        elif times > 1:
            yield doubtful(at, f"duplicate ECDH curve {curve}")


def _pins(path: FieldPath, tls: ServerTLSSettings) -> Iterator[Problem]:
    """Pins that are no SHA-256 digests: Envoy would refuse the listener, and so all servers of the port."""
    for at, pin in enumerate(tls.verify_certificate_spki):
        if not _SPKI.fullmatch(pin):
            yield invalid(path.child("verifyCertificateSpki", at), "is not a SHA-256 digest in base64 (44 characters)")
    for at, pin in enumerate(tls.verify_certificate_hash):
        if not _HASH.fullmatch(pin):
            message = "is not a SHA-256 digest in hexadecimal (64 digits, or pairs of them with colons)"
            yield invalid(path.child("verifyCertificateHash", at), message)


def _idle(path: FieldPath, tls: ServerTLSSettings) -> Iterator[Problem]:
    """Fields of which the mode makes nothing, as in Istio."""
    names, remedy = _IDLE.get(tls.mode, ((), ""))
    if tls.mode in ("MUTUAL", "OPTIONAL_MUTUAL") and (tls.credential_name or tls.credential_names):
        names, remedy = ("ca_certificates", "ca_crl"), "The Secret says it: put ca.crt and ca.crl there."
    elif tls.mode == "SIMPLE" and (tls.credential_name or tls.credential_names):
        names = (*names, "ca_crl")
    default = ServerTLSSettings()
    encoded = dict(zip(tls.__struct_fields__, tls.__struct_encode_fields__, strict=True))
    for name in names:
        if getattr(tls, name) != getattr(default, name):
            yield no_effect(path / encoded[name], remedy)


_OF_CLIENTS = ("subject_alt_names", "verify_certificate_spki", "verify_certificate_hash", "insecure_skip_verify")
_LIMITS = ("min_protocol_version", "max_protocol_version", "cipher_suites", "ecdh_curves")
_TERMINATED = (*_OF_CLIENTS, *_LIMITS, "alpn_protocols")
_IDLE: dict[str, tuple[tuple[str, ...], str]] = {
    "SIMPLE": (
        ("ca_certificates", "ca_cert_credential_name", *_OF_CLIENTS),
        "Clients have no certificate with SIMPLE: use MUTUAL, or remove it.",
    ),
    "PASSTHROUGH": (_TERMINATED, "TLS is not terminated here: use SIMPLE or MUTUAL, or remove it."),
    "AUTO_PASSTHROUGH": (_TERMINATED, "TLS is not terminated here: remove it."),
    "ISTIO_MUTUAL": ((*_OF_CLIENTS[1:], *_LIMITS), "Limits of mesh mTLS are meshMTLS of the mesh's settings."),
}


def _mesh_tls(path: FieldPath, tls: ServerTLSSettings) -> Iterator[Problem]:
    given = (
        ("serverCertificate", tls.server_certificate, "server certificate"),
        ("privateKey", tls.private_key, "private key"),
        ("caCertificates", tls.ca_certificates, "CA bundle"),
        ("credentialName", tls.credential_name, "credentialName"),
        ("credentialNames", tls.credential_names, "credentialNames"),
        ("tlsCertificates", tls.tls_certificates, "certificates"),
    )
    for name, value, what in given:
        if value:
            yield forbidden(path / name, f"ISTIO_MUTUAL TLS cannot have associated {what}", "Remove it.")


def _uses_certificates(tls: ServerTLSSettings) -> bool:
    return bool(
        tls.ca_crl
        or tls.credential_name
        or tls.credential_names
        or tls.tls_certificates
        or any(getattr(tls, name) for name in _FILES)
    )


def _sources(path: FieldPath, tls: ServerTLSSettings) -> Iterator[Problem]:
    # Half a pair of files beside a Secret is left over and does no harm.
    pair = tls.server_certificate and tls.private_key
    sources = (tls.credential_name, tls.credential_names, tls.tls_certificates, pair)
    if sum(1 for one in sources if one) > 1:
        message = "only one of credential_name, credential_names, tls_certificates, server_certificate can be set"
        yield forbidden(path, message, "Leave one of credentialName, credentialNames, tlsCertificates and the files.")


def _names(path: FieldPath, tls: ServerTLSSettings) -> Iterator[Problem]:
    """Credentials that no proxy can be given."""
    own = [(path / "credentialName", tls.credential_name)] if tls.credential_name else []
    own += [(path.child("credentialNames", at), one) for at, one in enumerate(tls.credential_names)]
    for where, one in own:
        source = read_name(one).source
        if source == "configmap":
            yield doubtful(where, "a ConfigMap holds no private key", "Name a Secret.")
        elif not source:
            yield doubtful(where, f"nobody knows where {one!r} is", _FORMS)
    if tls.ca_cert_credential_name and not read_name(tls.ca_cert_credential_name).source:
        said = f"nobody knows where {tls.ca_cert_credential_name!r} is"
        yield doubtful(path / "caCertCredentialName", said, _FORMS)


_FORMS = (
    "Use NAME, kubernetes://NAME, kubernetes-gateway://NAMESPACE/NAME, configmap://NAMESPACE/NAME, sds://NAME "
    "or builtin://."
)


def _certificates(path: FieldPath, tls: ServerTLSSettings) -> Iterator[Problem]:
    mode = "SIMPLE" if tls.mode == "SIMPLE" else "MUTUAL"
    own = TLSCertificate(tls.server_certificate, tls.private_key)
    given = [(path.child("tlsCertificates", at), one) for at, one in enumerate(tls.tls_certificates)]
    for where, one in given or [(path, own)]:
        if not one.server_certificate:
            yield required(where / "serverCertificate", f"{mode} TLS requires a server certificate", _NEEDS)
        if not one.private_key:
            yield required(where / "privateKey", f"{mode} TLS requires a private key", _NEEDS)
    if mode == "MUTUAL" and not tls.ca_certificates and not tls.ca_cert_credential_name:
        yield required(path / "caCertificates", "MUTUAL TLS requires a client CA bundle", _NEEDS)


_NEEDS = "Set credentialName to a Secret, or give the files."
