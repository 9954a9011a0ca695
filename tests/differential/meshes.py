"""Random policies over few names, so that they meet each other and the calls that are made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any, TypeVar

from tests.differential import tokens
from tests.differential.topology import (
    HTTP_PORT,
    OUTSIDE_HOST,
    SERVICES,
    TCP_PORT,
    TLS_PORT,
    WRITTEN,
    Json,
    document,
    fqdn,
)

T = TypeVar("T")

PATHS = ("/", "/api", "/api/v1", "/apix", "/API", "/admin", "/admin/users", "/a/b/c", "/static/main.css")
HEADERS = {
    "x-user": ("alice", "Alice", "alicia", "bob", ""),
    "x-tier": ("gold", "silver", "goldfish"),
    "cookie": ("session=1", "session=1; theme=dark"),
}
QUERIES = {"q": ("1", "10", ""), "debug": ("true", "")}
METHODS = ("GET", "POST", "PUT", "DELETE")
PUBLIC = ("shop.example", "www.shop.example", "other.example")
"""Hosts that only gateways know."""
SUBJECTS = ("alice", "bob")
_NET, _SEC = "networking.istio.io/v1", "security.istio.io/v1"
_DOOR = "istio-system/door"
_SPACES = ("one", "two")


class Maker:
    """Makes policies out of one source of chance."""

    def __init__(self, chance: Random) -> None:
        self.chance = chance

    def mesh(self) -> list[Json]:
        """The policies of one mesh, each with a name of its own."""
        made: list[Json] = []
        kinds: Sequence[tuple[Callable[[int], Json], int]] = (
            (self._virtual_service, 4),
            (self._destination_rule, 3),
            (self._gateway, 2),
            (self._peer_authentication, 2),
            (self._authorization, 4),
            (self._request_authentication, 2),
            (self._sidecar, 1),
        )
        for make, most in kinds:
            made.extend(make(number) for number in range(self.chance.randint(0, most)))
        if self.maybe(0.3):
            made.append(
                {
                    "apiVersion": "mesh.istio.io/v1alpha1",
                    "kind": "MeshConfig",
                    "metadata": {"name": "istio"},
                    "spec": {"outboundTrafficPolicy": {"mode": self.one(("REGISTRY_ONLY", "ALLOW_ANY"))}},
                }
            )
        return _distinct(made)

    def one(self, of: Sequence[T]) -> T:
        """Any of these."""
        return of[self.chance.randrange(len(of))]

    def some(self, of: Sequence[T], most: int = 2) -> list[T]:
        """One or a few of these."""
        return self.chance.sample(list(of), min(len(of), self.chance.randint(1, most)))

    def maybe(self, share: float) -> bool:
        """Whether something that happens so often happens."""
        return self.chance.random() < share

    def _text(self, values: Sequence[str]) -> Json:
        value = self.one([one for one in values if one] or ["x"])
        how = self.one(("exact", "prefix", "prefix", "regex"))
        if how == "regex":
            return {"regex": self.one((f"{value}.*", value, f".*{value[-2:]}", "[a-z/]+", f"({value}|bob)"))}
        return {how: value if how == "exact" or self.maybe(0.7) else value[: max(1, len(value) - 1)]}

    def _match(self, gateways: Sequence[str]) -> Json:
        made: Json = {}
        if self.maybe(0.7):
            made["uri"] = self._text(PATHS)
            if self.maybe(0.2):
                made["ignoreUriCase"] = True
        if self.maybe(0.25):
            made["method"] = {"exact": self.one(METHODS)} if self.maybe(0.7) else self._text(METHODS)
        if self.maybe(0.3):
            name = self.one(tuple(HEADERS))
            made["headers"] = {name: self._text(HEADERS[name]) if self.maybe(0.8) else {}}
        if self.maybe(0.15):
            name = self.one(tuple(HEADERS))
            made["withoutHeaders"] = {name: self._text(HEADERS[name]) if self.maybe(0.7) else {}}
        if self.maybe(0.2):
            name = self.one(tuple(QUERIES))
            made["queryParams"] = {name: self._text(QUERIES[name]) if self.maybe(0.8) else {"prefix": ""}}
        if self.maybe(0.1):
            made["authority"] = self._text((*PUBLIC, "web", fqdn("web"), OUTSIDE_HOST))
        if self.maybe(0.1):
            made["scheme"] = {"exact": self.one(("http", "https"))}
        if self.maybe(0.15):
            made["port"] = self.one((80, 8080, 8081, HTTP_PORT, TLS_PORT))
        if "mesh" in gateways and self.maybe(0.2):
            if self.maybe(0.6):
                made["sourceLabels"] = {"app": self.one(("shopper", "batch"))}
            else:
                made["sourceNamespace"] = self.one(_SPACES)
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
                    (fqdn("back"), (8080,)),
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
        if self.maybe(0.85):
            return [{"destination": self._destination(tcp=tcp)}]
        first, second = self._destination(tcp=tcp), self._destination(tcp=tcp)
        return [{"destination": first, "weight": 100}, {"destination": second, "weight": 0}]

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
            abort = {"httpStatus": self.one((400, 503, 418)), "percentage": {"value": self.one((0, 100, 100))}}
            made["fault"] = {"abort": abort}
        if self.maybe(0.15):
            made["corsPolicy"] = {
                "allowOrigins": [self.one(({"exact": "https://good.example"}, {"regex": ".*example"}))],
                "allowMethods": ["GET"],
            }
        if self.maybe(0.15):
            made["retries"] = self.one(({"attempts": 0}, {"attempts": 1, "retryOn": "5xx"}))
        if self.maybe(0.1):
            made["timeout"] = "3s"
        return made

    def _virtual_service(self, number: int) -> Json:
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
        gateways = ["mesh"] if inside else [_DOOR]
        if self.maybe(0.2) and "*" not in hosts:
            gateways = ["mesh", _DOOR]
        spec: Json = {"hosts": hosts}
        if gateways != ["mesh"] or self.maybe(0.3):
            spec["gateways"] = gateways
        if self.maybe(0.9):
            spec["http"] = [self._http(gateways) for _ in range(self.chance.randint(1, 4))]
        if self.maybe(0.2) or "http" not in spec:
            spec["tcp"] = [self._tcp(gateways)]
        if inside and self.maybe(0.1):
            spec["exportTo"] = [self.one((".", "*", "two"))]
        namespace = "istio-system" if not inside else self.one(_SPACES)
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

    def _destination_rule(self, number: int) -> Json:
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
                        "port": {"number": self.one((80, 8080, 9000))},
                        "tls": {"mode": self.one(("DISABLE", "ISTIO_MUTUAL"))},
                    }
                ]
        if self.maybe(0.1):
            spec["exportTo"] = [self.one((".", "*"))]
        return document(_NET, "DestinationRule", f"rule-{number}", self.one((*_SPACES, "istio-system")), spec)

    def _gateway(self, number: int) -> Json:
        servers: list[Json] = []
        hosts = self.some((*PUBLIC, "*.example", "*", "one/*.shop.example", "./shop.example"), 2)
        if self.maybe(0.8):
            server: Json = {"port": {"number": HTTP_PORT, "name": "http", "protocol": "HTTP"}, "hosts": hosts}
            if self.maybe(0.15):
                server["tls"] = {"httpsRedirect": True}
            servers.append(server)
        if self.maybe(0.5):
            tls = {"mode": "SIMPLE", "credentialName": "door-cert"}
            port = {"number": TLS_PORT, "name": "https", "protocol": "HTTPS"}
            servers.append({"port": port, "hosts": self.some((*PUBLIC, "*.shop.example", "*"), 2), "tls": tls})
        if self.maybe(0.3) or not servers:
            servers.append({"port": {"number": TCP_PORT, "name": "tcp", "protocol": "TCP"}, "hosts": ["*"]})
        spec = {"selector": {"istio": "ingressgateway"}, "servers": servers}
        name = "door" if number == 0 else f"door-{number}"
        return document(_NET, "Gateway", name, "istio-system", spec)

    def _selected(self, spec: Json, namespace: str) -> None:
        if namespace != "istio-system" and self.maybe(0.6):
            app = "web" if namespace == "one" else "api"
            labels = {"app": app} if self.maybe(0.8) else {"app": app, "version": self.one(("v1", "v2"))}
            spec["selector"] = {"matchLabels": labels}
        elif namespace == "istio-system" and self.maybe(0.5):
            spec["selector"] = {"matchLabels": {"istio": "ingressgateway"}}

    def _space(self) -> str:
        return self.one(("one", "one", "two", "two", "istio-system"))

    def _peer_authentication(self, number: int) -> Json:
        namespace = self._space()
        modes = ("STRICT", "PERMISSIVE", "DISABLE", "UNSET")
        spec: Json = {"mtls": {"mode": self.one(modes)}}
        self._selected(spec, namespace)
        if "selector" in spec and self.maybe(0.4):
            spec["portLevelMtls"] = {str(self.one((8080, 9000, 7000, 8081))): {"mode": self.one(modes)}}
        return document(_SEC, "PeerAuthentication", f"peers-{number}", namespace, spec)

    def _source(self) -> Json:
        accounts = ("shopper", "batch", "door", "web")
        spaces = {"shopper": "one", "batch": "two", "door": "istio-system", "web": "one"}
        account = self.one(accounts)
        principal = f"cluster.local/ns/{spaces[account]}/sa/{account}"
        choices: dict[str, Sequence[str]] = {
            "principals": (principal, "*", "*/sa/batch", "cluster.local/ns/one/*"),
            "namespaces": ("one", "two", "istio-system", "t*", "*"),
            "serviceAccounts": (f"{spaces[account]}/{account}",),
            "requestPrincipals": (f"{tokens.ISSUERS[0]}/alice", f"{tokens.ISSUERS[0]}/*", "*", "*/bob"),
            "ipBlocks": (f"{WRITTEN}1.1", f"{WRITTEN}1.0/24", f"{WRITTEN}9.0/24", "10.0.0.0/8"),
            "remoteIpBlocks": (f"{WRITTEN}9.1", f"{WRITTEN}9.0/24", "192.0.2.0/24"),
        }
        return self._constraints(choices, 2)

    def _operation(self) -> Json:
        choices: dict[str, Sequence[str]] = {
            "hosts": ("web", fqdn("web"), "*.example", "shop.example", "web.*", OUTSIDE_HOST),
            "ports": ("8080", "9000", "7000", "8081", str(HTTP_PORT)),
            "methods": METHODS,
            "paths": ("/api", "/api*", "*css", "*", "/admin/*", "/a/{*}/c", "/a/{**}", "/api/v1"),
        }
        return self._constraints(choices, 2)

    def _constraints(self, choices: dict[str, Sequence[str]], most: int) -> Json:
        made: Json = {}
        for name in self.some(tuple(choices), most):
            field = f"not{name[0].upper()}{name[1:]}" if self.maybe(0.25) else name
            if field == "notServiceAccounts" or name != "serviceAccounts":
                made[field] = self.some(choices[name], 2)
            elif not {"principals", "namespaces", "notPrincipals", "notNamespaces"} & made.keys():
                made[field] = self.some(choices[name], 1)
        if {"serviceAccounts", "notServiceAccounts"} & made.keys():
            for name in ("principals", "namespaces", "notPrincipals", "notNamespaces"):
                made.pop(name, None)
        return made

    def _condition(self) -> Json:
        choices: dict[str, Sequence[str]] = {
            "request.headers[x-user]": ("alice", "al*", "*ce", "*"),
            "request.headers[:method]": ("GET", "POST"),
            "request.headers[cookie]": ("session=*",),
            "request.auth.claims[group]": ("staff", "st*", "guests"),
            "request.auth.claims[nested][role]": ("admin",),
            "request.auth.audiences": (tokens.AUDIENCE, "nobody"),
            "request.auth.presenter": ("app", "*"),
            "request.auth.principal": (f"{tokens.ISSUERS[0]}/alice", "*"),
            "source.ip": (f"{WRITTEN}1.1", f"{WRITTEN}9.0/24"),
            "remote.ip": (f"{WRITTEN}9.1", f"{WRITTEN}1.0/24"),
            "source.namespace": ("one", "two"),
            "source.principal": ("cluster.local/ns/one/sa/shopper", "*/sa/batch"),
            "destination.port": ("8080", "9000"),
            "destination.ip": (f"{WRITTEN}3.1", f"{WRITTEN}3.0/24"),
            "connection.sni": ("*.example", "shop.example", "outbound_*"),
        }
        key = self.one(tuple(choices))
        field = "notValues" if self.maybe(0.25) else "values"
        return {"key": key, field: self.some(choices[key], 2)}

    def _authorization(self, number: int) -> Json:
        namespace = self._space()
        spec: Json = {"action": self.one(("ALLOW", "ALLOW", "DENY", "DENY", "AUDIT"))}
        self._selected(spec, namespace)
        rules: list[Json] = []
        for _ in range(self.chance.randint(0, 2) if spec["action"] == "ALLOW" else self.chance.randint(1, 2)):
            rule: Json = {}
            if self.maybe(0.5):
                rule["from"] = [
                    {"source": one} for one in (self._source(), self._source())[: self.chance.randint(1, 2)]
                ]
            if self.maybe(0.6):
                rule["to"] = [
                    {"operation": one} for one in (self._operation(), self._operation())[: self.chance.randint(1, 2)]
                ]
            if self.maybe(0.3):
                rule["when"] = [self._condition() for _ in range(self.chance.randint(1, 2))]
            rules.append(rule)
        if rules:
            spec["rules"] = rules
        return document(_SEC, "AuthorizationPolicy", f"policy-{number}", namespace, spec)

    def _request_authentication(self, number: int) -> Json:
        namespace = self._space()
        spec: Json = {}
        self._selected(spec, namespace)
        rules: list[Json] = []
        for issuer in self.some(tokens.ISSUERS, 2):
            rule: Json = {"issuer": issuer, "jwks": tokens.jwks()}
            if self.maybe(0.3):
                rule["audiences"] = [tokens.AUDIENCE]
            if self.maybe(0.3):
                rule["forwardOriginalToken"] = True
            if self.maybe(0.2):
                rule["outputClaimToHeaders"] = [{"header": "x-user", "claim": "sub"}]
            rules.append(rule)
        spec["jwtRules"] = rules
        return document(_SEC, "RequestAuthentication", f"tokens-{number}", namespace, spec)

    def _sidecar(self, number: int) -> Json:
        namespace = self.one(_SPACES)
        hosts = self.some(("./*", "one/*", "two/*", f"*/{fqdn('web')}", "~/*", f"one/{OUTSIDE_HOST}"), 3)
        spec: Json = {"egress": [{"hosts": hosts}]}
        # Where a virtual address leads without the mesh is nothing that the simulator could know.
        spec["outboundTrafficPolicy"] = {"mode": self.one(("REGISTRY_ONLY",) * 7 + ("ALLOW_ANY",))}
        return document(_NET, "Sidecar", f"scope-{number}", namespace, spec)


def credentials() -> list[Json]:
    """What gateways show."""
    certificate, key = tokens.server_certificate()
    return [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "kubernetes.io/tls",
            "metadata": {"name": "door-cert", "namespace": "istio-system"},
            "stringData": {"tls.crt": certificate, "tls.key": key},
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
    return {**found, OUTSIDE_HOST: f"{WRITTEN}6.9", "raw.example": f"{WRITTEN}6.10"}
