"""Expectations about requests, as files of tests write them down: who may call what, and where requests go."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from fairlead.model.decode import decode
from fairlead.model.diagnostic import Diagnostic, Position, Problem
from fairlead.model.entry import TLS_MODE
from fairlead.model.group import WORKLOAD_LABEL
from fairlead.model.manifest import Json, Manifest
from fairlead.model.object import Spec
from fairlead.model.path import FieldPath
from fairlead.model.ref import Ref
from fairlead.simulate.arrival import NobodyError
from fairlead.simulate.asked import caller_of, request_of
from fairlead.simulate.mesh import Mesh
from fairlead.simulate.remedy import passes
from fairlead.simulate.walk import Step, Verdict, Walk
from fairlead.simulate.walker import walk

_REFUSALS = ("rbac_access_denied", "jwt_authn_access_denied", "filter_chain_not_found", "tls_handshake")
"""How the details of a request begin that was refused, and did not get lost."""
_STAGES = ("authorization", "jwt", "filter chain", "tls")


class TestWorkload(Spec, frozen=True):
    """A workload that the files do not have: an instance of it is made up."""

    name: str
    namespace: str = "default"
    labels: dict[str, str] = {}
    service_account: Annotated[str, Meta(description="Its identity.")] = "default"
    address: Annotated[str, Meta(description="Default: one of 127.66.200.0/21.")] = ""
    ports: Annotated[dict[str, int], Meta(description="Numbers of ports by name.")] = {}
    mesh: Annotated[bool, Meta(description="Whether it has a sidecar.")] = True


class Expected(Spec, frozen=True):
    """What has to be; what is not given may be anything.

    outcome: allowed (the request gets its answer), denied (authorization, a token or mTLS refuses it), fails (it does
        not get its answer, whatever the reason) or undecided.
    policy: the AuthorizationPolicy that denies, NAME or NAMESPACE/NAME.
    reaches: the workload that gets the request, NAME or NAME.NAMESPACE; of weighted ones that with the largest share.
    """

    outcome: Literal["", "allowed", "denied", "fails", "undecided"] = ""
    status: int | None = None
    flags: str | None = None
    details: str = ""
    route: str = ""
    cluster: str = ""
    virtual_host: str = ""
    policy: str = ""
    reaches: str = ""


class Test(Spec, frozen=True):
    """A request with what is expected of it; or, with `allowed`, who may make it and who may not.

    from: one caller or several, as in `fairlead why --from`; each is a check of its own.
    allowed: the callers that may make the request. All other workloads of the mesh are `others`: denied unless it says
        otherwise. The workloads that serve the request are not asked.
    """

    name: str
    to: str
    callers: str | tuple[str, ...] = msgspec.field(default=(), name="from")
    method: str = "GET"
    headers: dict[str, str] = {}
    sni: str = ""
    gateway: str = ""
    claims: dict[str, Any] | None = None
    token_problem: Literal["", "missing", "expired", "signature", "issuer", "audience"] = ""
    expect: Expected | None = None
    allowed: tuple[str, ...] | None = None
    others: Literal["denied", "fails", "allowed", "any"] = "denied"


class TestFile(Spec, frozen=True):
    """A file of tests. `files` are files and directories of configuration, relative to it."""

    tests: tuple[Test, ...]
    files: tuple[str, ...] = ()
    recursive: bool = False
    namespace: str = "default"
    workloads: tuple[TestWorkload, ...] = ()


_FILE_FIELDS = msgspec.structs.fields(TestFile)


class Check(msgspec.Struct, frozen=True):
    """One request that was walked. `said` is why it is not as expected, "" if it is; `decided` the deciding step."""

    test: str
    caller: str
    to: str
    result: Literal["passed", "failed", "undecided"]
    said: str = ""
    got: str = ""
    position: Position | None = None
    decided: Step | None = None


def is_expectations(data: Json) -> bool:
    """Whether a document is a file of tests, and no object: it has tests, and nothing that only objects have."""
    return isinstance(data.get("tests"), list) and set(data) <= {info.encode_name for info in _FILE_FIELDS}


def read(manifest: Manifest) -> tuple[TestFile | None, list[Diagnostic]]:
    """A file of tests, or what is wrong with it and where."""
    found, problems = decode(TestFile, manifest.data)
    if found is not None:
        problems = [one for at, test in enumerate(found.tests) for one in _problems(test, FieldPath(("tests", at)))]
    ref = Ref("", "Tests", "", manifest.file)
    told = [Diagnostic.of(one, ref, manifest.position(one.path)) for one in problems]
    return (None if told else found), told


def _problems(test: Test, path: FieldPath) -> Iterator[Problem]:
    try:
        request_of(test.to, method=test.method)
    except ValueError as error:
        yield Problem(path / "to", str(error), remedy="Write a URL such as http://reviews:9080/.", code="FL3600")
    if test.allowed is None and not test.callers:
        remedy = "Write from and expect, or allowed."
        yield Problem(path, "the test names no caller", remedy=remedy, code="FL3601")
    if test.callers and test.expect is None:
        yield Problem(path, "the test expects nothing", remedy="Write expect, or allowed.", code="FL3601")
    if test.allowed is not None and (test.callers or test.expect is not None):
        remedy = "Take two tests, or leave out one of them."
        yield Problem(path / "allowed", "allowed stands beside from or expect", remedy=remedy, code="FL3601")
    for field, callers in (("from", _listed(test.callers)), ("allowed", test.allowed or ())):
        for one in callers:
            try:
                caller_of(one)
            except ValueError as error:
                remedy = "Callers are written as in `fairlead why --from`."
                yield Problem(path / field, str(error), remedy=remedy, code="FL3602")


def _listed(callers: str | tuple[str, ...]) -> tuple[str, ...]:
    return (callers,) if isinstance(callers, str) else callers


def made_up(workloads: Sequence[TestWorkload]) -> list[Manifest]:
    """The entries of workloads that a file of tests adds."""
    out: list[Manifest] = []
    for at, one in enumerate(workloads):
        labels = {**one.labels, WORKLOAD_LABEL: one.name}
        body: Json = {"address": one.address or f"127.66.{200 + at // 250}.{at % 250 + 1}", "labels": labels}
        if one.mesh:
            labels[TLS_MODE] = "istio"
            body["serviceAccount"] = one.service_account
        if one.ports:
            body["ports"] = dict(one.ports)
        meta = {"name": one.name, "namespace": one.namespace}
        document = {"apiVersion": "networking.istio.io/v1", "kind": "WorkloadEntry", "metadata": meta, "spec": body}
        out.append(Manifest(document))
    return out


def run(mesh: Mesh, manifest: Manifest, tests: TestFile) -> Iterator[Check]:
    """Walk every request of a file of tests."""
    for at, test in enumerate(tests.tests):
        path = FieldPath(("tests", at))
        if test.allowed is None:
            wanted = test.expect or Expected()
            for caller in _listed(test.callers):
                yield _check(mesh, test, caller, wanted, manifest.position(path / "expect"))
        else:
            yield from _set(mesh, test, test.allowed, manifest.position(path / "allowed"))


def _set(mesh: Mesh, test: Test, allowed: tuple[str, ...], position: Position | None) -> Iterator[Check]:
    members: set[str] = set()
    for caller in allowed:
        yield _check(mesh, test, caller, Expected(outcome="allowed"), position)
        members.update(_workloads(mesh, caller))
    if test.others == "any":
        return
    served = _serving(mesh, test)
    for name in mesh.workloads.names():
        if name not in members and name not in served:
            yield _check(mesh, test, name, Expected(outcome=test.others), position)


def _workloads(mesh: Mesh, caller: str) -> set[str]:
    """The workloads that a caller's name means."""
    name, _, namespace = caller.partition(".")
    found = mesh.workloads.named(name, namespace)
    return {f"{one.view.workload_name}.{one.view.namespace}" for one in found}


