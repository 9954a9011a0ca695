"""The part of a Service's status that means something to proxies: where it is reached from outside."""

from __future__ import annotations

import msgspec


class Ingress(msgspec.Struct, frozen=True, rename="camel"):
    """An address, or a DNS name, of the load balancer before a Service."""

    ip: str = ""
    hostname: str = ""


class LoadBalancer(msgspec.Struct, frozen=True, rename="camel"):
    """The load balancer before a Service."""

    ingress: tuple[Ingress, ...] = ()


class ServiceStatus(msgspec.Struct, frozen=True, rename="camel"):
    """What the load balancer's controller, or whoever plays its part, has written."""

    load_balancer: LoadBalancer = LoadBalancer()

    @property
    def addresses(self) -> tuple[str, ...]:
        """Addresses and names, in the order in which they stand there."""
        return tuple(found for one in self.load_balancer.ingress if (found := one.ip or one.hostname))
