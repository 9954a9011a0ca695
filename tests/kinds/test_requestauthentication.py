"""RequestAuthentication: goldens, the filter and the requests that it refuses, and keys that are not known."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from envoy.extensions.filters.http.jwt_authn.v3.config_pb2 import JwtAuthentication
from google.protobuf import json_format
from lowering import check, inputs, read

from fairlead.compiler.filters import FilterKey, filters
from fairlead.compiler.model import MeshModel
from fairlead.envoy.jwt import JWT_TYPE, UNKNOWN_KEYS, jwt_filter
from fairlead.inc import Engine
from fairlead.ir.authn import JWKS, Jwks, JwtRule
from fairlead.ir.filters import FilterScope
from fairlead.ir.jwks import published_keys
from fairlead.ir.kind import Stage
from fairlead.model.diagnostic import Origin
from fairlead.model.ref import Ref

ENVOY = Path(sys.executable).parent / "envoy"
ORIGIN = Origin(Ref("security.istio.io", "RequestAuthentication", "shop", "a"))
POINT = json.loads(UNKNOWN_KEYS)["keys"][0]
KEYS = json.dumps({"keys": [{"kty": "EC", "crv": "P-256", "x": POINT["x"], "y": POINT["y"]}]})
POLICY = """
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{{target}jwtRules: {rules}}}
"""


@pytest.mark.parametrize("path", inputs("requestauthentication"), ids=lambda path: path.stem)
def test_golden(path: Path) -> None:
    check(path)


def requires(*rules: JwtRule) -> Any:
    """The filter's one requirement."""
    made = JwtAuthentication.FromString(jwt_filter([(one, KEYS) for one in rules]))
    return json_format.MessageToDict(made)["rules"][0]["requires"]


def test_what_is_required() -> None:
    optional, required = JwtRule(ORIGIN, "a"), JwtRule(ORIGIN, "b", required=True)

    def named(at: int) -> Any:
        return {"providerName": f"origins-{at}"}

    def or_missing(at: int) -> Any:
        return {"requiresAny": {"requirements": [named(at), {"allowMissing": {}}]}}

    every = {"requiresAll": {"requirements": [or_missing(0), or_missing(1)]}}
    assert requires(optional) == or_missing(0)
    assert requires(required) == named(0)
    assert requires(optional, optional) == {"requiresAny": {"requirements": [named(0), named(1), every]}}
    assert requires(optional, required) == {"requiresAll": {"requirements": [or_missing(0), named(1)]}}


