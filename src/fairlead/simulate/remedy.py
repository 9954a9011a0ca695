"""The smallest change that would let a request pass: edits are tried as suppositions, and walked again.

Candidates come from where the request ended: fields that decided it are left out or altered, what was missing is added.
Where no single edit helps, those that brought the request to another end are tried with a second edit, which comes from
that end. Only what the walk confirms is told.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from typing import Any, NamedTuple, cast

from fairlead.compiler.model import OBJECTS
from fairlead.ir.host import HOSTS, HOSTS_BY_NAME
from fairlead.ir.workload import WORKLOADS, WORKLOADS_BY_LABEL
from fairlead.model.diagnostic import Origin
from fairlead.model.names import nearest
from fairlead.model.path import SPEC, FieldPath
from fairlead.model.ref import Ref
from fairlead.simulate.arrival import NobodyError
from fairlead.simulate.edits import Edit, Editor, Made
from fairlead.simulate.mesh import Mesh
from fairlead.simulate.request import Caller, Request
from fairlead.simulate.walk import Step, Walk
from fairlead.simulate.walker import walk

MOST_TRIED, MOST_TOLD = 24, 3
"""Edits that are tried by themselves, and as often second ones with one before them; and remedies that are told."""
_MOST_FIRST = 4
"""First edits with which second ones are tried: those with which the request came furthest."""
_EVERYTHING = (
    "AuthorizationPolicy",
    "RequestAuthentication",
    "PeerAuthentication",
    "VirtualService",
    "DestinationRule",
)
"""Kinds of which a whole object may be taken away to let a request pass."""
_CONDITIONS = (("from",), ("to",), ("provider",))
"""Whoever leaves a condition of a policy's rule out lets in more than the caller."""
_NETWORKING = "networking.istio.io"


def passes(found: Walk) -> bool:
    """Whether a request gets what it came for: an application's answer, or one that a rule gives without an error."""
    answered = found.verdict.details in ("direct_response", "cors_response") and 0 < found.verdict.status < 400
    return found.verdict.reached or answered


Remedy = tuple[Edit, ...]
"""One edit, or two that only help together."""


class _Further(NamedTuple):
    """An edit with which the request still fails, but elsewhere; what it puts and deletes, and the walk with it."""

    edit: Edit
    made: Made
    walk: Walk


def remedies(mesh: Mesh, caller: Caller, request: Request, failed: Walk) -> Generator[None, None, list[Remedy]]:
    """Edits that let the request reach an application, the smallest first; the model is as before afterwards.

    Yields between two trials: then the model is as it was, and other things may happen to it. The publisher has nothing
    left to tell whenever this goes on (see `MeshModel.supposing`).
    """
    trials = _Trials(mesh, caller, request, failed)
    for tried in (trials.singles, trials.pairs, trials.without_objects):
        yield from tried()
        if trials.told:
            break  # never a whole object where less is enough
    return trials.told


