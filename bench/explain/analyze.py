"""Analysis: 10,000 objects from a file in a cold process, and one edit in a warm one. CPU seconds of the process.

`python -m bench.explain.analyze [--services N] [--rounds N]`. Each service is five objects: Service, VirtualService,
DestinationRule and two WorkloadEntries.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

_SERVICE = """apiVersion: v1
kind: Service
metadata:
  name: svc-{at}
  namespace: {ns}
spec:
  selector:
    app: svc-{at}
  ports:
  - name: http
    port: 80
    targetPort: 8080
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: svc-{at}
  namespace: {ns}
spec:
  hosts:
  - svc-{at}
  http:
  - route:
    - destination:
        host: svc-{at}
        subset: v1
      weight: 90
    - destination:
        host: svc-{at}
        subset: v2
      weight: 10
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata:
  name: svc-{at}
  namespace: {ns}
spec:
  host: svc-{at}
  subsets:
  - name: v1
    labels:
      version: v1
  - name: v2
    labels:
      version: v2
"""
_ENTRY = """---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata:
  name: svc-{at}-{version}
  namespace: {ns}
spec:
  address: 10.{high}.{low}.{last}
  labels:
    app: svc-{at}
    version: {version}
  serviceAccount: svc-{at}
"""
_COLD = "--cold"


def text(services: int) -> str:
    """The objects of a mesh of so many services in 50 namespaces."""
    parts: list[str] = []
    for at in range(services):
        ns = f"team-{at % 50}"
        parts.append(_SERVICE.format(at=at, ns=ns))
        for last, version in enumerate(("v1", "v2"), 1):
            parts.append(_ENTRY.format(at=at, ns=ns, version=version, high=at // 250, low=at % 250, last=last))
        parts.append("---\n")
    return "".join(parts)


def cold(path: Path) -> dict[str, float]:
    """CPU seconds from the start of this process until the findings of a file are there, and the most memory."""
    import gc

    gc.disable()
    from fairlead.analyze.report import examine
    from fairlead.cli import manifests

    documents, _ = manifests.read([str(path)])
    report = examine(documents, now=0.0)
    assert not report.findings
    return {
        "objects": report.objects,
        "seconds": time.process_time(),
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def warm(path: Path, rounds: int) -> dict[str, Any]:
    """CPU milliseconds from an edit until the findings are there again, for edits that break and mend a route."""
    import gc

    from fairlead.analyze.analysis import Analysis, reference
    from fairlead.compiler.model import MeshModel
    from fairlead.compiler.offline import load
    from fairlead.model.yaml import parse_documents

    documents = {reference(one.data): one for one in parse_documents(path.read_bytes(), str(path))}
    model = MeshModel()
    load(model, documents.values())
    analysis = Analysis(0.0)
    analysis.apply({ref: one.data for ref, one in documents.items()})
    analysis.found()
    gc.collect()
    gc.freeze()
    took: list[float] = []
    runs: list[int] = []
    routes = [ref for ref in documents if ref.kind == "VirtualService"]
    for at in range(rounds):
        ref = routes[at * 37 % len(routes)]
        right = documents[ref].data
        wrong = json.loads(json.dumps(right).replace('"subset": "v2"', '"subset": "v3"'))
        for data, expected in ((wrong, 1), (right, 0)):
            before = analysis.engine.runs.total()
            begun = time.process_time()
            obj, _ = model.kinds.read(data)
            assert obj is not None
            model.apply([obj])
            analysis.apply({ref: data})
            found = analysis.found()
            model.diagnostics()
            took.append((time.process_time() - begun) * 1000)
            runs.append(analysis.engine.runs.total() - before)
            assert len(found) == expected
    return {"median": statistics.median(took), "worst": max(took), "runs": statistics.median(runs)}


def main() -> None:
    """Print both figures."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--services", type=int, default=2000)
    options.add_argument("--rounds", type=int, default=20)
    options.add_argument(_COLD, type=Path)
    given = options.parse_args()
    if given.cold:
        sys.stdout.write(json.dumps(cold(given.cold)))
        return
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "mesh.yaml"
        path.write_text(text(given.services))
        found: list[dict[str, float]] = []
        for _ in range(5):
            command = [sys.executable, "-m", "bench.explain.analyze", _COLD, str(path)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found.append(json.loads(done.stdout))
        seconds = sorted(one["seconds"] for one in found)
        print(f"cold: {found[0]['objects']:.0f} objects in {seconds[2]:.2f} s ({seconds[0]:.2f} to {seconds[-1]:.2f})")
        print(f"      {max(one['memory'] for one in found):.0f} MiB at most")
        edit = warm(path, given.rounds)
        print(f"warm: {edit['median']:.1f} ms after one edit (worst {edit['worst']:.1f}), {edit['runs']:.0f} rules run")


if __name__ == "__main__":
    main()
