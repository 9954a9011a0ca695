"""Routes, hosts and endpoints: what is shadowed, hidden, unknown, or has nobody behind it."""

from __future__ import annotations

from collections.abc import Iterator

from fairlead.analyze import queries, shape
from fairlead.analyze.analyzer import Analyzer
from fairlead.analyze.document import (
    DESTINATION_RULE,
    DOCUMENTS,
    GATEWAY,
    GATEWAY_USERS,
    MESH,
    RULE_HOSTS,
    SERVICE,
    SERVICE_ENTRY,
    SIDECAR,
    VIRTUAL_SERVICE,
    WORKLOADS,
    Document,
    attached_to_mesh,
    export_to,
    selector_text,
)
from fairlead.analyze.finding import Said
from fairlead.analyze.hosts import overlap
from fairlead.analyze.probes import to_host
from fairlead.analyze.speaking import protocols
from fairlead.analyze.targets import targets
from fairlead.inc import Reader
from fairlead.ir.protocol import Protocol, parse_protocol
from fairlead.ir.visibility import is_visible
from fairlead.model.duration import parse_duration
from fairlead.model.path import SPEC

_PASSED_ON = ("PASSTHROUGH", "AUTO_PASSTHROUGH")
_DEFAULT_ATTEMPTS = 2


def _age(one: Document) -> tuple[str, str, str]:
    return shape.text(one.data, "metadata", "creationTimestamp"), one.ref.name, one.ref.namespace


def shadowed(r: Reader, one: Document) -> Iterator[Said]:
    """Routes at a gateway behind those of an older object that take everything."""
    own = shape.words(one.spec, "hosts")
    if not shape.items(one.spec, "http"):
        return
    for at, name in enumerate(shape.words(one.spec, "gateways")):
        if name == MESH:
            continue
        full = name if "/" in name else f"{one.ref.namespace}/{name}"
        for _, other in r.rows(GATEWAY_USERS, full):
            if other.ref == one.ref or _age(other) > _age(one):
                continue
            shared = sorted(set(own) & set(shape.words(other.spec, "hosts")))
            taking = next((rule for rule in shape.items(other.spec, "http") if _takes_all(rule)), None)
            if shared and taking is not None:
                said = (
                    f"{other.ref} has {', '.join(shared)} at gateway {name} too, and a route that takes every request"
                )
                yield Said("FL3702", f"{said}: the routes here are not met", SPEC.child("gateways", at))


def _takes_all(rule: dict[str, object]) -> bool:
    matches = shape.items(rule, "match")
    if "delegate" in rule:
        return False
    return not matches or any(set(match) <= {"uri", "name"} and _whole(match) for match in matches)


def _whole(match: dict[str, object]) -> bool:
    return not shape.mapping(match, "uri") or shape.text(match, "uri", "prefix") == "/"


def unused_gateways(r: Reader, one: Document) -> Iterator[Said]:
    """Gateways whose HTTP servers have no routes."""
    if r.has(GATEWAY_USERS, f"{one.ref.namespace}/{one.ref.name}"):
        return
    for at, server in shape.entries(one.spec, "servers"):
        protocol = parse_protocol(shape.text(server, "port", "protocol"))
        tls = shape.mapping(server, "tls")
        if tls.get("httpsRedirect") is True or tls.get("mode") in _PASSED_ON:
            continue
        if protocol.is_http or protocol is Protocol.HTTPS:
            said = "no VirtualService names this gateway: every request is answered with 404"
            yield Said("FL3704", said, SPEC.child("servers", at))
            return


def unknown_hosts(r: Reader, one: Document) -> Iterator[Said]:
    """Hosts for sidecars that nobody defines."""
    if not attached_to_mesh(one) or shape.value(one.spec, "hosts") is None:
        return
    for at, host in enumerate(shape.words(one.spec, "hosts")):
        if host.startswith("*") or queries.defined_by(r, host, one.ref.namespace) is not None:
            continue
        if host.replace(".", "").isdigit():
            continue
        others = len(shape.words(one.spec, "gateways")) > 1
        if not others:
            yield Said("FL3722", f"nobody defines {host}: sidecars do not use these routes", SPEC.child("hosts", at))


