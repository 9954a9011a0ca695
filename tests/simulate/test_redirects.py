"""Where redirects lead, as Envoy writes it in the Location header."""

from __future__ import annotations

import pytest
from envoy.config.route.v3.route_components_pb2 import RedirectAction, RouteMatch

from fairlead.simulate.message import Message
from fairlead.simulate.request import Request
from fairlead.simulate.routing import location


@pytest.mark.parametrize(
    ("redirect", "authority", "path", "wanted"),
    [
        (RedirectAction(path_redirect="/x"), "web:8080", "/api?q=1", "http://web:8080/x?q=1"),
        (RedirectAction(path_redirect="/x?y=2"), "web", "/api?q=1", "http://web/x?y=2"),
        (RedirectAction(host_redirect="else.example"), "web:8080", "/api", "http://else.example/api"),
        (RedirectAction(https_redirect=True), "web:80", "/api", "https://web/api"),
        (RedirectAction(https_redirect=True), "web:8080", "/api", "https://web:8080/api"),
        (RedirectAction(port_redirect=8443), "web:80", "/api", "http://web:8443/api"),
        (RedirectAction(prefix_rewrite="/new"), "web", "/api/v1?q=1", "http://web/new/v1?q=1"),
        (RedirectAction(strip_query=True), "web", "/api?q=1", "http://web/api"),
    ],
)
def test_where_a_redirect_leads(redirect: RedirectAction, authority: str, path: str, wanted: str) -> None:
    message = Message(Request("web", 80, path, authority=authority))
    assert location(redirect, RouteMatch(prefix="/api"), message) == wanted
