"""What a change would do to proxies that are connected: the route, and the commands that ask it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from fairlead.model.identity import Identity
from fairlead.model.report import CalledService, PlaintextCaller
from tests.controlplane.running_plane import BASICS, World, entry, obj, routes, service, world

Json = dict[str, Any]
STRICT = obj("PeerAuthentication", "default", spec={"mtls": {"mode": "STRICT"}})
MESH = (*BASICS, service("cart"), entry("cart-1", "cart", "10.0.0.1", "cart"), routes("cart"), STRICT)


async def command(made: World, *arguments: str, stdin: str = "") -> tuple[int, str]:
    """A command against the running plane: its exit status and what it prints."""

    def run() -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "fairlead.cli.main", *arguments, "--kubeconfig", str(made.state.kubeconfig)],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, done.stdout + done.stderr

    return await asyncio.to_thread(run)


def written(directory: Path, name: str, *documents: Json) -> str:
    path = directory / name
    path.write_text(yaml.safe_dump_all(documents))
    return str(path)


async def _weakened(made: World, directory: Path) -> str:
    """What is said of a field that makes a change dangerous, among others that do not."""
    other = {**STRICT, "metadata": {**STRICT["metadata"], "labels": {"team": "a"}}}
    other["spec"] = {"mtls": {"mode": "PERMISSIVE"}}
    return (await command(made, "diff", "-f", written(directory, "weaker.yaml", other)))[1]


async def _changes(tmp_path: Path) -> None:
    async with world(tmp_path / "state") as made:
        await made.apply(*MESH)
        async with made.proxy("web-1"), made.proxy("cart-1", "cart", LABELS={"app": "cart"}) as server:
            revision = made.plane.feed.revision
            changed = written(tmp_path, "v2.yaml", routes("cart", "/v2"))
            pushed = len(server.responses)

            code, text = await command(made, "diff", "-f", changed, "-n", "shop")
            assert code == 3 and "2 proxies in shop: cart-1, web-1" in text, text
            assert "this route takes requests with path /v2* now" in text
            code, text = await command(made, "diff", "-f", changed, "-o", "json", "--full")
            found = json.loads(text)
            assert found["proxies"] == 2 and not found["dangers"]
            assert found["effects"][0]["changes"][0]["fields"]

            code, text = await command(made, "diff", "-f", written(tmp_path, "same.yaml", routes("cart")))
            assert code == 0 and "No proxy gets anything else." in text

            weaker = written(tmp_path, "strict.yaml", STRICT)
            code, text = await command(made, "diff", "-f", weaker, "--delete")
            assert code == 4 and "FL3803" in text
            text = await _weakened(made, tmp_path)
            assert f"      by PeerAuthentication shop/default spec.mtls.mode  ({tmp_path}" in text, text
            code, text = await command(made, "delete", "-f", weaker, "--require-safe")
            assert code == 1 and "mutual TLS is weakened" in text and "nothing was changed" in text
            code, text = await command(made, "apply", "--force-conflicts", "--diff", "-f", changed, stdin="n\n")
            assert code == 1 and "Do it?" in text
            # Status of policies may still be written meanwhile: nothing that was asked for is there.
            for one in (routes("cart"), STRICT):
                assert (await made.get(one))["spec"] == one["spec"]
            assert len(server.responses) == pushed

            agreed = ("--force-conflicts", "--diff", "--yes", "--require-safe")
            code, text = await command(made, "apply", *agreed, "-f", changed)
            assert code == 0 and "configured" in text, text
            code, text = await command(made, "apply", "--force-conflicts", "--diff", "-f", changed, stdin="")
            assert code == 0 and "Do it?" not in text and "unchanged" in text, "there is nothing to ask about"
            code, text = await command(made, "diff", "--against", str(revision))
            assert code == 3 and "this route takes requests with path /v2* now" in text
            assert (await command(made, "diff", "--against", "99999"))[0] == 1


NOBODY = obj(
    "AuthorizationPolicy",
    "cart",
    version="security.istio.io/v1",
    spec={"selector": {"matchLabels": {"app": "cart"}}, "rules": [{"from": [{"source": {"namespaces": ["ops"]}}]}]},
)


async def _callers(tmp_path: Path) -> None:
    async with world(tmp_path / "state") as made:
        await made.apply(*(one for one in MESH if one is not STRICT))
        async with made.proxy("web-1") as client, made.proxy("cart-1", "cart", LABELS={"app": "cart"}):
            strict, nobody = written(tmp_path, "strict.yaml", STRICT), written(tmp_path, "nobody.yaml", NOBODY)
            _, text = await command(made, "diff", "-f", strict)
            assert "FL3815" in text and "in plaintext is not known" in text, text

            cart, web = (Identity("cluster.local", "shop", one) for one in ("cart", "web"))
            for name, who in (("cart-1.shop", cart), ("web-1.shop", web)):
                made.plane.plaintext.add(name, who, [])
            _, text = await command(made, "diff", "-f", strict)
            assert "FL3815" not in text and "nobody was seen to call it in plaintext" in text, text
            made.plane.plaintext.add("cart-1.shop", cart, [PlaintextCaller(9080, "10.7.7.7", 1, time.time())])
            code, text = await command(made, "apply", "--require-safe", "-f", strict)
            assert code == 1 and "10.7.7.7 called it in plaintext" in text and "nothing was changed" in text, text

            called = [CalledService("cart.shop.svc.cluster.local", "shop", 3, time.time())]
            made.plane.traffic.add(client.node_id, called)
            code, text = await command(made, "apply", "--require-safe", "-f", nobody)
            assert code == 1 and "web-1.shop called it and will be denied" in text and "[FL3809]" in text, text
            with pytest.raises(Exception, match="not found"):
                await made.get(NOBODY)


async def _questions(tmp_path: Path) -> None:
    async with world(tmp_path / "state") as made:
        await made.apply(*BASICS)
        bad = written(tmp_path, "bad.yaml", obj("VirtualService", "cart", spec={"hosts": ["cart"], "htp": []}))
        code, text = await command(made, "diff", "-f", bad)
        assert code == 1 and "bad.yaml:" in text and "FL0003" in text
        assert (await command(made, "diff"))[0] == 2
        assert (await command(made, "diff", "-f", bad, "--against", "1"))[0] == 2
        with pytest.raises(Exception, match="FL3810"):
            await made.api("POST", "/fairlead/v1/effect", {"documens": []})
        with pytest.raises(Exception, match="FL3812"):
            await made.api("POST", "/fairlead/v1/effect", {"documents": [{"kind": "Nothing", "apiVersion": "v1"}]})


def test_a_change_is_told_before_it_is_made(tmp_path: Path) -> None:
    asyncio.run(_changes(tmp_path))


def test_callers_that_were_seen_make_a_refusal_a_danger(tmp_path: Path) -> None:
    asyncio.run(_callers(tmp_path))


def test_wrong_questions_are_answered(tmp_path: Path) -> None:
    asyncio.run(_questions(tmp_path))


def test_files_alone(tmp_path: Path) -> None:
    before = written(tmp_path, "mesh.yaml", *MESH)
    change = written(tmp_path, "change.yaml", service("cart"), routes("cart"))
    done = subprocess.run(
        [sys.executable, "-m", "fairlead.cli.main", "diff", "--from", before, "-f", change, "-n", "shop", "--delete"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 4, done.stderr
    assert "cart.shop:9080 vanishes" in done.stdout
