"""VirtualService, HTTP: what a client's sidecar does with requests."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.e2e.conftest import World
from tests.e2e.mesh import eventually

ECHO = "echo:18080"


def test_http_reaches_both_instances_through_mutual_tls(world: World) -> None:
    found = eventually(lambda: world.client.get(ECHO), "an answer")
    assert found.status == 200
    xfcc = found.body["headers"]["x-forwarded-client-cert"]
    assert "URI=spiffe://cluster.local/ns/app/sa/client" in xfcc
    assert "By=spiffe://cluster.local/ns/app/sa/echo" in xfcc
    assert {world.client.get(ECHO).instance for _ in range(20)} == {"echo-1", "echo-2"}


def test_every_name_of_a_service_reaches_it(world: World) -> None:
    for name in ("echo", "echo.app", "echo.app.svc", "echo.app.svc.cluster.local"):
        assert world.client.get(f"{name}:18080", host=f"{name}:18080").status == 200, name
        assert world.client.get(f"{name}:18080", proxied=True).status == 200, name
    # Another namespace has to name it.
    assert world.outsider.get(ECHO, host="echo.app:18080").status == 200


def test_weights_split_by_subset(world: World) -> None:
    text = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: weights, namespace: app}
spec:
  hosts: [echo]
  http:
    - route:
        - {destination: {host: echo, subset: v1}, weight: 90}
        - {destination: {host: echo, subset: v2}, weight: 10}
"""
    with world.mesh.config(text):
        found = Counter(world.client.get(ECHO).instance for _ in range(300))
    # Binomial, n 300, p 0.1: outside of 8..58 once in ten million runs or less.
    assert 8 <= found["echo-2"] <= 58
    assert sum(found.values()) == 300


def test_who_says_what_a_request_is_addressed_to(world: World) -> None:
    """Istio's order: a rule's rewrite, or its header, then that of a destination; `Host` is another name for it."""
    own = "route: [{destination: {host: echo, subset: v1}, headers: {request: {set: {Host: destination.example}}}}]"
    two = own.replace("subset: v1}", "subset: v1}, weight: 50").replace("}}}}]", "}}}}, OTHER]")
    plain = two.replace("OTHER", "{destination: {host: echo, subset: v2}, weight: 50}")
    both = two.replace("OTHER", own.removeprefix("route: [").removesuffix("]").replace("v1}", "v2}, weight: 50"))
    rule = 'headers: {request: {set: {":authority": rule.example}}}'
    cases = {
        f"{own}, {rule}": "rule.example",
        f"{plain}, {rule}": "rule.example",
        f"{own}, rewrite: {{authority: rewrite.example}}": "rewrite.example",
        own: "destination.example",
        both: "destination.example",
        "route: [{destination: {host: echo}}], " + rule: "rule.example",
    }
    http = ", ".join(f"{{match: [{{uri: {{exact: /{at}}}}}], {one}}}" for at, one in enumerate(cases))
    head = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: addressed, namespace: app}\n"
    with world.mesh.config(f"{head}spec: {{hosts: [echo], http: [{http}]}}"):
        for at, wanted in enumerate(cases.values()):
            for _ in range(4):
                assert world.client.get(ECHO, f"/{at}").body["headers"]["host"] == wanted, at


CHANGES = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: changes, namespace: app}
spec:
  hosts: [echo]
  http:
    - match: [{uri: {prefix: /old/}}]
      rewrite: {uri: /new/, authority: rewritten.example}
      route: [{destination: {host: echo}}]
    - match: [{uri: {prefix: /regex/}}]
      rewrite: {uriRegexRewrite: {match: "/regex/([a-z]+)/(.*)", rewrite: '/\\2/\\1'}}
      route: [{destination: {host: echo}}]
    - match: [{uri: {exact: /redirect}}]
      redirect: {uri: /elsewhere, authority: other.example, redirectCode: 302, scheme: https}
    - match: [{uri: {exact: /moved}}]
      redirect: {uri: /there, port: 8443}
    - match: [{uri: {exact: /direct}}]
      directResponse: {status: 418, body: {string: short and stout}}
      headers: {response: {set: {content-type: text/teapot}}}
    - match: [{uri: {prefix: /headers}}]
      headers:
        request: {set: {x-set: new}, add: {x-add: more}, remove: [x-gone]}
        response: {set: {x-answer: new}, add: {x-added: more}, remove: [x-instance]}
      route:
        - destination: {host: echo}
          headers: {request: {set: {x-destination: here}}}
    - match: [{uri: {prefix: /slow}}]
      timeout: 300ms
      route: [{destination: {host: echo}}]
    - match: [{uri: {prefix: /retry}}]
      retries: {attempts: 3, retryOn: "5xx", perTryTimeout: 2s, backoff: 5ms}
      route: [{destination: {host: echo, subset: v1}}]
    - match: [{uri: {prefix: /once}}]
      retries: {attempts: 0}
      route: [{destination: {host: echo, subset: v1}}]
    - match: [{uri: {prefix: /delay}}]
      fault: {delay: {percentage: {value: 100}, fixedDelay: 400ms}}
      route: [{destination: {host: echo}}]
    - match: [{uri: {prefix: /abort}}]
      fault: {abort: {percentage: {value: 100}, httpStatus: 507}}
      route: [{destination: {host: echo}}]
    - match: [{uri: {prefix: /some}}]
      fault: {abort: {percentage: {value: 30}, httpStatus: 507}}
      route: [{destination: {host: echo}}]
    - match: [{uri: {prefix: /mirror}}]
      route: [{destination: {host: echo, subset: v1}}]
      mirror: {host: echo, subset: v2}
      mirrorPercentage: {value: 100}
    - match: [{uri: {prefix: /cors}}]
      corsPolicy:
        allowOrigins: [{exact: "https://good.example"}, {regex: "https://.*[.]fine[.]example"}]
        allowMethods: [GET, PUT]
        allowHeaders: [x-token]
        exposeHeaders: [x-shown]
        maxAge: 24h
        allowCredentials: true
      route: [{destination: {host: echo}}]
    - route: [{destination: {host: echo}}]
