"""Routes of the authority beside the Kubernetes API, for administrators.

GET `/fairlead/v1/ca` says how it stands; POST `/fairlead/v1/ca/rotation?step=start|next|undo` takes a step (`force`,
`dryRun`; the body of `start` may hold the PEM files of an authority made elsewhere). GET `/fairlead/v1/tokens` lists
join tokens, POST `/fairlead/v1/tokens/revoke` refuses some. GET `/fairlead/v1/plaintext` is the ledger of plaintext
callers, DELETE forgets it.
"""

from __future__ import annotations

import asyncio
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from fairlead.ca.authority import Authority, AuthorityError, Supplied
from fairlead.ca.registry import TokenRegistry
from fairlead.ca.rotation import ORDER, Ending, RotationRefused, endings
from fairlead.controlplane.aside import Answer, Aside, Inquiry
from fairlead.controlplane.fleet import Lagging
from fairlead.controlplane.mtlsreport import mtls_report
from fairlead.controlplane.operations import administrators, answered, refused
from fairlead.ir.mesh import Mesh
from fairlead.model.report import bundle_id
from fairlead.store.transaction import timestamp

if TYPE_CHECKING:
    from fairlead.controlplane.plane import ControlPlane

WARN_LEFT, CRITICAL_LEFT = 0.2, 0.05
"""Shares of a certificate's life: with less left, it is time to replace it, or nearly too late."""
_MAX_BODY = 1 << 20
_NAMED = 20


