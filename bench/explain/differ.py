"""The simulator against real Envoy, for long: `python -m bench.explain.differ --pairs 100000 --seed 1`."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import msgspec
from tests.differential.matrices import everything
from tests.differential.meshes import credentials
from tests.differential.reality import Reality
from tests.differential.recorded import of, write
from tests.differential.shrinking import disagreeing, shrunk
from tests.differential.topology import base
from tests.differential.trial import Disagreement, Tally, generated, tried


async def run(pairs: int, seed: str, per_mesh: int, most: int, shrink: int, matrices: bool) -> Tally:
    """Try meshes until so many pairs have been compared, or so many disagreements found."""
    tally = Tally()
    with tempfile.TemporaryDirectory() as folder:
        async with Reality(Path(folder)) as real:
            if matrices:
                for name, documents, calls in everything():
                    await tried(real, name, documents, calls, tally)
            at = 0
            while tally.pairs < pairs and len(tally.disagreements) < most:
                name = f"{seed}/{at}"
                documents, calls = generated(name, per_mesh)
                await tried(real, name, documents, calls, tally)
                at += 1
                if at % 50 == 0:
                    print(f"{tally.pairs} pairs, {len(tally.disagreements)} disagreements", file=sys.stderr)
            different = {one.sort: one for one in reversed(tally.disagreements)}
            for one in list(different.values())[:shrink]:
                await _record(real, one)
    return tally


async def _record(real: Reality, found: Disagreement) -> None:
    """Make a disagreement small and keep it, with what Envoy does, as a case of the suite."""
    documents, call = await shrunk(found.documents, found.call, disagreeing(real))
    await real.run([*base(), *credentials(), *documents])
    (seen,) = await real.ask([call])
    name = f"found-{found.seed.replace('/', '-')}-{abs(hash(found.sort)) % 10000}"
    print(f"kept {write(of(name, documents, call, seen))}: {found.sort[:200]}")


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description="Compare the simulator with real Envoy on random meshes and calls.")
    parser.add_argument("--pairs", type=int, default=10_000)
    parser.add_argument("--seed", default="1")
    parser.add_argument("--per-mesh", type=int, default=300)
    parser.add_argument("--most", type=int, default=200, help="end after so many disagreements")
    parser.add_argument(
        "--shrink", type=int, default=0, help="make so many small, and write them as cases of the suite"
    )
    parser.add_argument("--matrices", action="store_true", help="begin with every value against every request near it")
    parser.add_argument("--keep", type=Path, help="write disagreements to this file, one JSON document a line")
    asked = parser.parse_args()
    began, processor = time.monotonic(), time.process_time()
    tally = asyncio.run(run(asked.pairs, asked.seed, asked.per_mesh, asked.most, asked.shrink, asked.matrices))
    if asked.keep is not None:
        asked.keep.write_bytes(b"\n".join(msgspec.json.encode(one) for one in tally.disagreements))
    took, used = time.monotonic() - began, time.process_time() - processor
    print(f"{tally.pairs} pairs in {tally.meshes} meshes ({tally.invalid} meshes were not valid)")
    print(f"{tally.pairs / took:.0f} pairs a second; {1000 * used / max(1, tally.pairs):.2f} ms of CPU for each here")
    print(f"undecided: {100 * tally.undecided_share:.2f} %: {tally.undecided.most_common(8)}")
    print(f"disagreements: {len(tally.disagreements)}")
    for sort, count in Counter(one.sort for one in tally.disagreements).most_common(40):
        example = next(one for one in tally.disagreements if one.sort == sort)
        print(f"  {count} x {sort[:600]}\n      {example.seed} {json.dumps(msgspec.to_builtins(example.call))[:500]}")
    for one in tally.refused[:10]:
        print(f"refused by Envoy: {one[:500]}")
    print("endings:")
    for ending, count in tally.endings.most_common(30):
        print(f"  {count} {ending}")
    sys.exit(1 if tally.disagreements or tally.refused else 0)


if __name__ == "__main__":
    main()
