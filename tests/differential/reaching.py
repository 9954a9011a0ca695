"""Random ways to an instance: authorizers, limits, hashes, localities, TLS that a rule begins, scripts."""

from __future__ import annotations

from typing import Any

from fairlead.model.entry import TLS_MODE
from tests.differential.chance import Chance
from tests.differential.topology import (
    GUARD_HOST,
    OUTSIDE_HOST,
    PLACES,
    SERVERS,
    STICKY,
    TLS_HOST,
    WRITTEN,
    Json,
    Workload,
    document,
    fqdn,
)

_NET = "networking.istio.io/v1"
GUARDS = ("letting", "denying")
"""Authorizers: one that lets every request pass, and one that lets none."""
SCRIPT = "differential.lua"
_AMPLE = 1_000_000


class Reaching(Chance):
    """Makes objects that say how a request comes to the instance that serves it."""

    def guards(self) -> list[Json]:
        """The host of the authorizers, and what the mesh's settings say of them."""
        ports = [{"name": "http", "number": 80, "protocol": "HTTP", "targetPort": 28080}]
        spec: Json = {"hosts": [GUARD_HOST], "ports": ports, "location": "MESH_EXTERNAL", "resolution": "STATIC"}
        spec["endpoints"] = [{"address": f"{WRITTEN}5.2"}]
        return [document(_NET, "ServiceEntry", "guard", "istio-system", spec)]

    def guarded(self, number: int) -> Json:
        """A policy that asks an authorizer about some requests."""
        namespace = self.one(("one", "two", "istio-system"))
        guard = self.one(GUARDS)
        spec: Json = {"action": "CUSTOM", "provider": {"name": guard}}
        if namespace == "istio-system":
            spec["selector"] = {"matchLabels": {"istio": "ingressgateway"}}
        elif self.maybe(0.5):
            spec["selector"] = {"matchLabels": {"app": "web" if namespace == "one" else "api"}}
        operation: Json = self.one(
            ({"paths": ["/api*"]}, {"methods": ["GET"]}, {"notPaths": ["/admin*"]}, {"hosts": ["shop.example", "web"]})
        )
        spec["rules"] = [{"to": [{"operation": operation}]}]
        return document("security.istio.io/v1", "AuthorizationPolicy", f"{guard}-{number}", namespace, spec)

    def limit(self, number: int) -> Json:
        """A limit that no run comes near: what it does to requests that it counts is to let them pass."""
        namespace = self.one(("one", "two", "istio-system"))
        counted: Json = {"name": "ample", "requests": _AMPLE, "unit": "SECOND"}
        if self.maybe(0.5):
            counted["per"] = [self.one(({"attribute": "PRINCIPAL"}, {"header": "x-user"}, {"attribute": "ADDRESS"}))]
        if self.maybe(0.5):
            counted["when"] = self.one(({"methods": ["GET"]}, {"paths": ["/api*"]}))
        spec: Json = {"limits": [counted]}
        if namespace == "istio-system":
            spec["selector"] = {"matchLabels": {"istio": "ingressgateway"}}
        return document("fairlead.dev/v1alpha1", "RateLimit", f"limit-{number}", namespace, spec)

    def script(self, number: int) -> Json:
        """A script in the servers of a namespace, which no simulator understands; it does nothing."""
        config = {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
            "default_source_code": {"inline_string": "function envoy_on_request(handle) end"},
        }
        match: Json = {
            "context": "SIDECAR_INBOUND",
            "listener": {"filterChain": {"filter": {"name": "envoy.filters.network.http_connection_manager"}}},
        }
        patch = {"operation": "INSERT_FIRST", "value": {"name": SCRIPT, "typed_config": config}}
        spec = {"configPatches": [{"applyTo": "HTTP_FILTER", "match": match, "patch": patch}]}
        return document("networking.istio.io/v1alpha3", "EnvoyFilter", f"script-{number}", "two", spec)

    def sticky(self, number: int) -> Json:
        """A rule by which a header, or the caller's address, decides about the instance."""
        host = self.one((fqdn("web"), fqdn("api"), fqdn("back")))
        hashed: Json = {"httpHeaderName": STICKY} if self.maybe(0.8) else {"useSourceIp": True}
        if self.maybe(0.5):
            hashed[self.one(("ringHash", "maglev"))] = {}
        spec: Json = {"host": host, "trafficPolicy": {"loadBalancer": {"consistentHash": hashed}}}
        if self.maybe(0.4):
            spec["subsets"] = [{"name": name, "labels": {"version": name}} for name in ("v1", "v2")]
        return document(_NET, "DestinationRule", f"sticky-{number}", self.one(("one", "two", "istio-system")), spec)

    def placed(self) -> list[Json]:
        """Servers in other places, some of which are not well, and rules that prefer the near ones."""
        made = [self._entry(one) for one in SERVERS if self.maybe(0.7)]
        for name in self.some(("web", "api", "back"), 2):
            near: Json = {"enabled": True}
            if self.maybe(0.4):
                near["failover"] = [{"from": "east", "to": "west"}]
            elif self.maybe(0.3):
                near["failoverPriority"] = self.one((["version"], ["topology.kubernetes.io/region", "version"]))
            # Nobody is taken out by what random calls come to: that is chance.
            outliers = {"consecutive5xxErrors": 0, "consecutiveGatewayErrors": 0, "interval": "600s"}
            spec = {
                "host": fqdn(name),
                "trafficPolicy": {"loadBalancer": {"localityLbSetting": near}, "outlierDetection": outliers},
            }
            made.append(document(_NET, "DestinationRule", f"near-{name}", self.one(("one", "two")), spec))
        return made

    def _entry(self, one: Workload) -> Json:
        labels = {**dict(one.labels), TLS_MODE: "istio"}
        spec: Json = {"address": one.address, "labels": labels, "serviceAccount": one.account}
        spec["locality"] = self.one(PLACES)
        more: dict[str, Any] = {"labels": labels}
        if self.maybe(0.2):
            spec["weight"] = self.one((1, 5))
        if self.maybe(0.2):
            # Whoever is probed is not well until somebody says so.
            more["annotations"] = {"proxy.istio.io/health-checks-enabled": "true"}
        return document(_NET, "WorkloadEntry", one.name, one.namespace, spec, **more)

    def tls(self, number: int) -> list[Json]:
        """TLS that a proxy begins to a server outside of the mesh, or to one that did not ask for it."""
        host = self.one((TLS_HOST, TLS_HOST, OUTSIDE_HOST, fqdn("old"), fqdn("web")))
        tls: Json = {"mode": "SIMPLE"}
        if self.maybe(0.5):
            tls["sni"] = self.one(("shop.example", "other.test"))
        if self.maybe(0.3):
            tls["insecureSkipVerify"] = True
        space = self.one(("one", "two"))
        if self.maybe(0.3):
            space, tls = "istio-system", {"mode": self.one(("SIMPLE", "MUTUAL")), "credentialName": "door-cert"}
        # Applications speak HTTP in TLS, on every port.
        spec: Json = {"host": host, "trafficPolicy": {"portLevelSettings": [{"port": {"number": 80}, "tls": tls}]}}
        return [document(_NET, "DestinationRule", f"tls-{number}", space, spec)]
