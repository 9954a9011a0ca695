"""Meshes of a few lines for the simulator: workloads, their services, and what a test adds."""

from __future__ import annotations

import msgspec

from fairlead.compiler import offline
from fairlead.compiler.model import MeshModel
from fairlead.model.diagnostic import Origin, Severity
from fairlead.model.yaml import parse_documents
from fairlead.simulate.mesh import Mesh
from fairlead.simulate.request import Caller, Request
from fairlead.simulate.standin import FileWorkloads
from fairlead.simulate.walk import Step, Walk
from fairlead.simulate.walker import walk

BASE = """
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: web, namespace: shop}
spec: {address: 10.0.0.1, labels: {app: web}, serviceAccount: web}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: reviews-v1, namespace: shop}
spec: {address: 10.0.0.2, labels: {app: reviews, version: v1}, serviceAccount: reviews}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: reviews-v2, namespace: shop}
spec: {address: 10.0.0.3, labels: {app: reviews, version: v2}, serviceAccount: reviews}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: ledger, namespace: shop}
spec: {address: 10.0.0.4, labels: {app: ledger}, serviceAccount: ledger}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: legacy, namespace: shop}
spec: {address: 10.0.0.5, labels: {app: legacy}}
---
apiVersion: v1
kind: Service
metadata: {name: reviews, namespace: shop}
spec: {selector: {app: reviews}, ports: [{name: http, port: 80, targetPort: 9080}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: 9080}]}
---
apiVersion: v1
kind: Service
metadata: {name: ledger, namespace: shop}
spec: {selector: {app: ledger}, ports: [{name: tcp, port: 7000}, {name: auto, port: 7001, appProtocol: ""}]}
---
apiVersion: v1
kind: Service
metadata: {name: legacy, namespace: shop}
spec: {selector: {app: legacy}, ports: [{name: http, port: 80}]}
"""


def mesh(*texts: str, complete: bool = False) -> Mesh:
    """A mesh of the base and what is added, all of which must be valid."""
    manifests = [one for text in (BASE, *texts) for one in parse_documents(text, "mesh.yaml")]
    model = MeshModel()
    found = offline.load(model, manifests)
    errors = [str(one) for one in found if one.severity is Severity.ERROR]
    assert not errors, "\n".join(errors)
    by_ref = {(one.data["kind"], one.data["metadata"]["name"]): one for one in manifests}

    def position(origin: Origin):
        manifest = by_ref.get((origin.ref.kind, origin.ref.name))
        return manifest.position(origin.path) if manifest is not None else None

    return Mesh(model, FileWorkloads(model), position, complete=complete)


def call(where: Mesh, host: str = "reviews", port: int = 80, caller: str = "web", **asked: object) -> Walk:
    """A call of a workload (or `internet`, or `plaintext`)."""
    request = msgspec.convert({"host": host, "port": port, **asked}, Request)
    if caller in ("internet", "plaintext"):
        return walk(where, Caller(caller, "shop"), request)  # type: ignore[arg-type]
    return walk(where, Caller("workload", "shop", caller), request)


def failing(found: Walk) -> Step:
    """The first step that ended the request."""
    return next(one for one in found.steps if not one.passed)


def origins(step: Step) -> list[str]:
    """Objects and fields behind a step."""
    return [f"{one.ref} {one.path}".strip() for one in step.origins]
