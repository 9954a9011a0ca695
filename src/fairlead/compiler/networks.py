"""The networks of the mesh: those of MeshNetworks, and those that labels name.

Istio's rules: a workload is in the network that it names itself or by the label `topology.istio.io/network`, else in
that of the root namespace's label, else in that of MeshNetworks (by address, then by cluster). A Service with the label
is the way into a network, at the port of its label `networking.istio.io/gatewayPort`, else 15443.
"""

from __future__ import annotations

import msgspec

from fairlead.compiler.hosts import settings
from fairlead.inc import Reader, rule
from fairlead.ir.discovery import NAMESPACES
from fairlead.ir.filters import Pairs
from fairlead.ir.host import HOSTS, HOSTS_BY_NAME, HOSTS_INTO_NETWORKS
from fairlead.ir.locality import CLUSTER, NETWORK
from fairlead.ir.network import GATEWAY_ADDRESSES, Network, NetworkGateway, network_of
from fairlead.model.syntax import is_ip

REGISTRY = "Kubernetes"
"""Istio's name of the only registry (and cluster), for workloads that have no label `topology.istio.io/cluster`."""
GATEWAY_PORT = "networking.istio.io/gatewayPort"
"""The label of a Service with the port at which it leads into its network."""
_USUAL_PORT = 15443


class Networks(msgspec.Struct, frozen=True):
    """The networks in the order of names, and the one of workloads that name none ("": MeshNetworks says)."""

    known: tuple[Network, ...] = ()
    default: str = ""


@rule
def networks(r: Reader, _: str) -> Networks:
    """The networks (key: "")."""
    mesh = settings(r)
    found = {one.name: one for one in mesh.networks}
    for _key, host in r.rows(HOSTS_INTO_NETWORKS, ""):
        labels = dict(host.labels)
        name, said = labels[NETWORK], labels.get(GATEWAY_PORT, "")
        port = int(said) if said.isascii() and said.isdecimal() and 0 < len(said) < 6 else _USUAL_PORT
        known = found.get(name, Network(name))
        addresses = host.outside or ("",)
        ways = (NetworkGateway(port, one, "" if one else host.key.hostname) for one in addresses)
        found[name] = msgspec.structs.replace(known, gateways=(*known.gateways, *ways))
    root = r.get(NAMESPACES, mesh.root_namespace)
    default = dict(root.labels).get(NETWORK, "") if root is not None else ""
    return Networks(tuple(found[name] for name in sorted(found)), default)


def has_gateways(r: Reader, network: str) -> bool:
    """Whether a network has gateways, wherever they are."""
    return any(one.gateways for one in networks(r, "").known if one.name == network)


@rule
def named_gateways(r: Reader, _: str) -> tuple[str, ...]:
    """The gateways that are known by a DNS name, in order (key: ""): somebody has to look these up."""
    found: set[str] = set()
    for network in networks(r, "").known:
        for one in network.gateways:
            behind = r.find(HOSTS_BY_NAME, one.service) if one.service else ()
            hosts = (r.get(HOSTS, at) for at in behind)
            found.update(name for host in hosts if host is not None for name in host.outside)
            found.add(one.address)
    return tuple(sorted(one for one in found if one and not is_ip(one)))


def addresses_of(r: Reader, address: str) -> tuple[str, ...]:
    """Where a gateway is: its address, or those that its name was found to have; none as long as nobody knows."""
    return (address,) if is_ip(address) else r.get(GATEWAY_ADDRESSES, address) or ()


def network_at(r: Reader, said: str, address: str, labels: Pairs) -> str:
    """The network of an endpoint or a proxy that names `said` itself; "" for none."""
    own = dict(labels)
    found = networks(r, "")
    stated = said or own.get(NETWORK, "") or found.default
    return network_of(found.known, stated, address, own.get(CLUSTER) or REGISTRY)


def cluster_at(labels: Pairs) -> str:
    """The cluster in which a workload is."""
    return dict(labels).get(CLUSTER) or REGISTRY
