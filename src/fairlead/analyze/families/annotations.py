"""Istio's annotations on objects of Kubernetes: unknown, misplaced, invalid, deprecated (its list of August 2026)."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator

import msgspec

from fairlead.analyze.analyzer import Analyzer
from fairlead.analyze.document import DEPLOYMENT, NAMESPACE, POD, SERVICE, Document
from fairlead.analyze.finding import Said
from fairlead.inc import Reader
from fairlead.model.capturing import ANNOTATIONS
from fairlead.model.names import nearest
from fairlead.model.path import METADATA
from fairlead.model.yaml import YAMLError, parse_documents

_POD_ALPHA = """
prometheus.istio.io/merge-metrics sidecar.istio.io/status sidecar.istio.io/rewriteAppHTTPProbers
sidecar.istio.io/proxyImage sidecar.istio.io/proxyImageType sidecar.istio.io/proxyCPU sidecar.istio.io/proxyCPULimit
sidecar.istio.io/proxyMemory sidecar.istio.io/interceptionMode sidecar.istio.io/bootstrapOverride
sidecar.istio.io/statsHistogramBuckets sidecar.istio.io/statsFlushInterval sidecar.istio.io/statsEvictionInterval
sidecar.istio.io/statsHistogramBins sidecar.istio.io/userVolume status.sidecar.istio.io/port sidecar.istio.io/logLevel
sidecar.istio.io/componentLogLevel sidecar.istio.io/agentLogLevel sidecar.istio.io/nativeSidecar
readiness.status.sidecar.istio.io/initialDelaySeconds readiness.status.sidecar.istio.io/periodSeconds
readiness.status.sidecar.istio.io/failureThreshold readiness.status.sidecar.istio.io/applicationPorts
traffic.sidecar.istio.io/includeOutboundIPRanges traffic.sidecar.istio.io/excludeOutboundIPRanges
traffic.sidecar.istio.io/excludeInboundPorts traffic.sidecar.istio.io/excludeInterfaces
traffic.sidecar.istio.io/includeOutboundPorts traffic.sidecar.istio.io/excludeOutboundPorts istio.io/rev
proxy.istio.io/overrides inject.istio.io/templates ambient.istio.io/bypass-inbound-capture
istio.io/reroute-virtual-interfaces ambient.istio.io/dns-capture
"""
_POD_STABLE = """
sidecar.istio.io/proxyMemoryLimit sidecar.istio.io/userVolumeMount traffic.sidecar.istio.io/includeInboundPorts
proxy.istio.io/config ambient.istio.io/redirection
"""
_POD_DEPRECATED = """
sidecar.istio.io/inject sidecar.istio.io/discoveryAddress sidecar.istio.io/statsInclusionPrefixes
sidecar.istio.io/statsInclusionSuffixes sidecar.istio.io/statsInclusionRegexps
traffic.sidecar.istio.io/kubevirtInterfaces sidecar.istio.io/extraStatTags sidecar.istio.io/statsCompression
"""
_POD = ("Pod",)
_ROUTES = ("Namespace", "Service", "ServiceEntry")
_ENTRY = ("WorkloadEntry",)
_ANY: tuple[str, ...] = ()


class _Known(msgspec.Struct, frozen=True):
    """Of which kinds an annotation may be (empty: all), and how settled it is."""

    kinds: tuple[str, ...]
    deprecated: bool = False
    alpha: bool = True


KNOWN: dict[str, _Known] = {
    **{name: _Known(_POD) for name in _POD_ALPHA.split()},
    **{name: _Known(_POD, alpha=False) for name in _POD_STABLE.split()},
    **{name: _Known(_POD, deprecated=True) for name in _POD_DEPRECATED.split()},
    "alpha.istio.io/kubernetes-serviceaccounts": _Known(("Service",), deprecated=True),
    "alpha.istio.io/canonical-serviceaccounts": _Known(("Service",), deprecated=True),
    "networking.istio.io/exportTo": _Known(("Service",)),
    "traffic.istio.io/nodeSelector": _Known(("Service",), alpha=False),
    "kubernetes.io/ingress.class": _Known(("Ingress",), alpha=False),
    "galley.istio.io/analyze-suppress": _Known(_ANY),
    "istio.io/dry-run": _Known(("AuthorizationPolicy",)),
    "istio.io/autoRegistrationGroup": _Known(_ENTRY),
    "istio.io/workloadController": _Known(_ENTRY),
    "istio.io/connectedAt": _Known(_ENTRY),
    "istio.io/disconnectedAt": _Known(_ENTRY),
    "topology.istio.io/controlPlaneClusters": _Known(("Namespace",)),
    "gateway.istio.io/controller-version": _Known(_ANY),
    "ambient.istio.io/waypoint-inbound-binding": _Known(("GatewayClass", "Gateway")),
    "gateway.istio.io/service-account": _Known(("Gateway",)),
    "gateway.istio.io/name-override": _Known(("Gateway",)),
    "networking.istio.io/service-type": _Known(("Gateway",)),
    "networking.istio.io/traffic-distribution": _Known(_ROUTES),
    "istio.io/use-waypoint-canary-weight": _Known(_ROUTES),
}
_INJECT = "sidecar.istio.io/inject"


def _count(text: str) -> str:
    return "" if text.isdigit() and int(text) < 1 << 32 else "it must be a whole number"


def _port(text: str) -> str:
    return "" if text.isdigit() and int(text) < 1 << 16 else "it must be a port"


def _ports(text: str) -> str:
    wrong = [one for one in text.split(",") if one.strip() and _port(one.strip())]
    return f"{', '.join(wrong)} is no port" if wrong else ""


def _ports_or_all(text: str) -> str:
    return "" if text == "*" else _ports(text)


def _ranges(text: str) -> str:
    for one in text.split(",") if text not in ("", "*") else ():
        try:
            ipaddress.ip_network(one.strip(), strict=False)
        except ValueError:
            return f"{one} is no range of addresses"
    return ""


def _mode(text: str) -> str:
    return "" if text in ("REDIRECT", "TPROXY", "NONE") else "it must be REDIRECT, TPROXY or NONE"


def _flag(text: str) -> str:
    accepted = ("1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False")
    return "" if text in accepted else "it must be true or false"


def _document(text: str) -> str:
    try:
        parse_documents(text)
    except YAMLError as error:
        return f"it must be YAML: {error.message}"
    return ""


_CHECKS: dict[str, Callable[[str], str]] = {
    "status.sidecar.istio.io/port": _port,
    "readiness.status.sidecar.istio.io/initialDelaySeconds": _count,
    "readiness.status.sidecar.istio.io/periodSeconds": _count,
    "readiness.status.sidecar.istio.io/failureThreshold": _count,
    "readiness.status.sidecar.istio.io/applicationPorts": _ports,
    "traffic.sidecar.istio.io/includeOutboundIPRanges": _ranges,
    "traffic.sidecar.istio.io/excludeOutboundIPRanges": _ranges,
    "traffic.sidecar.istio.io/includeInboundPorts": _ports_or_all,
    "traffic.sidecar.istio.io/excludeInboundPorts": _ports,
    "traffic.sidecar.istio.io/includeOutboundPorts": _ports_or_all,
    "traffic.sidecar.istio.io/excludeOutboundPorts": _ports,
    "sidecar.istio.io/interceptionMode": _mode,
    "sidecar.istio.io/rewriteAppHTTPProbers": _flag,
    "proxy.istio.io/config": _document,
}


def _ours(name: str) -> bool:
    return name == "kubernetes.io/ingress.class" or name.partition("/")[0].endswith("istio.io")


def named(_: Reader, one: Document) -> Iterator[Said]:
    """Every annotation in Istio's domain."""
    for name, text in sorted(one.annotations.items()):
        if not _ours(name):
            continue
        path = METADATA.child("annotations", name)
        known = KNOWN.get(name)
        if known is None:
            near = nearest(name, KNOWN)
            yield Said("IST0108", f"there is no annotation {name}", path, f"Did you mean {near}?" if near else "")
            continue
        if known.deprecated and not (name == _INJECT and _INJECT in one.labels):
            instead = "Use the label of this name." if name == _INJECT else ""
            yield Said("IST0135", f"the annotation {name} is deprecated", path, instead)
        # On an entry they tell which rules its host has, though they make none there.
        told = one.ref.kind == "WorkloadEntry" and name in ANNOTATIONS
        if known.kinds and one.ref.kind not in known.kinds and not told:
            said = f"the annotation {name} has no effect on a {one.ref.kind}"
            template = " Put it into spec.template.metadata." if one.sort == DEPLOYMENT and known.kinds == _POD else ""
            yield Said("IST0107", said, path, f"It belongs on: {', '.join(known.kinds)}.{template}")
            continue
        wrong = _CHECKS[name](text) if name in _CHECKS else ""
        if wrong:
            yield Said("IST0125", f"{name}: {wrong}", path)


def alpha(_: Reader, one: Document) -> Iterator[Said]:
    """Annotations whose meaning Istio may still change."""
    for name in sorted(one.annotations):
        known = KNOWN.get(name)
        if known is not None and known.alpha and name not in _SET_BY_OTHERS:
            yield Said(
                "IST0136", f"the annotation {name} is of a feature in alpha", METADATA.child("annotations", name)
            )


_SET_BY_OTHERS = frozenset(
    (
        "sidecar.istio.io/interceptionMode",
        "traffic.sidecar.istio.io/includeInboundPorts",
        "traffic.sidecar.istio.io/excludeInboundPorts",
        "traffic.sidecar.istio.io/includeOutboundIPRanges",
        "sidecar.istio.io/status",
        "istio.io/rev",
    )
)
_SORTS = (NAMESPACE, SERVICE, POD, DEPLOYMENT)
ANALYZERS = (
    Analyzer("annotations.K8sAnalyzer", ("IST0107", "IST0108", "IST0125", "IST0135"), _SORTS, named),
    Analyzer("annotations.AlphaAnalyzer", ("IST0136",), _SORTS, alpha, standard=False),
)
