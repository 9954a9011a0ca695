"""`fairlead describe`: what applies to workloads, hosts, gateways and policies, in order, and who says so."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import uvloop

from fairlead.model.identity import Identity
from fairlead.model.report import AgentReport, Ailments

from .running_plane import BASICS, entry, obj, routes, service, until, world
from .test_history import Ask

Json = dict[str, Any]
_SECURITY = "security.istio.io/v1"


def policy(kind: str, name: str, namespace: str = "shop", **spec: Any) -> Json:
    return obj(kind, name, namespace, _SECURITY, spec=spec)


def lines(text: str, section: str) -> list[str]:
    """The lines of a section of what is printed."""
    found = text.splitlines()
    begin = found.index(section) + 1
    return [line.strip() for line in found[begin : found.index("", begin) if "" in found[begin:] else None]]


_GATEWAY = obj(
    "Gateway",
    "edge",
    spec={
        "selector": {"istio": "edge"},
        "servers": [{"port": {"number": 8080, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}],
    },
)


def _outside() -> Json:
    made = routes("cart-outside")
    made["spec"] |= {"hosts": ["cart.example.com"], "gateways": ["edge"]}
    made["spec"]["http"][0]["route"] = [{"destination": {"host": "cart"}}]
    return made


def test_what_applies_and_why(tmp_path: Path) -> None:
    async def run() -> None:
        async with world(tmp_path) as made:
            ask = Ask(made)
            cart = {"app": "cart"}
            await ask.apply(*BASICS, service("cart"), entry("cart-1", "cart", "10.9.9.9", "cart"))
            first = made.plane.store.revision
            await ask.apply(
                entry("cart-2", "cart", "10.9.9.8", "cart"),
                routes("cart"),
                obj("DestinationRule", "cart", spec={"host": "cart", "subsets": [{"name": "v1"}]}),
                _GATEWAY,
                _outside(),
                policy("PeerAuthentication", "default", "istio-system", mtls={"mode": "PERMISSIVE"}),
                policy("PeerAuthentication", "strict", mtls={"mode": "STRICT"}),
                policy("AuthorizationPolicy", "some", action="ALLOW", rules=[{}], selector={"matchLabels": cart}),
                policy(
                    "AuthorizationPolicy", "none", action="DENY", rules=[{}], selector={"matchLabels": {"app": "x"}}
                ),
                message="all of it",
            )
            at = made.plane.store.revision
            await ask.apply(policy("AuthorizationPolicy", "deny", action="DENY", rules=[{}]))
            async with made.proxy("cart-1", "cart", LABELS=cart, INSTANCE_IPS="10.9.9.9"):
                await until(lambda: made.plane.proxies.counts().behind == 0, "in sync")
                for what in ("workload/cart-1", "workloadentry/cart-1"):
                    text = await ask("describe", what, "-n", "shop")
                    assert "cart-1.shop: in sync, spiffe://cluster.local/ns/shop/sa/cart" in text, text
                    assert lines(text, "Mutual TLS") == [
                        "STRICT",
                        "PeerAuthentication shop/strict spec.mtls.mode: STRICT",
                        "PeerAuthentication istio-system/default spec.mtls.mode: PERMISSIVE",
                    ]
                    assert lines(text, "Authorization") == [
                        "AuthorizationPolicy shop/deny: DENY, 1 rule",
                        "AuthorizationPolicy shop/deny spec.rules[0]: DENY every request",
                        "AuthorizationPolicy shop/some: ALLOW, 1 rule",
                        "AuthorizationPolicy shop/some spec.rules[0]: ALLOW every request",
                    ]
                    assert lines(text, "Services") == ["Service shop/cart: cart.shop.svc.cluster.local: 9080 http"]
                node = next(one for one in made.plane.delivery.nodes() if "cart-1" in one)
                report = AgentReport(
                    node,
                    "b",
                    not_after=time.time() + 600,
                    time=time.time() - 600,
                    ailments=Ailments(certificate="no way"),
                )
                made.plane.fleet.receive(Identity("cluster.local", "shop", "cart"), report)
                told = (await ask.data("describe", "workload/cart-1", "-n", "shop"))["findings"]
                assert any("the clock is 600 s behind" in one and "[FL3734]" in one for one in told), told
                assert any("could not be renewed: no way" in one for one in told), told
                subsets = await ask("proxy-config", "clusters", "cart-1.shop", "--at", str(at))
                assert "v1" in subsets
                early = await ask("proxy-config", "clusters", "cart-1.shop", "--at", str(first))
                assert "cart.shop.svc" in early and "v1 " not in early
                assert "leave out --at" in await ask("proxy-config", "secrets", "cart-1", "--at", "1", code=2)
                before = await ask("describe", "workload/cart-1", "-n", "shop", "--at", str(at))
                assert lines(before, "Authorization")[0] == "AuthorizationPolicy shop/some: ALLOW, 1 rule"
                text = await ask("describe", "svc/cart", "-n", "shop")
                assert lines(text, "Routes") == [
                    "VirtualService shop/cart: 1 HTTP, 0 TLS, 0 TCP rules",
                    "VirtualService shop/cart spec.http[0]: path /*: to cart.shop.svc.cluster.local",
                ]
                assert lines(text, "Traffic policy") == [
                    "DestinationRule shop/cart: for cart.shop.svc.cluster.local, subsets v1",
                    "DestinationRule shop/cart spec.subsets[0]: subset v1: all endpoints",
                ]
                assert lines(text, "Exposed") == [
                    "VirtualService shop/cart-outside: cart.example.com through gateways shop/edge"
                ]
                assert lines(text, "Endpoints")[0].startswith("WorkloadEntry shop/cart-1: 10.9.9.9, cart, mTLS STRICT")
                text = await ask("describe", "authorizationpolicy/deny", "-n", "shop")
                assert lines(text, "Applies to") == ["cart-1.shop (1): DENY, 1 rule"], text
                assert "created" in text and "Last changes" in text
                async with made.proxy("edge-1", "cart", TYPE="router", LABELS={"istio": "edge"}):
                    text = await ask("describe", "gateway/edge", "-n", "shop")
                    assert lines(text, "Servers") == ["spec.servers[0]: 8080 HTTP for *"]
                    assert lines(text, "Applies to")[0].startswith("edge-1.shop (1): 8080 HTTP")
                    assert "cart.example.com, bound to shop/edge" in text
                data = await ask.data("describe", "vs/cart", "-n", "shop")
                assert data["history"][0]["message"] == "all of it" and not data["findings"]
            assert "10.9.9.8" in await ask("describe", "svc/cart", "-n", "shop")
            assert "STRICT" in await ask("describe", "workloadentry/cart-2", "-n", "shop")
            assert "no proxy 'none.default' is connected" in await ask("describe", "workload/none", code=1)
            assert "there is no VirtualService shop/none" in await ask("describe", "vs/none", "-n", "shop", code=1)

    uvloop.run(run())
