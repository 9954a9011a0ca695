"""Networks: parts of the mesh whose addresses cannot be dialled from elsewhere, and the gateways into them."""

from __future__ import annotations

import ipaddress
from functools import lru_cache

import msgspec

from fairlead.inc import Table


class NetworkGateway(msgspec.Struct, frozen=True):
    """Where a network is entered: an address or DNS name, or the instances behind a host of the mesh (`service`)."""

    port: int
    address: str = ""
    service: str = ""
    locality: str = ""


class Network(msgspec.Struct, frozen=True):
    """A network (Istio MeshNetworks). Endpoints belong to it by name, by address (`cidrs`) or by registry."""

    name: str
    cidrs: tuple[str, ...] = ()
    registries: tuple[str, ...] = ()
    gateways: tuple[NetworkGateway, ...] = ()


GATEWAY_ADDRESSES: Table[str, tuple[str, ...]] = Table("gateway-addresses")
"""Addresses of gateways by DNS name: an input, written by whoever looks them up."""


def network_of(networks: tuple[Network, ...], said: str, address: str, registry: str) -> str:
    """The network of an endpoint or proxy: what is said, else by its address, else by its registry, else ""."""
    if said or not networks:
        return said
    for one in networks:
        if any(_inside(address, cidr) for cidr in one.cidrs):
            return one.name
    return next((one.name for one in networks if registry in one.registries), "")


@lru_cache(maxsize=65536)
def _inside(address: str, cidr: str) -> bool:
    try:
        return ipaddress.ip_address(address) in ipaddress.ip_network(cidr, strict=False)
    except ValueError:
        return False
