"""Who changed what: `fairlead history`, `show`, `blame`, `rollback` and `get --at` on a running control plane."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import uvloop
import yaml
from click.testing import CliRunner

from fairlead.cli.main import cli
from fairlead.model.ref import Ref

from .running_plane import BASICS, World, entry, obj, routes, service, until, world

Json = dict[str, Any]


class Ask:
    """The command line against a world, in a thread of its own."""

    def __init__(self, made: World) -> None:
        self._made = made

    async def __call__(self, *arguments: str, stdin: str = "", code: int = 0) -> str:
        where = ["--state", str(self._made.state.path)]
        done = await asyncio.to_thread(CliRunner().invoke, cli, [*arguments, *where], input=stdin)
        assert done.exit_code == code, (arguments, done.output, done.exception)
        return done.output

    async def data(self, *arguments: str) -> Any:
        return json.loads(await self(*arguments, "-o", "json"))

    async def apply(self, *documents: Json, message: str = "") -> None:
        await self("apply", "-f", "-", "-m", message, stdin=yaml.safe_dump_all(documents))


def _weights(first: int, prefix: str = "/") -> Json:
    made = routes("cart", prefix)
    made["spec"]["http"][0]["route"] = [
        {"destination": {"host": "cart", "subset": "v1"}, "weight": first},
        {"destination": {"host": "cart", "subset": "v2"}, "weight": 100 - first},
    ]
    return made


def test_what_was_done_is_known_and_can_be_undone(tmp_path: Path) -> None:
    async def run() -> None:
        async with world(tmp_path) as made:
            ask = Ask(made)
            await ask.apply(*BASICS, service("cart"))
            async with made.proxy("web-1"):
                await ask.apply(_weights(90), message="a first share")
                first = _edited(made)
                await until(lambda: made.condition("VirtualService", "cart").get("status") == "True", "programmed")
                await ask.apply(_weights(50), message="half of it")
                second = _edited(made)
                await _is_told(ask, first, second)
                await _is_blamed(ask, second)
                await _is_restored(ask, made, first, second)

    uvloop.run(run())


_REF = Ref("networking.istio.io", "VirtualService", "shop", "cart")


def _edited(made: World) -> int:
    """The newest revision that is no write of status only."""
    return next(one.revision for one in reversed(made.plane.store.history(_REF)) if one.meant)


async def _is_told(ask: Ask, first: int, second: int) -> None:
    rows = await ask.data("history", "vs/cart", "-n", "shop")
    assert [one["revision"] for one in rows] == [second, first], "writes of status only are left out"
    newest = rows[0]
    assert newest["author"] == "fairlead:admin" and newest["message"] == "half of it"
    assert newest["via"] == "apply by fairlead" and newest["command"].endswith(": fairlead apply -f -")
    what = newest["changes"][0]["what"]
    assert "spec.http[0].route[0].weight: 90 -> 50" in what and "route[1].weight: 10 -> 50" in what
    assert len(await ask.data("history", "vs/cart", "-n", "shop", "--status")) > 2
    assert await ask.data("history", "--limit", "1") == rows[:1]
    assert "VirtualService shop/cart created (a first share)" in await ask("history", "--since", "10m")
    assert "there is no VirtualService shop/none" in await ask("history", "vs/none", "-n", "shop", code=1)
    assert "no change is on record" in await ask("history", "vs", "-n", "elsewhere")
    assert "did you mean 'cart'?" in await ask("rollback", "vs/carr@1", "-n", "shop", code=1)
    assert "did you mean 'cart'?" in await ask("delete", "vs", "carr", "-n", "shop", code=1)
    assert "no such namespace; did you mean 'shop'?" in await ask("get", "vs", "-n", "shp")
    table = await ask("show", str(second))
    assert "spec.http[0].route[0].weight\n      - 90\n      + 50" in table
    assert "FL3902" in await ask("show", "100000", code=1)
    old = json.loads(await ask("get", "vs", "cart", "-n", "shop", "--at", str(first), "-o", "json"))
    assert old["spec"]["http"][0]["route"][0]["weight"] == 90
    assert "cart" in await ask("get", "vs", "-n", "shop", "--at", str(first))
    assert "no such VirtualService at revision 1" in await ask(
        "get", "vs", "cart", "-n", "shop", "--at", "1", "-o", "yaml", code=1
    )


def test_one_line_of_time(tmp_path: Path) -> None:
    async def run() -> None:
        async with world(tmp_path) as made:
            ask = Ask(made)
            await ask.apply(*BASICS, service("cart"), entry("cart-1", "cart", "10.1.0.1", "cart"))
            async with made.proxy("web-1") as one, made.proxy("web-2") as slow:
                await until(lambda: made.plane.proxies.counts().behind == 0, "all in sync")
                await one.healthy(False, "it fails")
                one.refuse["outbound|9080|v1|cart.shop.svc.cluster.local"] = "no such thing as v1"
                await ask.apply(_subsets("v1"))
                at = made.plane.store.revision
                await until(lambda: made.plane.proxies.counts().behind == 0, "all have answered")
                text = await ask("show", str(at))
                assert "web-1.shop refused Cluster outbound|9080|v1|cart" in text, text
                assert "no such thing as v1" in text and "web-2.shop acknowledged after" in text
                slow.mute = True
                await ask.apply(_subsets("v1", "v2"))
                late = made.plane.store.revision
                await until(lambda: slow.muted, "one does not answer")
                for push in made.plane.chronicle.open_pushes():
                    push.since -= 60
                said = await until(lambda: _late(ask, late), "the one that does not answer is named")
                assert "had not answered" in said and "web-2.shop" in said
                await slow.answer_all()
                await until(lambda: made.plane.proxies.counts().behind == 0, "all have answered")
            found = await ask.data("changed", "--since", "10m")
            kinds = {one["kind"] for one in found}
            assert kinds >= {"commit", "push", "nack", "joined", "left", "certificate", "health", "started"}, kinds
            assert [one["time"] for one in found] == sorted(one["time"] for one in found)
            nack = next(one for one in found if one["kind"] == "nack")
            assert nack["proxy"] == "web-1.shop" and nack["text"] == "no such thing as v1"
            certificate = next(one for one in found if one["kind"] == "certificate")
            assert "issued for a join token" in certificate["text"] and certificate["subject"].endswith("/sa/web")
            assert not [one for one in found if one["kind"] == "commit" and "status only" in one["text"]]
            about = await ask.data("changed", "--proxy", "web-1.shop")
            assert {one["kind"] for one in about} >= {"joined", "synced", "nack", "health", "push"}
            pushes = [one["detail"]["answers"] for one in about if one["kind"] == "push"]
            assert {"web-1.shop": "refused"} in pushes and {"web-1.shop": "acknowledged"} in pushes
            slowly = [one["text"] for one in await ask.data("changed", "--proxy", "web-2.shop", "--kind", "push")]
            assert any("web-2.shop had not answered after 6" in one for one in slowly)
            assert any("web-2.shop acknowledged after 6" in one for one in slowly), "when it did at last"
            assert "web-2.shop acknowledged after 6" in await ask("show", str(late), "--proxies")
            endpoint = next(one for one in found if one["kind"] == "endpoint")
            assert endpoint["text"].startswith("added to cart.shop.svc.cluster.local: 10.1.0.1 (")
            assert "fairlead apply -f -" in endpoint["text"] and endpoint["proxy"] == "cart-1.shop"
            assert not [one for one in about if one["proxy"] == "web-2.shop"]
            for words in (("describe", "svc/carts"), ("blame", "svc/carts"), ("get", "svc", "carts")):
                assert "did you mean 'cart'?" in await ask(*words, "-n", "shop", code=1)
            assert "there is one in namespace shop: name it with -n" in await ask("describe", "svc/cart", code=1)
            table = await ask("changed", "--kind", "health", "--kind", "commit")
            assert "not healthy: it fails" in table and "joined" not in table
            assert "FL3903" in await ask("changed", "--kind", "nonsense", code=1)

    uvloop.run(run())


async def _late(ask: Ask, revision: int) -> str:
    text = await ask("show", str(revision))
    return text if "had not answered" in text else ""


def _subsets(*names: str) -> Json:
    return obj("DestinationRule", "cart", spec={"host": "cart", "subsets": [{"name": name} for name in names]})


async def _is_blamed(ask: Ask, second: int) -> None:
    text = await ask("blame", "vs/cart", "-n", "shop")
    lines = text.splitlines()
    edited = [line for line in lines if line.lstrip().startswith(str(second))]
    assert any("weight: 50" in line for line in edited), text
    host = next(line for line in lines if "prefix: /" in line)
    assert not host.lstrip().startswith(str(second)), text
    found = await ask.data("blame", "vs/cart", "-n", "shop")
    assert {one["revision"] for one in found["edits"]} == {one["revision"] for one in found["fields"]}
    assert "there is no VirtualService shop/none" in await ask("blame", "vs/none", "-n", "shop", code=1)


async def _is_restored(ask: Ask, made: World, first: int, second: int) -> None:
    def share() -> int:
        document = made.plane.store.get(_REF)
        return document["spec"]["http"][0]["route"][0]["weight"] if document else 0

    dry = await ask("rollback", f"vs/cart@{first}", "-n", "shop", "--dry-run")
    assert (
        "- 50\n      + 90" in dry and f"takes back {second}" in dry and "1 proxy gets something else (1 route)" in dry
    )
    assert _edited(made) == second, "a dry run writes nothing"
    await ask("rollback", f"vs/cart@{first}", "-n", "shop", stdin="n\n", code=1)
    assert share() == 50
    await ask("rollback", f"vs/cart@{first}", "-n", "shop", "--yes", "-m", "errors")
    assert share() == 90
    newest = (await ask.data("history", "--limit", "1"))[0]
    assert newest["message"] == f"back to {first}: errors" and newest["via"] == "rollback by fairlead"
    # Whoever applied it still owns it: no conflict of field managers.
    await ask.apply(_weights(40))
    # Twice edited since: refused by name, unless forced.
    said = await ask("rollback", f"vs/cart@{first}", "-n", "shop", "--yes", code=1)
    assert "edited again in revision" in said and "FL3900" in said
    await ask("rollback", f"vs/cart@{first}", "-n", "shop", "--yes", "--force")
    assert share() == 90
    # One revision is taken back, and what came later stays.
    await ask.apply(_weights(40))
    taken = _edited(made)
    await ask.apply(_weights(40, "/api"))
    await ask("rollback", "--undo", str(taken), "--yes")
    document = made.plane.store.get(_REF)
    assert share() == 90 and document and document["spec"]["http"][0]["match"][0]["uri"]["prefix"] == "/api"
    # Deleted and restored: the address is the same one.
    address = made.plane.store.list("", "Service", "shop")[0]["spec"]["clusterIP"]
    entry = obj("ServiceEntry", "out", spec=_OUT)
    await ask.apply(entry)
    given = (await made.get(entry))["status"]["addresses"]
    before = made.plane.store.revision
    await ask("delete", "svc/cart", "se/out", "vs/cart", "-n", "shop", "-m", "by mistake")
    await ask("rollback", str(before), "--yes")
    assert made.plane.store.list("", "Service", "shop")[0]["spec"]["clusterIP"] == address
    assert (await made.get(entry))["status"]["addresses"] == given
    assert share() == 90
    assert "nothing to do" in await ask("rollback", str(before), "--yes")
    assert "Usage" in await ask("rollback", "vs/cart", code=2)
    assert "FL3902" in await ask("rollback", "99999", "--yes", code=1)


_OUT: Json = {
    "hosts": ["out.example.com"],
    "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
    "resolution": "DNS",
}
