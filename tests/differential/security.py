"""Random security: PeerAuthentications, AuthorizationPolicies, RequestAuthentications."""

from __future__ import annotations

from collections.abc import Sequence

from tests.differential import tokens
from tests.differential.chance import METHODS, Chance
from tests.differential.topology import HTTP_PORT, OUTSIDE_HOST, WRITTEN, Json, document, fqdn

_SEC = "security.istio.io/v1"


class Security(Chance):
    """Makes objects that say who may call."""

    def _selected(self, spec: Json, namespace: str) -> None:
        if namespace != "istio-system" and self.maybe(0.6):
            app = "web" if namespace == "one" else self.one(("api", "api", "box"))
            labels = {"app": app} if self.maybe(0.8) else {"app": app, "version": self.one(("v1", "v2"))}
            spec["selector"] = {"matchLabels": labels}
        elif namespace == "istio-system" and self.maybe(0.5):
            spec["selector"] = {"matchLabels": {"istio": "ingressgateway"}}

    def _space(self) -> str:
        return self.one(("one", "one", "two", "two", "istio-system"))

    def peer_authentication(self, number: int) -> Json:
        namespace = self._space()
        modes = ("STRICT", "PERMISSIVE", "DISABLE", "UNSET")
        spec: Json = {"mtls": {"mode": self.one(modes)}}
        self._selected(spec, namespace)
        if "selector" in spec and self.maybe(0.4):
            spec["portLevelMtls"] = {str(self.one((28080, 9000, 7000, 8081))): {"mode": self.one(modes)}}
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
            "ports": ("28080", "9000", "7000", "8081", str(HTTP_PORT)),
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
            "destination.port": ("28080", "9000"),
            "destination.ip": (f"{WRITTEN}3.1", f"{WRITTEN}3.0/24"),
            "connection.sni": ("*.example", "shop.example", "outbound_*"),
        }
        key = self.one(tuple(choices))
        field = "notValues" if self.maybe(0.25) else "values"
        return {"key": key, field: self.some(choices[key], 2)}

    def authorization(self, number: int) -> Json:
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
        tried = self.maybe(0.08) and spec["action"] in ("ALLOW", "DENY")
        more = {"annotations": {"istio.io/dry-run": "true"}} if tried else {}
        return document(_SEC, "AuthorizationPolicy", f"policy-{number}", namespace, spec, **more)

    def request_authentication(self, number: int) -> Json:
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
            if self.maybe(0.15):
                rule["fromHeaders"] = self.one(
                    ([{"name": "x-token"}], [{"name": "Authorization", "prefix": "Bearer "}, {"name": "x-token"}])
                )
            if self.maybe(0.1):
                rule["fromParams"] = ["q"]
            if self.maybe(0.15):
                rule["presence"] = "REQUIRED"
            rules.append(rule)
        spec["jwtRules"] = rules
        return document(_SEC, "RequestAuthentication", f"tokens-{number}", namespace, spec)