def _serving(mesh: Mesh, test: Test) -> set[str]:
    """The workloads behind the host that is called."""
    request = request_of(test.to)
    hostname = mesh.hostname(request.host, "")
    found = (mesh.workloads.at(one.address) for one in mesh.instances(hostname, request.port))
    return {f"{one.view.workload_name}.{one.view.namespace}" for one in found if one is not None}


def _check(mesh: Mesh, test: Test, caller: str, wanted: Expected, position: Position | None) -> Check:
    request = request_of(
        test.to,
        method=test.method,
        headers=[f"{name}: {value}" for name, value in test.headers.items()],
        sni=test.sni,
        claims=test.claims,
        problem=test.token_problem,
    )
    try:
        found = walk(mesh, caller_of(caller, test.gateway), request)
    except NobodyError as error:
        return Check(test.name, caller, test.to, "failed", str(error), "", position)
    wrong = list(_differences(mesh, wanted, found))
    got = _words(found.verdict)
    decided = next((one for one in found.steps if not one.passed), None)
    if wrong:
        unsure = found.verdict.undecided and wanted.outcome in ("allowed", "denied", "fails") and passes(found)
        result: Literal["failed", "undecided"] = "undecided" if unsure else "failed"
        return Check(test.name, caller, test.to, result, "; ".join(wrong), got, position, decided)
    return Check(test.name, caller, test.to, "passed", "", got, position, decided)


