"""What disagrees is made small."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from fairlead.simulate.request import Caller, Request
from tests.differential.calls import Call
from tests.differential.shrinking import shrunk
from tests.differential.topology import Json


def test_what_does_not_matter_is_left_out() -> None:
    documents: list[Json] = [
        {"kind": "Other", "spec": {"a": 1}},
        {"kind": "Cause", "spec": {"rules": [{"x": 1}, {"y": {"deep": True, "more": 2}}], "selector": {}}},
    ]
    call = Call(Caller("plaintext"), Request("a", 80, path="/long", headers=(("x-user", "bob"), ("x-tier", "gold"))))

    async def holds(kept: Sequence[Json], asked: Call) -> bool:
        rules = [rule for one in kept if one["kind"] == "Cause" for rule in one["spec"].get("rules", ())]
        cause = any(rule.get("y", {}).get("deep") for rule in rules)
        return cause and ("x-user", "bob") in asked.request.headers

    small, plain = asyncio.run(shrunk(documents, call, holds))
    assert small == [{"kind": "Cause", "spec": {"rules": [{"y": {"deep": True}}]}}]
    assert plain.request == Request("a", 80, headers=(("x-user", "bob"),))
