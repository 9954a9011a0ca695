"""Random calls that come near the edges of what random policies say."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import msgspec

from fairlead.simulate.request import Caller, Request
from tests.differential import tokens
from tests.differential.chance import HEADERS, METHODS, PATHS, PUBLIC, QUERIES, SUBJECTS
from tests.differential.meshes import virtual_addresses
from tests.differential.topology import (
    BOX,
    CAPTURED,
    CLIENTS,
    DOOR,
    HTTP_PORT,
    OUTSIDE_HOST,
    PASS_PORT,
    SERVERS,
    SERVICES,
    STICKY,
    TCP_PORT,
    TLS_HOST,
    TLS_PORT,
    TOOL,
    WRITTEN,
    fqdn,
)
from tests.differential.wire import Plan

PROBLEMS = ("expired", "signature", "issuer", "audience")
_RAW = (9000, 9001)


class Call(msgspec.Struct, frozen=True):
    """One call as the simulator is asked it."""

    caller: Caller
    request: Request


class Asker:
    """Makes calls out of one source of chance."""

    def __init__(self, chance: Random) -> None:
        self._chance = chance

    def call(self) -> Call:
        """Any call."""
        share = self._chance.random()
        if share < 0.62:
            return self._from_workload()
        if share < 0.82:
            return self._from_internet()
        return self._from_outside()

    def _one(self, of: Any) -> Any:
        return of[self._chance.randrange(len(of))]

    def _maybe(self, share: float) -> bool:
        return self._chance.random() < share

    def _path(self) -> str:
        path = self._one(PATHS)
        share = self._chance.random()
        if share < 0.1:
            path += "/"
        elif share < 0.2:
            path += "/x"
        elif share < 0.25:
            path = path[:-1] or "/"
        elif share < 0.3:
            path = path.upper()
        elif share < 0.34:
            path = path.replace("/", "//", 1)
        elif share < 0.37:
            path += "/../api"
        elif share < 0.39:
            path = path.replace("a", "%61", 1)
        return path + self._query() if self._maybe(0.3) else path

    def _query(self) -> str:
        name = self._one(tuple(QUERIES))
        plain = f"?{name}={self._one(QUERIES[name])}"
        share = self._chance.random()
        if share < 0.7:
            return plain
        if share < 0.8:
            return f"{plain}&z=1"
        return self._one(("?q=%31", "?q=2&q=1", "?q=1&q=2", "?q", "?debug", "?", "?Q=1", "?q=1+0", "?%71=1"))

    def _headers(self) -> tuple[tuple[str, str], ...]:
        found: list[tuple[str, str]] = []
        for name, values in HEADERS.items():
            if self._maybe(0.35):
                found.append((name, self._one(values)))
        if self._maybe(0.05):
            found.append(("x-user", self._one(("bob", "alice, bob", "bob ", "bob,alice"))))
        if self._maybe(0.3):
            found.append((STICKY, self._one(("a", "b", "c"))))
        if self._maybe(0.1):
            found.append(("origin", self._one(("https://good.example", "https://bad.test"))))
        if self._maybe(0.05):
            found.append(("x-forwarded-for", self._one((f"{WRITTEN}9.1", "192.0.2.7", "192.0.2.7, 10.0.0.1"))))
        if self._maybe(0.08):
            found.append(("x-forwarded-proto", self._one(("https", "https", "http", "ftp", "HTTPS"))))
        return tuple(found)

    def _http(self, **more: Any) -> Request:
        protocol = self._one(("http2", "grpc")) if self._maybe(0.08) else "http"
        method = "OPTIONS" if self._maybe(0.04) else self._one((*METHODS, "GET", "GET", "GET"))
        if self._maybe(0.03):
            method = self._one(("HEAD", "PATCH", "PURGE"))
        headers = self._headers()
        if method == "OPTIONS" and self._maybe(0.7):
            headers = (*headers, ("access-control-request-method", "GET"))
        claims, problem = self._token()
        asked = {"path": self._path(), "method": method, "headers": headers, "protocol": protocol}
        return Request(**{**asked, "claims": claims, "token_problem": problem, **more})

    def _token(self) -> tuple[dict[str, Any] | None, str]:
        if self._maybe(0.6):
            return None, ""
        claims: dict[str, Any] = {"iss": self._one(tokens.ISSUERS), "sub": self._one(SUBJECTS)}
        if self._maybe(0.5):
            claims["aud"] = self._one((tokens.AUDIENCE, [tokens.AUDIENCE, "more"], "other"))
        if self._maybe(0.5):
            claims["group"] = self._one(("staff", ["staff", "guests"], "visitors"))
        if self._maybe(0.2):
            claims["nested"] = {"role": self._one(("admin", ["admin"], "user"))}
        if self._maybe(0.2):
            claims["azp"] = "app"
        return claims, self._one(PROBLEMS) if self._maybe(0.3) else ""

    def _from_tool(self) -> Call:
        who = Caller("workload", TOOL.namespace, TOOL.name)
        share = self._chance.random()
        if share < 0.15:
            return Call(who, Request(self._one((fqdn("web"), fqdn("old"))), 9000, protocol="tcp"))
        if share < 0.25:
            return Call(who, self._http(host=OUTSIDE_HOST, port=80, protocol="http"))
        asked = self._to_service(TOOL.namespace)
        if asked.protocol != "http" or asked.tls:
            asked = self._http(host=fqdn("api"), port=80)
        return Call(who, msgspec.structs.replace(asked, protocol="http", authority="", address=""))

    def _from_workload(self) -> Call:
        if self._maybe(0.1):
            return self._from_tool()
        caller = self._one(CAPTURED)
        who = Caller("workload", caller.namespace, caller.name)
        share = self._chance.random()
        if share < 0.7:
            return Call(who, self._to_service(caller.namespace))
        if share < 0.8:
            host = self._one((OUTSIDE_HOST, OUTSIDE_HOST, TLS_HOST))
            authority = self._one(("", "", f"{host}:80"))
            return Call(who, self._http(host=host, port=80, address=virtual_addresses()[host], authority=authority))
        if share < 0.83:
            address = self._one((f"{WRITTEN}7.1", f"{WRITTEN}7.2", f"{WRITTEN}5.1"))
            host = self._one(("more.example", "made.example", "x.more.example"))
            return Call(who, self._http(host=host, port=self._one((80, 28080, 8081)), address=address))
        if share < 0.87:
            host = self._one(("x.wild.example", "y.wild.example"))
            return Call(who, self._http(host=host, port=28080, address=f"{WRITTEN}5.2"))
        if share < 0.91:
            return Call(who, Request("raw.example", 9000, protocol="tcp", address=virtual_addresses()["raw.example"]))
        if share < 0.96:
            server = self._one(SERVERS)
            return Call(who, self._http(host=server.address, port=28080, authority=self._one(("", "web", fqdn("web")))))
        address = self._one((f"{WRITTEN}5.1", f"{WRITTEN}5.9"))
        host = self._one(("unknown.test", "made.example", address))
        return Call(who, self._http(host=host, port=self._one((80, 28080, 8081, 9999)), address=address))

    def _to_service(self, namespace: str) -> Request:
        name = self._one(tuple(SERVICES))
        port = self._one([one for _, one, _ in SERVICES[name][3]])
        if port in _RAW or (port == 7000 and self._maybe(0.4)):
            return Request(fqdn(name), port, protocol="tcp", address=virtual_addresses()[fqdn(name)])
        if port == 8443 or (port in (80, 7000) and self._maybe(0.04)):
            sni = self._one((fqdn(name), fqdn(name), "shop.example", "unknown.test"))
            return self._http(host=fqdn(name), port=port, address=virtual_addresses()[fqdn(name)], tls=True, sni=sni)
        full, own = fqdn(name), SERVICES[name][0]
        host = self._one((full, full, f"{name}.{own}", f"{name}.{own}.svc"))
        if own == namespace and self._maybe(0.4):
            host = name
        address = virtual_addresses()[full]
        share = self._chance.random()
        authority = ""
        if share < 0.08:
            authority = self._one(
                (f"{host}:{port}", full.upper(), f"{host}:1234", address, f"{address}:{port}", f"{full}.")
            )
        elif share < 0.11:
            authority = self._one(("unknown.test", "made.example", fqdn("api"), "web.two", "shop.example"))
        asked = self._http(host=host, port=port, address=address, authority=authority)
        if port in (8081, 8082) and self._maybe(0.5):
            asked = msgspec.structs.replace(asked, protocol="http2")
        return asked

    def _from_internet(self) -> Call:
        who = Caller("internet", address=f"{WRITTEN}9.{self._one((1, 2, 3))}")
        share = self._chance.random()
        host = self._one((*PUBLIC, *PUBLIC, "unknown.test", fqdn("web"), "x.other.example", "SHOP.example"))
        if share < 0.1:
            return Call(who, Request(DOOR.address, TCP_PORT, protocol="tcp"))
        if share < 0.7:
            authority = self._one((host, host, f"{host}:{HTTP_PORT}", f"{host}:80"))
            return Call(who, self._http(host=host, port=HTTP_PORT, address=DOOR.address, authority=authority))
        sni = host.lower() if self._maybe(0.8) else self._one((*PUBLIC, "unknown.test"))
        port = self._one((TLS_PORT, TLS_PORT, TLS_PORT, PASS_PORT, PASS_PORT, HTTP_PORT))
        tls = self._maybe(0.95)
        shown = self._one(("", "", "valid", "valid", "invalid")) if tls else ""
        at = {"host": host, "port": port, "address": DOOR.address, "authority": host}
        return Call(who, self._http(**at, tls=tls, sni=sni if tls else "", certificate=shown))

    def _from_outside(self) -> Call:
        who = Caller("plaintext", address=f"{WRITTEN}9.{self._one((1, 2))}")
        server = self._one((*SERVERS, BOX))
        ports = (28080, 9000, 7000, 8443) if "web" in server.name else (28080, 8081, 8082, 9000)
        port = self._one(ports)
        if server is BOX:
            port = self._one((28080, 7000, 9000, 8081, 8443))
        if port == 8443:
            return Call(who, self._http(host=server.address, port=port, tls=True, sni="shop.example"))
        if port == 9000 or (port == 7000 and self._maybe(0.5)):
            return Call(who, Request(server.address, port, protocol="tcp"))
        authority = self._one(("", "web", fqdn("web"), "shop.example"))
        asked = self._http(host=server.address, port=port, authority=authority)
        if port in (8081, 8082) and self._maybe(0.5):
            asked = msgspec.structs.replace(asked, protocol="http2")
        return Call(who, asked)


def planned(call: Call, number: int, prefix: str, doors: dict[str, int]) -> Plan:
    """How a call goes on the wire. Its number within a mesh is below 60000. `doors`: where clients' proxies listen."""
    asked, caller = call.request, call.caller
    address = (asked.address or _resolved(asked.host, caller.namespace)).replace(WRITTEN, prefix)
    headers = list(asked.headers)
    if asked.claims is not None:
        headers.append(("authorization", f"Bearer {tokens.token(json.dumps(asked.claims), asked.token_problem)}"))
    if asked.protocol == "grpc":
        headers.append(("content-type", "application/grpc"))
    default = {False: 80, True: 443}[asked.tls]
    plain = asked.host.replace(WRITTEN, prefix)
    authority = asked.authority.replace(WRITTEN, prefix) or (
        plain if asked.port == default else f"{plain}:{asked.port}"
    )
    plan = Plan(
        str(number),
        address,
        asked.port,
        source=caller.address.replace(WRITTEN, prefix),
        protocol=asked.protocol,
        method="POST" if asked.protocol == "grpc" and asked.method == "GET" else asked.method,
        path=asked.path,
        authority=authority,
        headers=tuple((name, value.replace(WRITTEN, prefix)) for name, value in headers),
        sni=asked.sni if asked.tls else None,
    )
    if caller.kind == "plaintext" and asked.host == BOX.address:
        told = f"PROXY TCP4 {plan.source} {address} {2000 + number} {asked.port}\r\n".encode()
        return msgspec.structs.replace(plan, port=doors[BOX.name], told=told)
    if caller.kind != "workload":
        return plan
    if caller.name == TOOL.name:
        return _proxied(plan, asked, prefix)
    own = next(one for one in CLIENTS if one.name == caller.name).address.replace(WRITTEN, prefix)
    told = f"PROXY TCP4 {own} {address} {2000 + number} {asked.port}\r\n".encode()
    return msgspec.structs.replace(plan, address=own, port=doors[caller.name], told=told, source="")


def _proxied(plan: Plan, asked: Request, prefix: str) -> Plan:
    """As an application does it that uses its proxy by HTTP_PROXY, or dials it on the port of the host."""
    capture = TOOL.view(prefix).capture
    if asked.protocol == "tcp":
        return msgspec.structs.replace(plan, address=capture.outbound_address, source="")
    called = asked.host.replace(WRITTEN, prefix) + ("" if asked.port == 80 else f":{asked.port}")
    at = {"address": capture.outbound_address, "port": capture.http_proxy_port}
    return msgspec.structs.replace(plan, path=f"http://{called}{asked.path}", authority=called, **at)


def _resolved(host: str, namespace: str) -> str:
    known = virtual_addresses()
    for name in (host, f"{host}.{namespace}.svc.cluster.local", f"{host}.svc.cluster.local", f"{host}.cluster.local"):
        if name in known:
            return known[name]
    return host
