"""Workloads of Kubernetes: injection, proxy images, user IDs, and Services that share ports (semantics: Istio's)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from fairlead.analyze import queries, shape
from fairlead.analyze.analyzer import Analyzer
from fairlead.analyze.document import (
    BY_SORT,
    CONFIG_MAP,
    DEPLOYMENT,
    MUTATING,
    NAMESPACE,
    POD,
    REQUEST_AUTHENTICATION,
    ROOT_NAMESPACE,
    Document,
)
from fairlead.analyze.finding import Said
from fairlead.inc import Reader
from fairlead.model.path import METADATA, SPEC

_INJECT = "sidecar.istio.io/inject"
_REVISION = "istio.io/rev"
_DATAPLANE = "istio.io/dataplane-mode"
_INJECTION = "istio-injection"
_PROXY_USER = 1337
_VARIANT = re.compile(r"-(distroless|debug)$")


def _injector(r: Reader, revision: str) -> Document | None:
    """The ConfigMap with the injector's settings of a revision."""
    name = "istio-sidecar-injector" + (f"-{revision}" if revision not in ("", "default") else "")
    return queries.document(r, CONFIG_MAP, ROOT_NAMESPACE, name)


def _values(injector: Document) -> dict[str, Any]:
    try:
        return msgspec.json.decode(shape.text(injector.data, "data", "values"), type=dict[str, Any])
    except (msgspec.DecodeError, msgspec.ValidationError):
        return {}


def _revision(home: Document) -> str | None:
    """The revision that injects into a namespace; None if none does."""
    if _REVISION in home.labels:
        return home.labels[_REVISION]
    return "default" if home.labels.get(_INJECTION) == "enabled" else None


def namespaces(r: Reader, one: Document) -> Iterator[Said]:
    """Namespaces without injection, or with two ways of it. Only where there is a Kubernetes to inject anything."""
    name = one.ref.name
    kubernetes = any(r.has(BY_SORT, (sort, "*")) for sort in (POD, DEPLOYMENT, MUTATING))
    if name == ROOT_NAMESPACE or name in queries.SYSTEM or not kubernetes:
        return
    label = one.labels.get(_INJECTION, "")
    ways = [key for key in (_INJECTION, _REVISION) if key in one.labels]
    if one.labels.get(_DATAPLANE) == "ambient":
        if _REVISION in one.labels or label == "enabled":
            said = f"it has the labels {', '.join((*ways, _DATAPLANE))}: pods get a sidecar and are not ambient"
            yield Said("IST0123", said, METADATA / "labels", "Keep one of them.")
        return
    if not label and _REVISION not in one.labels:
        injector = _injector(r, "")
        if injector is not None and shape.value(
            _values(injector), "sidecarInjectorWebhook", "enableNamespacesByDefault"
        ):
            yield Said(
                "IST0148", "the injector is set up to inject into namespaces that say nothing", METADATA / "name"
            )
        else:
            yield Said("IST0102", "pods of this namespace get no sidecar", METADATA / "name")
    elif label and _REVISION in one.labels:
        said = f"it has the labels {_INJECTION} and {_REVISION}; {_INJECTION} wins"
        yield Said("IST0123", said, METADATA / "labels", "Remove one of them.")


def pods(r: Reader, one: Document) -> Iterator[Said]:
    """Pods without a proxy in a namespace that is injected."""
    home = queries.document(r, NAMESPACE, "", one.ref.namespace)
    if home is None or _revision(home) is None or one.ref.namespace == ROOT_NAMESPACE:
        return
    if _INJECTION in home.labels and (_REVISION in home.labels or home.labels[_INJECTION] != "enabled"):
        return
    wish = one.labels.get(_INJECT, one.annotations.get(_INJECT, ""))
    if wish.lower() == "false" or shape.value(one.spec, "hostNetwork") is True:
        return
    if not _proxies(one.spec):
        said = "it has no proxy although its namespace is injected: it started before, or injection failed"
        yield Said("IST0103", said, METADATA / "name", "Start it again.")


def _proxies(pod: dict[str, Any]) -> list[str]:
    containers = (*shape.items(pod, "containers"), *shape.items(pod, "initContainers"))
    return [shape.text(part, "image") for part in containers if part.get("name") == "istio-proxy" and part.get("image")]


def images(r: Reader, one: Document) -> Iterator[Said]:
    """Pods of a namespace that run another proxy than the one that would be injected today."""
    revision = _revision(one)
    injector = None if revision is None else _injector(r, revision)
    if injector is None:
        return
    wanted = _image(_values(injector))
    old = [
        pod.ref.name
        for pod in queries.every(r, POD, one.ref.name)
        if not pod.annotations.get("sidecar.istio.io/proxyImage")
        and any(_VARIANT.sub("", image) != wanted for image in _proxies(pod.spec))
    ]
    if old:
        said = f"these pods run another proxy than {wanted}: {', '.join(old)}"
        yield Said("IST0158", said, METADATA / "name", "Start them again, or run another revision for them.")


def _image(values: dict[str, Any]) -> str:
    named = shape.text(values, "global", "proxy", "image")
    if "/" not in named:
        tag = shape.value(values, "global", "tag")
        named = f"{shape.text(values, 'global', 'hub')}/{named}:{tag if tag is not None else ''}"
    return _VARIANT.sub("", named)


