"""EnvoyFilter in a real Envoy: what each operation on each sort of object does to requests."""

from __future__ import annotations

from pathlib import Path

import pytest
from live_envoy import ask
from test_extensions_live import A, W, sidecar

pytestmark = pytest.mark.e2e

HEAD = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: default}
spec: {mtls: {mode: DISABLE}}
---
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: patches, namespace: default}
spec:
  priority: 1
  configPatches:
"""
TYPES = "type.googleapis.com/envoy.extensions.filters"
MANAGER = "filter: {name: envoy.filters.network.http_connection_manager"
PROXY = f"name: proxied, typed_config: {{'@type': {TYPES}.listener.proxy_protocol.v3.ProxyProtocol}}"
BYTES = (
    f"name: envoy.filters.network.tcp_proxy, typed_config: {{'@type': {TYPES}.network.tcp_proxy.v3.TcpProxy, "
    "stat_prefix: bytes, cluster: 'inbound|PORT||'}"
)
"""What forwards a connection as it is: the application sees nothing of HTTP's own headers of a proxy."""
DENY = (
    f"name: deny, typed_config: {{'@type': {TYPES}.network.rbac.v3.RBAC, stat_prefix: deny, "
    "rules: {action: DENY, policies: {all: {permissions: [{any: true}], principals: [{any: true}]}}}}"
)
CHAIN = "filterChain: {destinationPort: PORT"


def patch(to: str, operation: str, match: str = "", value: str = "", also: str = "") -> str:
    """One patch for inbound traffic."""
    said = f", value: {{{value}}}" if value else ""
    found = f"context: SIDECAR_INBOUND{', ' if match else ''}{match}"
    return f"  - {{applyTo: {to}, match: {{{found}}}, patch: {{operation: {operation}{said}{also}}}}}\n"


def listener(match: str = "") -> str:
    return f"listener: {{name: virtualInbound{', ' if match else ''}{match}}}"


def lua(name: str, letter: str) -> str:
    """A filter that adds a letter to a header that the application gets."""
    code = f"local m = h:headers(); m:replace('x-o', (m:get('x-o') or '') .. '{letter}')"
    source = f'{{inline_string: "function envoy_on_request(h) {code} end"}}'
    return f'name: {name}, typed_config: {{"@type": {TYPES}.http.lua.v3.Lua, default_source_code: {source}}}'


def http(operation: str, named: str = "", value: str = "", also: str = "") -> str:
    """A patch of HTTP filters, beside the one that is named."""
    sub = f", subFilter: {{name: {named}}}" if named else ""
    return patch("HTTP_FILTER", operation, listener(f"filterChain: {{{MANAGER}{sub}}}}}"), value, also)


def route(operation: str, value: str = "", named: str = "") -> str:
    match = f"routeConfiguration: {{portNumber: PORT, vhost: {{name: 'inbound|http|PORT'{named}}}}}"
    return patch("HTTP_ROUTE", operation, match, value)


def tea(name: str, status: int) -> str:
    return f"name: {name}, match: {{path: /tea}}, direct_response: {{status: {status}}}"


def header(name: str) -> str:
    return f"response_headers_to_add: [{{header: {{key: {name}, value: 'yes'}}}}]"


