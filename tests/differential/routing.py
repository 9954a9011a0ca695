"""Random routing: VirtualServices, DestinationRules, Gateways, Sidecars."""

from __future__ import annotations

from collections.abc import Sequence

from tests.differential.chance import DOOR_NAME, HEADERS, METHODS, PATHS, PUBLIC, QUERIES, SPACES, Chance
from tests.differential.topology import (
    HTTP_PORT,
    OUTSIDE_HOST,
    PASS_PORT,
    SERVICES,
    TCP_PORT,
    TLS_MODE,
    TLS_PORT,
    WRITTEN,
    Json,
    document,
    fqdn,
)

_NET = "networking.istio.io/v1"


class Routing(Chance):
    """Makes objects that say where requests go."""

    def _match(self, gateways: Sequence[str]) -> Json:
        made: Json = {}
        if self.maybe(0.7):
            made["uri"] = self.text(PATHS)
            if self.maybe(0.2):
                made["ignoreUriCase"] = True
        if self.maybe(0.25):
            made["method"] = {"exact": self.one(METHODS)} if self.maybe(0.7) else self.text(METHODS)
        if self.maybe(0.3):
            name = self.one(tuple(HEADERS))
            made["headers"] = {name: self.text(HEADERS[name]) if self.maybe(0.8) else {}}
        if DOOR_NAME in gateways and "mesh" not in gateways and self.maybe(0.2):
            claim = self.one(("group", "sub", "nested.role"))
            made["headers"] = {f"@request.auth.claims.{claim}": self.text(("staff", "alice", "admin"))}
        if self.maybe(0.15):
            name = self.one(tuple(HEADERS))
            made["withoutHeaders"] = {name: self.text(HEADERS[name]) if self.maybe(0.7) else {}}
        if self.maybe(0.2):
            name = self.one(tuple(QUERIES))
            made["queryParams"] = {name: self.text(QUERIES[name]) if self.maybe(0.8) else {}}
        made.update(self._rarely(gateways))
        return made

    def _rarely(self, gateways: Sequence[str]) -> Json:
        made: Json = {}
        if self.maybe(0.1):
            made["authority"] = self.text((*PUBLIC, "web", fqdn("web"), OUTSIDE_HOST))
        if self.maybe(0.1):
            made["scheme"] = {"exact": self.one(("http", "https"))}
        if self.maybe(0.15):
            made["port"] = self.one((80, 28080, 8081, HTTP_PORT, TLS_PORT))
        if "mesh" in gateways and self.maybe(0.2):
            if self.maybe(0.6):
                made["sourceLabels"] = {"app": self.one(("shopper", "batch"))}
            else:
                made["sourceNamespace"] = self.one(SPACES)
        return made

    def _destination(self, *, tcp: bool = False) -> Json:
        if tcp:
            host, ports = self.one(((fqdn("web"), (9000,)), (fqdn("old"), (9000,)), (fqdn("back"), (9001,))))
        else:
            host, ports = self.one(
                (
                    (fqdn("web"), (80, 80, 7000)),
                    (fqdn("web"), (80,)),
                    (fqdn("api"), (80, 8081, 8082)),
                    (fqdn("old"), (80,)),
                    (fqdn("back"), (28080,)),
                    (fqdn("none"), (80,)),
                    (OUTSIDE_HOST, (80,)),
                    ("nobody.one.svc.cluster.local", (80,)),
                )
            )
        made: Json = {"host": host, "port": {"number": self.one(ports)}}
        if self.maybe(0.3):
            made["subset"] = self.one(("v1", "v2", "v3"))
        return made

    def _targets(self, *, tcp: bool = False) -> list[Json]:
        if self.maybe(0.8):
            return [{"destination": self._destination(tcp=tcp)}]
        weights = self.one(((100, 0), (50, 50), (90, 10), (20, 80)))
        return [{"destination": self._destination(tcp=tcp), "weight": weight} for weight in weights]

    def _action(self) -> Json:
        share = self.chance.random()
        if share < 0.1:
            made: Json = {"redirectCode": self.one((301, 302, 307))}
            made.update(
                self.one(
                    (
                        {"uri": "/elsewhere"},
                        {"authority": "else.example"},
                        {"scheme": "https"},
                        {"uri": "/x", "authority": "else.example"},
                        {"port": 8443, "scheme": "https"},
                        {"derivePort": "FROM_REQUEST_PORT"},
                        {"prefixRewrite": "/moved"},
                    )
                )
            )
            return {"redirect": made}
        if share < 0.2:
            return {"directResponse": {"status": self.one((200, 204, 403, 503)), "body": {"string": "said"}}}
        made = {"route": self._targets()}
        if self.maybe(0.2):
            made["rewrite"] = self.one(
                (
                    {"uri": "/new"},
                    {"uri": "/"},
                    {"authority": "rewritten.example"},
                    {"uri": "/admin", "authority": "web"},
                    {"uriRegexRewrite": {"match": "^/a(.*)$", "rewrite": "/b\\1"}},
                )
            )
        if self.maybe(0.2):
            made["headers"] = {
                "request": self.one(
                    (
                        {"set": {"x-user": "bob"}},
                        {"add": {"x-user": "alice"}},
                        {"remove": ["x-user"]},
                        {"set": {"x-tier": "gold"}, "remove": ["authorization"]},
                    )
                )
            }
        if self.maybe(0.15):
            made["fault"] = self._fault()
        if self.maybe(0.15):
            made["corsPolicy"] = {
                "allowOrigins": [self.one(({"exact": "https://good.example"}, {"regex": ".*example"}))],
                "allowMethods": ["GET"],
            }
        if self.maybe(0.15):
            made["retries"] = self.one(({"attempts": 0}, {"attempts": 1, "retryOn": "5xx"}))
        if self.maybe(0.1):
            made["timeout"] = "3s"
        if self.maybe(0.05):
            made["mirror"] = self._destination()
        return made

    def _fault(self) -> Json:
        share = {"value": self.one((0, 100, 100))}
        if self.maybe(0.2):
            return {"delay": {"fixedDelay": "0.01s", "percentage": share}}
        if self.maybe(0.2):
            return {"abort": {"grpcStatus": self.one(("UNAVAILABLE", "PERMISSION_DENIED")), "percentage": share}}
        return {"abort": {"httpStatus": self.one((400, 503, 418)), "percentage": share}}

    def virtual_service(self, number: int) -> Json:
        inside = self.maybe(0.7)
        mesh_hosts = (
            fqdn("web"),
            fqdn("api"),
            fqdn("old"),
            fqdn("back"),
            OUTSIDE_HOST,
            "x.wild.example",
            "made.example",
        )
        hosts = self.some(mesh_hosts if inside else (*PUBLIC, "*.shop.example", "*"), 2)
        if "*" in hosts:
            hosts = ["*"]
        gateways = ["mesh"] if inside else [DOOR_NAME]
        if self.maybe(0.2) and "*" not in hosts:
            gateways = ["mesh", DOOR_NAME]
        spec: Json = {"hosts": hosts}
        if gateways != ["mesh"] or self.maybe(0.3):
            spec["gateways"] = gateways
        if self.maybe(0.9):
            spec["http"] = [self._http(gateways) for _ in range(self.chance.randint(1, 4))]
        if self.maybe(0.2) or "http" not in spec:
            spec["tcp"] = [self._tcp(gateways)]
        if self.maybe(0.25):
            spec["tls"] = [self._tls(gateways, hosts) for _ in range(self.chance.randint(1, 2))]
        if inside and self.maybe(0.1):
            spec["exportTo"] = [self.one((".", "*", "two"))]
        namespace = "istio-system" if not inside else self.one(SPACES)
        return document(_NET, "VirtualService", f"route-{number}", namespace, spec)

    def _http(self, gateways: Sequence[str]) -> Json:
        made = self._action()
        if self.maybe(0.8):
            found = [one for one in (self._match(gateways) for _ in range(self.chance.randint(1, 2))) if one]
            if found:
                made["match"] = found
        if self.maybe(0.3):
            made["name"] = self.one(("first", "second", "special"))
        return made

    def _tcp(self, gateways: Sequence[str]) -> Json:
        made: Json = {"route": self._targets(tcp=True)}
        if self.maybe(0.6):
            match: Json = {"port": self.one((9000, 9001, 7000, TCP_PORT))}
            if "mesh" in gateways and self.maybe(0.4):
                match["sourceLabels"] = {"app": self.one(("shopper", "batch"))}
            made["match"] = [match]
        return made

    def _tls(self, gateways: Sequence[str], hosts: Sequence[str]) -> Json:
        names = [one for one in hosts if one != "*"] or list(PUBLIC)
        match: Json = {"sniHosts": self.some(names, 2)}
        if self.maybe(0.3):
            match["port"] = self.one((8443, PASS_PORT))
        if "mesh" in gateways and self.maybe(0.2):
            match["sourceLabels"] = {"app": self.one(("shopper", "batch"))}
        made: Json = {"host": fqdn("web"), "port": {"number": 8443}}
        if self.maybe(0.3):
            made["subset"] = self.one(("v1", "v2", "v3"))
        return {"match": [match], "route": [{"destination": made}]}

    def http_route(self, number: int) -> Json:
        """A route of the Gateway API for a Service of the mesh."""
        name = self.one(("web", "api", "back"))
        namespace, _, _, ports = SERVICES[name]
        parent: Json = {"group": "", "kind": "Service", "name": name, "namespace": namespace}
        if self.maybe(0.3):
            parent["port"] = self.one([port for _, port, _ in ports])
        spec: Json = {"parentRefs": [parent], "rules": [self._rule() for _ in range(self.chance.randint(1, 3))]}
        where = namespace if self.maybe(0.7) else self.one(SPACES)
        return document("gateway.networking.k8s.io/v1", "HTTPRoute", f"gw-{number}", where, spec)

    def _rule(self) -> Json:
        matches = [self._rule_match() for _ in range(self.chance.randint(0, 2))]
        to = self.one(("web", "api", "old"))
        backend: Json = {"name": to, "namespace": SERVICES[to][0], "port": 80}
        made: Json = {"backendRefs": [backend]} if self.maybe(0.9) else {}
        if matches:
            made["matches"] = matches
        if self.maybe(0.3):
            made["filters"] = [
                self.one(
                    (
                        {
                            "type": "RequestHeaderModifier",
                            "requestHeaderModifier": {"set": [{"name": "x-user", "value": "bob"}]},
                        },
                        {
                            "type": "URLRewrite",
                            "urlRewrite": {"path": {"type": "ReplaceFullPath", "replaceFullPath": "/admin"}},
                        },
                        {"type": "URLRewrite", "urlRewrite": {"hostname": "rewritten.example"}},
                    )
                )
            ]
        return made

    def _rule_match(self) -> Json:
        made: Json = {}
        if self.maybe(0.7):
            how = self.one(("Exact", "PathPrefix", "PathPrefix", "RegularExpression"))
            value = self.one(PATHS)
            made["path"] = {"type": how, "value": f"{value}.*" if how == "RegularExpression" else value}
        if self.maybe(0.3):
            made["method"] = self.one(METHODS)
        if self.maybe(0.3):
            name = self.one(("x-user", "x-tier"))
            value = self.one([one for one in HEADERS[name] if one])
            how = self.one(("Exact", "RegularExpression"))
            made["headers"] = [{"name": name, "type": how, "value": value if how == "Exact" else f"{value[:2]}.*"}]
        if self.maybe(0.2):
            made["queryParams"] = [{"name": "q", "value": self.one(("1", "10"))}]
        return made

    def destination_rule(self, number: int) -> Json:
        host = self.one((fqdn("web"), fqdn("api"), fqdn("old"), fqdn("back"), OUTSIDE_HOST, "*.two.svc.cluster.local"))
        spec: Json = {"host": host}
        if self.maybe(0.7):
            spec["subsets"] = [{"name": name, "labels": {"version": name}} for name in self.some(("v1", "v2", "v3"), 3)]
            if host in (fqdn("web"), fqdn("api")) and self.maybe(0.15):
                spec["subsets"][0]["trafficPolicy"] = {"tls": {"mode": self.one(("DISABLE", "ISTIO_MUTUAL"))}}
        # Whether a server without a sidecar speaks mesh mTLS after all is nothing that the simulator could know.
        if host in (fqdn("web"), fqdn("api"), fqdn("back")) and self.maybe(0.4):
            tls = {"mode": self.one(("DISABLE", "ISTIO_MUTUAL", "ISTIO_MUTUAL"))}
            spec["trafficPolicy"] = {"tls": tls}
            if self.maybe(0.3):
                spec["trafficPolicy"]["portLevelSettings"] = [
                    {
                        "port": {"number": self.one((80, 28080, 9000))},
                        "tls": {"mode": self.one(("DISABLE", "ISTIO_MUTUAL"))},
                    }
                ]
        if self.maybe(0.1):
            spec["exportTo"] = [self.one((".", "*"))]
        return document(_NET, "DestinationRule", f"rule-{number}", self.one((*SPACES, "istio-system")), spec)

    def gateway(self, number: int) -> Json:
        servers: list[Json] = []
        hosts = self.some((*PUBLIC, "*.example", "*", "one/*.shop.example", "./shop.example"), 2)
        if self.maybe(0.8):
            server: Json = {"port": {"number": HTTP_PORT, "name": "http", "protocol": "HTTP"}, "hosts": hosts}
            if self.maybe(0.15):
                server["tls"] = {"httpsRedirect": True}
            servers.append(server)
        if self.maybe(0.5):
            modes = ("SIMPLE", "SIMPLE", "SIMPLE", "MUTUAL", "OPTIONAL_MUTUAL")
            tls: Json = {"mode": self.one(modes), "credentialName": "door-cert"}
            port = {"number": TLS_PORT, "name": "https", "protocol": "HTTPS"}
            servers.append({"port": port, "hosts": self.some((*PUBLIC, "*.shop.example", "*"), 2), "tls": tls})
        if self.maybe(0.3):
            port = {"number": PASS_PORT, "name": "pass", "protocol": "TLS"}
            hosts = self.some((*PUBLIC, "*.shop.example", "*"), 2)
            servers.append({"port": port, "hosts": hosts, "tls": {"mode": "PASSTHROUGH"}})
        if self.maybe(0.3) or not servers:
            servers.append({"port": {"number": TCP_PORT, "name": "tcp", "protocol": "TCP"}, "hosts": ["*"]})
        spec = {"selector": {"istio": "ingressgateway"}, "servers": servers}
        name = "door" if number == 0 else f"door-{number}"
        return document(_NET, "Gateway", name, "istio-system", spec)

    def _ingress(self, port: int) -> Json:
        protocol = "TCP" if port == 9000 else self.one(("HTTP", "HTTP", "TCP"))
        made: Json = {"port": {"number": port, "name": f"in-{port}", "protocol": protocol}}
        if self.maybe(0.6):
            made["defaultEndpoint"] = self.one((f"127.0.0.1:{port}", "127.0.0.1:8081"))
        return made

    def service_entry(self, number: int) -> Json:
        """More hosts: outside, or made of instances of the mesh."""
        inside = self.maybe(0.4)
        hosts = [self.one(("made.example", "more.example", "*.more.example" if not inside else "more.example"))]
        port = self.one((80, 28080, 8081))
        ports = [{"name": "http", "number": port, "protocol": "HTTP", "targetPort": 28080}]
        spec: Json = {"hosts": hosts, "ports": ports, "location": "MESH_INTERNAL" if inside else "MESH_EXTERNAL"}
        spec["resolution"] = "STATIC"
        if inside:
            spec["endpoints"] = [
                {"address": f"{WRITTEN}3.{at}", "labels": {"version": f"v{at}", TLS_MODE: "istio"}}
                for at in self.some((1, 2), 2)
            ]
            if self.maybe(0.5):
                spec["subjectAltNames"] = ["spiffe://cluster.local/ns/one/sa/web"]
        else:
            spec["endpoints"] = [{"address": f"{WRITTEN}5.{self.one((1, 3))}"}]
        if self.maybe(0.6):
            spec["addresses"] = [f"{WRITTEN}7.{number + 1}"]
        return document(_NET, "ServiceEntry", f"more-{number}", self.one(SPACES), spec)

    def delegated(self) -> list[Json]:
        """A VirtualService that leaves a part of its requests to another one."""
        root_match = [{"uri": {"prefix": self.one(("/api", "/a", "/"))}}]
        root = {"name": "sub", "namespace": "two"}
        spec: Json = {"hosts": [fqdn(self.one(("web", "api")))]}
        spec["http"] = [{"match": root_match, "delegate": root}, {"route": self._targets()}]
        sub: Json = {"http": [self._http(["mesh"]) for _ in range(self.chance.randint(1, 2))]}
        for rule in sub["http"]:
            for match in rule.get("match", ()):
                if self.maybe(0.6):
                    match["uri"] = {"prefix": self.one(("/api/v1", "/api", "/admin"))}
        return [
            document(_NET, "VirtualService", "root", "one", spec),
            document(_NET, "VirtualService", "sub", "two", sub),
        ]

    def sidecar(self, number: int) -> Json:
        namespace = self.one(SPACES)
        hosts = self.some(("./*", "one/*", "two/*", f"*/{fqdn('web')}", "~/*", f"one/{OUTSIDE_HOST}"), 3)
        spec: Json = {"egress": [{"hosts": hosts}]}
        # Where a virtual address leads without the mesh is nothing that the simulator could know.
        spec["outboundTrafficPolicy"] = {"mode": self.one(("REGISTRY_ONLY",) * 7 + ("ALLOW_ANY",))}
        if self.maybe(0.3):
            app = "web" if namespace == "one" else "api"
            spec["workloadSelector"] = {"labels": {"app": app}}
            spec["ingress"] = [self._ingress(port) for port in self.some((28080, 9000, 7000), 2)]
        return document(_NET, "Sidecar", f"scope-{number}", namespace, spec)
