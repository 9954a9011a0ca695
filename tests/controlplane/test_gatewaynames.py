"""Names of networks' gateways: looked up, kept where that fails, forgotten with the last network that has them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from fairlead.compiler.model import MeshModel
from fairlead.compiler.offline import load
from fairlead.controlplane.feed import Feed
from fairlead.controlplane.gatewaynames import GatewayNames
from fairlead.ir.network import GATEWAY_ADDRESSES
from fairlead.model.yaml import parse_documents
from fairlead.store.store import Store

from .running_plane import until


async def _look_up(directory: Path) -> None:
    answers: dict[str, tuple[str, ...]] = {"gate.example": ("192.0.2.1",)}

    async def resolve(name: str) -> tuple[str, ...]:
        if name not in answers:
            raise OSError(-2, "Name or service not known")
        return answers[name]

    store = Store(directory / "store.db")
    model = MeshModel()
    feed = Feed(store, model)
    feed.start()
    names = GatewayNames(feed, resolve, refresh=0.02)

    def networks(*gateways: str) -> None:
        said = {"networks": {"far": {"gateways": [{"address": one, "port": 15443} for one in gateways]}}}
        meta = {"name": "istio", "namespace": "istio-system"}
        data = {"meshNetworks": json.dumps(said)}
        text = json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data})
        load(model, parse_documents(text, "networks"))
        feed.flush()

    def found() -> dict[str, tuple[str, ...]]:
        return dict(model.engine.items(GATEWAY_ADDRESSES))

    try:
        networks("gate.example", "none.example", "192.0.2.9")
        names.start()
        await until(lambda: found() == {"gate.example": ("192.0.2.1",)} and names.findings(), "the name is known")
        assert "none.example of a network cannot be looked up: Name or service not known" in names.findings()[0]
        answers["gate.example"] = ("192.0.2.1", "192.0.2.2")
        await until(lambda: found() == {"gate.example": ("192.0.2.1", "192.0.2.2")}, "it has moved")
        answers.clear()
        await until(lambda: len(names.findings()) == 2, "it cannot be looked up")
        assert found() == {"gate.example": ("192.0.2.1", "192.0.2.2")}
        networks("192.0.2.9")
        await until(lambda: not found() and not names.findings(), "nobody wants it")
    finally:
        await names.stop()
        feed.stop()
        store.close()


def test_names_of_gateways_are_looked_up(tmp_path: Path) -> None:
    asyncio.run(_look_up(tmp_path))
