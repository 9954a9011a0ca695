"""What Istio's `ValidateSidecar` would say."""

from __future__ import annotations

import re
from collections.abc import Iterator

from fairlead.ir.pools import pool_problems
from fairlead.ir.protocol import Protocol, parse_protocol
from fairlead.kinds.sidecar import spec as api
from fairlead.model.diagnostic import Problem, has_errors
from fairlead.model.findings import doubtful, duplicate, forbidden, invalid, no_effect, required, unsupported
from fairlead.model.names import is_dns_label
from fairlead.model.object import Object
from fairlead.model.path import SPEC, FieldPath
from fairlead.model.syntax import (
    UNIX_PREFIX,
    is_ip,
    is_name_label,
    is_partial_wildcard,
    port_problems,
    selector_problems,
    wrong_fqdn,
    wrong_unix_path,
    wrong_wildcard_domain,
)

_LOCAL = ("", "127.0.0.1", "0.0.0.0", "[::1]", "[::]")  # noqa: S104 - the workload's own address
_SPKI = re.compile(r"[A-Za-z0-9+/]{43}=")
_HASH = re.compile(r"[0-9A-Fa-f]{64}|[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){31}")


def validate(obj: Object[api.SidecarSpec]) -> Iterator[Problem]:
    """Errors and warnings of a Sidecar."""
    spec = obj.spec
    selector = spec.workload_selector
    if selector is not None:
        where = SPEC / "workloadSelector"
        yield from selector_problems(selector.labels, where / "labels")
        if not selector.labels:
            yield doubtful(where, "workload selector specified without labels", "Remove it, or name labels.")
    given = (spec.ingress, spec.egress, spec.inbound_connection_pool, spec.outbound_traffic_policy)
    if not any(given):
        message = "a Sidecar must have ingress, egress, inboundConnectionPool or outboundTrafficPolicy"
        yield required(SPEC, message, "Say what the proxies see or serve.")
    yield from _ingresses(spec)
    yield from _egresses(spec, obj.ref.namespace)
    yield from pool_problems(SPEC / "inboundConnectionPool", spec.inbound_connection_pool)
    yield from _outbound(spec.outbound_traffic_policy)


def _ingresses(spec: api.SidecarSpec) -> Iterator[Problem]:
    seen: set[int] = set()
    for at, one in enumerate(spec.ingress):
        path = SPEC.child("ingress", at)
        if one.port is None:
            yield required(path / "port", "port is required for ingress listeners")
            continue
        if one.port.number in seen:
            message = f"ports on ingress listeners must be unique: {one.port.number} stands twice"
            yield duplicate(path.child("port", "number"), message, "Leave one of the two.")
        seen.add(one.port.number)
        yield from _port(path / "port", one.port)
        if one.bind.startswith(UNIX_PREFIX):
            yield invalid(path / "bind", "unix domain sockets are not supported for ingress listeners")
        elif one.bind and not is_ip(one.bind):
            yield invalid(path / "bind", f"{one.bind} is not a valid IP", "Use an IPv4 or IPv6 address.")
        elif one.bind and one.capture_mode != "NONE":
            remedy = "Redirected calls are served at any address: set captureMode: NONE to bind this one."
            yield no_effect(path / "bind", remedy)
        yield from _endpoint(path / "defaultEndpoint", one.default_endpoint)
        if one.tls is not None:
            if not parse_protocol(one.port.protocol).is_tls:
                message = "server cannot have TLS settings for non HTTPS/TLS ports"
                yield forbidden(path / "tls", message, "Use protocol HTTPS or TLS, or remove tls.")
            yield from _tls(path / "tls", one.tls)
        yield from pool_problems(path / "connectionPool", one.connection_pool)
        http = one.connection_pool is not None and one.connection_pool.http is not None
        if http and not parse_protocol(one.port.protocol).is_http:
            where = path.child("connectionPool", "http")
            yield doubtful(where, "HTTP settings on a port that is not declared HTTP", "Declare protocol HTTP.")