def image_auto(r: Reader, one: Document) -> Iterator[Said]:
    """Proxies whose image only injection can fill in, where nothing is injected."""
    template = one.spec if one.sort == POD else shape.mapping(one.spec, "template", "spec")
    if "auto" not in _proxies(template):
        return
    if one.sort == POD:
        yield Said("IST0147", "its istio-proxy has the image auto: nothing was injected, and it cannot start", SPEC)
        return
    home = queries.document(r, NAMESPACE, "", one.ref.namespace or "default")
    labels = home.labels if home is not None else {}
    own = shape.pairs(one.spec, "template", "metadata", "labels")
    for webhook in (hook for config in queries.every(r, MUTATING) for hook in shape.items(config.data, "webhooks")):
        if shape.text(webhook, "name").endswith("istio.io") and (
            queries.meets(webhook.get("namespaceSelector"), labels)
            and queries.meets(webhook.get("objectSelector"), own)
        ):
            return
    yield Said("IST0146", "its istio-proxy has the image auto, and no injector selects its pods", SPEC / "template")


def user(_: Reader, one: Document) -> Iterator[Said]:
    """Applications that run as the proxy's user, so that what they send is not captured."""
    base = SPEC if one.sort == POD else SPEC.child("template", "spec")
    pod = one.spec if one.sort == POD else shape.mapping(one.spec, "template", "spec")
    said = "user 1337 is the proxy's own: traffic of an application with it passes by the mesh"
    for at, container in shape.entries(pod, "containers"):
        mine = shape.value(container, "securityContext", "runAsUser")
        if container.get("name") not in ("istio-proxy", "enable-core-dump") and mine == _PROXY_USER:
            path = base.child("containers", at, "securityContext", "runAsUser")
            yield Said("IST0144", said, path, "Use another user.")
            return
    if shape.value(pod, "securityContext", "runAsUser") == _PROXY_USER:
        yield Said("IST0144", said, base.child("securityContext", "runAsUser"), "Use another user.")


def shared_ports(r: Reader, one: Document) -> Iterator[Said]:
    """Services that give one port of a workload two meanings."""
    if one.labels.get("gateway.istio.io/managed") == "istio.io-mesh-controller" or not queries.injected(r, one):
        return
    labels = shape.pairs(one.spec, "template", "metadata", "labels")
    services = queries.selected_by(r, labels, one.ref.namespace)
    transports: dict[int, dict[str, list[str]]] = {}
    targets: dict[str, dict[int, str]] = {}
    for service in services:
        for port in shape.items(service.spec, "ports"):
            number = shape.number(port, "port") or 0
            transport = shape.text(port, "protocol") or "TCP"
            transports.setdefault(number, {}).setdefault(transport, []).append(str(service.ref))
            target = shape.value(port, "targetPort")
            targets.setdefault(str(target or number), {})[number] = str(service.ref)
    for number, by in sorted(transports.items()):
        if len(by) > 1:
            names = sorted(name for many in by.values() for name in many)
            said = f"port {number} has different protocols in {', '.join(names)}"
            yield Said("IST0116", said, METADATA / "name", "Give the Services different ports.")
    for target, ports in sorted(targets.items()):
        if len(ports) > 1:
            said = f"target port {target} is reached as ports {', '.join(map(str, sorted(ports)))} of "
            said += ", ".join(sorted(set(ports.values())))
            yield Said("IST0137", said, METADATA / "name", "Let one target port have one service port.")


def key_fetches(r: Reader, one: Document) -> Iterator[Said]:
    """An istiod that fetches keys of tokens from anywhere."""
    if one.labels.get("app") != "istiod":
        return
    containers = shape.items(one.spec, "template", "spec", "containers")
    for entry in (entry for part in containers for entry in shape.items(part, "env")):
        if entry.get("name") == "BLOCKED_CIDRS_IN_JWKS_URIS" and entry.get("value"):
            return
    if r.has(BY_SORT, (REQUEST_AUTHENTICATION, "*")):
        said = "whoever writes a RequestAuthentication decides which addresses istiod fetches keys from"
        yield Said("IST0175", said, METADATA / "name", "Set BLOCKED_CIDRS_IN_JWKS_URIS.")


ANALYZERS = (
    Analyzer("injection.Analyzer", ("IST0102", "IST0103", "IST0123", "IST0148"), (NAMESPACE,), namespaces),
    Analyzer("injection.Analyzer", ("IST0102", "IST0103", "IST0123", "IST0148"), (POD,), pods),
    Analyzer("injection.ImageAnalyzer", ("IST0158",), (NAMESPACE,), images),
    Analyzer("injection.ImageAutoAnalyzer", ("IST0146", "IST0147"), (POD, DEPLOYMENT), image_auto),
    Analyzer("applicationUID.Analyzer", ("IST0144",), (POD, DEPLOYMENT), user),
    Analyzer("deployment.MultiServiceAnalyzer", ("IST0116", "IST0137"), (DEPLOYMENT,), shared_ports),
    Analyzer("authn.BlockedCIDRsAnalyzer", ("IST0175",), (DEPLOYMENT,), key_fetches),
)
