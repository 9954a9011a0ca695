"""Cases for goldens: kinds' inputs, the samples, and all as one mesh; and the proxies that look at them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

import fairlead.kinds
from fairlead.compiler.model import MeshModel
from fairlead.compiler.offline import load
from fairlead.compiler.publish import Catalog
from fairlead.ir.filters import Pairs
from fairlead.ir.view import View, pairs
from fairlead.model.diagnostic import Severity
from fairlead.model.launch import AppPort, Capture
from fairlead.model.manifest import Manifest
from fairlead.model.yaml import parse_documents

KINDS = Path(fairlead.kinds.__file__).parent
HERE = Path(__file__).resolve().parent
SAMPLES = HERE.parents[1] / "samples" / "shop"
CAPTURES = {
    "redirect": Capture("redirect"),
    "netns": Capture("netns", netns="/var/run/netns/golden"),
    "explicit": Capture("explicit", app_address="127.66.64.9", outbound_address="127.66.128.9"),
}
WRONG_ON_PURPOSE = "malformed.yaml"


class Case(msgspec.Struct, frozen=True):
    """Documents, where their golden stands (None: they have none), and what of them is only the scene for the rest."""

    name: str
    manifests: tuple[Manifest, ...]
    golden: Path | None = None
    scene: tuple[Manifest, ...] = ()

    def model(self) -> MeshModel:
        """The compiled mesh. Fails where a document is wrong."""
        made = MeshModel()
        wrong = [one for one in load(made, (*self.scene, *self.manifests)) if one.severity is Severity.ERROR]
        assert not wrong, "\n".join(map(str, wrong))
        return made


def read(path: Path) -> tuple[Manifest, ...]:
    """The documents of a file."""
    return tuple(parse_documents(path.read_bytes(), path.name))


def cases() -> list[Case]:
    """All cases, in a fixed order."""
    found: list[Case] = []
    for path in sorted(KINDS.glob("*/testdata/*.in.yaml")):
        golden = path.with_name(path.name.replace(".in.yaml", ".xds.yaml"))
        found.append(Case(f"{path.parent.parent.name}/{path.name}", read(path), golden))
    shop = (*read(SAMPLES / "services.yaml"), *read(SAMPLES / "gateway.yaml"), *workloads())
    found.append(Case("shop", shop))
    for path in sorted((SAMPLES / "policies").glob("*.yaml")):
        if path.name != WRONG_ON_PURPOSE:
            subsets = read(SAMPLES / "policies" / "subsets.yaml") if path.name != "subsets.yaml" else ()
            golden = HERE / "testdata" / path.name.replace(".yaml", ".xds.yaml")
            found.append(Case(f"shop/{path.name}", read(path), golden, (*shop, *subsets)))
    everything = tuple(one for case in found if case.golden is not None and not case.scene for one in case.manifests)
    return [*found, Case("everything", everything)]


def workloads() -> Iterator[Manifest]:
    """The entries that a node would make of the shop's processes."""
    for at, process in enumerate(read(SAMPLES / "processes.yaml"), 1):
        spec, meta = process.data["spec"], process.data["metadata"]
        entry = {
            "address": f"127.66.0.{at}",
            "labels": spec["labels"],
            "serviceAccount": spec["serviceAccountName"],
            "ports": {one["name"]: one["port"] for one in spec["ports"]},
        }
        head = {"apiVersion": "networking.istio.io/v1", "kind": "WorkloadEntry"}
        named = {"name": f"{meta['name']}-0", "namespace": meta["namespace"]}
        yield Manifest({**head, "metadata": named, "spec": entry}, "processes.yaml")


def views(case: Case) -> list[View]:
    """A sidecar in each way of capture for each namespace, and the gateways that the case's Gateways select."""
    found: dict[str, dict[Pairs, None]] = {}
    gateways: dict[Pairs, str] = {}
    for manifest in (*case.scene, *case.manifests):
        data: Any = manifest.data
        space, spec = data["metadata"].get("namespace") or "default", data.get("spec") or {}
        labels = found.setdefault(space, {})
        match data["kind"]:
            case "Service" if spec.get("selector"):
                labels[pairs(spec["selector"])] = None
            case "WorkloadEntry" if spec.get("labels"):
                labels[pairs(spec["labels"])] = None
            case "AuthorizationPolicy" | "PeerAuthentication" | "Telemetry" if spec.get("selector"):
                labels[pairs(spec["selector"].get("matchLabels") or {})] = None
            case "Gateway":
                gateways.setdefault(pairs(spec.get("selector") or {}), space)
            case _:
                pass
    ports = (AppPort(9080, "http", "http"), AppPort(9000, "tcp"))
    made: list[View] = []
    for space in sorted(found):
        chosen = sorted(found[space]) or [()]
        for labels in chosen:
            # Ways of capture do not depend on labels: one workload shows them.
            for capture in CAPTURES.values() if labels == chosen[0] else (CAPTURES["explicit"],):
                sidecar = View("sidecar", space, labels, "default", ("127.66.0.9",), capture=capture, ports=ports)
                made.append(sidecar)
    made += [
        View("router", space, labels, "gateway", ("127.66.0.8",), capture=Capture("none"))
        for labels, space in sorted(gateways.items())
    ]
    return made


def scene_of(case: Case) -> Case:
    """The case without what it is about: only the scene, and the namespaces."""
    return Case(case.name, (), None, case.scene)


def compiled(case: Case, seen_by: list[View]) -> list[Catalog]:
    """What these views get."""
    model = case.model()
    return [model.compile(view) for view in seen_by]


def catalogs(case: Case) -> list[tuple[View, Catalog]]:
    """What each view gets."""
    model = case.model()
    found = [(view, model.compile(view)) for view in views(case)]
    broken = [str(one) for one in model.diagnostics() if one.code == "FL0000"]
    assert not broken, broken
    return found
