"""DestinationRules: hosts, subsets, and TLS that trusts anybody (semantics: Istio's own analyzers)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fairlead.analyze import queries, shape
from fairlead.analyze.analyzer import Analyzer
from fairlead.analyze.document import DESTINATION_RULE, DOCUMENTS, NODE, POD, SERVICE, Document, workload_labels
from fairlead.analyze.finding import Said
from fairlead.analyze.probes import to_subset
from fairlead.inc import Reader
from fairlead.model.path import SPEC

_TOPOLOGY = ("topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone")
_HOSTNAME = "kubernetes.io/hostname"


def unverified(_: Reader, one: Document) -> Iterator[Said]:
    """TLS to a server whose certificate nobody checks: sidecars take a credential only with a workloadSelector."""
    policy = shape.mapping(one.spec, "trafficPolicy")
    host = shape.text(one.spec, "host")
    selected = bool(shape.mapping(one.spec, "workloadSelector"))
    mode = _blind(shape.mapping(policy, "tls"), selected=selected)
    if mode:
        said = f"TLS mode {mode} to {host} takes any certificate, since there are no caCertificates"
        yield Said(
            "IST0128",
            said,
            SPEC.child("trafficPolicy", "tls"),
            "Set caCertificates, or credentialName with a workloadSelector.",
        )
    for at, level in shape.entries(policy, "portLevelSettings"):
        mode = _blind(shape.mapping(level, "tls"), selected=selected)
        if mode:
            number = shape.number(level, "port", "number")
            said = f"TLS mode {mode} to {host} port {number} takes any certificate, since there are no caCertificates"
            path = SPEC.child("trafficPolicy", "portLevelSettings", at, "tls")
            yield Said("IST0129", said, path, "Set caCertificates, or credentialName with a workloadSelector.")


def _blind(tls: dict[str, Any], *, selected: bool) -> str:
    mode = shape.text(tls, "mode")
    trusted = shape.text(tls, "caCertificates") or (selected and shape.text(tls, "credentialName"))
    return mode if mode in ("SIMPLE", "MUTUAL") and not trusted else ""


def selecting(r: Reader, one: Document) -> Iterator[Said]:
    """Hosts that nobody defines, and subsets that no workload of the host belongs to."""
    host = shape.text(one.spec, "host")
    if not host:
        return
    owner = queries.defined_by(r, host, one.ref.namespace)
    if owner is None:
        yield Said("IST0174", f"no Service or ServiceEntry defines {host}", SPEC / "host", "The rule has no effect.")
        return
    base = _selector(owner)
    for at, subset in shape.entries(one.spec, "subsets"):
        wanted = {**base, **shape.pairs(subset, "labels")}
        if wanted and not _anyone(r, owner, wanted):
            name = shape.text(subset, "name")
            said = f"no workload of {host} has the labels of subset {name} ({_text(shape.pairs(subset, 'labels'))})"
            probe = to_subset(r, host, one.ref.namespace, name)
            yield Said(
                "IST0173", said, SPEC.child("subsets", at, "labels"), "Requests to it end with 503.", probe=probe
            )


def _text(labels: dict[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in sorted(labels.items()))


def _selector(owner: Document) -> dict[str, str]:
    if owner.sort == SERVICE:
        return shape.pairs(owner.spec, "selector")
    return shape.pairs(owner.spec, "workloadSelector", "labels")


def _anyone(r: Reader, owner: Document, wanted: dict[str, str]) -> bool:
    """Whether a workload, an endpoint of the entry, or a pod with its node's topology has the labels."""
    for endpoint in shape.items(owner.spec, "endpoints"):
        if queries.includes(shape.pairs(endpoint, "labels"), wanted):
            return True
    plain = {key: value for key, value in wanted.items() if key not in _TOPOLOGY and key != _HOSTNAME}
    if len(plain) == len(wanted):
        return queries.any_matching(r, wanted, owner.ref.namespace)
    return any(queries.includes(_labels(r, ref), wanted) for ref in queries.matching(r, plain, owner.ref.namespace))


def _labels(r: Reader, ref: Any) -> dict[str, str]:
    one = r.get(DOCUMENTS, ref)
    if one is None:
        return {}
    labels = dict(workload_labels(one) or {})
    name = shape.text(one.spec, "nodeName") if one.sort == POD else ""
    node = queries.document(r, NODE, "", name) if name else None
    if node is not None:
        labels |= {key: value for key, value in node.labels.items() if key in _TOPOLOGY and value}
        labels[_HOSTNAME] = name
    return labels


ANALYZERS = (
    Analyzer("destinationrule.CaCertificateAnalyzer", ("IST0128", "IST0129"), (DESTINATION_RULE,), unverified),
    Analyzer("destinationrule.SubsetSelectPodAnalyzer", ("IST0173", "IST0174"), (DESTINATION_RULE,), selecting),
)
