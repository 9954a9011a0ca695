"""Gateways against the workloads, Services and Secrets that serve them (semantics: Istio's own analyzers)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fairlead.analyze import queries, shape
from fairlead.analyze.analyzer import Analyzer
from fairlead.analyze.certificates import covers, credential_problem, names_of
from fairlead.analyze.document import (
    CLOCK,
    DOCUMENTS,
    GATEWAY,
    GATEWAY_PORTS,
    GATEWAY_SELECTORS,
    SECRET,
    Document,
    selector_text,
    workload_labels,
)
from fairlead.analyze.finding import Said
from fairlead.analyze.hosts import server_hosts
from fairlead.analyze.probes import to_certificate, to_server
from fairlead.inc import Reader
from fairlead.ir.credential import CredentialName, read_name
from fairlead.model.path import METADATA, SPEC, FieldPath
from fairlead.model.ref import Ref

_SELECTOR = SPEC / "selector"


def _selector(one: Document) -> dict[str, str]:
    return shape.pairs(one.spec, "selector")


def _nobody(one: Document) -> Said:
    text = selector_text(_selector(one))
    return Said(
        "IST0101", f"no workload has the labels of the selector {text}", _SELECTOR, "Nothing serves this gateway."
    )


def ports(r: Reader, one: Document) -> Iterator[Said]:
    """Servers on ports that no Service leads to."""
    workloads = queries.matching(r, _selector(one))
    if not workloads:
        yield _nobody(one)
        return
    reached: set[int] = set()
    services = False
    for ref in workloads:
        workload = r.get(DOCUMENTS, ref)
        labels = (workload_labels(workload) if workload else None) or {}
        for service in queries.selected_by(r, labels, ref.namespace):
            services = True
            reached.update(_offered(service))
    if not services and all(ref.group == "fairlead.dev" for ref in workloads):
        return  # Clients reach a gateway Process at its own address; it needs no Service.
    for at, server in shape.entries(one.spec, "servers"):
        number = shape.number(server, "port", "number")
        if number is not None and number not in reached:
            said = f"no Service of the gateway's workloads has or leads to port {number}"
            yield Said("IST0162", said, SPEC.child("servers", at, "port", "number"))


def _offered(service: Document) -> Iterator[int]:
    """The TCP ports of a Service, and those to which they lead: a server may be named by either."""
    for port in shape.items(service.spec, "ports"):
        if shape.text(port, "protocol") in ("", "TCP"):
            for name in ("port", "targetPort"):
                found = shape.value(port, name)
                if isinstance(found, int) or (isinstance(found, str) and found.isdigit()):
                    yield int(found)


def secrets(r: Reader, one: Document) -> Iterator[Said]:
    """Credentials that are not there, or that hold no valid certificate and key."""
    workloads = queries.matching(r, _selector(one))
    if not workloads:
        yield _nobody(one)
        return
    home = workloads[0].namespace
    for at, server in shape.entries(one.spec, "servers"):
        for path, name in _credentials(server, SPEC.child("servers", at, "tls")):
            yield from _credential(r, server, path, read_name(name), home)


def _credentials(server: dict[str, Any], path: FieldPath) -> Iterator[tuple[FieldPath, str]]:
    if name := shape.text(server, "tls", "credentialName"):
        yield path / "credentialName", name
    for at, one in enumerate(shape.words(server, "tls", "credentialNames")):
        yield path.child("credentialNames", at), one


def _credential(r: Reader, server: dict[str, Any], path: FieldPath, name: CredentialName, home: str) -> Iterator[Said]:
    now = r.get(CLOCK, "now")
    if name.source != "secret" or name.served:
        return  # what a server of secrets has, only the proxies see
    where = name.namespace or home
    secret = queries.document(r, SECRET, where, name.name)
    if where != home:
        said = f"Secret {name.name} is in namespace {where}, and the gateway runs in {home}: it is not given to it"
        yield Said("IST0101", said, path, f"Put the Secret into namespace {home}.")
        return
    if secret is None:
        said = f"there is no Secret {name.name} in namespace {where}, where the gateway runs"
        yield Said("IST0101", said, path)
        return
    wrong = credential_problem(secret.data, now)
    if wrong:
        said = f"Secret {secret.ref.namespace}/{secret.ref.name}: {wrong}"
        yield Said("IST0161", said, path, probe=to_certificate(server, wrong))
        return
    names = names_of(secret.data)
    hosts = [host.rpartition("/")[2] for host in shape.words(server, "hosts")]
    foreign = [host for host in hosts if names and host != "*" and not covers(names, host)]
    if foreign:
        wrong = f"it is for {', '.join(names[:3])}, and not for {foreign[0]}"
        said = f"the certificate of Secret {secret.ref.namespace}/{secret.ref.name}: {wrong}"
        yield Said("FL3727", said, path, probe=to_certificate({**server, "hosts": foreign}, wrong))


def conflicts(r: Reader, one: Document) -> Iterator[Said]:
    """Servers of two Gateways on one port of the same proxies for the same host.

    A wildcard beside a host that it covers is no conflict: the more exact one counts.
    """
    selector = _selector(one)
    for at, server in shape.entries(one.spec, "servers"):
        number = shape.number(server, "port", "number")
        if number is None:
            continue
        found = [
            str(ref)
            for ref, other in _at_port(r, selector, number).items()
            if ref != one.ref and _clash(server, one, other, number) and _meet(r, selector, _selector(other))
        ]
        if found:
            text = selector_text(selector)
            hosts = ", ".join(shape.words(server, "hosts"))
            said = f"{', '.join(found)} serves {hosts} on port {number} of the same proxies ({text or 'all gateways'})"
            remedy = "Give each host to one Gateway."
            yield Said("IST0145", said, SPEC.child("servers", at, "hosts"), remedy, probe=to_server(r, one, server))


def _at_port(r: Reader, selector: dict[str, str], number: int) -> dict[Ref, Document]:
    """The Gateways with a server on a port whose selectors may have, or be part of, this one."""
    pairs = [("", ""), *sorted(selector.items())] if selector else [("*", "*")]
    found = {ref: other for pair in pairs for ref, other in r.rows(GATEWAY_PORTS, (*pair, number))}
    return {ref: found[ref] for ref in sorted(found)}


def _meet(r: Reader, one: dict[str, str], other: dict[str, str]) -> bool:
    """Whether two selectors are the same, or one is part of the other and a workload has the labels of both."""
    if one == other:
        return True
    narrow, wide = sorted((one, other), key=len)
    return queries.includes(wide, narrow) and queries.any_matching(r, wide)


def _clash(server: dict[str, object], one: Document, other: Document, port: int) -> bool:
    own = list(server_hosts(shape.words(server, "hosts"), one.ref.namespace))
    return any(
        host == their and (home == their_home or "*" in (home, their_home))
        for theirs in shape.items(other.spec, "servers")
        if shape.number(theirs, "port", "number") == port and shape.text(theirs, "bind") == shape.text(server, "bind")
        for their_home, their in server_hosts(shape.words(theirs, "hosts"), other.ref.namespace)
        for home, host in own
    )


def duplicate_certificates(r: Reader, one: Document) -> Iterator[Said]:
    """One certificate in two Gateways: a browser then reuses a connection for hosts of the other."""
    selector = _selector(one)
    own = [tls for server in shape.items(one.spec, "servers") if (tls := shape.mapping(server, "tls"))]
    if not own:
        return
    for ref in _wider(r, selector):
        other = r.get(DOCUMENTS, ref)
        if other is None or ref == one.ref:
            continue
        if any(
            _same(mine, shape.mapping(server, "tls")) for mine in own for server in shape.items(other.spec, "servers")
        ):
            said = f"{ref} has a certificate of this gateway: clients may reuse an HTTP/2 connection and meet a 404"
            yield Said("IST0138", said, METADATA / "name", "Use one Gateway with all hosts of the certificate.")


def _wider(r: Reader, selector: dict[str, str]) -> list[Ref]:
    """Gateways whose selector has everything of this one."""
    left: set[Ref] | None = None
    for pair in sorted(selector.items()) or [("", "")]:
        found = set(r.find(GATEWAY_SELECTORS, pair))
        left = found if left is None else left & found
    return sorted(left or ())


def _same(one: dict[str, object], other: dict[str, object]) -> bool:
    names = shape.text(one, "credentialName"), shape.text(other, "credentialName")
    if any(names):
        return names[0] == names[1]
    files = [(shape.text(tls, "serverCertificate"), shape.text(tls, "privateKey")) for tls in (one, other)]
    return files[0] == files[1] and all(files[0])


ANALYZERS = (
    Analyzer("gateway.IngressGatewayPortAnalyzer", ("IST0101", "IST0162"), (GATEWAY,), ports),
    Analyzer("gateway.SecretAnalyzer", ("IST0101", "IST0161", "FL3727"), (GATEWAY,), secrets),
    Analyzer("gateway.ConflictingGatewayAnalyzer", ("IST0145",), (GATEWAY,), conflicts),
    Analyzer("gateway.CertificateAnalyzer", ("IST0138",), (GATEWAY,), duplicate_certificates),
)
