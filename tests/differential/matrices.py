"""Every value of a field against every request near it: what random meshes come to only by luck."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fairlead.simulate.request import Caller, Request
from tests.differential import tokens
from tests.differential.calls import Call
from tests.differential.topology import BATCH, HTTP_PORT, SHOPPER, WRITTEN, Json, Workload, document, fqdn

_SEC, _NET = "security.istio.io/v1", "networking.istio.io/v1"
_WEB = {"destination": {"host": fqdn("web"), "port": {"number": 80}}}
Matrix = tuple[str, list[Json], list[Call]]


def _service(service: str, address: str, caller: Workload = SHOPPER, **asked: Any) -> Call:
    who = Caller("workload", caller.namespace, caller.name)
    return Call(who, Request(fqdn(service), 80, address=WRITTEN + address, **asked))


def _instance(at: str, port: int = 28080, **asked: Any) -> Call:
    return Call(Caller("plaintext", address=WRITTEN + at), Request(f"{WRITTEN}3.1", port, **asked))


def _route(rules: list[Json]) -> Json:
    return document(_NET, "VirtualService", "matrix", "one", {"hosts": [fqdn("web")], "http": rules})


def headers() -> Iterator[Matrix]:
    """Header conditions against one value, several, and none."""
    shown = [("bob",), ("bob", "bob"), ("bob", "alice"), ("alice", "bob"), ("",), (), ("bob", ""), ("bob, alice",)]
    asked: list[Json] = [{"exact": one} for one in ("bob", "bob,bob", "bob,alice", "bob, alice", "alice", "")]
    asked += [{"prefix": one} for one in ("bo", "al")]
    asked += [{"regex": one} for one in ("[a-z]+", "[a-z,]+", "bob,.*", "^$", "(?i)BOB")]
    asked.append({})
    for name in ("x-user", "origin", "cookie"):
        rules: list[Json] = []
        calls: list[Call] = []
        for at, condition in enumerate(asked):
            for field in ("headers", "withoutHeaders"):
                path = f"/{at}/{field}"
                rules.append({"match": [{"uri": {"exact": path}, field: {name: condition}}], **_said(202)})
                calls += [_service("web", "6.1", path=path, headers=tuple((name, one) for one in row)) for row in shown]
        yield f"headers {name}", [_route([*rules, _said(404)])], calls


def queries() -> Iterator[Matrix]:
    """Query conditions against queries that are written in odd ways."""
    asked: list[Json] = [{"q": {"exact": one}} for one in ("1", "%31", "1 0", "1+0", "", "2")]
    asked += [{"q": {}}, {"q": {"regex": "1.*"}}, {"q": {"prefix": "1"}}, {"%71": {"exact": "1"}}]
    written = "q=1 q=%31 %71=1 q=1+0 q=1%200 q q= q&q=1 q=2&q=1 Q=1 x=1&q=1 q=1;r=2 =1 q==1 &q=1 q=%zz q=1?"
    rules = [
        {"match": [{"uri": {"exact": f"/{at}"}, "queryParams": one}], **_said(202)} for at, one in enumerate(asked)
    ]
    calls = [_service("web", "6.1", path=f"/{at}?{one}") for at in range(len(asked)) for one in ("", *_words(written))]
    yield "queries", [_route([*rules, _said(404)])], calls


def paths() -> Iterator[Matrix]:
    """Path conditions of VirtualServices and HTTPRoutes against paths near them, in each normal form."""
    asked = _words(
        "/ /api /api/ /api/v1 /api/v1/ /apix /API /api//v1 //api /api/../x /x/../api /api/./v1 /%61pi /api%2fv1"
    )
    asked += _words("/api%2fv1 /api%2Fv1 /api\\v1 /api;a=b /api?x /api/?x /ap /api/v1/x /v1/api /api%20v1 /%2561pi")
    asked += ("/api/%2e%2e/x",)
    values = _words("/api /api/ /API / /api/v1")
    conditions: list[Json] = [{how: one} for how in ("exact", "prefix") for one in values]
    conditions += [{"regex": one} for one in ("/api", "/api.*", "/ap[a-z]", ".*v1", "/api(/.*)?")]
    for form in ("NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES"):
        for plain in (False, True):
            rules = [
                {
                    "match": [{"uri": one, "ignoreUriCase": plain, "headers": {"x-case": {"exact": f"{at}"}}}],
                    **_said(202),
                }
                for at, one in enumerate(conditions)
            ]
            calls = [
                _service("web", "6.1", path=path, headers=(("x-case", f"{at}"),))
                for at in range(len(conditions))
                for path in asked
            ]
            yield f"paths {form} {plain}", [_settings(form), _route([*rules, _said(404)])], calls
        parent = {"group": "", "kind": "Service", "name": "web"}
        kinds = [(kind, one) for kind in ("Exact", "PathPrefix") for one in ("/api", "/api/v1", "/")]
        matches = [
            {"path": {"type": kind, "value": one}, "headers": [{"name": "x-case", "value": f"{at}"}]}
            for at, (kind, one) in enumerate(kinds)
        ]
        to_old = [{"name": "old", "namespace": "two", "port": 80}]
        rules = [{"matches": [one], "backendRefs": to_old} for one in matches]
        spec = {"parentRefs": [parent], "rules": rules}
        route = document("gateway.networking.k8s.io/v1", "HTTPRoute", "matrix", "one", spec)
        calls = [
            _service("web", "6.1", path=path, headers=(("x-case", f"{at}"),))
            for at in range(len(kinds))
            for path in asked
        ]
        yield f"paths HTTPRoute {form}", [_settings(form), route], calls


def _settings(form: str) -> Json:
    spec = {"pathNormalization": {"normalization": form}}
    return {"apiVersion": "mesh.istio.io/v1alpha1", "kind": "MeshConfig", "metadata": {"name": "istio"}, "spec": spec}


def connections() -> Iterator[Matrix]:
    """Names of headers and forms of paths that connectionSettings may refuse, at sidecars and at a gateway."""
    names = _words("x-user x_user _x x_")
    asked: list[dict[str, Any]] = [{"headers": ((one, "a"),)} for one in names]
    asked += [{"path": one} for one in _words("/ /api%2fv1 /api%5Cv1 /a//b /a%2f%2fb /api%2f..%2fx?q=%2f //%2F /%2561")]
    asked += [{"path": "/api%2fv1", "protocol": one} for one in ("grpc", "http2")]
    asked += [{"headers": (("x_user", "a"),), "protocol": one} for one in ("grpc", "http2")]
    rules = [{"match": [{"headers": {"x_user": {"exact": "a"}}}], **_said(202)}]
    rules += [{"match": [{"uri": {"exact": one}}], **_said(203)} for one in ("/api/v1", "/a/b", "/x")]
    actions = _words("KEEP_UNCHANGED REJECT_REQUEST UNESCAPE_AND_REDIRECT UNESCAPE_AND_FORWARD")
    said: list[Json] = [{"profile": "EDGE"}, {"httpMergeSlashes": True}, {"httpMergeSlashes": False}]
    said += [{"httpPathWithEscapedSlashesAction": one} for one in actions]
    said += [{"httpPathWithEscapedSlashesAction": one, "httpMergeSlashes": True} for one in actions]
    said += [
        {"httpHeadersWithUnderscoresAction": f"HEADERS_WITH_UNDERSCORES_{one}"}
        for one in ("ALLOW", "REJECT_REQUEST", "DROP_HEADER")
    ]
    door = {"number": HTTP_PORT, "name": "http", "protocol": "HTTP"}
    spec = {"selector": {"istio": "ingressgateway"}, "servers": [{"port": door, "hosts": ["shop.example"]}]}
    gateway = document(_NET, "Gateway", "door", "istio-system", spec)
    routes = {"hosts": ["shop.example"], "gateways": ["istio-system/door"], "http": [*rules, _said(404)]}
    outer = document(_NET, "VirtualService", "outer", "one", routes)
    who = Caller("internet", address=f"{WRITTEN}9.1")
    calls = [_service("web", "6.1", **one) for one in asked]
    calls += [Call(who, Request("shop.example", HTTP_PORT, address=f"{WRITTEN}2.1", **one)) for one in asked]
    for form in ("BASE", "MERGE_SLASHES"):
        for one in said:
            settings = _settings(form)
            settings["spec"]["defaultConfig"] = {"connectionSettings": one}
            yield f"connections {form} {one}", [settings, _route([*rules, _said(404)]), gateway, outer], calls


def hosts() -> Iterator[Matrix]:
    """Hosts of gateways and of their routes against hosts that clients ask for."""
    asked = _words("shop.example www.shop.example a.b.shop.example example SHOP.example shop.example. other.example")
    asked += (f"shop.example:{HTTP_PORT}", "shop.example:80", "xshop.example", ".shop.example", f"{WRITTEN}2.1")
    served = ["shop.example", "*.shop.example", "*.example", "*", "one/shop.example", "istio-system/*", "./*.example"]
    who = Caller("internet", address=f"{WRITTEN}9.1")
    for pattern in served:
        port = {"number": HTTP_PORT, "name": "http", "protocol": "HTTP"}
        spec = {"selector": {"istio": "ingressgateway"}, "servers": [{"port": port, "hosts": [pattern]}]}
        gateway = document(_NET, "Gateway", "door", "istio-system", spec)
        routes = [
            document(
                _NET,
                "VirtualService",
                f"matrix-{at}",
                space,
                {"hosts": [one], "gateways": ["istio-system/door"], "http": [{"name": f"r{at}", **_said(202 + at)}]},
            )
            for at, (one, space) in enumerate(
                (("shop.example", "one"), ("*.shop.example", "two"), ("*.example", "istio-system"), ("*", "one"))
            )
        ]
        calls = [
            Call(who, Request(one.partition(":")[0], HTTP_PORT, address=f"{WRITTEN}2.1", authority=one))
            for one in asked
        ]
        for number in range(1, 16):
            chosen = [one for at, one in enumerate(routes) if number >> at & 1]
            yield f"hosts {pattern} {number}", [gateway, *chosen], calls


def origins() -> Iterator[Matrix]:
    """Cross-origin policies against preflights and plain requests."""
    shown = ("https://good.example", "https://bad.test", "", "https://good.example:80", "HTTPS://good.example")
    policies: list[Json] = [
        {"allowOrigins": [one]} for one in ({"exact": shown[0]}, {"prefix": "https://g"}, {"regex": ".*e"})
    ]
    policies.append({"allowOrigins": [{"exact": "*"}]})
    policies += [{**policies[0], "unmatchedPreflights": one} for one in ("FORWARD", "IGNORE")]
    for number, policy in enumerate(policies):
        calls = [
            _service("web", "6.1", method=method, headers=tuple(row))
            for method in ("OPTIONS", "GET")
            for one in shown
            for row in (
                (("origin", one),),
                (("origin", one), ("access-control-request-method", "GET")),
                (("access-control-request-method", "GET"),),
            )
        ]
        yield f"origins {number}", [_route([{"corsPolicy": policy, "route": [_WEB]}])], calls


def answers() -> Iterator[Matrix]:
    """Redirects and rewrites of several paths and hosts."""
    redirects: list[Json] = [{"uri": "/x"}, {"uri": "/x?y=1"}, {"authority": "else.example"}, {"scheme": "https"}]
    redirects += [{"port": 8443}, {"port": 443, "scheme": "https"}, {"prefixRewrite": "/new"}, {"prefixRewrite": "/"}]
    redirects += [{"derivePort": one} for one in ("FROM_REQUEST_PORT", "FROM_PROTOCOL_DEFAULT")]
    rewrites: list[Json] = [{"uri": "/new"}, {"uri": "/"}, {"uri": "/n?x=1"}, {"authority": "re.example"}]
    patterns = (("^/a(.*)$", "/b\\1"), ("/", "_"), ("pi(/v.)?", "-\\1-"))
    rewrites += [{"uriRegexRewrite": {"match": match, "rewrite": text}} for match, text in patterns]
    actions: list[Json] = [{"redirect": one} for one in redirects]
    actions += [{"rewrite": one, "route": [_WEB]} for one in rewrites]
    for prefix in ("/api", "/API"):
        for plain in (False, True):
            match = {"uri": {"prefix": prefix}, "ignoreUriCase": plain}
            rules = [
                {"match": [{**match, "headers": {"x-case": {"exact": f"{at}"}}}], **one}
                for at, one in enumerate(actions)
            ]
            calls = [
                _service("web", "6.1", path=path, authority=host, headers=(("x-case", f"{at}"),))
                for at in range(len(actions))
                for path in ("/api", "/api/v1?q=1", "/apix/", "/API/x?a=b&c")
                for host in ("", f"{fqdn('web')}:80", "web:80")
            ]
            yield f"answers {prefix} {plain}", [_route(rules)], calls


def authorization() -> Iterator[Matrix]:
    """Each attribute of AuthorizationPolicy with values that fit and that nearly fit, allowed and denied."""
    tokens_ = document(
        _SEC,
        "RequestAuthentication",
        "matrix",
        "one",
        {"jwtRules": [{"issuer": tokens.ISSUERS[0], "jwks": tokens.jwks()}]},
    )
    calls = list(_asked())
    for number, rule in enumerate(_rules()):
        for action in ("ALLOW", "DENY"):
            policy = document(_SEC, "AuthorizationPolicy", "matrix", "one", {"action": action, "rules": [rule]})
            yield f"authorization {number} {action} {rule}", [tokens_, policy], calls


def _rules() -> Iterator[Json]:
    account = "cluster.local/ns/one/sa/shopper"
    principals = (account, "*", "*/sa/batch", "cluster.local/*", "*shopper", f"spiffe://{account}", account.upper())
    nets = (f"{WRITTEN}1.1", f"{WRITTEN}1.0/24", f"{WRITTEN}9.1", "0.0.0.0/0", "192.0.2.0/24", "::/0")
    sources: dict[str, tuple[str, ...]] = {"principals": principals, "namespaces": ("one", "o*", "*e", "*", "ONE")}
    sources |= {"ipBlocks": nets, "remoteIpBlocks": nets, "trustDomains": ("cluster.local", "other")}
    hosts = ("web", "WEB", "web:80", "web*", "*.local", "*", fqdn("web"), f"{fqdn('web')}:80", "*:80")
    paths = "/api /api* *api * /api/* /api/{*} /api/{**} /{*}/v1 /{**}/v1 /a/{*}/c /API /api?q=1 //api /%61pi"
    operations: dict[str, tuple[str, ...]] = {"hosts": hosts, "ports": ("28080", "80"), "paths": _words(paths)}
    operations["methods"] = ("GET", "G*", "*T", "*", "get")
    for place, kind, fields in (("from", "source", sources), ("to", "operation", operations)):
        for field, values in fields.items():
            for name in (field, f"not{field[0].upper()}{field[1:]}"):
                yield from ({place: [{kind: {name: [value]}}]} for value in values)
    for key, values in _CONDITIONS.items():
        for field in ("values", "notValues"):
            yield from ({"when": [{"key": key, field: [value]}]} for value in values)


_CONDITIONS = {
    "request.headers[x-user]": ("alice", "al*", "*ce", "*"),
    "request.headers[X-User]": ("alice",),
    "request.headers[:path]": ("/api", "/api*"),
    "request.headers[:authority]": ("web", fqdn("web")),
    "source.ip": (f"{WRITTEN}1.1",),
    "remote.ip": (f"{WRITTEN}9.1",),
    "source.namespace": ("one",),
    "source.principal": ("*shopper",),
    "request.auth.principal": ("*", f"{tokens.ISSUERS[0]}/alice"),
    "request.auth.audiences": (tokens.AUDIENCE,),
    "request.auth.presenter": ("app",),
    "request.auth.claims[group]": ("staff", "st*"),
    "request.auth.claims[scope]": ("read",),
    "request.auth.claims[nested][role]": ("admin",),
    "destination.port": ("28080",),
    "destination.ip": (f"{WRITTEN}3.1", f"{WRITTEN}3.0/24"),
    "connection.sni": ("outbound*", f"*{fqdn('web')}"),
}


def _asked() -> Iterator[Call]:
    paths = "/ /api /api/ /api/v1 /api/v1/x /apix /API /a/b/c /a/b/b/c //api /%61pi /api?q=1 /x/v1 /v1"
    shapes: list[dict[str, Any]] = [{"path": one} for one in _words(paths)]
    shapes += [{"method": one} for one in ("POST", "PUT")]
    shapes += [{"headers": (("x-user", one),)} for one in ("alice", "al", "Alice", "", "alice,bob", " alice")]
    shapes += [{"authority": one} for one in (fqdn("web").upper(), f"{fqdn('web')}:80", f"{fqdn('web')}:28080")]
    forwarded = (f"{WRITTEN}9.1", "192.0.2.1", f"x, {WRITTEN}9.1", "bogus", f"{WRITTEN}9.1, 192.0.2.1")
    shapes += [{"headers": (("x-forwarded-for", one),)} for one in forwarded]
    more: list[dict[str, Any]] = [{}, {"aud": "shop"}, {"aud": ["shop", "x"]}, {"azp": "app"}, {"group": "staff"}]
    more += [{"group": ["staff", "b"]}, {"group": 7}, {"scope": "read write"}, {"nested": {"role": ["x", "admin"]}}]
    shapes += [{"claims": {"iss": tokens.ISSUERS[0], "sub": "alice", **one}} for one in more]
    shapes += [{"protocol": "grpc"}, {"protocol": "http2", "path": "/api"}]
    for shape in shapes:
        yield _service("web", "6.1", SHOPPER, **shape)
        yield _service("web", "6.1", BATCH, **shape)
        yield _instance("9.1", **shape)
        yield _instance("9.2", **shape)
    yield _instance("9.1", 9000, protocol="tcp")


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _said(status: int) -> Json:
    return {"directResponse": {"status": status}}


def everything() -> Iterator[Matrix]:
    """All matrices."""
    yield from headers()
    yield from queries()
    yield from paths()
    yield from connections()
    yield from hosts()
    yield from origins()
    yield from answers()
    yield from authorization()
