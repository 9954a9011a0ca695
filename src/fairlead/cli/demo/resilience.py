"""Steps: what happens when things fail, or are made to."""

from __future__ import annotations

from collections import Counter
from statistics import median

from fairlead.cli.demo.routing import REVIEWS
from fairlead.cli.demo.shop import Shop, where
from fairlead.cli.demo.step import Check, Step, exactly, share
from fairlead.cli.demo.traffic import Reply

RATINGS = "/call/ratings/ratings/1"
FAULTS = 400
DELAY, EARLY = 0.3, 0.01
"""The delay of faults.yaml, and how much too early Envoy's timer may end (it reads the clock once a round)."""
RETRIED = 300
ERRORS = 5
AFTER = 300


def _seconds(reply: Reply) -> float:
    """How long the call took, as web measured it."""
    return float(reply.field("seconds", 0.0))


async def _faults(shop: Shop) -> list[Check]:
    async with shop.applied(*shop.policy("faults")):
        replies = await shop.traffic.many(FAULTS, RATINGS, concurrency=16)
    late = [one for one in replies if _seconds(one) >= DELAY - EARLY]
    soon = [one for one in replies if _seconds(one) < DELAY - EARLY]
    aborted = sum(one.inner_status == 503 for one in replies)
    late_middle, middle = (median(map(_seconds, part)) if part else 0.0 for part in (late, soon))
    return [
        share(f"share of calls delayed by {DELAY * 1000:.0f} ms", len(late), len(replies), 0.5),
        Check(
            "median time of delayed calls, of the others",
            "300 to 500 ms, below 100 ms",
            f"{late_middle * 1000:.0f} ms, {middle * 1000:.0f} ms",
            DELAY - EARLY <= late_middle < 0.5 and middle < 0.1,
        ),
        share("share of calls aborted with 503", aborted, len(replies), 0.2),
        exactly("calls with 200 or 503", FAULTS, sum(one.inner_status in (200, 503) for one in replies)),
    ]


async def _retries(shop: Shop) -> list[Check]:
    await shop.fail("reviews-v3", 1)
    try:
        async with shop.applied(*shop.policy("no-retries")):
            without = await shop.traffic.many(RETRIED, REVIEWS)
        async with shop.applied(*shop.policy("retries")):
            await shop.seen("reviews-v3", reset=True)
            replies = await shop.traffic.many(RETRIED, REVIEWS)
            hidden = await shop.seen("reviews-v3")
    finally:
        await shop.fail("reviews-v3", 0)
    bare = sum(one.inner_status == 200 for one in without)
    helped = sum(one.inner_status == 200 for one in replies)
    return [
        Check("success without retries", "below 90 %", f"{bare / RETRIED:.1%}", 0 < bare < 0.9 * RETRIED),
        Check("success with retries", "100 %", f"{helped / RETRIED:.1%}", helped == RETRIED),
        Check("failures of v3 that nobody saw", "1 or more", str(hidden), hidden > 0),
    ]


async def _outlier(shop: Shop) -> list[Check]:
    async with shop.applied(*shop.policy("no-retries", "outlier-ejection")):
        await shop.fail("reviews-v3", 1)
        try:
            await shop.seen("reviews-v3", reset=True)
            failed = 0
            for _ in range(AFTER):
                failed += (await shop.traffic.get(REVIEWS)).inner_status == 503
                if failed == ERRORS:
                    break
            rest = await shop.traffic.many(AFTER, REVIEWS)
            seen = await shop.seen("reviews-v3")
            stats = await shop.stats("web-v1", r"outbound.*reviews.*outlier_detection\.ejections_active")
        finally:
            await shop.fail("reviews-v3", 0)
    versions = Counter(where(one) for one in rest)
    return [
        exactly("errors of v3 until it is left out", ERRORS, seen),
        exactly(f"answers of v3 to the next {AFTER} requests", 0, versions["v3"]),
        exactly("of them with 200", AFTER, sum(one.inner_status == 200 for one in rest)),
        exactly("Envoy's outlier_detection.ejections_active", 1, sum(stats.values())),
    ]


FAULT = Step(
    4,
    "delay and abort faults",
    "The proxies make ratings slow (300 ms, every second call) and broken (503, every fifth) without touching it: "
    "how do its callers take that?",
    _faults,
    ("faults.yaml",),
    "curl -s {http}/call/ratings/ratings/1",
)
RETRIES = Step(
    5,
    "retries",
    "Version 3 of reviews now fails every request. Without retries, callers see that; with retries, the caller's proxy "
    "asks another instance and nobody notices.",
    _retries,
    ("no-retries.yaml", "retries.yaml"),
    "curl -s '{http}/call/reviews/fail?share=1'; for i in $(seq 9); do curl -s {http}/call/reviews/reviews/1; done",
)
OUTLIER = Step(
    6,
    "outlier ejection",
    "Version 3 fails every request again. After five errors in a row its callers leave it out for a minute.",
    _outlier,
    ("no-retries.yaml", "outlier-ejection.yaml"),
    "curl -s '{http}/call/reviews/fail?share=1'; for i in $(seq 30); do curl -s {http}/call/reviews/reviews/1; done",
)