"""


@pytest.fixture(scope="module")
def changes(world: World) -> Iterator[World]:
    with world.mesh.config(CHANGES):
        yield world


def test_rewrite(changes: World) -> None:
    found = changes.client.get(ECHO, "/old/a?b=c").body
    assert (found["path"], found["headers"]["host"]) == ("/new/a?b=c", "rewritten.example")
    assert changes.client.get(ECHO, "/regex/abc/rest").body["path"] == "/rest/abc"


def test_redirect(changes: World) -> None:
    found = changes.client.get(ECHO, "/redirect")
    assert (found.status, found.headers["location"]) == (302, "https://other.example/elsewhere")
    moved = changes.client.get(ECHO, "/moved")
    assert (moved.status, moved.headers["location"]) == (301, "http://echo:8443/there")


def test_direct_response(changes: World) -> None:
    found = changes.client.get(ECHO, "/direct")
    assert (found.status, found.text) == (418, "short and stout")


def test_headers(changes: World) -> None:
    found = changes.client.get(ECHO, "/headers", headers={"x-set": "old", "x-gone": "1", "x-add": "one"})
    seen = found.body["headers"]
    assert (seen["x-set"], seen["x-destination"]) == ("new", "here")
    assert "x-gone" not in seen
    assert "more" in seen["x-add"]
    assert (found.headers["x-answer"], found.headers["x-added"]) == ("new", "more")
    assert "x-instance" not in found.headers


def test_timeout(changes: World) -> None:
    began = time.monotonic()
    assert changes.client.get(ECHO, "/slow?delay=9").status == 504
    assert 0.25 < time.monotonic() - began < 8
    assert changes.client.get(ECHO, "/slow").status == 200


def test_retries_are_counted(changes: World) -> None:
    app = changes.apps["echo-1"]
    app.status = 503
    assert changes.client.get(ECHO, "/retry").status == 503
    assert len(app.seen) == 4
    app.reset()
    app.status = 503
    assert changes.client.get(ECHO, "/once").status == 503
    assert len(app.seen) == 1


def test_default_retries_do_not_repeat_what_a_server_answered_with_500(changes: World) -> None:
    apps = changes.apps["echo-1"], changes.apps["echo-2"]
    for app in apps:
        app.status = 500
    assert changes.client.get(ECHO, "/").status == 500
    assert sum(len(app.seen) for app in apps) == 1


def test_fault_delay(changes: World) -> None:
    began = time.monotonic()
    assert changes.client.get(ECHO, "/delay").status == 200
    assert time.monotonic() - began >= 0.39


def test_fault_abort(changes: World) -> None:
    assert changes.client.get(ECHO, "/abort").status == 507
    found = Counter(changes.client.get(ECHO, "/some").status for _ in range(200))
    # Binomial, n 200, p 0.3.
    assert 25 <= found[507] <= 100
    assert found[200] + found[507] == 200


def test_mirror(changes: World) -> None:
    for at in range(10):
        assert changes.client.get(ECHO, f"/mirror/{at}").instance == "echo-1"
    mirrored = eventually(lambda: [x for x in changes.apps["echo-2"].seen if len(changes.apps["echo-2"].seen) == 10])
    assert sorted(x["path"] for x in mirrored) == [f"/mirror/{at}" for at in range(10)]
    assert mirrored[0]["headers"]["host"].startswith("echo-shadow")


def test_cors(changes: World) -> None:
    ask = {"access-control-request-method": "PUT"}
    found = changes.client.get(ECHO, "/cors", method="OPTIONS", headers={"origin": "https://good.example", **ask})
    assert found.headers["access-control-allow-origin"] == "https://good.example"
    assert found.headers["access-control-allow-methods"] == "GET,PUT"
    assert found.headers["access-control-allow-headers"] == "x-token"
    assert found.headers["access-control-max-age"] == "86400"
    assert found.headers["access-control-allow-credentials"] == "true"
    plain = changes.client.get(ECHO, "/cors", headers={"origin": "https://a.fine.example"})
    assert plain.headers["access-control-allow-origin"] == "https://a.fine.example"
    assert plain.headers["access-control-expose-headers"] == "x-shown"
    bad = changes.client.get(ECHO, "/cors", headers={"origin": "https://bad.example"})
    assert "access-control-allow-origin" not in bad.headers