class _Trials:
    """What has been tried for one request, and what of it helps."""

    def __init__(self, mesh: Mesh, caller: Caller, request: Request, failed: Walk) -> None:
        self._mesh = mesh
        self._caller = caller
        self._request = request
        self._failed = failed
        self._editor = Editor(mesh.model)
        self._further: list[_Further] = []
        self.told: list[Remedy] = []

    def singles(self) -> Generator[None]:
        """Try each candidate by itself."""
        yield from self._try(_some(self._candidates(self._failed)))

    def without_objects(self) -> Generator[None]:
        """Try what would be without each of the objects that decided."""
        yield from self._try(_some(self._candidates(self._failed).without_objects()))

    def _try(self, edits: Iterable[Edit]) -> Generator[None]:
        for edit in list(edits):
            made = self._editor.made(edit)
            if made is None:
                continue
            again = self._walked(made)
            if again is not None and self._helps(again):
                self.told.append((edit,))
                if len(self.told) == MOST_TOLD:
                    return
            elif again is not None and _ends(again) != _ends(self._failed):
                self._further.append(_Further(edit, made, again))
            yield

    def pairs(self) -> Generator[None]:
        """Try second edits with those first ones that brought the request to another end."""
        furthest = sorted(self._further, key=lambda one: -sum(step.passed for step in one.walk.steps))
        left = MOST_TRIED
        for first in furthest[:_MOST_FIRST]:
            for edit, made in self._seconds(first):
                again = self._walked(made)
                if again is not None and self._helps(again):
                    self.told.append((first.edit, edit))
                left -= 1
                if not left or len(self.told) == MOST_TOLD:
                    return
                yield

    def _candidates(self, failed: Walk) -> _Candidates:
        return _Candidates(self._mesh, self._editor, self._request, failed)

    def _seconds(self, first: _Further) -> list[tuple[Edit, Made]]:
        """Second edits, with what both put and delete."""
        with self._mesh.model.supposing(*first.made):
            edits = _some(self._candidates(first.walk))
            found = [(edit, made) for edit in edits if (made := self._editor.made(edit))]
        return [(edit, _together(first.made, made)) for edit, made in found if edit != first.edit]

    def _walked(self, made: Made) -> Walk | None:
        with self._mesh.model.supposing(*made):
            try:
                return walk(self._mesh, self._caller, self._request)
            except NobodyError:
                return None

    def _helps(self, again: Walk) -> bool:
        return again.verdict.reached and set(again.verdict.undecided) <= set(self._failed.verdict.undecided)


def _ends(found: Walk) -> list[tuple[str, str, str]]:
    return [(step.proxy, step.stage, step.said) for step in found.steps if not step.passed]


def _together(first: Made, second: Made) -> Made:
    """Two edits as one; the second one was made of what the first one leaves."""
    put = {one.ref: one for one in first[0]} | {one.ref: one for one in second[0]}
    gone = dict.fromkeys((*first[1], *second[1]))
    return [one for ref, one in put.items() if ref not in gone], list(gone)


def _some(found: Iterable[Edit]) -> Iterator[Edit]:
    seen: set[str] = set()
    for edit in found:
        if edit.said not in seen:
            seen.add(edit.said)
            yield edit
        if len(seen) == MOST_TRIED:
            return


