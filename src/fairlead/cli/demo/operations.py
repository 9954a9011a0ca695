"""Steps: what operators do, and what happens to them."""

from __future__ import annotations

import asyncio
import re
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec

from fairlead.cli.client import ClientError, Refused
from fairlead.cli.demo.mesh import PROGRAM, until
from fairlead.cli.demo.routing import EFFECT, REVIEWS
from fairlead.cli.demo.shop import NAMESPACE, Shop, where
from fairlead.cli.demo.step import Check, Step, exactly, took, zero
from fairlead.cli.demo.traffic import Load
from fairlead.compiler.registry import registry
from fairlead.model.manifest import Json

RESTARTED = ("web-v1", "catalog-v1", "reviews-v2")
EVERYTHING = "/"
"""A request that reaches web, catalog, reviews and, from its version 2 on, ratings; 200 only if all answered."""
WRITES = 50
AWAY = 300
"""Requests that must be answered while there is no control plane."""
RESTART_LIMIT = 90.0
LEAST = 200


def _pids(instances: list[Json]) -> set[int]:
    return {int(one["pid"]) for one in instances if one.get("pid")}


async def _rolling(shop: Shop) -> list[Check]:
    before = {name: _pids(await shop.instances(name)) for name in RESTARTED}
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    patch = {"metadata": {"annotations": {"fairlead.dev/restarted-at": stamp}}}
    began = time.monotonic()
    async with shop.traffic.load(EVERYTHING) as load:
        await until("the load runs", lambda: _sent(load, LEAST))
        for name in RESTARTED:
            path = f"/apis/fairlead.dev/v1alpha1/namespaces/{NAMESPACE}/processes/{name}"
            await shop.mesh.request("PATCH", path, patch, "application/merge-patch+json")

        async def replaced() -> bool:
            for name in RESTARTED:
                found = await shop.instances(name)
                if len(found) != 1 or not found[0].get("ready") or _pids(found) & before[name]:
                    return False
            return True

        await until("the restart is done", replaced, RESTART_LIMIT)
        seconds = time.monotonic() - began
        enough = load.sent + LEAST
        await until("the load goes on", lambda: _sent(load, enough))
    return [
        _unharmed(load),
        took(f"until {', '.join(RESTARTED)} were replaced", seconds, RESTART_LIMIT),
    ]


def _unharmed(load: Load) -> Check:
    check = zero("requests that failed", len(load.failed), load.sent, LEAST)
    return msgspec.structs.replace(check, measured=f"{check.measured}: {load.failed[0]}") if load.failed else check


async def _sent(load: Load, count: int) -> bool:
    return load.sent >= count


async def _objects(shop: Shop) -> dict[str, tuple[str, int, Any]]:
    """Every stored object: its uid, revision and spec."""
    found: dict[str, tuple[str, int, Any]] = {}
    for kind in registry().kinds:
        root = f"/apis/{kind.group}/{kind.versions[0]}" if kind.group else f"/api/{kind.versions[0]}"
        listed: list[Json] = (await shop.mesh.request("GET", f"{root}/{kind.plural}"))["items"]
        for one in listed:
            meta = one["metadata"]
            key = f"{kind.plural}/{meta.get('namespace', '')}/{meta['name']}"
            content = one.get("spec", one.get("data"))
            found[key] = (str(meta["uid"]), int(meta["resourceVersion"]), content)
    return found


async def _write(shop: Shop, at: int) -> None:
    name = f"written-{at}"
    document = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "data": {"at": str(at)},
    }
    await shop.mesh.request("POST", f"/api/v1/namespaces/{NAMESPACE}/configmaps", document)


