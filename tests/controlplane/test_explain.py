"""Where settings of running proxies come from, and what depends on an object."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from fairlead.cli.main import cli
from fairlead.envoy.resource import LISTENER
from fairlead.model.path import path_of
from fairlead.model.ref import Ref
from tests.controlplane.running_plane import BASICS, entry, obj, routes, service, world
from tests.controlplane.test_effect import STRICT, command, written

RULE = obj(
    "DestinationRule",
    "cart",
    spec={"host": "cart", "trafficPolicy": {"connectionPool": {"tcp": {"connectTimeout": "3s"}}}},
)
MESH = (*BASICS, service("cart"), entry("cart-1", "cart", "10.0.0.1", "cart"), routes("cart", "/old"), RULE, STRICT)
GROUP, FIELD = "networking.istio.io", "spec.trafficPolicy.connectionPool.tcp.connectTimeout"
TIMEOUT = "clusters/*cart*/connectTimeout"


async def _asked(tmp_path: Path) -> None:
    async with world(tmp_path / "state") as made:
        await made.apply(*MESH)
        async with made.proxy("web-1"), made.proxy("cart-1", "cart", LABELS={"app": "cart"}) as server:
            code, text = await command(made, "explain", "web-1.shop", TIMEOUT)
            assert code == 0, text
            assert "DestinationRule shop/cart spec.trafficPolicy.connectionPool.tcp.connectTimeout" in text
            assert "connectTimeout: 3s" in text and "PeerAuthentication" not in text
            code, text = await command(made, "explain", "cart-1.shop", "listeners/virtualInbound")
            assert code == 0 and "PeerAuthentication shop/default spec.mtls.mode" in text
            code, text = await command(made, "explain", "web-1.shop", "routes")
            assert text.split() == ["routes/9080"]

            revision = made.plane.feed.revision
            await made.apply({**RULE, "spec": {"host": "cart"}})
            code, text = await command(made, "explain", "web-1.shop", TIMEOUT)
            assert "connectTimeout: 10s" in text and "a default of the mesh" in text
            code, text = await command(made, "explain", "web-1.shop", TIMEOUT, "--at", str(revision), "-o", "json")
            (setting,) = json.loads(text)["resources"][0]["settings"]
            assert setting["value"] == "3s" and setting["origins"][0]["object"]["kind"] == "DestinationRule"

            pushed = len(server.responses)
            code, text = await command(made, "affects", "virtualservice/cart.shop.http[0].match[0].uri.prefix")
            assert code == 0 and "2 proxies in shop: cart-1, web-1" in text and "routes/9080" in text, text
            code, text = await command(made, "affects", "pa/default.shop")
            assert "2 proxies in shop: cart-1, web-1" in text and "listeners/virtualInbound" in text, text
            code, text = await command(made, "affects", "dr/cart", "-n", "shop", "--at", str(revision), "-o", "json")
            # Its connection pool holds for callers, and for what cart's own sidecar sends to cart.
            served, caller = json.loads(text)["affects"]
            assert [served["proxies"]["count"], caller["proxies"]["count"]] == [1, 1]
            outbound = "outbound|9080||cart.shop.svc.cluster.local"
            assert [one["name"] for one in served["resources"]] == ["inbound|9080||", outbound]
            assert [(one["type"], one["name"]) for one in caller["resources"]] == [("clusters", outbound)]
            assert len(server.responses) == pushed and "virtualInbound" in server.have[LISTENER]

            for wrong, said in (
                (("explain", "nobody.shop", "routes"), "no proxy 'nobody.shop' is connected"),
                (("explain", "web-1.shop", "routes/77"), "no routes called '77'"),
                (("explain", "web-1.shop", "routes/9080/nothing"), "nothing stands at nothing"),
                (("affects", "vs/none.shop"), "there is no VirtualService shop/none"),
                (("affects", "vs/cart.shop.spec.tcp"), "has no spec.tcp"),
                (("explain", "web-1.shop", TIMEOUT, "--at", "99999"), "FL3811"),
            ):
                code, text = await command(made, *wrong)
                assert code == 1 and said in text, text


def _line(file: str, text: str) -> int:
    return next(at for at, line in enumerate(Path(file).read_text().splitlines(), 1) if text in line)


def _begin_with_a_comment(file: str) -> None:
    Path(file).write_text("# a comment\n" + Path(file).read_text())


async def _placed(tmp_path: Path) -> None:
    async with world(tmp_path / "state") as made:
        file = written(tmp_path, "mesh.yaml", *MESH)
        code, text = await command(made, "apply", "-f", file)
        assert code == 0, text
        async with made.proxy("web-1"), made.proxy("cart-1", "cart", LABELS={"app": "cart"}) as server:
            where = f"{file}:{_line(file, 'connectTimeout')}:"
            _, text = await command(made, "explain", "web-1.shop", TIMEOUT)
            assert f"{where}" in text and "DestinationRule shop/cart" in text, text
            _, text = await command(made, "blame", "dr/cart", "-n", "shop", "-o", "json")
            fields = {tuple(one["path"]): one.get("position", "") for one in json.loads(text)["fields"]}
            assert fields["spec", "trafficPolicy", "connectionPool", "tcp", "connectTimeout"].startswith(where)
            _, text = await command(made, "blame", "dr/cart", "-n", "shop")
            assert f"applied from {file}:" in text
            _, text = await command(made, "why", "--from", "web-1.shop", "--to", "http://cart:9080/old", "--verbose")
            assert f"{file}:" in text, text
            bad = routes("bad", "/", "nowhere")
            other = written(tmp_path, "bad.yaml", bad)
            assert (await command(made, "apply", "-f", other))[0] == 0
            _, text = await command(made, "analyze")
            assert f"{other}:" in text, text

            # Lines that move are noted, without a revision, a push or a run of a rule.
            revision, runs, pushed = (
                made.plane.store.revision,
                made.plane.model.engine.runs.total(),
                len(server.responses),
            )
            _begin_with_a_comment(file)
            code, text = await command(made, "apply", "-f", file)
            assert code == 0 and "configured" not in text, text
            where = f"{file}:{_line(file, 'connectTimeout')}:"
            assert made.plane.places.of(Ref(GROUP, "DestinationRule", "shop", "cart"), path_of(FIELD)) is not None
            assert str(made.plane.places.of(Ref(GROUP, "DestinationRule", "shop", "cart"), path_of(FIELD))).startswith(
                where
            )
            after = made.plane.store.revision, made.plane.model.engine.runs.total(), len(server.responses)
            assert after == (revision, runs, pushed)

            # After an edit by other means lines may be others, and nothing is said.
            await made.apply({**RULE, "spec": {**RULE["spec"], "host": "cart.shop.svc.cluster.local"}})
            _, text = await command(made, "explain", "web-1.shop", TIMEOUT)
            rules = [line for line in text.splitlines() if "DestinationRule shop/cart" in line]
            assert rules and not any(file in one for one in rules), text


def test_origins_of_a_running_mesh_have_lines(tmp_path: Path) -> None:
    asyncio.run(_placed(tmp_path))


def test_settings_and_objects_of_a_running_mesh(tmp_path: Path) -> None:
    asyncio.run(_asked(tmp_path))


@pytest.fixture
def files(tmp_path: Path) -> str:
    return written(tmp_path, "mesh.yaml", *MESH)


def test_files_have_lines(files: str, tmp_path: Path) -> None:
    found = CliRunner().invoke(cli, ["explain", "cart-1.shop", TIMEOUT, "-f", files])
    assert found.exit_code == 0, found.output
    line = next(
        number for number, text in enumerate(Path(files).read_text().splitlines(), 1) if "connectTimeout" in text
    )
    assert f"{files}:{line}:" in found.output
    described = tmp_path / "proxy.yaml"
    described.write_text("type: sidecar\nnamespace: shop\n")
    found = CliRunner().invoke(cli, ["explain", TIMEOUT, "-f", files, "--proxy", str(described)])
    assert f"{files}:{line}:" in found.output


def test_files_say_what_depends_on_them(files: str) -> None:
    found = CliRunner().invoke(cli, ["affects", "service/cart.shop", "-f", files])
    assert found.exit_code == 0, found.output
    assert "clusters/outbound|9080||cart.shop.svc.cluster.local is there because of it" in found.output
    found = CliRunner().invoke(cli, ["affects", "serviceaccount/web.shop", "-f", files])
    assert "No proxy depends on it." in found.output


def test_kinds_are_still_explained() -> None:
    assert CliRunner().invoke(cli, ["explain", "vs.http.retries"]).output.startswith("VirtualService")
    assert CliRunner().invoke(cli, ["explain"]).exit_code == 2
    assert "did you mean" in CliRunner().invoke(cli, ["explain", "virtualservise"]).output
