"""Random meshes: policies over few names, so that they meet each other and the calls that are made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tests.differential import tokens
from tests.differential.reaching import Reaching
from tests.differential.routing import Routing
from tests.differential.security import Security
from tests.differential.topology import (
    DENIED,
    GUARD_HOST,
    OUTSIDE_HOST,
    SERVICES,
    TLS_HOST,
    WRITTEN,
    Json,
    fqdn,
)


class Maker(Routing, Security, Reaching):
    """Makes meshes."""

    def mesh(self) -> list[Json]:
        """The policies of one mesh, each with a name of its own."""
        made: list[Json] = []
        kinds: Sequence[tuple[Callable[[int], Json], int]] = (
            (self.virtual_service, 4),
            (self.destination_rule, 3),
            (self.gateway, 2),
            (self.peer_authentication, 2),
            (self.authorization, 4),
            (self.request_authentication, 2),
            (self.sidecar, 1),
            (self.http_route, 1),
            (self.service_entry, 2),
        )
        rarer: Sequence[tuple[Callable[[int], Json], float]] = (
            (self.limit, 0.15),
            (self.sticky, 0.2),
            (self.sticky, 0.1),
            (self.script, 0.05),
        )
        for make, most in kinds:
            made.extend(make(number) for number in range(self.chance.randint(0, most)))
        made.extend(make(number) for number, (make, share) in enumerate(rarer) if self.maybe(share))
        if self.maybe(0.15):
            made.extend(self.delegated())
        if self.maybe(0.2):
            made = [*self.placed(), *made]
        for number in range(2):
            if self.maybe(0.15):
                made = [*self.tls(number), *made]
        guarded = self.maybe(0.2)
        if guarded:
            made.extend((*self.guards(), *(self.guarded(number) for number in range(self.chance.randint(1, 2)))))
        if guarded or self.maybe(0.6):
            made.append(self._settings(guarded=guarded))
        return _distinct(made)

    def _settings(self, *, guarded: bool) -> Json:
        spec: Json = {}
        if guarded:
            asked: Json = {"service": GUARD_HOST, "port": 80}
            spec["extensionProviders"] = [
                {"name": "letting", "envoyExtAuthzHttp": asked},
                {"name": "denying", "envoyExtAuthzHttp": {**asked, "pathPrefix": DENIED}},
            ]
        if self.maybe(0.8):
            modes = ("REGISTRY_ONLY", "REGISTRY_ONLY", "REGISTRY_ONLY", "ALLOW_ANY")
            spec["outboundTrafficPolicy"] = {"mode": self.one(modes)}
        if self.maybe(0.5):
            how = self.one(("NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES"))
            spec["pathNormalization"] = {"normalization": how}
        if self.maybe(0.3):
            spec["defaultConfig"] = {"gatewayTopology": {"numTrustedProxies": self.one((0, 1, 2))}}
        return {
            "apiVersion": "mesh.istio.io/v1alpha1",
            "kind": "MeshConfig",
            "metadata": {"name": "istio"},
            "spec": spec,
        }


def credentials() -> list[Json]:
    """What gateways show."""
    certificate, key = tokens.server_certificate()
    return [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "kubernetes.io/tls",
            "metadata": {"name": "door-cert", "namespace": "istio-system"},
            "stringData": {"tls.crt": certificate, "tls.key": key, "ca.crt": certificate},
        }
    ]


def _distinct(made: list[Json]) -> list[Json]:
    """Without a second object of one name."""
    found: dict[tuple[Any, ...], Json] = {}
    for one in made:
        meta = one["metadata"]
        found.setdefault((one["kind"], meta.get("namespace"), meta["name"]), one)
    return list(found.values())


def virtual_addresses() -> dict[str, str]:
    """The virtual address of each host that has one."""
    found = {fqdn(name): WRITTEN + at for name, (_, at, _, _) in SERVICES.items()}
    return {**found, OUTSIDE_HOST: f"{WRITTEN}6.9", TLS_HOST: f"{WRITTEN}6.11", "raw.example": f"{WRITTEN}6.10"}
