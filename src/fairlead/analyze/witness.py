"""Confirms findings: sends their requests through the simulator, over what the mesh is compiled to."""

from __future__ import annotations

from typing import Any, cast

import msgspec

from fairlead.analyze.finding import CLAIM, Probe, Witness
from fairlead.model.diagnostic import Origin
from fairlead.model.ref import Ref
from fairlead.simulate.arrival import NobodyError
from fairlead.simulate.mesh import Mesh
from fairlead.simulate.request import Caller, Pairs, Request
from fairlead.simulate.walk import Walk
from fairlead.simulate.walker import walk

MOST = 200
"""Requests that are walked at most: confirmation opens views, and that many findings of one sort say the same."""


class Confirming:
    """One round of confirmation over one mesh. The caller of a probe may be named by its namespace only."""

    def __init__(self, mesh: Mesh, most: int = MOST) -> None:
        self._mesh = mesh
        self._left = most
        self._callers: dict[str, str] | None = None
        self._known: dict[tuple[Ref, Probe], Witness | None] = {}

    def confirm(self, ref: Ref, probe: Probe) -> Witness | None:
        """The witness for a finding about an object; None where its request does not fail because of that object."""
        if (ref, probe) not in self._known:
            self._known[(ref, probe)] = self._walk(ref, probe) if self._left > 0 else None
        return self._known[(ref, probe)]

    def _walk(self, ref: Ref, probe: Probe) -> Witness | None:
        self._left -= 1
        caller = self._caller(probe.caller)
        if caller is None:
            return None
        for port in (probe.request.port,) if probe.request.port else self._mesh.ports(probe.request.host):
            request = _at(probe.request, port, _claims(probe.claims))
            try:
                walked = walk(self._mesh, caller, request)
            except NobodyError:
                continue
            verdict = walked.verdict
            if probe.rule is not None:
                decides = _elsewhere(walked, probe.rule)
                if not decides or verdict.undecided:
                    continue
                return Witness(_shown(caller, request), verdict.status, verdict.flags, verdict.details, decides)
            if probe.refuses:
                if not _shows_certificate(walked, ref):
                    continue
                return Witness(_shown(caller, request), 0, "", f"the client refuses the certificate: {probe.refuses}")
            named = any(origin.ref == ref for step in walked.steps for origin in step.origins)
            named = named or (bool(probe.cluster) and verdict.cluster.endswith(f"|{probe.cluster}"))
            if verdict.reached or verdict.undecided or not named:
                continue
            if probe.fails and not set(verdict.flags.split(",")) & set(probe.fails):
                continue
            return Witness(_shown(caller, request), verdict.status, verdict.flags, verdict.details)
        return None

    def _caller(self, asked: Caller) -> Caller | None:
        if asked.kind != "workload" or asked.name:
            return asked
        if self._callers is None:
            self._callers = {}
            for name in self._mesh.workloads.names():
                namespace = name.rpartition(".")[2]
                if namespace not in self._callers and self._is_sidecar(name):
                    self._callers[namespace] = name
                    self._callers.setdefault("", name)
        name = self._callers.get(asked.namespace) or self._callers.get("")
        return None if name is None else Caller("workload", "", name)

    def _is_sidecar(self, name: str) -> bool:
        return any(one.view.type == "sidecar" for one in self._mesh.workloads.named(name, ""))


def _elsewhere(walked: Walk, rule: Origin) -> str:
    """What decides about a request in the place of a rule; "" if the rule does, or if nothing was decided."""
    for step in walked.steps:
        if step.hop == "server" or step.stage not in ("virtual host", "route"):
            continue
        if not step.passed:
            return "no rule"
        if step.stage == "route":
            by = step.origins[0] if step.origins else None
            if by is not None and by.ref == rule.ref and by.path[: len(rule.path)] == rule.path:
                return ""
            return f"{by.ref} {by.path}".strip() if by is not None else f"route {step.met}"
    return ""


def _shows_certificate(walked: Walk, ref: Ref) -> bool:
    """Whether TLS begins at a server of an object."""
    return any(step.stage == "tls" and any(one.ref == ref for one in step.origins) for step in walked.steps)


def _at(request: Request, port: int, claims: dict[str, Any]) -> Request:
    return msgspec.structs.replace(request, port=port, claims=claims or None)


def _claims(asked: Pairs) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name, text in asked:
        rest = name.removeprefix(CLAIM)
        *parents, last = rest[1:-1].split("][") if rest.startswith("[") else rest[1:].split(".")
        at = made
        for part in parents:
            inner = at.get(part)
            if not isinstance(inner, dict):
                # A claim with others inside has no text of its own.
                inner = at[part] = {}
            at = cast("dict[str, Any]", inner)
        at[last] = text
    return made


def _shown(caller: Caller, request: Request) -> str:
    who, where = caller.name or caller.kind, f"{request.host}:{request.port}"
    if request.protocol == "tcp":
        return f"{who}: tls://{where} for {request.sni}" if request.tls else f"{who}: tcp://{where}"
    claims = f" with claims {msgspec.json.encode(request.claims).decode()}" if request.claims else ""
    return f"{who}: {request.method} {'https' if request.tls else 'http'}://{where}{request.path}{claims}"