def hidden_rules(r: Reader, one: Document) -> Iterator[Said]:
    """Subsets whose DestinationRule is not shown to the namespace of the route."""
    for to in targets(one):
        if not to.subset:
            continue
        rules = [
            rule
            for _, rule in r.rows(RULE_HOSTS, queries.qualified(to.host, one.ref.namespace))
            if any(shape.text(sub, "name") == to.subset for sub in shape.items(rule.spec, "subsets"))
        ]
        if rules and not any(is_visible(export_to(rule), rule.ref.namespace, one.ref.namespace) for rule in rules):
            said = f"subset {to.subset} of {to.host} is of {rules[0].ref}, which is not exported to {one.ref.namespace}"
            yield Said("FL3723", said, to.path / "subset", probe=to_host(r, one, to.path))


def http_on_tcp(r: Reader, one: Document) -> Iterator[Said]:
    """HTTP routes for hosts that speak no HTTP."""
    if not shape.items(one.spec, "http") or not attached_to_mesh(one):
        return
    for at, host in enumerate(shape.words(one.spec, "hosts")):
        owner = None if host.startswith("*") else queries.defined_by(r, host, one.ref.namespace)
        found = [] if owner is None else list(protocols(owner))
        if found and not any(one.is_http or one is Protocol.AUTO for _, one in found):
            ports = ", ".join(f"{number} is {protocol.value}" for number, protocol in found)
            yield Said(
                "FL3720", f"{host} speaks no HTTP ({ports}): http routes have no effect", SPEC.child("hosts", at)
            )


def late_retries(_: Reader, one: Document) -> Iterator[Said]:
    """Timeouts that end before the retries."""
    for at, rule in shape.entries(one.spec, "http"):
        timeout = _seconds(shape.text(rule, "timeout"))
        each = _seconds(shape.text(rule, "retries", "perTryTimeout"))
        attempts = shape.number(rule, "retries", "attempts")
        tries = (_DEFAULT_ATTEMPTS if attempts is None else attempts) + 1
        if timeout and each and tries > 1 and each * 2 > timeout:
            said = (
                f"a first try may take {shape.text(rule, 'retries', 'perTryTimeout')} of {shape.text(rule, 'timeout')}"
            )
            yield Said("FL3721", f"{said}: there is no time for another one", SPEC.child("http", at, "timeout"))


def _seconds(text: str) -> float:
    try:
        return parse_duration(text) if text else 0.0
    except ValueError:
        return 0.0


def hiding(r: Reader, one: Document) -> Iterator[Said]:
    """Sidecars that hide hosts to which their namespace routes."""
    egress = [host for part in shape.items(one.spec, "egress") for host in shape.words(part, "hosts")]
    if not egress:
        return
    seen: set[str] = set()
    for service in queries.every(r, VIRTUAL_SERVICE, one.ref.namespace):
        if not attached_to_mesh(service):
            continue
        for to in targets(service):
            owner = queries.defined_by(r, to.host, one.ref.namespace)
            if owner is None or to.host in seen or to.section != "http":
                continue
            seen.add(to.host)
            name = queries.qualified(to.host, one.ref.namespace)
            if not any(_lets(entry, owner.ref.namespace, name, one.ref.namespace) for entry in egress):
                said = f"{service.ref} routes to {to.host}, and egress has no host that lets workloads see it"
                yield Said("FL3713", said, SPEC / "egress", f"Add {owner.ref.namespace}/{name}.")


def _lets(entry: str, namespace: str, host: str, own: str) -> bool:
    home, _, pattern = entry.partition("/")
    home = own if home == "." else home
    return home in ("*", namespace) and overlap(pattern, host)