ROUTES = "routeConfiguration: {portNumber: PORT}"
VHOST = "routeConfiguration: {vhost: {name: 'inbound|http|PORT'}}"
ROUTER = "envoy.filters.http.router"
PLAIN, PROXIED = "GET / HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n", f"PROXY TCP4 9.8.7.6 {W} 5 PORT\r\n"
HOST = "name: tea, domains: [tea.test], routes: [{match: {prefix: /}, direct_response: {status: 418}}]"
MINE = (
    "name: mine, type: STATIC, connect_timeout: 1s, load_assignment: {cluster_name: mine, endpoints: [{lb_endpoints: ["
    f"{{endpoint: {{address: {{socket_address: {{address: {A}, port_value: PORT}}}}}}}}]}}]}}"
)
CASES: dict[str, tuple[str, str, str]] = {
    # What is patched, what is sent, and what the answer has ("-": nothing at all comes).
    "LISTENER MERGE": (
        patch("LISTENER", "MERGE", listener(), f"listener_filters: [{{{PROXY}}}]"),
        PROXIED + PLAIN,
        " 200 ",
    ),
    "LISTENER MERGE_AND_REPLACE_LIST": (
        patch("LISTENER", "MERGE", listener(), f"listener_filters: [{{{PROXY}}}]")
        + patch("LISTENER", "MERGE_AND_REPLACE_LIST", listener(), f"listener_filters: [{{{PROXY}}}]"),
        PROXIED + PLAIN,  # two of these filters would want two such lines
        " 200 ",
    ),
    "LISTENER_FILTER ADD": (patch("LISTENER_FILTER", "ADD", listener(), PROXY), PROXIED + PLAIN, " 200 "),
    "LISTENER_FILTER INSERT_FIRST": (
        patch("LISTENER_FILTER", "INSERT_FIRST", listener(), PROXY),
        PROXIED + PLAIN,
        " 200 ",
    ),
    "LISTENER_FILTER REPLACE": (
        patch("LISTENER_FILTER", "INSERT_FIRST", listener(), PROXY)
        + patch("LISTENER_FILTER", "REPLACE", listener("listenerFilter: proxied"), PROXY.replace("proxied", "other"))
        + patch("LISTENER_FILTER", "REMOVE", listener("listenerFilter: proxied")),
        PROXIED + PLAIN,
        " 200 ",
    ),
    "LISTENER_FILTER REMOVE": (
        patch("LISTENER_FILTER", "INSERT_FIRST", listener(), PROXY)
        + patch("LISTENER_FILTER", "REMOVE", listener("listenerFilter: proxied")),
        PLAIN,
        " 200 ",
    ),
    "FILTER_CHAIN REMOVE": (patch("FILTER_CHAIN", "REMOVE", listener(f"{CHAIN}}}")), PLAIN, "-"),
    "FILTER_CHAIN ADD": (
        patch("FILTER_CHAIN", "REMOVE", listener(f"{CHAIN}}}"))
        + patch(
            "FILTER_CHAIN",
            "ADD",
            listener(),
            f"name: new, filter_chain_match: {{destination_port: PORT}}, filters: [{{{BYTES}}}]",
        ),
        PLAIN,
        "!x-request-id",
    ),
    "FILTER_CHAIN MERGE_AND_REPLACE_LIST": (
        patch("FILTER_CHAIN", "MERGE_AND_REPLACE_LIST", listener(f"{CHAIN}}}"), f"filters: [{{{BYTES}}}]"),
        PLAIN,
        "!x-request-id",
    ),
    "NETWORK_FILTER INSERT_FIRST": (
        patch("NETWORK_FILTER", "INSERT_FIRST", listener(f"{CHAIN}}}"), DENY),
        PLAIN,
        "-",
    ),
    "NETWORK_FILTER INSERT_BEFORE": (
        patch("NETWORK_FILTER", "INSERT_BEFORE", listener(f"{CHAIN}, {MANAGER}}}}}"), DENY),
        PLAIN,
        "-",
    ),
    "NETWORK_FILTER REPLACE": (
        patch("NETWORK_FILTER", "REPLACE", listener(f"{CHAIN}, {MANAGER}}}}}"), BYTES),
        PLAIN,
        "!x-request-id",
    ),
    "NETWORK_FILTER REMOVE": (
        patch("NETWORK_FILTER", "INSERT_FIRST", listener(f"{CHAIN}}}"), DENY)
        + patch("NETWORK_FILTER", "REMOVE", listener(f"{CHAIN}, filter: {{name: deny}}}}")),
        PLAIN,
        " 200 ",
    ),
    "NETWORK_FILTER MERGE": (
        patch(
            "NETWORK_FILTER",
            "MERGE",
            listener(f"{CHAIN}, {MANAGER}}}}}"),
            f"typed_config: {{'@type': {TYPES}.network.http_connection_manager.v3.HttpConnectionManager, via: mine}}",
        ),
        PLAIN,
        '"via": "mine"',
    ),
    "HTTP_FILTER in order": (
        http("ADD", value=lua("add", "5"))
        + http("INSERT_FIRST", value=lua("first", "1"))
        + http("INSERT_AFTER", "first", lua("after", "3"))
        + http("INSERT_BEFORE", "after", lua("before", "2"))
        + http("INSERT_BEFORE", ROUTER, lua("last", "6"))
        + http("REPLACE", "last", lua("replaced", "7"))
        + http("INSERT_FIRST", value=lua("gone", "9"))
        + http("REMOVE", "gone"),
        PLAIN,
        '"x-o": "12357"',
    ),
    "HTTP_FILTER MERGE": (
        http("ADD", value=lua("add", "5")) + http("MERGE", "add", lua("add", "8").partition(", ")[2]),
        PLAIN,
        '"x-o": "8"',
    ),
    "ROUTE_CONFIGURATION MERGE": (
        patch("ROUTE_CONFIGURATION", "MERGE", ROUTES, header("x-one"))
        + patch("ROUTE_CONFIGURATION", "MERGE", ROUTES, header("x-two")),
        PLAIN,
        "x-one: yes\r\nx-two: yes",
    ),
    "ROUTE_CONFIGURATION MERGE_AND_REPLACE_LIST": (
        patch("ROUTE_CONFIGURATION", "MERGE", ROUTES, header("x-one"))
        + patch("ROUTE_CONFIGURATION", "MERGE_AND_REPLACE_LIST", ROUTES, header("x-two")),
        PLAIN,
        "!x-one",
    ),
    "VIRTUAL_HOST ADD": (patch("VIRTUAL_HOST", "ADD", value=HOST), PLAIN.replace("web", "tea.test"), " 418 "),
    "VIRTUAL_HOST REMOVE": (
        patch("VIRTUAL_HOST", "REMOVE", VHOST),
        PLAIN,
        " 404 ",
    ),
    "VIRTUAL_HOST REPLACE": (
        patch(
            "VIRTUAL_HOST",
            "REPLACE",
            VHOST,
            HOST.replace("tea.test", "'*'"),
        ),
        PLAIN,
        " 418 ",
    ),
    "VIRTUAL_HOST MERGE": (
        patch("VIRTUAL_HOST", "MERGE", VHOST, header("x-one")),
        PLAIN,
        "x-one: yes",
    ),
    "HTTP_ROUTE INSERT_FIRST": (route("INSERT_FIRST", tea("tea", 418)), PLAIN.replace(" / ", " /tea "), " 418 "),
    "HTTP_ROUTE INSERT_BEFORE": (
        route("INSERT_BEFORE", tea("tea", 418), ", route: {name: default}"),
        PLAIN.replace(" / ", " /tea "),
        " 418 ",
    ),
    "HTTP_ROUTE ADD": (route("ADD", tea("tea", 418)), PLAIN.replace(" / ", " /tea "), " 200 "),
    "HTTP_ROUTE INSERT_AFTER": (
        route("INSERT_FIRST", tea("first", 418)) + route("INSERT_AFTER", tea("second", 500), ", route: {name: first}"),
        PLAIN.replace(" / ", " /tea "),
        " 418 ",
    ),
    "HTTP_ROUTE REMOVE": (route("REMOVE", named=", route: {name: default}"), PLAIN, " 404 "),
    "HTTP_ROUTE MERGE and CLUSTER ADD": (
        route("MERGE", "route: {cluster: mine, prefix_rewrite: /mine}") + patch("CLUSTER", "ADD", value=MINE),
        PLAIN,
        '"x-envoy-original-path": "/"',
    ),
    "CLUSTER REMOVE": (patch("CLUSTER", "REMOVE", "cluster: {portNumber: PORT}"), PLAIN, " 503 "),
}


@pytest.mark.parametrize("name", CASES)
def test_operation(name: str, tmp_path: Path) -> None:
    patches, sent, wanted = CASES[name]
    with sidecar(HEAD + patches, tmp_path) as port:
        answer = ask(W, port, sent.replace("PORT", str(port)).encode(), whole=True).decode()
    if wanted == "-":
        assert answer == ""
    elif wanted.startswith("!"):
        assert " 200 " in answer and wanted[1:] not in answer
    else:
        assert wanted in answer, answer
