"""Webhooks of a control plane, and definitions of kinds in the cluster (semantics: Istio's own analyzers)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from itertools import product
from typing import Any
from urllib.parse import urlsplit

from fairlead.analyze import queries, shape
from fairlead.analyze.analyzer import Analyzer
from fairlead.analyze.document import CRD, MUTATING, SERVICE, VALIDATING, Document
from fairlead.analyze.finding import Said
from fairlead.inc import Reader, rule
from fairlead.model.path import METADATA, FieldPath

_REVISION = "istio.io/rev"
_WEBHOOKS = FieldPath(("webhooks",))
_GATEWAY_API = "gateway.networking.k8s.io"
_BUNDLE = "gateway.networking.k8s.io/bundle-version"
_MINIMUM = (1, 1, 0)
_MINIMUM_OF = {"TLSRoute": (1, 5, 0), "BackendTLSPolicy": (1, 4, 0)}
"""As of Istio: before, these kinds were of versions that have changed since."""
"""The oldest version of the Gateway API whose kinds Istio reads."""


def _hooks(one: Document) -> list[tuple[int, dict[str, Any]]]:
    return shape.entries(one.data, "webhooks")


def _revisions(one: Document) -> set[str]:
    found = {one.labels[_REVISION]} if _REVISION in one.labels else set[str]()
    for _, hook in _hooks(one):
        for name in ("namespaceSelector", "objectSelector"):
            selector = shape.mapping(hook, name)
            label = shape.text(selector, "matchLabels", _REVISION)
            found |= {label} if label else set()
            for expression in shape.items(selector, "matchExpressions"):
                if expression.get("key") == _REVISION:
                    found.update(shape.words(expression, "values"))
    return found


def _ours(one: Document) -> bool:
    return bool(_revisions(one)) or any(shape.text(hook, "name").endswith("istio.io") for _, hook in _hooks(one))


@rule
def _known_revisions(r: Reader, _: str) -> tuple[str, ...]:
    """The revisions that any injector names. There are a handful of injectors in a cluster, never thousands."""
    return tuple(sorted({name for one in queries.every(r, MUTATING) if _ours(one) for name in _revisions(one)}))


def _labels(name: str, revisions: tuple[str, ...]) -> list[dict[str, str]]:
    values = ("enabled", "disabled") if name == "istio-injection" else ("true", "false")
    bases = [{}, *({name: value} for value in values)]
    return [{**base, **({_REVISION: revision} if revision else {})} for revision in ("", *revisions) for base in bases]


def injectors(r: Reader, one: Document) -> Iterator[Said]:
    """Injectors that select the same pods, and such whose control plane is not there."""
    if not _ours(one):
        return
    revisions = _known_revisions(r, "")
    others = [
        (str(other.ref.name), hook) for other in queries.every(r, MUTATING) if _ours(other) for _, hook in _hooks(other)
    ]
    cases = list(product(_labels("istio-injection", revisions), _labels("sidecar.istio.io/inject", revisions)))
    for at, hook in _hooks(one):
        mine = [case for case in cases if _selects(hook, *case)]
        for combination in dict.fromkeys(_clashing(one.ref.name, hook, others, case) for case in mine):
            if combination:
                said = f"{shape.text(hook, 'name')} selects pods that {', '.join(combination)} selects too"
                yield Said("IST0139", f"{said}: they would be injected twice", _WEBHOOKS / at)
        service = shape.mapping(hook, "clientConfig", "service")
        if service:
            name, namespace = shape.text(service, "name"), shape.text(service, "namespace")
            if not queries.exists(r, SERVICE, namespace, name):
                said = f"{shape.text(hook, 'name')} asks Service {namespace}/{name}, which is not there"
                yield Said("IST0139", said, _WEBHOOKS.child(at, "clientConfig", "service"))


def _selects(hook: dict[str, Any], namespace: dict[str, str], own: dict[str, str]) -> bool:
    return queries.meets(hook.get("namespaceSelector"), namespace) and queries.meets(hook.get("objectSelector"), own)


def _clashing(
    name: str,
    hook: dict[str, Any],
    others: list[tuple[str, dict[str, Any]]],
    case: tuple[dict[str, str], dict[str, str]],
) -> tuple[str, ...]:
    return tuple(
        f"{owner}/{shape.text(other, 'name')}"
        for owner, other in others
        if not (owner == name and shape.text(other, "name") == shape.text(hook, "name")) and _selects(other, *case)
    )


_EXTERNAL = re.compile(r"^istio-(sidecar-injector|validator)-(.+)$")


def external_control_plane(_: Reader, one: Document) -> Iterator[Said]:
    """Webhooks of a remote cluster without the address of their control plane."""
    if _EXTERNAL.match(one.ref.name) is None and one.ref.name != "istiod-default-validator":
        return
    for at, hook in _hooks(one):
        name, client = shape.text(hook, "name"), shape.mapping(hook, "clientConfig")
        if shape.mapping(client, "service"):
            continue
        path = _WEBHOOKS.child(at, "clientConfig", "url")
        host = _host(shape.text(client, "url"))
        if not host:
            yield Said("IST0163", f"webhook {name} has no address of a control plane to ask", path)
            return
        if _address(host):
            yield Said("IST0164", f"webhook {name} asks {host}: an address may change where a name would not", path)
            return


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


_REMOVED = {
    "rbac.istio.io": ("ClusterRbacConfig", "RbacConfig", "ServiceRole", "ServiceRoleBinding"),
}


def removed_definitions(_: Reader, one: Document) -> Iterator[Said]:
    """Definitions of kinds that Istio had once."""
    group, kind = shape.text(one.spec, "group"), shape.text(one.spec, "names", "kind")
    if kind in _REMOVED.get(group, ()):
        yield Said("IST0002", f"{kind} of {group} is not read any more", METADATA / "name", "Use AuthorizationPolicy.")


def gateway_api(_: Reader, one: Document) -> Iterator[Said]:
    """Definitions of the Gateway API that are too old."""
    if shape.text(one.spec, "group") != _GATEWAY_API:
        return
    said = one.annotations.get(_BUNDLE, "")
    parts = re.match(r"^v?(\d+)\.(\d+)(?:\.(\d+))?", said)
    if parts is None:
        return
    version = tuple(int(part or 0) for part in parts.groups())
    minimum = _MINIMUM_OF.get(shape.text(one.spec, "names", "kind"), _MINIMUM)
    if version < minimum:
        least = ".".join(map(str, minimum))
        text = f"it is of version {said} and v{least} is the oldest that is read: its objects have no effect"
        yield Said("IST0176", text, METADATA.child("annotations", _BUNDLE), f"Install v{least} or newer.")


ANALYZERS = (
    Analyzer("webhook.Analyzer", ("IST0139",), (MUTATING,), injectors),
    Analyzer(
        "externalcontrolplane.ExternalControlPlaneAnalyzer",
        ("IST0163", "IST0164"),
        (MUTATING, VALIDATING),
        external_control_plane,
    ),
    Analyzer("deprecation.DeprecationAnalyzer", ("IST0002",), (CRD,), removed_definitions),
    Analyzer("k8sgateway.CRDVersionAnalyzer", ("IST0176",), (CRD,), gateway_api),
)
