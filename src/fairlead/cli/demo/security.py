"""Steps: who is who, and who may do what."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import msgspec

from fairlead.cli.demo.certificates import Issuer, trusting
from fairlead.cli.demo.mesh import until
from fairlead.cli.demo.resilience import RATINGS
from fairlead.cli.demo.routing import EFFECT
from fairlead.cli.demo.shop import NAMESPACE, Shop, total
from fairlead.cli.demo.step import Check, Step, exactly, took, zero
from fairlead.cli.demo.traffic import Reply

IDENTITY = "spiffe://cluster.local/ns/shop/sa/"
CALLS = (
    ("gateway", "web", "/", ()),
    ("web", "catalog", "/", ("catalog",)),
    ("web", "reviews", "/", ("reviews",)),
    ("reviews", "ratings", "/call/reviews/call/ratings/ratings/1", ("body", "body")),
    ("web", "orders", "/order?item=1", ("order",)),
)
"""Who calls whom, a request that makes it happen, and where in its answer stands what the one called says."""
TLS_HOST, MUTUAL_HOST = "shop.example", "partner.shop.example"
CALLERS = 50
REASON = "rbac_access_denied_matched_policy["
POLICY = f"ns[{NAMESPACE}]-policy[ratings-not-for-web]-rule[0]"


def _short(identity: str) -> str:
    return identity.removeprefix("spiffe://cluster.local/ns/shop/")


async def _identities(shop: Shop) -> list[Check]:
    checks: list[Check] = []
    for caller, called, path, keys in CALLS:
        reply = await shop.traffic.get(path)
        for key in keys:
            reply = msgspec.structs.replace(reply, body=reply.field(key))
        peer = str(reply.field("peer", ""))
        checks.append(
            exactly(f"who calls {called}, as {called} sees it", _short(f"{IDENTITY}{caller}"), _short(peer) or "nobody")
        )
    handshakes = 0
    for name in ("ledger-v1", "ledger-v2"):
        handshakes += sum((await shop.stats(name, r"^listener\..*ssl\.handshake$")).values())
    reply = await shop.traffic.get("/ledger?say=PING")
    checks.append(
        Check(
            "ledger (TCP): TLS handshakes with callers",
            "1 or more, PONG",
            f"{handshakes}, {reply.body.get('ledger')}",
            handshakes > 0 and reply.field("ledger") == "PONG",
        )
    )
    return checks


async def _strict(shop: Shop) -> list[Check]:
    names = ("web-v1", "catalog-v1", "reviews-v1", "ratings-v1")
    before = [await shop.direct(name, "/healthz") for name in names]
    line = await shop.direct_line("ledger-v1", "PING")
    began = time.monotonic()
    async with shop.applied(*shop.policy("mtls-strict")):

        async def refused() -> bool:
            return all([(await shop.direct(name, "/healthz")).status == 0 for name in names])

        await until("plaintext is refused", refused)
        seconds = time.monotonic() - began
        after = [await shop.direct(name, "/healthz") for name in names]
        silent = await shop.direct_line("ledger-v1", "PING")
        orders = await shop.direct("orders-v1", "/", 9090)
        meshed = await shop.traffic.many(CALLERS, "/")
        ordered = await shop.traffic.get("/order?item=2")
    return [
        exactly(
            "before: plaintext accepted by",
            "5 of 5",
            f"{sum(one.status == 200 for one in before) + (line == 'PONG')} of 5",
        ),
        exactly(
            "under STRICT: plaintext refused by",
            "6 of 6",
            f"{sum(one.status == 0 for one in after) + (not silent) + (orders.status == 0)} of 6",
        ),
        zero("mesh calls that failed", sum(one.status != 200 for one in (*meshed, ordered)), CALLERS + 1, CALLERS),
        took("from apply to refused", seconds, EFFECT),
    ]


async def _authorization(shop: Shop) -> list[Check]:
    async with shop.applied(*shop.policy("authorization-deny")):

        async def denied() -> Reply | None:
            reply = await shop.traffic.get(RATINGS)
            return reply if reply.inner_status == 403 else None

        one = await until("web is denied", denied)
        direct = await shop.traffic.many(CALLERS, RATINGS)
        allowed = await shop.traffic.many(CALLERS, "/call/reviews/call/ratings/ratings/1")

        async def logged() -> str | None:
            lines = [line for line in await shop.access_log("ratings-v1") if REASON in line]
            return lines[-1].partition(REASON)[2].partition("]]")[0] if lines else None

        reason = await until("the proxy of ratings says why", logged, 15)
    return [
        exactly("web -> ratings: answers 403", CALLERS, sum(at.inner_status == 403 for at in direct)),
        exactly("what web is told", "RBAC: access denied", one.field("body")),
        exactly(
            "reviews -> ratings: answers 200",
            CALLERS,
            sum(isinstance(at.inner.get("body"), dict) and at.inner.get("status") == 200 for at in allowed),
        ),
        exactly("the policy and rule in ratings' access log", POLICY, f"{reason}]"),
    ]


def _secret(name: str, **files: bytes) -> str:
    data = {key.replace("_", "."): base64.b64encode(value).decode() for key, value in files.items()}
    kind = {"type": "kubernetes.io/tls"} if "tls.crt" in data else {}
    meta = {"name": name, "namespace": NAMESPACE}
    return json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": meta, **kind, "data": data}, indent=2)


def _distrusted(reply: Reply) -> bool:
    return reply.status == 0 and "certificate" in str(reply.body).lower()


async def _gateway(shop: Shop) -> list[Check]:
    issuer = Issuer()
    server, partner, client = issuer.issue(TLS_HOST), issuer.issue(MUTUAL_HOST), issuer.issue("partner", client=True)
    secrets = (
        _secret("shop-tls", tls_crt=server.certificate, tls_key=server.key),
        _secret("shop-mutual", tls_crt=partner.certificate, tls_key=partner.key, ca_crt=issuer.root),
    )
    files = [shop.write(f"secret-{at}.json", text) for at, text in enumerate(secrets)]
    for file in files:
        file.chmod(0o600)
    base = f"https://127.0.0.1:{shop.mesh.place.https_port}"
    trusts, shows = trusting(issuer.root, shop.files), trusting(issuer.root, shop.files, client)
    stranger = trusting(Issuer().root, shop.files)

    async def ask(host: str, tls: Any) -> Reply:
        return await shop.traffic.get("/", {"host": host, "connection": "close"}, base=base, tls=tls, name=host)

    began = time.monotonic()
    policies = shop.policy("gateway-tls", "gateway-mutual", "gateway-redirect")
    async with shop.applied(*files, *policies):

        async def serves() -> bool:
            return (await ask(TLS_HOST, trusts)).status == 200

        await until("the gateway serves HTTPS", serves)
        seconds = time.monotonic() - began
        verified = await ask(TLS_HOST, trusts)
        distrusted = await ask(TLS_HOST, stranger)
        redirected = await shop.traffic.get("/cart", {"host": TLS_HOST})
        anonymous, known = await ask(MUTUAL_HOST, trusts), await ask(MUTUAL_HOST, shows)
    return [
        exactly("HTTPS, verified against the demo's CA", 200, verified.status),
        Check(
            "HTTPS, verified against another CA",
            "certificate refused",
            "certificate refused" if _distrusted(distrusted) else str(distrusted.body or distrusted.status),
            _distrusted(distrusted),
        ),
        exactly(
            "plain HTTP for this host",
            f"301 https://{TLS_HOST}/cart",
            f"{redirected.status} {redirected.headers.get('location')}",
        ),
        exactly(
            "MUTUAL: with a certificate, without", "200, refused", f"{known.status}, {anonymous.status or 'refused'}"
        ),
        took("from apply to the first HTTPS answer", seconds, EFFECT),
    ]


async def _metrics(shop: Shop) -> list[Check]:
    good, missing = 150, 50
    labels = {
        "source_workload": "web-v1",
        "source_principal": f"{IDENTITY}web",
        "destination_service_name": "catalog",
        "destination_workload": "catalog-v1",
        "request_protocol": "http",
        "connection_security_policy": "mutual_tls",
    }
    sides = (("destination", "catalog-v1", labels), ("source", "web-v1", {**labels, "connection_security_policy": ""}))
    checks: list[Check] = []

    async def counts() -> list[int]:
        found: list[int] = []
        for reporter, process, wanted in sides:
            page = await shop.metrics(process)
            named = {key: value for key, value in wanted.items() if value}
            found += [
                total(page, "istio_requests_total", reporter=reporter, response_code=code, **named)
                for code in ("200", "404")
            ]
        return found

    before = await counts()
    await shop.traffic.many(good, "/call/catalog/items/1")
    await shop.traffic.many(missing, "/call/catalog/items/99")
    want = [good, missing] * 2
    delta = [0] * 4

    async def counted() -> bool:
        nonlocal delta
        delta = [now - then for now, then in zip(await counts(), before, strict=True)]
        return all(now >= wanted for now, wanted in zip(delta, want, strict=True))

    try:
        await until("the metrics show the requests", counted, 10)
    finally:
        for at, (reporter, _, _) in enumerate(sides):
            for side, code in enumerate(("200", "404")):
                text = f'istio_requests_total{{reporter="{reporter}", response_code="{code}"}}'
                checks.append(exactly(text, want[2 * at + side], delta[2 * at + side]))
    return checks


IDENTITIES = Step(
    1,
    "mesh mTLS",
    "Every call between services is encrypted, and both ends prove who they are. No service does anything for "
    "it: their proxies do, with certificates that the control plane issues. Each service tells whom it saw calling.",
    _identities,
    attempt="curl -s {http}/",
)
STRICT = Step(
    8,
    "plaintext refused under STRICT",
    "At first a service also answers callers without an identity, so that it can be moved into a mesh bit by bit. "
    "STRICT ends that: who is not in the mesh gets no answer.",
    _strict,
    ("mtls-strict.yaml",),
    "curl http://{ratings}:9080/healthz",
)
AUTHORIZATION = Step(
    9,
    "authorization",
    "A policy names identities, not addresses: web may no longer ask ratings, reviews still may. The access log of the "
    "one called says which rule denied a call.",
    _authorization,
    ("authorization-deny.yaml",),
    "curl -s {http}/call/ratings/ratings/1; {fairlead} logs ratings-v1 -n shop --proxy --tail 3 --state {state}",
)
GATEWAY = Step(
    10,
    "TLS gateway",
    "The gateway speaks HTTPS with a certificate out of a Secret, sends plain HTTP there, and for partner.shop.example "
    "asks callers for a certificate too.",
    _gateway,
    ("gateway-tls.yaml", "gateway-mutual.yaml", "gateway-redirect.yaml"),
    "{fairlead} apply --state {state} -f {files}/secret-0.json -f {files}/secret-1.json; "
    "curl -sk --resolve shop.example:{https_port}:127.0.0.1 https://shop.example:{https_port}/",
)
METRICS = Step(
    15,
    "Istio's metrics",
    "Both proxies of a call count it, under the names that Istio's dashboards know. They count every request, once.",
    _metrics,
    attempt="curl -s http://{ratings}:15020/stats/prometheus | grep istio_requests_total",
)
