"""Steps: where requests and connections go."""

from __future__ import annotations

import time
from collections import Counter

from fairlead.cli.demo.mesh import until
from fairlead.cli.demo.shop import Shop, where
from fairlead.cli.demo.step import Check, Step, exactly, share, took, zero

REVIEWS = "/call/reviews/reviews/1"
CANARY_REQUESTS = 2000
SOME = 100
MIRRORED = 200
CONNECTIONS = 200
EFFECT = 5.0
"""Seconds within which an edit must be acknowledged by every proxy."""
ACKNOWLEDGED = "from apply to acknowledged by every proxy"


async def _canary(shop: Shop) -> list[Check]:
    async with shop.applied(*shop.policy("canary")) as seconds:
        replies = await shop.traffic.many(CANARY_REQUESTS, REVIEWS)
    versions = Counter(where(one) for one in replies)
    return [
        share("share of v2", versions["v2"], len(replies), 0.1),
        exactly("answers of v1 and v2", CANARY_REQUESTS, versions["v1"] + versions["v2"]),
        took(ACKNOWLEDGED, seconds, EFFECT),
    ]


async def _headers(shop: Shop) -> list[Check]:
    async with shop.applied(*shop.policy("header-routing")):
        jason = Counter(where(one) for one in await shop.traffic.many(SOME, REVIEWS, {"x-user": "jason"}))
        others = Counter(where(one) for one in await shop.traffic.many(SOME, REVIEWS, {"x-user": "anna"}))
    return [
        exactly("answers for x-user: jason", {"v3": SOME}, dict(jason)),
        exactly("answers for x-user: anna", {"v1": SOME}, dict(others)),
    ]


async def _mirror(shop: Shop) -> list[Check]:
    async with shop.applied(*shop.policy("mirror")):
        await shop.seen("reviews-v3", reset=True)
        replies = await shop.traffic.many(MIRRORED, REVIEWS)
        versions = Counter(where(one) for one in replies)

        async def all_seen() -> bool:
            return await shop.seen("reviews-v3") >= MIRRORED

        # Nobody waits for a mirror's answer, so it may be a moment behind.
        await until("the mirror sees the requests", all_seen, 10)
        mirrored = await shop.seen("reviews-v3")
    return [
        exactly("answers that callers saw", {"v1": MIRRORED}, dict(versions)),
        exactly("requests that the mirror v3 saw", MIRRORED, mirrored),
    ]


async def _tcp(shop: Shop) -> list[Check]:
    async with shop.applied(*shop.policy("tcp-routing")):
        began = time.monotonic()

        async def moved() -> bool:
            return "v2" in str((await shop.traffic.get("/ledger?say=VERSION")).field("ledger"))

        await until("a connection reaches ledger v2", moved)
        seconds = time.monotonic() - began
        replies = await shop.traffic.many(CONNECTIONS, "/ledger?say=VERSION")
    versions = Counter(str(one.field("ledger", one.status)).split(" ")[0] for one in replies)
    return [
        share("share of connections to v2", versions["v2"], len(replies), 0.8),
        zero("connections that failed", len(replies) - versions["v1"] - versions["v2"], len(replies), CONNECTIONS),
        took("from acknowledged to the first connection to v2", seconds, EFFECT),
    ]


CANARY = Step(
    2,
    "canary 90/10",
    "One request in ten goes to version 2 of reviews, the rest to version 1. The proxy of each caller draws the lot; "
    "reviews knows nothing of it.",
    _canary,
    ("canary.yaml",),
    "for i in $(seq 20); do curl -s {http}/call/reviews/reviews/1 | grep -o '\"reviews-v.'; done",
)
HEADERS = Step(
    3,
    "header routing",
    "Requests with the header `x-user: jason` see version 3 of reviews, everybody else version 1.",
    _headers,
    ("header-routing.yaml",),
    "curl -s -H 'x-user: jason' {http}/call/reviews/reviews/1",
)
MIRROR = Step(
    7,
    "mirroring",
    "Version 3 of reviews gets a copy of every request. Callers see version 1 only; what v3 answers is thrown away. "
    "So a new version meets real traffic before any user does.",
    _mirror,
    ("mirror.yaml",),
    "curl -s {http}/call/reviews/reviews/1",
)
TCP = Step(
    11,
    "TCP routing",
    "The ledger speaks no HTTP, only lines over TCP. Whole connections are divided: eight in ten go to version 2.",
    _tcp,
    ("tcp-routing.yaml",),
    "curl -s '{http}/ledger?say=VERSION'",
)
