"""Views: what a proxy's configuration may depend on. Proxies with equal views share everything that is compiled."""

from __future__ import annotations

from typing import Any, Literal, cast

import msgspec

from fairlead.ir.families import Families, families_of
from fairlead.ir.filters import Pairs
from fairlead.ir.learned import OnDemand
from fairlead.ir.proxyown import OwnSettings, own_of_node
from fairlead.model.entry import locality_said
from fairlead.model.launch import AppPort, Capture
from fairlead.model.nodeid import NodeId

_OWN = ("NAME", "INSTANCE_IPS", "MESH_ID", "INTERCEPTION_MODE")
_FIELDS = ("NAMESPACE", "LABELS", "SERVICE_ACCOUNT", "WORKLOAD_NAME", "CLUSTER_ID", "NETWORK", "LOCALITY")
_FURTHER = (
    "FAIRLEAD_CAPTURE",
    "FAIRLEAD_PORTS",
    "FAIRLEAD_ENTRY",
    "FAIRLEAD_ON_DEMAND",
    "FAIRLEAD_VERSION",
    "ISTIO_VERSION",
)
_KNOWN = frozenset((*_OWN, *_FIELDS, *_FURTHER))
"""Metadata that stands in fields of its own, or is the proxy's alone."""
KNOWS_PEERS = "ENABLE_SELF_DISCOVERY"
"""Istio's metadata of proxies that want to know the instances of their own workload."""
SEES = "REQUESTED_NETWORK_VIEW"
"""Istio's metadata of proxies that call instances of some networks only."""
_ON_DEMAND = ("auto", "true", "false")


class View(msgspec.Struct, frozen=True, cache_hash=True):
    """The attributes of a proxy on which its configuration may depend.

    `addresses` are the proxy's own; `labels` are sorted pairs. `version` is the agent's, and `metadata` what else its
    node says in words (for patches that ask). `on_demand` is whether it asks for clusters when it needs them;
    `knows_peers` whether it is told where the instances of its own workload are (Istio's ENABLE_SELF_DISCOVERY). `own`
    is what its workload says of the proxy's listeners. `families` takes the place of what the addresses say of families
    where some of them are left out ("": they say it); see `speaks`. `sees` are the networks whose instances it is told
    of, besides those in none (Istio's REQUESTED_NETWORK_VIEW; none named: all).
    """

    type: Literal["sidecar", "router"]
    namespace: str
    labels: Pairs = ()
    service_account: str = "default"
    addresses: tuple[str, ...] = ()
    network: str = ""
    locality: str = ""
    cluster_id: str = "Kubernetes"
    workload_name: str = ""
    capture: Capture = Capture("redirect")
    ports: tuple[AppPort, ...] = ()
    domain_suffix: str = "cluster.local"
    version: str = ""
    metadata: Pairs = ()
    on_demand: OnDemand = ""
    knows_peers: bool = False
    own: OwnSettings | None = None
    families: Families | Literal[""] = ""
    sees: tuple[str, ...] = ()

    @property
    def speaks(self) -> Families:
        """The families of addresses with which the proxy works."""
        return self.families or families_of(self.addresses)

    @property
    def client(self) -> Client:
        """The part of the view on which outbound routes, clusters and endpoints may depend."""
        place = (self.network, self.locality, self.cluster_id)
        return Client(self.namespace, self.labels, *place, self.speaks, self.sees)


class Client(msgspec.Struct, frozen=True, cache_hash=True):
    """A view as a caller of other services. `namespace` may be another scope (`compiler.sidecars`)."""

    namespace: str
    labels: Pairs = ()
    network: str = ""
    locality: str = ""
    cluster: str = ""
    families: Families = "IPv4"
    sees: tuple[str, ...] = ()


def pairs(labels: dict[str, str]) -> Pairs:
    """Labels as sorted pairs."""
    return tuple(sorted(labels.items()))


def selects(selector: Pairs, labels: Pairs) -> bool:
    """Whether every pair of the selector is among the labels; an empty selector selects everything."""
    return set(selector) <= set(labels)


def view_of_node(node_id: str, metadata: dict[str, Any]) -> View:
    """The view of a proxy from its xDS node: id `TYPE~IP~NAME.NS~NS.svc.SUFFIX` and Istio's node metadata.

    Raises ValueError where the id has another form.
    """
    node = NodeId.parse(node_id)
    kind, suffix = node.type, node.domain.partition(".svc.")[2]
    raw_ips = str(metadata.get("INSTANCE_IPS") or node.address)
    capture = metadata.get("FAIRLEAD_CAPTURE") or {
        "mode": "redirect" if kind == "sidecar" else "none",
        "transparent": kind == "sidecar" and metadata.get("INTERCEPTION_MODE") == "TPROXY",
    }
    said = cast("dict[str, Any]", metadata.get("LABELS") or {})
    labels = {key: str(value) for key, value in said.items()}
    on_demand = str(metadata.get("FAIRLEAD_ON_DEMAND") or "")
    return View(
        type=cast("Literal['sidecar', 'router']", kind),
        namespace=str(metadata.get("NAMESPACE") or node.namespace),
        labels=pairs(labels),
        service_account=str(metadata.get("SERVICE_ACCOUNT") or "default"),
        addresses=tuple(one for one in raw_ips.split(",") if one),
        network=str(metadata.get("NETWORK") or ""),
        locality=locality_said(labels) or str(metadata.get("LOCALITY") or ""),
        cluster_id=str(metadata.get("CLUSTER_ID") or "Kubernetes"),
        workload_name=str(metadata.get("WORKLOAD_NAME") or ""),
        capture=msgspec.convert(capture, Capture, strict=False),
        ports=tuple(msgspec.convert(one, AppPort, strict=False) for one in metadata.get("FAIRLEAD_PORTS") or ()),
        domain_suffix=suffix or "cluster.local",
        version=str(metadata.get("FAIRLEAD_VERSION") or metadata.get("ISTIO_VERSION") or ""),
        knows_peers=metadata.get(KNOWS_PEERS) == "true",
        own=own_of_node(metadata),
        sees=tuple(sorted({one for one in map(str.strip, str(metadata.get(SEES) or "").split(",")) if one})),
        on_demand=cast("OnDemand", on_demand) if on_demand in _ON_DEMAND else "",
        metadata=pairs({key: one for key, one in metadata.items() if key not in _KNOWN and isinstance(one, str)}),
    )