def _endpoint(path: FieldPath, text: str) -> Iterator[Problem]:
    if not text:
        return
    if text.startswith(UNIX_PREFIX):
        if fault := wrong_unix_path(text):
            yield invalid(path, fault)
        return
    address, _, port = text.rpartition(":")
    if address not in _LOCAL:
        known = ", ".join(_LOCAL[1:])
        yield invalid(path, f"{text} is not at the workload", f"Use unix:///PATH, or a port at {known}.")
    if not (port.isascii() and port.isdecimal() and len(port) < 6):
        yield invalid(path, f"{port!r} is not a port", "Write ADDRESS:PORT.")
    else:
        yield from port_problems(int(port), path)


def _port(path: FieldPath, port: api.SidecarPort, *, socket: bool = False) -> Iterator[Problem]:
    if port.number > 0 or not socket:
        yield from port_problems(port.number, path / "number")
    elif port.number == 0 and not port.name and not port.protocol:
        yield required(path, "port needs a protocol or a name")
    if port.protocol and parse_protocol(port.protocol) in (Protocol.AUTO, Protocol.UDP):
        yield unsupported(
            path / "protocol", f"invalid protocol {port.protocol!r}", "Use HTTP, HTTP2, GRPC, TCP or TLS."
        )
    if port.target_port:
        yield forbidden(path / "targetPort", "targetPort has no impact on Sidecars", "Remove it.")
    if port.name and not is_name_label(port.name):
        yield invalid(path / "name", f"{port.name!r} is not a port name", "Use a DNS label.")


def _tls(path: FieldPath, tls: api.IngressTls) -> Iterator[Problem]:
    if tls.mode not in ("SIMPLE", "MUTUAL", "OPTIONAL_MUTUAL"):
        yield invalid(path / "mode", f"mode {tls.mode} is not possible for a Sidecar", "Use SIMPLE or MUTUAL.")
        return
    refused = (
        ("httpsRedirect", tls.https_redirect),
        ("subjectAltNames", tls.subject_alt_names),
        ("credentialName", tls.credential_name),
        ("credentialNames", tls.credential_names),
        ("caCertCredentialName", tls.ca_cert_credential_name),
        ("tlsCertificates", tls.tls_certificates),
        ("caCrl", tls.ca_crl),
        ("ecdhCurves", tls.ecdh_curves),
        ("alpnProtocols", tls.alpn_protocols),
    )
    for name, value in refused:
        if value:
            yield forbidden(path / name, f"{name} is not supported for a Sidecar", "Name files.")
    of_clients = (
        ("caCertificates", tls.ca_certificates),
        ("insecureSkipVerify", tls.insecure_skip_verify),
        ("verifyCertificateSpki", tls.verify_certificate_spki),
        ("verifyCertificateHash", tls.verify_certificate_hash),
    )
    for name, value in of_clients if tls.mode == "SIMPLE" else ():
        if value:
            yield no_effect(path / name, "Clients have no certificate with SIMPLE: use MUTUAL, or remove it.")
    needed = [("serverCertificate", tls.server_certificate), ("privateKey", tls.private_key)]
    if tls.mode != "SIMPLE":
        needed.append(("caCertificates", tls.ca_certificates))
    for name, value in needed:
        if not value:
            yield required(path / name, f"{tls.mode} TLS requires {name}", "Name the file.")
    for name, pins, form in (
        ("verifyCertificateSpki", tls.verify_certificate_spki, _SPKI),
        ("verifyCertificateHash", tls.verify_certificate_hash, _HASH),
    ):
        for at, pin in enumerate(pins):
            if not form.fullmatch(pin):
                yield invalid(
                    path.child(name, at), "is not a SHA-256 digest", "Base64 for keys, hexadecimal otherwise."
                )


