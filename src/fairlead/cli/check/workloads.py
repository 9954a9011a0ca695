"""What runs on this host: agents, their certificates, capture rules, and names inside of workloads."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from fairlead.analyze import hostside
from fairlead.cli import hostfacts
from fairlead.cli.check.finding import Category, Finding


def here(state: Path, block: str, host: str) -> Iterator[Finding]:
    """The replicas of a state directory's node. `host` is a name of the mesh, resolved inside of each."""
    made = Category("workloads here")
    if not (state / "node").is_dir():
        yield made.skip("agents", f"no node has run with {state}")
        return
    facts = hostfacts.replicas(state, block, host)
    if not facts:
        yield made.skip("agents run", "none")
        return
    said = list(hostside.of_replicas(facts, time.time()))
    running = sum(one.running for one in facts)
    yield made.judged("agents run", said, ["FL3741"], str(running))
    yield made.judged("certificates", said, ["FL3735", "FL3736", "FL3737"], f"{running} valid")
    captured = sum(one.captured for one in facts)
    if not captured:
        yield made.skip("capture rules", "no workload here has a network namespace that may be looked into")
        return
    yield made.judged("capture rules", said, ["FL3738"], f"of {captured} are as they should be")
    if host:
        yield made.judged("names inside", said, ["FL3739"], f"{host} resolves in all {captured}")
    else:
        yield made.skip("names inside", "the mesh has no service")