class _Candidates:
    """Edits that may help, the smallest and likeliest first."""

    def __init__(self, mesh: Mesh, editor: Editor, request: Request, failed: Walk) -> None:
        self._mesh = mesh
        self._editor = editor
        self._request = request
        self._failed = failed
        # The last is often the client's answer to what happened before it.
        self._ends = [one for one in failed.steps if not one.passed]

    def __iter__(self) -> Iterator[Edit]:
        for step in self._ends:
            yield from self._fitting(step)
        for step in self._ends:
            yield from self._leaving_out(step)
        yield from self._about_hosts()
        for step in reversed(self._failed.steps):
            if step.origins and step not in self._ends:
                yield from self._altered_tls(step)

    def without_objects(self) -> Iterator[Edit]:
        """Whole objects that decided, taken away."""
        for step in self._ends:
            yield from self._without_object(step)

    def _fitting(self, step: Step) -> Iterator[Edit]:
        """What is missing, by the sort of step."""
        match step.stage:
            case "authorization":
                yield from self._allowing(step)
            case "cluster":
                yield from self._existing_destination(step)
            case "endpoint":
                yield from self._labels(step)
            case "filter chain" | "tls":
                yield from self._permissive(step)
            case "upstream tls":
                yield from self._altered_tls(step)
            case "jwt":
                yield from self._audience(step)
            case _:
                return

    def _allowing(self, step: Step) -> Iterator[Edit]:
        """Caller and operation added to an ALLOW policy: to a rule that lacks only one of them, else as a rule."""
        caller = self._identity(step).removeprefix("spiffe://")
        source = {"source": {"principals": [caller]}} if caller else None
        operation = {"operation": {"methods": [self._request.method], "paths": [self._request.path.partition("?")[0]]}}
        for origin in step.origins:
            document = self._editor.document(origin.ref)
            if origin.ref.kind != "AuthorizationPolicy" or document is None or origin.path:
                continue
            rules: list[dict[str, Any]] = document["spec"].get("rules") or []
            for at, rule in enumerate(rules):
                if source is not None and rule.get("from"):
                    yield Edit(origin.ref, "append", SPEC.child("rules", at, "from"), source)
                if rule.get("to"):
                    yield Edit(origin.ref, "append", SPEC.child("rules", at, "to"), operation)
            rule = {"to": [operation]} if source is None else {"from": [source], "to": [operation]}
            yield Edit(origin.ref, "append", SPEC / "rules", rule)

    def _identity(self, step: Step) -> str:
        """The caller as the proxy of a step saw it."""
        shown = [one for one in self._failed.steps if one.proxy == step.proxy and one.stage == "tls"]
        return shown[-1].said.partition("the client is ")[2] if shown else ""

    def _existing_destination(self, step: Step) -> Iterator[Edit]:
        """The destination's host, port or subset as something that there is."""
        parts = step.met.split("|")
        if len(parts) != 4:
            return
        _, port, subset, host = parts
        for origin in (one for one in step.origins if tuple(one.path)[-1:] == ("destination",)):
            if subset:
                yield from self._defined_subset(origin, host, subset)
                yield Edit(origin.ref, "remove", origin.path / "subset")
            ports = self._mesh.ports(host)
            if ports and int(port or 0) not in ports:
                for number in ports:
                    yield Edit(origin.ref, "set", origin.path / "port", {"number": number})
            if not ports:
                near = nearest(host, [one.hostname for one, _ in self._mesh.model.engine.items(HOSTS)])
                if near:
                    yield Edit(origin.ref, "set", origin.path / "host", near)

    def _defined_subset(self, origin: Origin, host: str, subset: str) -> Iterator[Edit]:
        known = self._known_labels(host)
        for ref, obj in self._objects("DestinationRule"):
            if obj.spec.host.split(".")[0] != host.split(".")[0]:
                continue
            named = [one.name for one in obj.spec.subsets]
            near = nearest(subset, named)
            for one in dict.fromkeys([*([near] if near else []), *named[:3]]):
                yield Edit(origin.ref, "set", origin.path / "subset", one)
            for key in ("version", "app.kubernetes.io/version"):
                if subset in known.get(key, ()):
                    yield Edit(ref, "append", SPEC / "subsets", {"name": subset, "labels": {key: subset}})
            return
        if subset in known.get("version", ()):
            spec = {"host": host, "subsets": [{"name": subset, "labels": {"version": subset}}]}
            ref = Ref(_NETWORKING, "DestinationRule", origin.ref.namespace, host.partition(".")[0])
            yield Edit(ref, "create", value=_document(ref, "v1", spec))

    def _known_labels(self, host: str) -> dict[str, list[str]]:
        """Labels of the workloads that a host may mean."""
        found: dict[str, list[str]] = {}
        engine = self._mesh.model.engine
        for key in engine.find(HOSTS_BY_NAME, host):
            for at in engine.find(WORKLOADS_BY_LABEL, (key.namespace, "", "")):
                row = engine.get(WORKLOADS, at)
                for name, value in row.labels if row is not None else ():
                    if value not in found.setdefault(name, []):
                        found[name].append(value)
        return found

    def _labels(self, step: Step) -> Iterator[Edit]:
        """A selector or a subset as labels that workloads have, or a port that the host has not."""
        yield from self._missing_port(step)
        host = step.met.split("|")[-1]
        known = self._known_labels(host)
        for origin in step.origins:
            document = self._editor.document(origin.ref)
            if document is None:
                continue
            if origin.ref.kind == "DestinationRule" and "subsets" in origin.path:
                labels: dict[str, str] = document["spec"]["subsets"][origin.path[-1]].get("labels") or {}
                yield from _relabelled(origin.ref, origin.path / "labels", labels, known)
            elif origin.ref.kind == "Service":
                selector: dict[str, str] = document["spec"].get("selector") or {}
                yield from _relabelled(origin.ref, SPEC / "selector", selector, known)

    def _missing_port(self, step: Step) -> Iterator[Edit]:
        for origin in (one for one in step.origins if one.ref.kind == "Service" and " has no port " in step.said):
            ports: list[dict[str, Any]] = (self._editor.document(origin.ref) or {})["spec"].get("ports") or []
            for one in ports[:1]:
                number = self._request.port
                target = one.get("targetPort") or one["port"]
                added = {**one, "name": f"{one.get('name') or 'port'}-{number}", "port": number, "targetPort": target}
                yield Edit(origin.ref, "append", SPEC / "ports", added)

    def _permissive(self, step: Step) -> Iterator[Edit]:
        """mTLS: the callers' side first, as the server asks for it with reason."""
        yield from (
            edit for one in self._failed.steps if one.stage == "upstream tls" for edit in self._altered_tls(one)
        )
        for origin in step.origins:
            if origin.ref.kind == "PeerAuthentication" and origin.path:
                yield Edit(origin.ref, "set", origin.path, "PERMISSIVE")

    def _altered_tls(self, step: Step) -> Iterator[Edit]:
        """What a DestinationRule says of TLS, left out or as the mesh's."""
        for origin in step.origins:
            if origin.ref.kind != "DestinationRule":
                continue
            document = self._editor.document(origin.ref) or {}
            for base in _policies(document.get("spec") or {}):
                yield Edit(origin.ref, "remove", base / "tls" / "subjectAltNames")
                yield Edit(origin.ref, "remove", base / "tls")
                # Where nothing else stands beside it.
                yield Edit(origin.ref, "remove", base)
        if step.stage == "upstream tls":
            for one in self._failed.steps:
                for origin in one.origins:
                    if origin.ref.kind == "PeerAuthentication" and origin.path:
                        yield Edit(origin.ref, "set", origin.path, "PERMISSIVE")

    def _audience(self, step: Step) -> Iterator[Edit]:
        said: Any = (self._request.claims or {}).get("aud")
        listed = cast("list[str]", said) if isinstance(said, list) else [str(said)] if said else []
        audience = listed[0] if listed else ""
        for origin in step.origins:
            if origin.path and audience:
                yield Edit(origin.ref, "append", origin.path / "audiences", audience)

    def _leaving_out(self, step: Step) -> Iterator[Edit]:
        for origin in step.origins:
            if origin.ref.kind == "EnvoyFilter":
                document = self._editor.document(origin.ref) or {"spec": {}}
                patches: list[Any] = document["spec"].get("configPatches") or []
                for at in range(len(patches)):
                    yield Edit(origin.ref, "remove", SPEC.child("configPatches", at))
            path = tuple(origin.path)
            if path[-1:] == ("destination",) or path[-1:] in _CONDITIONS:
                continue
            if path and path[:2] != ("spec", "ports") and origin.ref.kind not in ("Gateway", "Service"):
                yield Edit(origin.ref, "remove", origin.path)

    def _without_object(self, step: Step) -> Iterator[Edit]:
        for origin in step.origins:
            if origin.ref.kind in _EVERYTHING:
                yield Edit(origin.ref, "delete")

    def _about_hosts(self) -> Iterator[Edit]:
        """Who may see a host, and which hosts a gateway or a rule is for."""
        verdict = self._failed.verdict
        if verdict.flags not in ("NR", "NC", "UH", "DPE", "") or verdict.details == "name_not_found":
            return
        first = self._failed.steps[0]
        if first.hop == "gateway":
            yield from self._gateway_hosts()
            return
        host = self._request.host
        for ref, obj in self._objects("Sidecar"):
            for at, _ in enumerate(obj.spec.egress):
                known = self._mesh.hostname(host, ref.namespace)
                if known:
                    for key in self._mesh.model.engine.find(HOSTS_BY_NAME, known):
                        named = f"{'.' if key.namespace == ref.namespace else key.namespace}/{known}"
                        yield Edit(ref, "append", SPEC.child("egress", at, "hosts"), named)
        yield from self._shown(host, first.proxy.rpartition(".")[2])
        if "." in host and not self._mesh.hostname(host, ""):
            protocol = "TLS" if self._request.tls else "TCP" if self._request.protocol == "tcp" else "HTTP"
            port = {"number": self._request.port, "name": protocol.lower(), "protocol": protocol}
            spec = {"hosts": [host], "ports": [port], "resolution": "DNS", "location": "MESH_EXTERNAL"}
            ref = Ref(_NETWORKING, "ServiceEntry", first.proxy.rpartition(".")[2], host.replace(".", "-"))
            yield Edit(ref, "create", value=_document(ref, "v1", spec))

    def _shown(self, host: str, namespace: str) -> Iterator[Edit]:
        engine = self._mesh.model.engine
        known = self._mesh.hostname(host, namespace)
        for key in engine.find(HOSTS_BY_NAME, known):
            row = engine.get(HOSTS, key)
            if row is None or not row.export_to or row.limit:
                continue
            if row.origin.ref.kind == "Service":
                path = FieldPath(("metadata", "annotations", "networking.istio.io/exportTo"))
                yield Edit(row.origin.ref, "remove", path)
            else:
                yield Edit(row.origin.ref, "remove", SPEC / "exportTo")

    def _gateway_hosts(self) -> Iterator[Edit]:
        host = self._request.authority.partition(":")[0] or self._request.host
        yield from self._gateway_port(host)
        for step in self._failed.steps:
            for origin in step.origins:
                if origin.ref.kind == "Gateway" and origin.path:
                    yield Edit(origin.ref, "append", origin.path / "hosts", host)
        for ref, obj in self._objects("VirtualService"):
            if any(one != "mesh" for one in obj.spec.gateways):
                yield Edit(ref, "append", SPEC / "hosts", host)

    def _gateway_port(self, host: str) -> Iterator[Edit]:
        """A plain HTTP server on a port on which a gateway does not listen."""
        if self._failed.verdict.details != "connection_refused" or self._request.tls:
            return
        port = {"number": self._request.port, "name": f"http-{self._request.port}", "protocol": "HTTP"}
        for origin in self._ends[0].origins:
            yield Edit(origin.ref, "append", SPEC / "servers", {"port": port, "hosts": [host]})

    def _objects(self, kind: str) -> list[tuple[Ref, Any]]:
        return [(ref, obj) for ref, obj in self._mesh.model.engine.items(OBJECTS) if ref.kind == kind]