def _words(verdict: Verdict) -> str:
    status = str(verdict.status) if verdict.status else "connection"
    return " ".join(one for one in (status, verdict.flags, verdict.details) if one)


def outcome(found: Walk) -> str:
    """`allowed`, `denied`, `fails` or `undecided`."""
    if passes(found):
        return "undecided" if found.verdict.undecided else "allowed"
    if found.verdict.details.startswith(_REFUSALS):
        return "denied"
    refused = any(not one.passed and one.hop != "client" and one.stage in _STAGES for one in found.steps)
    return "denied" if refused else "fails"


def _differences(mesh: Mesh, wanted: Expected, found: Walk) -> Iterator[str]:
    verdict = found.verdict
    got = outcome(found)
    if wanted.outcome and got != wanted.outcome and not (wanted.outcome == "fails" and got == "denied"):
        why = f" ({'; '.join(verdict.undecided)})" if got == "undecided" else ""
        yield f"expected {wanted.outcome}, but it is {_words(verdict)}{why}"
    if wanted.status is not None and verdict.status != wanted.status:
        yield f"expected status {wanted.status}, not {verdict.status}"
    if wanted.flags is not None and verdict.flags != wanted.flags:
        yield f"expected flags {wanted.flags or 'none'}, not {verdict.flags or 'none'}"
    if not verdict.details.startswith(wanted.details):
        yield f"expected {wanted.details}, not {verdict.details}"
    for name in ("route", "cluster", "virtual_host"):
        said = getattr(wanted, name)
        if said and getattr(verdict, name) != said:
            yield f"expected {name.replace('_', ' ')} {said}, not {getattr(verdict, name) or 'none'}"
    if wanted.policy and not _denied_by(wanted.policy, verdict.details):
        yield f"expected to be denied by {wanted.policy}, not {verdict.details}"
    if wanted.reaches:
        last = found.steps[-1]
        reached = _workloads(mesh, last.proxy) if last.stage == "application" else set[str]()
        if not reached & {*_workloads(mesh, wanted.reaches), wanted.reaches}:
            yield f"expected to reach {wanted.reaches}, not {', '.join(sorted(reached)) or 'nobody'}"


def _denied_by(policy: str, details: str) -> bool:
    namespace, slash, name = policy.rpartition("/")
    where = f"ns[{namespace}]-" if slash else "-"
    return f"{where}policy[{name}]-rule[" in details
