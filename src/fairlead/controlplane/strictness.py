"""Warns whoever writes a PeerAuthentication STRICT of the callers that it will cut off."""

from __future__ import annotations

from typing import Any, cast

from fairlead.compiler.model import MeshModel
from fairlead.controlplane.delivery import view_of
from fairlead.controlplane.plaintext import Entry, PlaintextLedger
from fairlead.controlplane.proxies import Proxies
from fairlead.ir.mesh import MESH_KEY, MESHES, Mesh
from fairlead.ir.security import PEER_POLICIES, PeerPolicy
from fairlead.ir.view import Pairs, pairs, selects
from fairlead.store.transaction import timestamp

CODE = "FL2610"
_NAMED = 10


class Strictness:
    """Judges a document before it is stored, in dry runs too."""

    def __init__(self, model: MeshModel, proxies: Proxies, ledger: PlaintextLedger) -> None:
        self._model = model
        self._proxies = proxies
        self._ledger = ledger

    def advise(self, document: dict[str, Any]) -> tuple[str, ...]:
        """Warnings about a document, each with its field and remedy."""
        if document.get("kind") != "PeerAuthentication":
            return ()
        entries = self._ledger.entries()
        if not entries:
            return ()
        labels = {one.node.called: view_of(one.node).labels for one in self._proxies.connections()}
        found = [
            (field, entry)
            for entry in entries
            if (field := self._strict_for(document, entry, labels.get(f"{entry.workload}.{entry.namespace}", ())))
        ]
        said = [_said(field, entry) for field, entry in found[:_NAMED]]
        more = len(found) - _NAMED
        if more > 0:
            said.append(f"spec: {more} more ports have callers in plaintext: `fairlead mtls` [{CODE}]")
        return tuple(said)

    def _strict_for(self, document: dict[str, Any], entry: Entry, labels: Pairs) -> str:
        """The field that makes the entry's port STRICT, "" if the document does not."""
        meta, spec = _part(document, "metadata"), _part(document, "spec")
        mesh = self._model.engine.get(MESHES, MESH_KEY) or Mesh()
        namespace = str(meta.get("namespace") or "default")
        selector = pairs({k: str(v) for k, v in _part(_part(spec, "selector"), "matchLabels").items()})
        wide = namespace == mesh.root_namespace and not selector
        if not (wide or namespace == entry.namespace) or not selects(selector, labels):
            return ""
        of_port = _part(_part(spec, "portLevelMtls"), str(entry.port)).get("mode")
        if of_port not in (None, "UNSET"):
            return f"spec.portLevelMtls.{entry.port}.mode" if of_port == "STRICT" else ""
        if _part(spec, "mtls").get("mode") != "STRICT" or self._narrower(entry, labels, wide, bool(selector)):
            return ""
        return "spec.mtls.mode"

    def _narrower(self, entry: Entry, labels: Pairs, wide: bool, special: bool) -> bool:
        """Whether a policy for fewer workloads says otherwise, and so stands."""
        if special:
            return False
        return any(
            one.key.namespace == entry.namespace
            and (selects(one.selector, labels) if one.selector else wide)
            and _mode(one, entry.port) in ("PERMISSIVE", "DISABLE")
            for _, one in self._model.engine.items(PEER_POLICIES)
        )


def _mode(policy: PeerPolicy, port: int) -> str:
    return dict(policy.ports).get(port, policy.mode)


def _part(document: dict[str, Any], name: str) -> dict[str, Any]:
    found = document.get(name)
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def _said(field: str, entry: Entry) -> str:
    latest = entry.callers[0]
    others = f" and {len(entry.callers) - 1} others" if len(entry.callers) > 1 else ""
    whole = f"{entry.workload}.{entry.namespace}"
    return (
        f"{field}: port {entry.port} of {whole} was called in plaintext by "
        f"{latest.address}{others}, last at {timestamp(latest.last)}: STRICT will refuse them. "
        f"Bring these callers into the mesh first, `fairlead mtls {whole}` has them all [{CODE}]"
    )