def services(r: Reader, one: Document) -> Iterator[Said]:
    """Services without workloads, or that lead to ports which these do not have."""
    selector = shape.pairs(one.spec, "selector")
    if not selector or shape.text(one.spec, "type") == "ExternalName":
        return
    found = queries.matching(r, selector, one.ref.namespace)
    if not found:
        if r.has(WORKLOADS, one.ref.namespace):
            said = f"no workload of namespace {one.ref.namespace} has the labels {selector_text(selector)}"
            yield Said("FL3718", said, SPEC / "selector")
        return
    offers = [_offers(workload) for ref in found if (workload := r.get(DOCUMENTS, ref)) is not None]
    for at, port in shape.entries(one.spec, "ports"):
        target = shape.value(port, "targetPort")
        wanted = shape.number(port, "port") if target is None else target
        known = [offered for offered in offers if offered is not None]
        if known and len(known) == len(offers) and not any(str(wanted) in offered for offered in known):
            listed = sorted({name for offered in known for name in offered})
            said = f"no workload offers port {wanted}; they offer {', '.join(listed)}"
            yield Said("FL3719", said, SPEC.child("ports", at, "targetPort" if target is not None else "port"))


def _offers(workload: Document) -> set[str] | None:
    """The names and numbers of a workload's ports; None where it does not say which it has."""
    if workload.ref.kind != "Process":
        return None
    ports = shape.items(workload.spec, "ports")
    said = {str(shape.number(port, "port")) for port in ports} | {shape.text(port, "name") for port in ports} - {""}
    return said or None


def endpoints(r: Reader, one: Document) -> Iterator[Said]:
    """Static entries without endpoints."""
    static = shape.text(one.spec, "resolution") == "STATIC"
    if not static or shape.items(one.spec, "endpoints"):
        return
    selector = shape.pairs(one.spec, "workloadSelector", "labels")
    if not selector:
        if not shape.words(one.spec, "addresses"):
            yield Said("FL3724", "it is STATIC and has neither endpoints nor workloadSelector", SPEC / "resolution")
    elif not queries.any_matching(r, selector, one.ref.namespace):
        said = f"no workload of namespace {one.ref.namespace} has the labels {selector_text(selector)}"
        yield Said("FL3724", said, SPEC.child("workloadSelector", "labels"))


def one_host(r: Reader, one: Document) -> Iterator[Said]:
    """DestinationRules of one namespace for one host."""
    host = shape.text(one.spec, "host")
    if not host or shape.mapping(one.spec, "workloadSelector"):
        return
    for ref, other in r.rows(RULE_HOSTS, queries.qualified(host, one.ref.namespace)):
        same = ref.namespace == one.ref.namespace and not shape.mapping(other.spec, "workloadSelector")
        if ref != one.ref and same and _age(other) < _age(one):
            policy = " and its trafficPolicy is not used" if shape.mapping(one.spec, "trafficPolicy") else ""
            yield Said("FL3725", f"{ref} is for {host} too, and counts first{policy}", SPEC / "host")
            return


_VS = (VIRTUAL_SERVICE,)
ANALYZERS = (
    Analyzer("fairlead.ShadowedRoutes", ("FL3702",), _VS, shadowed),
    Analyzer("fairlead.UnusedGateways", ("FL3704",), (GATEWAY,), unused_gateways),
    Analyzer("fairlead.UnknownHosts", ("FL3722",), _VS, unknown_hosts),
    Analyzer("fairlead.HiddenRules", ("FL3723",), _VS, hidden_rules),
    Analyzer("fairlead.HTTPOnTCP", ("FL3720",), _VS, http_on_tcp),
    Analyzer("fairlead.LateRetries", ("FL3721",), _VS, late_retries),
    Analyzer("fairlead.HidingSidecars", ("FL3713",), (SIDECAR,), hiding),
    Analyzer("fairlead.Services", ("FL3718", "FL3719"), (SERVICE,), services),
    Analyzer("fairlead.Endpoints", ("FL3724",), (SERVICE_ENTRY,), endpoints),
    Analyzer("fairlead.RulesOfOneHost", ("FL3725",), (DESTINATION_RULE,), one_host),
)
