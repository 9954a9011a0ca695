"""Istio's MeshNetworks (`istio.mesh.v1alpha1`): the key `meshNetworks` beside the mesh's own settings.

Gateways that are named by `registryServiceName` are the instances behind that service: nothing outside the mesh gives
Fairlead's services addresses of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated

from msgspec import Meta

from fairlead.ir.network import Network, NetworkGateway
from fairlead.model.decode import decode
from fairlead.model.diagnostic import Problem
from fairlead.model.findings import invalid, required
from fairlead.model.object import Spec
from fairlead.model.path import ROOT, FieldPath
from fairlead.model.protojson import of_protojson
from fairlead.model.syntax import is_ip, is_ip_or_cidr, is_name_label, port_problems, wrong_fqdn
from fairlead.model.yaml import YAMLError, parse_documents

NETWORKS_KEY = "meshNetworks"


class NetworkEndpoints(Spec, frozen=True):
    """Which endpoints are in a network: one of the two."""

    from_cidr: Annotated[str, Meta(description="Those with addresses in this range.")] = ""
    from_registry: Annotated[str, Meta(description="Those of this registry (Kubernetes) that say no network.")] = ""


class GatewaySpec(Spec, frozen=True):
    """A way into a network: an address, or a service of the mesh."""

    port: Annotated[int, Meta(description="The port of its AUTO_PASSTHROUGH server, such as 15443.")] = 0
    address: Annotated[str, Meta(description="Address, or DNS name, at which other networks reach it.")] = ""
    registry_service_name: Annotated[str, Meta(description="Full name of a service whose instances it is.")] = ""
    locality: Annotated[str, Meta(description="Where the gateway is.")] = ""


class NetworkSpec(Spec, frozen=True):
    """One network."""

    endpoints: Annotated[tuple[NetworkEndpoints, ...], Meta(description="Which endpoints are in it.")] = ()
    gateways: Annotated[tuple[GatewaySpec, ...], Meta(description="Ways into it.")] = ()


class MeshNetworks(Spec, frozen=True):
    """The networks of the mesh by name."""

    networks: Annotated[dict[str, NetworkSpec], Meta(description="Networks by name.")] = {}


def read_networks(text: str) -> tuple[tuple[Network, ...], list[Problem]]:
    """The networks that a text describes, in the order of names, and what is wrong with it (then there are none)."""
    try:
        documents = parse_documents(text, "")
    except YAMLError as error:
        return (), [Problem(ROOT, error.message, code="FL0008")]
    if not documents:
        return (), []
    config, problems = decode(MeshNetworks, of_protojson(MeshNetworks, documents[0].data).value)
    if config is None:
        return (), problems
    problems = list(_problems(config.networks))
    if problems:
        return (), problems
    return _networks(config), []


def _networks(config: MeshNetworks) -> tuple[Network, ...]:
    return tuple(_network(*one) for one in sorted(config.networks.items()))


def _network(name: str, spec: NetworkSpec) -> Network:
    return Network(
        name,
        cidrs=tuple(one.from_cidr for one in spec.endpoints if one.from_cidr),
        registries=tuple(one.from_registry for one in spec.endpoints if one.from_registry),
        gateways=tuple(
            NetworkGateway(one.port, one.address, one.registry_service_name, one.locality) for one in spec.gateways
        ),
    )


def _problems(networks: Mapping[str, NetworkSpec]) -> Iterator[Problem]:
    for name, network in networks.items():
        base = ROOT.child("networks", name)
        if not name:
            yield required(base, "a network needs a name")
        for at, one in enumerate(network.endpoints):
            path = base.child("endpoints", at)
            if bool(one.from_cidr) == bool(one.from_registry):
                yield required(path, "exactly one of fromCidr and fromRegistry is needed")
            elif one.from_cidr and not is_ip_or_cidr(one.from_cidr):
                yield invalid(path / "fromCidr", f"{one.from_cidr!r} is not a network such as 10.0.0.0/8")
            elif one.from_registry and not is_name_label(one.from_registry):
                yield invalid(path / "fromRegistry", f"{one.from_registry!r} is not the name of a cluster")
        for at, gateway in enumerate(network.gateways):
            yield from _gateway(base.child("gateways", at), gateway)


def _gateway(path: FieldPath, gateway: GatewaySpec) -> Iterator[Problem]:
    yield from port_problems(gateway.port, path / "port")
    if bool(gateway.address) == bool(gateway.registry_service_name):
        yield required(path, "exactly one of address and registryServiceName is needed")
    elif gateway.address and not is_ip(gateway.address) and wrong_fqdn(gateway.address):
        yield invalid(path / "address", f"{gateway.address!r} is neither an IP address nor a domain name")
    elif gateway.registry_service_name and wrong_fqdn(gateway.registry_service_name):
        yield invalid(path / "registryServiceName", f"{gateway.registry_service_name!r} is not a host name")
