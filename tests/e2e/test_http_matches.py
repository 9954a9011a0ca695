"""VirtualService, HTTP: which route a request takes. Routes say their name in the header x-route."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.conftest import World
from tests.e2e.mesh import Response

ECHO = "echo:18080"


def route(found: Response) -> str:
    """The route that a request took."""
    return found.headers.get("x-route", "")


NAMED = "headers: {response: {set: {x-route: %s}}}, route: [{destination: {host: echo}}]"
MATCHES = (
    """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: matches, namespace: app}
spec:
  hosts: [echo]
  http:
"""
    + "\n".join(
        f"    - {{match: [{match}], {NAMED % name}}}"
        for name, match in (
            ("exact", "{uri: {exact: /exact}}"),
            ("prefix", "{uri: {prefix: /prefix/}}"),
            ("regex", '{uri: {regex: "/re[0-9]+"}}'),
            ("caseless", "{uri: {exact: /Mixed}, ignoreUriCase: true}"),
            ("method", "{method: {exact: DELETE}}"),
            ("header", "{headers: {x-user: {exact: jason}}}"),
            ("header-prefix", "{headers: {x-user: {prefix: admin-}}}"),
            ("header-regex", '{headers: {x-user: {regex: "[0-9]+"}}}'),
            ("header-present", "{headers: {x-any: {}}}"),
            ("without", "{uri: {exact: /without}, withoutHeaders: {x-no: {}}}"),
            ("query", "{queryParams: {q: {exact: one}}}"),
            ("query-regex", '{queryParams: {q: {regex: "t.*"}}}'),
            ("authority", "{authority: {prefix: echo.app.svc}}"),
            ("port", "{port: 18081}"),
            ("source", "{uri: {prefix: /who}, sourceLabels: {app: client, tier: front}}"),
            ("namespace", "{uri: {prefix: /who}, sourceNamespace: other}"),
            ("gateway", "{uri: {prefix: /edge}, gateways: [edge/nowhere]}"),
            ("both", "{uri: {prefix: /both}, headers: {x-both: {exact: one}}}"),
        )
    )
    + f"\n    - {{{NAMED % 'rest'}}}\n"
)


@pytest.fixture(scope="module")
def matches(world: World) -> Iterator[World]:
    with world.mesh.config(MATCHES):
        yield world


CASES: tuple[tuple[str, str, dict[str, object]], ...] = (
    ("exact", "/exact", {}),
    ("rest", "/exact/more", {}),
    ("prefix", "/prefix/a", {}),
    ("rest", "/prefixed", {}),
    ("regex", "/re42", {}),
    ("rest", "/re42x", {}),
    ("caseless", "/mIXED", {}),
    ("method", "/any", {"method": "DELETE"}),
    ("header", "/", {"headers": {"x-user": "jason"}}),
    ("header-prefix", "/", {"headers": {"x-user": "admin-joe"}}),
    ("header-regex", "/", {"headers": {"x-user": "123"}}),
    ("rest", "/", {"headers": {"x-user": "123a"}}),
    ("header-present", "/", {"headers": {"x-any": "thing"}}),
    ("without", "/without", {}),
    ("rest", "/without", {"headers": {"x-no": "1"}}),
    ("query", "/?q=one", {}),
    ("query-regex", "/?q=two", {}),
    ("rest", "/?q=none", {}),
    ("authority", "/", {"host": "echo.app.svc.cluster.local"}),
    ("source", "/who", {}),
    ("rest", "/edge", {}),
    ("rest", "/both", {}),
    ("both", "/both", {"headers": {"x-both": "one"}}),
)


@pytest.mark.parametrize(("wanted", "path", "more"), CASES)
def test_matches(matches: World, wanted: str, path: str, more: dict[str, object]) -> None:
    assert route(matches.client.get(ECHO, path, **more)) == wanted


def test_matches_on_port_and_source(matches: World) -> None:
    assert route(matches.client.get("echo:18081")) == "port"
    assert route(matches.client.get(ECHO)) == "rest"
    assert route(matches.outsider.get(ECHO, "/who", host="echo.app")) == "namespace"
    assert route(matches.echo1.get(ECHO, "/who")) == "rest"
