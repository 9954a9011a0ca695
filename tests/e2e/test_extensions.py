"""EnvoyFilter, Lua and rate limits in a running mesh: delivered, refused by Envoy without harm, and taken back."""

from __future__ import annotations

from tests.e2e.conftest import World
from tests.e2e.mesh import eventually
from tests.e2e.test_control import condition

ECHO = "echo:18080"
DISCOVERED = """
---
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: discovered, namespace: app}
spec:
  priority: 10
  workloadSelector: {labels: {app: echo}}
  configPatches:
  - applyTo: HTTP_FILTER
    match:
      context: SIDECAR_INBOUND
      listener: {filterChain: {filter: {name: envoy.filters.network.http_connection_manager}}}
    patch:
      operation: INSERT_FIRST
      value:
        name: greeting
        config_discovery:
          config_source: {ads: {}, resource_api_version: V3}
          type_urls: [type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua]
  - applyTo: EXTENSION_CONFIG
    patch:
      operation: ADD
      value:
        name: greeting
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua
          default_source_code:
            inline_string: |
              function envoy_on_request(handle) handle:headers():add("x-greeting", "%s") end
"""
LUA = """
---
apiVersion: extensions.istio.io/v1alpha1
kind: TrafficExtension
metadata: {name: code, namespace: app}
spec:
  selector: {matchLabels: {app: echo}}
  match: [{mode: SERVER}]
  lua: {inlineCode: "%s"}
"""
LIMIT = """
---
apiVersion: fairlead.dev/v1alpha1
kind: RateLimit
metadata: {name: echo, namespace: app}
spec:
  selector: {matchLabels: {app: echo}}
  limits:
  - {name: front, per: [{attribute: PRINCIPAL}], when: {headers: {x-limited: "*"}}, requests: 1, unit: DAY}
"""


def test_lua_that_does_not_compile_is_marked_and_hurts_nobody(world: World) -> None:
    good = "function envoy_on_request(handle) handle:headers():add('x-code', 'yes') end"

    def programmed() -> str:
        return condition(world.mesh, objects[-1], "Programmed").get("status", "")

    with world.mesh.config(LUA % "function (") as objects:
        eventually(lambda: programmed() == "False", "the refusal")
        assert world.client.get(ECHO).status == 200
        world.mesh.apply(LUA % good)
        eventually(lambda: programmed() == "True", "the acceptance")
        eventually(lambda: world.client.get(ECHO).body["headers"].get("x-code") == "yes", "the program")


def test_a_limit_by_identity(world: World) -> None:
    with world.mesh.config(LIMIT):
        # Each of the two instances lets one request through.
        limited = {"x-limited": "yes"}
        eventually(lambda: world.client.get(ECHO, headers=limited).status == 429, "the limit")
        assert world.client.get(ECHO).status == 200


def test_an_extension_is_discovered_and_changes_by_itself(world: World) -> None:
    def greeting() -> object:
        answer = world.client.get(ECHO)
        assert answer.status == 200, "the filter is never there without its configuration"
        return answer.body["headers"].get("x-greeting")

    with world.mesh.config(DISCOVERED % "hello"):
        eventually(lambda: greeting() == "hello", "the extension")
        world.mesh.apply(DISCOVERED % "good day")
        eventually(lambda: greeting() == "good day", "the changed extension")
    # Connections that still have the filter get errors once its configuration is gone, until they are drained.
    eventually(lambda: all(world.client.get(ECHO).status == 200 for _ in range(20)), "the end of old connections")