def test_nobody_knows_the_private_key_of_unknown_keys() -> None:
    """The point is made of a hash, and it lies on P-256."""
    p = 2**256 - 2**224 + 2**192 + 2**96 - 1
    b = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
    x = int.from_bytes(hashlib.sha256(b"fairlead: the keys are not known 0").digest())
    y = pow(x**3 - 3 * x + b, (p + 1) // 4, p)
    assert (y * y - x**3 + 3 * x - b) % p == 0
    (key,) = json.loads(UNKNOWN_KEYS)["keys"]
    assert [_number(key[name]) for name in "xy"] == [x, min(y, p - y)]


def _number(text: str) -> int:
    return int.from_bytes(base64.urlsafe_b64decode(text + "="))


def model(*texts: str) -> MeshModel:
    """A mesh of documents."""
    made = MeshModel()
    made.apply(read("---".join(texts)))
    return made


def providers(engine: Engine, scope: FilterScope) -> dict[str, Any]:
    """The providers of a chain's JWT filter, by their issuer; empty if there is no filter."""
    found = engine.call(filters, FilterKey(Stage.HTTP_FILTERS, scope))
    if not found:
        return {}
    (only,) = found
    assert only.type_url == JWT_TYPE
    config = json_format.MessageToDict(JwtAuthentication.FromString(only.config))
    return {one["issuer"]: {**one, "name": name} for name, one in config["providers"].items()}


def policy(name: str, namespace: str, labels: str = "{app: a}", issuer: str = "") -> str:
    rules = json.dumps([{"issuer": issuer or name, "jwks": KEYS}])
    return POLICY.format(name=name, namespace=namespace, target=f"selector: {{matchLabels: {labels}}}, ", rules=rules)


def test_rules_of_all_policies_add_up_in_the_order_of_issuers() -> None:
    made = model(
        policy("z", "istio-system"),
        policy("m", "shop", "{app: a, version: v1}"),
        policy("a", "shop"),
        policy("else", "shop", "{app: b}"),
        policy("foreign", "other"),
    )
    found = providers(made.engine, FilterScope("inbound", "shop", (("app", "a"), ("version", "v1")), 80))
    assert {issuer: one["name"] for issuer, one in found.items()} == {
        "a": "origins-0",
        "m": "origins-1",
        "z": "origins-2",
    }
    assert "clearRouteCache" not in found["a"]
    at_gateway = providers(made.engine, FilterScope("gateway", "shop", (("app", "a"),)))
    assert [one["clearRouteCache"] for one in at_gateway.values()] == [True, True]
    assert providers(made.engine, FilterScope("outbound", "shop", (("app", "a"),))) == {}
    assert providers(made.engine, FilterScope("inbound", "third", (("app", "b"),))) == {}


def test_targets_are_gateways_by_their_label() -> None:
    target = "targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: edge}], "
    rules = json.dumps([{"issuer": "a", "jwks": KEYS}])
    made = model(POLICY.format(name="a", namespace="shop", target=target, rules=rules))
    label = ("gateway.networking.k8s.io/gateway-name", "edge")
    assert list(providers(made.engine, FilterScope("gateway", "shop", (label,)))) == ["a"]
    assert providers(made.engine, FilterScope("gateway", "other", (label,))) == {}
    assert providers(made.engine, FilterScope("gateway", "shop", ((label[0], "other"),))) == {}
    assert providers(made.engine, FilterScope("inbound", "shop")) == {}


def test_unknown_keys_refuse_and_are_reported() -> None:
    rules = json.dumps([{"issuer": "https://a.example", "jwksUri": "https://a.example/keys"}])
    made = model(POLICY.format(name="a", namespace="shop", target="", rules=rules))
    scope = FilterScope("inbound", "shop", (), 80)

    def keys() -> str:
        return providers(made.engine, scope)["https://a.example"]["localJwks"]["inlineString"]

    def said() -> list[str]:
        return [f"{one.code} {one.origin.path} {one.message}" for one in made.diagnostics()]

    def learn(value: Jwks) -> None:
        with made.engine.transaction():
            made.engine.put(JWKS, "https://a.example/keys", value)

    where = "FL0401 spec.jwtRules[0] the keys of https://a.example from https://a.example/keys are not known: "
    assert keys() == UNKNOWN_KEYS
    assert said() == [f"{where}they have not been fetched; every token is refused"]
    learn(Jwks(problem="HTTP 500"))
    assert keys() == UNKNOWN_KEYS
    assert said() == [f"{where}HTTP 500; every token is refused"]
    learn(Jwks(KEYS))
    assert keys() == KEYS
    assert said() == []
    learn(Jwks(KEYS, "timed out"))
    assert keys() == KEYS
    assert said() == [f"{where}timed out; those known before stay in use"]


def test_envoy_takes_every_field(tmp_path: Path) -> None:
    (golden,) = inputs("requestauthentication")
    text = golden.read_text()
    made = model(text.replace("targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: edge}]", ""))
    (found,) = made.engine.call(
        filters, FilterKey(Stage.HTTP_FILTERS, FilterScope("gateway", "shop", (("app", "web"),), 80))
    )
    config = json_format.MessageToDict(JwtAuthentication.FromString(found.config))
    path = tmp_path / "envoy.json"
    path.write_text(json.dumps(bootstrap({"name": found.name, "typed_config": {"@type": found.type_url, **config}})))
    command = [ENVOY, "--mode", "validate", "-c", path, "--log-level", "error"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize(
    "keys",
    [
        [],
        ["a"],
        [{"kty": "XX"}],
        [{"kty": "EC", "crv": "P-256", "x": "eA", "y": "eQ"}],
        [{"kty": "EC", "crv": "secp256k1", "x": POINT["x"], "y": POINT["y"]}],
        [{"kty": "RSA", "n": "eA", "e": "AQAB"}],
        [{"kty": "RSA", "n": "!!", "e": 1}],
        [{**POINT, "alg": "ES384"}],
        [{**POINT, "kid": 1, "alg": 2}],
    ],
    ids=str,
)
def test_keys_that_envoy_cannot_use_do_not_cost_the_listener(keys: Any, tmp_path: Path) -> None:
    """Envoy refuses a set without a key that it understands."""
    made = JwtAuthentication.FromString(jwt_filter([(JwtRule(ORIGIN, "a"), json.dumps({"keys": keys}))]))
    config = {"@type": JWT_TYPE, **json_format.MessageToDict(made)}
    path = tmp_path / "envoy.json"
    path.write_text(json.dumps(bootstrap({"name": "jwt", "typed_config": config})))
    command = [ENVOY, "--mode", "validate", "-c", path, "--log-level", "error"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_of_fetched_keys_only_what_is_public_and_of_use_stays() -> None:
    secret = {"kty": "oct", "k": "c2VjcmV0"}
    text, wrong = published_keys(json.dumps({"keys": [{**POINT, "d": "eA"}, secret, {"kty": "AKP"}, "a"], "more": 1}))
    assert (json.loads(text), wrong) == ({"keys": [POINT]}, "")
    again, _ = published_keys(json.dumps({"keys": [dict(reversed(POINT.items()))]}, indent=2))
    assert again == text
    for bad in ("", "[]", "{}", '{"keys": {}}', json.dumps({"keys": [secret]}), "[" * 100_000):
        assert published_keys(bad)[0] == ""
        assert published_keys(bad)[1]


def bootstrap(one: Any) -> Any:
    """An Envoy with one HTTP filter."""
    prefix = "type.googleapis.com/envoy.extensions.filters"
    manager = {
        "@type": f"{prefix}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "test",
        "http_filters": [
            one,
            {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{prefix}.http.router.v3.Router"}},
        ],
        "route_config": {},
    }
    listener = {
        "name": "test",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }
    return {"static_resources": {"listeners": [listener]}, "node": {"id": "test", "cluster": "test"}}