def _repeated(path: FieldPath, hosts: tuple[str, ...], namespace: str) -> Iterator[Problem]:
    """Hosts that an earlier one of the same list brings already, or that bring what an earlier one did."""
    seen: dict[str, set[str]] = {}
    for at, text in enumerate(hosts):
        home, slash, host = text.partition("/")
        if not slash or home.startswith("~"):
            continue
        known = seen.setdefault(namespace if home == "." else home, set())
        if host in known or "*" in known or (host == "*" and known):
            yield doubtful(path / at, f"duplicated egress host: {text}", "Leave the more general one.")
        known.add(host)
    if "*" in seen.get("*", ()) and len(seen) > 1:
        yield doubtful(path, "*/* selects every host, so that no other one counts", "Remove the other hosts.")


def _egresses(spec: api.SidecarSpec, namespace: str) -> Iterator[Problem]:
    seen: set[int | str] = set()
    last = len(spec.egress) - 1
    for at, one in enumerate(spec.egress):
        path = SPEC.child("egress", at)
        if not one.hosts:
            yield required(path / "hosts", "an egress listener needs hosts", "'*/*' is all, '~/*' is none.")
        for position, host in enumerate(one.hosts):
            yield from _import(path.child("hosts", position), host)
        yield from _repeated(path / "hosts", one.hosts, namespace)
        socket = one.bind.startswith(UNIX_PREFIX)
        if one.port is None:
            if at < last:
                message = "an egress listener without port must be the last one"
                yield invalid(path, message, "Move it to the end, or give it a port.")
            if one.bind:
                yield invalid(path / "bind", "an egress listener with bind needs a port", "Give port.")
            continue
        yield from _port(path / "port", one.port, socket=socket)
        place = one.port.number or one.bind
        if place in seen:
            yield duplicate(path, "two egress listeners have the same port or socket", "Join their hosts.")
        if socket and one.capture_mode == "IPTABLES":
            message = "calls to a unix socket are not redirected"
            yield invalid(path / "captureMode", message, "Use NONE, or leave it out.")
        seen.add(place)
        yield from _bind(path / "bind", one.bind, one.port)


def _bind(path: FieldPath, bind: str, port: api.SidecarPort) -> Iterator[Problem]:
    if bind.startswith(UNIX_PREFIX):
        if fault := wrong_unix_path(bind):
            yield invalid(path, fault)
        if port.number:
            yield invalid(path, "a listener on a unix socket has no port number", "Remove the number.")
    elif bind and not is_ip(bind):
        yield invalid(path, f"{bind} is not a valid IP", "Use an IPv4 or IPv6 address.")


def _import(path: FieldPath, text: str) -> Iterator[Problem]:
    namespace, slash, host = text.partition("/")
    if not slash:
        yield invalid(path, f"{text!r} has no namespace", "Write NAMESPACE/HOST; */HOST is any namespace.")
        return
    meant = namespace.removeprefix("~")
    if namespace != "~" and meant not in ("*", ".") and not is_dns_label(meant):
        yield invalid(path, f"invalid namespace {namespace!r}", "Use a namespace, '*' or '.'; '~' before it excludes.")
    if host == "*":
        return
    if fault := wrong_wildcard_domain(host):
        yield invalid(path, fault)
    elif is_partial_wildcard(host):
        yield invalid(path, f"partial wildcard {host!r} is not allowed", "Use '*' or '*.domain'.")


def _outbound(policy: api.OutboundTrafficPolicy | None) -> Iterator[Problem]:
    path = SPEC / "outboundTrafficPolicy"
    if policy is None or policy.egress_proxy is None:
        return
    to, where = policy.egress_proxy, path / "egressProxy"
    if policy.mode != "ALLOW_ANY":
        yield forbidden(where, "an egress proxy needs mode ALLOW_ANY", "Set mode: ALLOW_ANY.")
    faults = [invalid(where / "host", fault) for fault in (wrong_fqdn(to.host),) if fault]
    yield from faults
    if to.subset and not is_name_label(to.subset):
        yield invalid(where / "subset", f"subset name is invalid: {to.subset}", "Use letters, digits and '-'.")
    if to.port is None:
        yield required(where / "port", "the egress proxy needs a port")
    elif not has_errors(faults):
        yield from port_problems(to.port.number, where.child("port", "number"))