def _relabelled(ref: Ref, path: FieldPath, labels: dict[str, str], known: dict[str, list[str]]) -> Iterator[Edit]:
    """One label as a value that some workload has, or left out."""
    for name, value in labels.items():
        others = [one for one in known.get(name, ()) if one != value]
        near = nearest(value, others)
        for one in dict.fromkeys([*([near] if near else []), *others[:4]]):
            yield Edit(ref, "set", path / name, one)
        if len(labels) > 1:
            yield Edit(ref, "remove", path / name)


def _policies(spec: dict[str, Any]) -> Iterator[FieldPath]:
    """The places of a DestinationRule where a traffic policy may stand."""
    for at, one in enumerate(spec.get("subsets") or ()):
        if one.get("trafficPolicy"):
            yield SPEC.child("subsets", at, "trafficPolicy")
    policy: dict[str, Any] = spec.get("trafficPolicy") or {}
    for at, _ in enumerate(policy.get("portLevelSettings") or ()):
        yield SPEC.child("trafficPolicy", "portLevelSettings", at)
    if policy:
        yield SPEC / "trafficPolicy"


def _document(ref: Ref, version: str, spec: dict[str, Any]) -> dict[str, Any]:
    meta = {"name": ref.name, "namespace": ref.namespace}
    return {"apiVersion": f"{ref.group}/{version}", "kind": ref.kind, "metadata": meta, "spec": spec}