async def _killed(shop: Shop) -> list[Check]:
    proxies = {one["name"] for one in (await shop.mesh.proxies())["proxies"]}
    async with shop.traffic.load(EVERYTHING) as load:
        await until("the load runs", lambda: _sent(load, LEAST))
        for at in range(WRITES):
            await _write(shop, at)
        before, revision = await _objects(shop), await shop.mesh.revision()
        last = WRITES
        await _write(shop, last)
        # In the very moment after the last write was acknowledged.
        shop.mesh.kill_control_plane()
        gone = time.monotonic()
        at_kill = load.sent
        await until("the load goes on", lambda: _sent(load, at_kill + AWAY))
        away = time.monotonic() - gone
        refused = await _down(shop)
        answering = await shop.mesh.start_control_plane()
        after, newest = await _objects(shop), await shop.mesh.revision()
        began = time.monotonic()
        await shop.mesh.settled(proxies)
        reconnected = time.monotonic() - began
        async with shop.applied(*shop.policy("header-routing")) as effect:
            versions = Counter(where(one) for one in await shop.traffic.many(50, REVIEWS, {"x-user": "jason"}))
    lost = [
        key for key, (uid, at, content) in before.items() if key not in after or _older(after[key], uid, at, content)
    ]
    for at in range(WRITES + 1):
        await shop.mesh.delete_path(f"/api/v1/namespaces/{NAMESPACE}/configmaps/written-{at}")
    acked = f"configmaps/{NAMESPACE}/written-{last}"
    return [
        _unharmed(load),
        Check(
            "control plane away",
            f"{AWAY} requests or more",
            f"{away + answering:.1f} s, API {refused}",
            refused == "unreachable",
        ),
        exactly("objects lost or older", 0, len(lost)),
        exactly("write acknowledged just before the kill", "there", "there" if acked in after else "lost"),
        Check("revision", f"above {revision}", str(newest), newest > revision),
        took(f"until all {len(proxies)} proxies are connected and in sync", reconnected, 20),
        exactly("an edit afterwards takes effect", {"v3": 50}, dict(versions)),
        took("it is acknowledged by every proxy", effect, EFFECT),
    ]


def _older(now: tuple[str, int, Any], uid: str, at: int, content: Any) -> bool:
    return now[0] != uid or now[1] < at or now[2] != content


async def _down(shop: Shop) -> str:
    try:
        await shop.mesh.revision()
    except ClientError:
        return "unreachable"
    return "answers"


async def _malformed(shop: Shop) -> list[Check]:
    file = shop.policy("malformed")[0]
    text = file.read_text().splitlines()
    line = next(at for at, one in enumerate(text, 1) if "wieght" in one and not one.startswith("#"))
    place = f"{line}:{text[line - 1].index('wieght') + 1}"
    done = await asyncio.to_thread(
        subprocess.run,
        [*PROGRAM, "apply", "--state", str(shop.mesh.place.state), "-f", str(file)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    said = next((one for one in done.stderr.splitlines() if "wieght" in one), done.stderr.strip())
    try:
        await shop.mesh.request("GET", f"/apis/networking.istio.io/v1/namespaces/{NAMESPACE}/virtualservices/reviews")
        stored = "stored"
    except Refused as refused:
        stored = "not stored" if refused.code == 404 else str(refused)
    meant = "weight" in said
    return [
        exactly("exit status of `fairlead apply`", 1, done.returncode),
        exactly("the place that it names", f"{file.name}:{place}", _placed(said, file)),
        Check("and the field that was meant", "weight", "named" if meant else "not named", meant),
        exactly("the object", "not stored", stored),
    ]


def _placed(said: str, file: Path) -> str:
    """FILE:LINE:COLUMN at the beginning of a complaint; the whole complaint if it begins otherwise."""
    found = re.match(rf"{re.escape(str(file))}:(\d+:\d+): ", said)
    return f"{file.name}:{found[1]}" if found else said


ROLLING = Step(
    12,
    "rolling restart under load",
    "web, catalog and a version of reviews are replaced while users shop: a new instance starts and is ready before "
    "the old one finishes its requests and goes.",
    _rolling,
    attempt="curl -s {http}/   # meanwhile: {fairlead} get processes -n shop -w --state {state}",
)
KILLED = Step(
    13,
    "control plane killed",
    "kill -9 for the control plane while users shop. The proxies go on with what they have. When it comes back, every "
    "object is there, every proxy is in sync, and it takes orders again.",
    _killed,
    attempt="{fairlead} proxy-status --state {state}",
)
MALFORMED = Step(
    14,
    "malformed object refused",
    "A VirtualService with a misspelt field is refused, with file, line and column, before it can do harm.",
    _malformed,
    ("malformed.yaml",),
)