class Import(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An authority made elsewhere, PEM: `cert` signs with `key`, `chain` stands above it, `root` is trusted."""

    cert: str
    key: str
    root: str
    chain: str = ""


class Revocation(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """Token ids, or all tokens of a service account until now."""

    ids: tuple[str, ...] = ()
    namespace: str = ""
    service_account: str = ""


def forecast(plane: ControlPlane) -> tuple[list[Ending], list[str]]:
    """What of the authority ends when, and warnings for what ends soon."""
    now = datetime.now(UTC)
    found = {one.serial: one for one in endings(plane.authority, now)}
    if plane.rotation.target is not None:
        found.update((one.serial, one) for one in endings(plane.rotation.target, now))
    rows = sorted(found.values(), key=lambda one: one.not_after)
    return rows, [said for one in rows if (said := _warning(one))]


def domain_findings(authority: str, mesh: Mesh) -> list[str]:
    """That MeshConfig means another trust domain than identities are issued in: then peers do not know each other."""
    if authority == mesh.trust_domain:
        return []
    said = f"error: identities are issued in the trust domain {authority}, MeshConfig says {mesh.trust_domain}"
    return [f"{said}: set trustDomain: {authority} in ConfigMap istio-system/istio [FL2604]"]


def _warning(one: Ending) -> str:
    if one.left > WARN_LEFT:
        return ""
    when = timestamp(one.not_after)
    if one.left <= 0:
        return f"error: {one.role} {one.name} ended at {when}: `fairlead ca rotate start` makes a new one [FL2601]"
    urgent = "error: nearly too late, " if one.left <= CRITICAL_LEFT else "warning: "
    return f"{urgent}{one.role} {one.name} ends at {when}: rotate it with `fairlead ca rotate start` [FL2601]"


def ca_status(plane: ControlPlane) -> dict[str, Any]:
    """The authority, the rotation, and whom it waits for, JSON-shaped."""
    rows, warnings = forecast(plane)
    rotation = plane.rotation
    lagging = plane.fleet.lagging(rotation.phase, rotation.target)
    return {
        "phase": rotation.phase,
        "since": timestamp(rotation.since) if rotation.since else "",
        "issuer": _authority(plane.authority),
        "next": _authority(rotation.target) if rotation.target and rotation.target is not plane.authority else None,
        "bundle": bundle_id(plane.authority.root_pem),
        "certificates": [{**msgspec.to_builtins(one), "notAfter": timestamp(one.not_after)} for one in rows],
        "server": plane.server_ends.strftime("%Y-%m-%dT%H:%M:%SZ") if plane.server_ends else "",
        "proxies": plane.fleet.count(),
        "endings": [{"proxy": name, "notAfter": timestamp(end)} for name, end in plane.fleet.endings()],
        "lagging": [msgspec.to_builtins(one) for one in lagging],
        "strangers": [
            msgspec.to_builtins(one) for one in (plane.fleet.strangers() if rotation.phase == "stable" else ())
        ],
        "warnings": warnings,
    }


def _authority(authority: Authority) -> dict[str, str]:
    name = authority.issuer.subject.rfc4514_string()
    return {"name": name, "keyId": authority.issuer_id, "notAfter": timestamp(authority.not_after.timestamp())}


def blockers(plane: ControlPlane, step: str) -> list[Lagging]:
    """Whom a step would leave behind. Raises RotationRefused for a step that makes no sense."""
    rotation = plane.rotation
    if step == "start":
        if rotation.phase != "stable":
            raise RotationRefused(f"a rotation is under way ({rotation.phase}): go on with `next`, or back with `undo`")
        return []
    if rotation.phase == "stable":
        raise RotationRefused("no rotation is under way: `fairlead ca rotate start` begins one")
    if step == "next":
        return plane.fleet.lagging(rotation.phase, rotation.target)
    return plane.fleet.left_behind(rotation.phase, rotation.former_roots)


async def take_step(plane: ControlPlane, step: str, force: bool, dry_run: bool, body: bytes) -> dict[str, Any]:
    """Take a step of the rotation. Raises RotationRefused, AuthorityError, ValueError."""
    if step not in ("start", "next", "undo"):
        raise ValueError(f"step {step!r} is not start, next or undo")
    held = blockers(plane, step)
    before = plane.rotation.phase
    if held and not force:
        names = "; ".join(f"{one.proxy}: {one.reason}" for one in held[:_NAMED])
        more = f"; and {len(held) - _NAMED} more" if len(held) > _NAMED else ""
        raise RotationRefused(f"{len(held)} proxies lag: {names}{more}. Mend or end them, or use --force [FL2602]")
    if dry_run:
        at = ORDER.index(before) + (-1 if step == "undo" else 1)
        after = ORDER[at % len(ORDER)]
    elif step == "start":
        after = await asyncio.to_thread(_start, plane, body)
    else:
        after = plane.rotation.advance() if step == "next" else plane.rotation.undo()
    if not dry_run:
        plane.trust_changed()
    return {"before": before, "after": after, "dryRun": dry_run, "forcedPast": [one.proxy for one in held]}


def _start(plane: ControlPlane, body: bytes) -> str:
    if not body.strip():
        return plane.rotation.start()
    found = msgspec.json.decode(body, type=Import)
    with tempfile.TemporaryDirectory(dir=plane.state.ca) as name:
        files = {at: Path(name) / f"{at}.pem" for at in ("cert", "key", "root", "chain")}
        for at, path in files.items():
            path.touch(0o600)
            path.write_text(getattr(found, at))
        chain = files["chain"] if found.chain else None
        return plane.rotation.start(Supplied(files["cert"], files["key"], files["root"], chain))


def authority_routes(plane: ControlPlane, aside: Aside) -> list[BaseRoute]:
    """The routes."""

    async def status(_: Request) -> Response:
        return JSONResponse(ca_status(plane))

    async def rotation(request: Request) -> Response:
        query = request.query_params
        body = await request.body()
        if len(body) > _MAX_BODY:
            return refused(413, "the files of an authority are smaller than 1 MiB")
        try:
            flags = (query.get("force") == "true", query.get("dryRun") == "true")
            return JSONResponse(await take_step(plane, query.get("step", ""), *flags, body))
        except RotationRefused as error:
            return refused(409, str(error))
        except (AuthorityError, ValueError) as error:
            return refused(400, str(error))

    async def plaintext(request: Request) -> Response:
        workload = request.query_params.get("workload", "")
        if request.method == "DELETE":
            return JSONResponse({"forgotten": plane.plaintext.clear(workload)})

        def work(_: Inquiry) -> Answer:
            return Answer(200, mtls_report(plane.feed.model, plane.proxies, plane.plaintext, workload))

        return await answered(request, aside.ask(work))

    return [
        Route("/fairlead/v1/ca", administrators(status)),
        Route("/fairlead/v1/ca/rotation", administrators(rotation), methods=["POST"]),
        Route("/fairlead/v1/plaintext", administrators(plaintext), methods=["GET", "DELETE"]),
        *_token_routes(plane.tokens.registry),
    ]


def _token_routes(registry: TokenRegistry) -> list[BaseRoute]:
    async def tokens(_: Request) -> Response:
        rows = [
            {**msgspec.to_builtins(one), "issued": timestamp(one.issued), "expires": timestamp(one.expires)}
            for one in registry.listing()
        ]
        return JSONResponse({"tokens": rows})

    async def revoke(request: Request) -> Response:
        try:
            wanted = msgspec.json.decode(await request.body(), type=Revocation)
        except msgspec.DecodeError as error:
            return refused(400, str(error))
        if not wanted.ids and not wanted.service_account:
            return refused(400, "name token ids, or a namespace and a service account")
        known = [one for one in wanted.ids if registry.revoke(one)]
        count = 0
        if wanted.service_account:
            count = registry.revoke_account(wanted.namespace or "default", wanted.service_account)
        unknown = sorted(set(wanted.ids) - set(known))
        return JSONResponse({"revoked": len(known) + count, "unknown": unknown})

    return [
        Route("/fairlead/v1/tokens", administrators(tokens)),
        Route("/fairlead/v1/tokens/revoke", administrators(revoke), methods=["POST"]),
    ]
