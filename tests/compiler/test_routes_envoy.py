"""Real Envoy takes the route configurations, and decides as the rules say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from routes_envoy import ask, serving, validate
from routes_facts import World, external, gateway, origin, route_set, rule, server, service, to

from fairlead.ir.gateway import ServerTls
from fairlead.ir.mesh import Mesh
from fairlead.ir.protocol import Protocol
from fairlead.ir.route import (
    Cors,
    DirectResponse,
    Fault,
    HeaderOperations,
    Headers,
    HttpMatch,
    HttpRule,
    Mirror,
    Redirect,
    Rewrite,
    StringMatch,
)
from fairlead.ir.traffic import HashPolicy, LoadBalancer, Policy, RetryPolicy, TrafficPolicy
from fairlead.model.ref import NamespacedName

WEB = "web.default.svc.cluster.local"
API = "api.default.svc.cluster.local"


def say(text: str, *matches: HttpMatch, **more: object) -> HttpRule:
    return rule(match=matches, direct=DirectResponse(200, text.encode()), **more)


def exact(value: str) -> StringMatch:
    return StringMatch("exact", value)


def prefix(value: str) -> HttpMatch:
    return HttpMatch(uri=StringMatch("prefix", value))


RULES = (
    say("exact", HttpMatch(uri=exact("/exact"))),
    say("folded", HttpMatch(uri=exact("/folded"), ignore_uri_case=True)),
    say("regex", HttpMatch(uri=StringMatch("regex", "/re/[0-9]+"))),
    say("header", HttpMatch(headers=(("x-user", exact("ann")),))),
    say("present", HttpMatch(headers=(("x-any", StringMatch("present")),))),
    say("without", HttpMatch(uri=exact("/w"), without_headers=(("x-no", exact("1")),))),
    say("query", HttpMatch(query=(("q", StringMatch("regex", "[a-z]+")),))),
    say("method", HttpMatch(method=exact("DELETE"))),
    say("authority", HttpMatch(authority=StringMatch("prefix", "10.0."))),
    rule(match=prefix("/old"), redirect=Redirect(uri="/new", authority="other.example.com", code=308)),
    rule(WEB, match=prefix("/fault"), fault=Fault(abort_status=418, abort_percent=100)),
    rule(
        WEB,
        match=prefix("/cors"),
        cors=Cors(origins=(exact("https://a.example.com"),), methods=("GET",), max_age=60, credentials=True),
    ),
    say(
        "headers",
        prefix("/headers"),
        headers=Headers(response=HeaderOperations(set=(("x-set", "1"),), add=(("x-add", "2"),), remove=("server",))),
    ),
)


@pytest.fixture(scope="module")
def envoy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    world = World(
        service("web", addresses=("10.0.0.1",)),
        service("api", namespace="far"),
        route_set("vs", WEB, *RULES, say("rest")),
        route_set("wild", "*.example.com", say("wild")),
        Mesh(outbound_policy="REGISTRY_ONLY"),
    )
    with serving(world.sidecar("80"), tmp_path_factory.mktemp("envoy")) as port:
        yield port


@pytest.mark.parametrize(
    ("path", "method", "headers", "said"),
    [
        ("/", "GET", {}, "rest"),
        ("/exact", "GET", {}, "exact"),
        ("/Exact", "GET", {}, "rest"),
        ("/FOLDED", "GET", {}, "folded"),
        ("/re/42", "GET", {}, "regex"),
        ("/re/42x", "GET", {}, "rest"),
        ("/", "GET", {"x-user": "ann"}, "header"),
        ("/", "GET", {"x-any": ""}, "present"),
        ("/w", "GET", {}, "without"),
        ("/w", "GET", {"x-no": "1"}, "rest"),
        ("/?q=abc", "GET", {}, "query"),
        ("/?q=1", "GET", {}, "rest"),
        ("/", "DELETE", {}, "method"),
    ],
)
def test_matches(envoy: int, path: str, method: str, headers: dict[str, str], said: str) -> None:
    assert ask(envoy, "web", path, method, headers)[2] == said


def test_names(envoy: int) -> None:
    for host in ("web", "web.default", "web.default.svc", WEB, f"{WEB}:80", "WEB"):
        assert ask(envoy, host)[2] == "rest", host
    assert ask(envoy, "10.0.0.1")[2] == "authority"
    assert ask(envoy, "a.example.com")[2] == "wild"
    assert ask(envoy, "unknown.test")[0] == 502
    assert ask(envoy, "api.far")[0] == 503, "a host without a cluster here"
    assert ask(envoy, "api")[0] == 502, "the short name of another namespace's service"


def test_answers(envoy: int) -> None:
    status, headers, _ = ask(envoy, "web", "/old")
    assert (status, headers["location"]) == (308, "http://other.example.com/new")
    assert ask(envoy, "web", "/fault")[0] == 418
    status, headers, _ = ask(envoy, "web", "/headers")
    assert (headers["x-set"], headers["x-add"]) == ("1", "2")
    preflight = {"Origin": "https://a.example.com", "Access-Control-Request-Method": "GET"}
    status, headers, _ = ask(envoy, "web", "/cors", "OPTIONS", preflight)
    assert (status, headers["access-control-allow-origin"]) == (200, "https://a.example.com")
    assert (headers["access-control-max-age"], headers["access-control-allow-credentials"]) == ("60", "true")


@contextmanager
def application() -> Iterator[int]:
    """An application that answers with the method, host, path and one header that it saw; 503 once for /flaky."""
    seen: list[str] = []

    class Echo(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.path)
            failing = self.path == "/flaky" and seen.count("/flaky") == 1
            body = f"{self.headers['Host']} {self.path} {self.headers.get('x-new', '-')}".encode()
            self.send_response(503 if failing else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class' name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as listening:
        thread = Thread(target=listening.serve_forever)
        thread.start()
        try:
            yield listening.server_port
        finally:
            listening.shutdown()
            thread.join()


def test_what_reaches_the_application(tmp_path: Path) -> None:
    request = Headers(request=HeaderOperations(set=(("host", "set.example.com"), ("x-new", "yes"))))
    world = World(
        service("web"),
        route_set(
            "vs",
            WEB,
            rule(WEB, match=prefix("/a/"), rewrite=Rewrite(uri="/b/", authority="w.example.com")),
            rule(WEB, match=prefix("/re/"), rewrite=Rewrite(regex="^/re/([a-z]+)", substitution=r"/\1/x")),
            rule(to(WEB, headers=request), match=prefix("/h")),
            rule(to(WEB, weight=100), to(API, weight=0), match=prefix("/weighted")),
            rule(WEB, retry=RetryPolicy(attempts=1, retry_on="503", ignore_previous_hosts=False)),
        ),
    )
    with (
        application() as at,
        serving(world.sidecar("80"), tmp_path, [(f"outbound|80||{WEB}", at)]) as port,
    ):
        assert ask(port, "web", "/a/1")[2] == "w.example.com /b/1 -"
        assert ask(port, "web", "/re/abc")[2] == "web /abc/x -"
        assert ask(port, "web", "/h")[2] == "set.example.com /h yes"
        assert ask(port, "web", "/weighted")[2] == "web /weighted -"
        assert ask(port, "web", "/flaky")[0] == 200, "tried again"


def test_envoy_takes_everything_a_rule_can_say(tmp_path: Path) -> None:
    every = HttpMatch(
        name="m",
        uri=StringMatch("regex", ".*"),
        scheme=exact("http"),
        headers=(("@request.auth.claims.group.id", exact("a")), ("h", StringMatch("regex", "*"))),
        without_headers=(("@request.auth.claims[x]", exact("a")), ("n", StringMatch("present"))),
        query=(("p", StringMatch("present")),),
        stat_prefix="stat",
    )
    world = World(
        service("web"),
        service("api"),
        TrafficPolicy(
            NamespacedName("default", "dr"),
            origin("DestinationRule", "default", "dr"),
            WEB,
            Policy(load_balancer=LoadBalancer(hash=HashPolicy(cookie="c", cookie_path="/", cookie_ttl=0.0))),
        ),
        route_set(
            "vs",
            WEB,
            rule(
                to(WEB, weight=1, headers=Headers(request=HeaderOperations(set=(("Host", "x"),), remove=(":path",)))),
                to(API, weight=99),
                match=every,
                name="all",
                timeout=1.5,
                retry=RetryPolicy(3, "5xx,429", 0.25, 0.1, retry_remote_localities=True),
                fault=Fault(delay=0.5, delay_percent=0.001, abort_grpc="UNAVAILABLE", abort_percent=50),
                mirrors=(Mirror(to(API).destination, 12.5),),
                cors=Cors(origins=(StringMatch("regex", ".*"),), forward_unmatched_preflights=False),
            ),
            rule(match=prefix("/x"), redirect=Redirect(prefix_rewrite="/y", scheme="https", port=8443, code=302)),
            rule(match=prefix("/y"), direct=DirectResponse(204, b"\xff")),
            rule(WEB),
        ),
        Mesh(outbound_policy="REGISTRY_ONLY"),
    )
    for name in ("80", "http_proxy", f"{WEB}:80", "81"):
        assert validate(world.sidecar(name), tmp_path) == ""


def test_envoy_takes_names_that_collide(tmp_path: Path) -> None:
    world = World(
        service("reviews", addresses=("10.0.0.1",)),
        external("reviews.default", addresses=("10.0.0.1",)),
        external("*.example.com"),
        service("reviews", namespace="far", addresses=("10.0.0.1", "2001:db8::1")),
        route_set("a", ("reviews.default.svc", "*.example.com", "*.com", "10.0.0.1"), say("a")),
    )
    for name in ("80", "http_proxy"):
        assert validate(world.sidecar(name), tmp_path) == ""


def test_envoy_takes_gateways(tmp_path: Path) -> None:
    world = World(
        service("web"),
        gateway(
            "gw",
            server("a.example.com", "*.example.com", tls=ServerTls(https_redirect=True)),
            server("default/*"),
            server("*", port=443, protocol=Protocol.HTTPS, name="https", tls=ServerTls(mode="SIMPLE")),
        ),
        route_set(
            "api",
            ("a.example.com", "*.org"),
            rule(WEB, match=prefix("/api"), rewrite=Rewrite(uri="/")),
            gateways=("default/gw",),
            gateway_api=True,
        ),
        route_set("vs", "*", rule(WEB), gateways=("default/gw",)),
    )
    for name in ("http.80", "https.443.https.gw.default", "http.8080"):
        assert validate(world.gateway(name), tmp_path) == ""
