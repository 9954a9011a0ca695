"""`fairlead why`: what a request would meet, hop by hop, and which field decides."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from fairlead.cli import manifests, printing
from fairlead.cli.busy import busy
from fairlead.cli.walks import show_walk

EXITS = {"passes": 0, "fails": 1, "undecided": 3}
Json = dict[str, Any]


@click.command("why")
@click.option("--from", "caller", default="", metavar="WHO", help="NAME[.NAMESPACE], internet[:IP] or plaintext:IP.")
@click.option("--to", "url", default="", metavar="URL", help="http://reviews:9080/path; also https, grpc, tcp, tls.")
@click.option("-X", "--request", "method", default="GET", show_default=True, help="The method.")
@click.option("-H", "--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="A header (repeatable).")
@click.option("--sni", default="", help="Server name of the application's own TLS. Default: the URL's host.")
@click.option(
    "--client-certificate",
    "certificate",
    type=click.Choice(["valid", "invalid"]),
    default=None,
    help="What the application's own TLS shows.",
)
@click.option("--user", default="", metavar="ID", help="User or group of the caller's application, for capture rules.")
@click.option("--gateway", default="", metavar="NAME[.NS]", help="Through this gateway (--from internet).")
@click.option("--jwt-claims", default="", metavar="JSON", help="Claims of a valid token in the Authorization header.")
@click.option("--token", default="", help="A token (JWT): its claims count, its signature is not looked at.")
@click.option(
    "--token-problem",
    type=click.Choice(["expired", "signature", "issuer", "audience"]),
    help="What is wrong with the token.",
)
@click.option("--access-log", default="", metavar="LINE|-", help="The request of a line of a proxy's access log.")
@click.option("--trace", default="", metavar="ID", help="The request with this id, from access logs kept on this host.")
@click.option("-f", "--filename", "files", multiple=True, metavar="FILE|DIR|-", help="Files instead of the mesh.")
@click.option("-R", "--recursive", is_flag=True, help="Look into directories below a directory.")
@click.option("-n", "--namespace", default="default", show_default=True, help="Namespace of objects that name none.")
@click.option("--with", "more", multiple=True, metavar="FILE|DIR", help="As if these were applied (repeatable).")
@click.option("--at", "revision", type=int, default=None, metavar="REV", help="As things stood at a revision.")
@click.option("--no-changes", is_flag=True, help="Do not look for changes that would let the request pass.")
@click.option("-v", "--verbose", is_flag=True, help="Every step, with the Envoy setting of each.")
@click.option("-o", "--output", type=click.Choice(["text", "json", "yaml"]), default="text", show_default=True)
@click.option("--state", type=click.Path(path_type=Path), help="State directory of the control plane.")
@click.option("--kubeconfig", type=click.Path(path_type=Path), help="Default: $KUBECONFIG.")
def why(files: tuple[str, ...], revision: int | None, verbose: bool, output: str, **given: Any) -> None:
    """Say why a request is routed, denied or lost: each step, and the object, field and line that decides it.

    Without -f the running mesh is asked. Nothing is sent: the request is walked over the configuration of the proxies.

    \b
    fairlead why --from reviews-v1.shop --to http://ratings:9080/ratings/1
    fairlead why --from internet --to https://shop.example/ -H 'cookie: user=ann'
    fairlead why --from plaintext:10.0.0.9 --to http://ratings.shop:9080/ -f shop/
    fairlead why --from web --to http://reviews/ -f shop/ --with change.yaml
    tail -1 access.log | fairlead why --access-log - --from web-v1.shop

    \b
    Exit status: 0 the request gets its answer, 1 it would fail, 2 wrong usage,
    3 something decides that configuration does not say.
    """
    asked = _asked(given)
    if files and revision is not None:
        raise click.UsageError("--at is for a running mesh: files have no revisions")
    found = _offline(asked, files, given) if files else _live(asked, revision, given)
    if output == "text":
        if "logged" in found:
            click.echo(f"the log says: {found['logged']}")
        show_walk(found, verbose=verbose)
        _tell_changes(found)
    else:
        printing.show(found, output)
    sys.exit(EXITS[found["verdict"]["outcome"]])


def _tell_changes(found: Json) -> None:
    if found["verdict"]["outcome"] == "fails" and not found["changes"]:
        click.echo("No change of one or two fields was found that would let it pass.")


def _asked(given: Json) -> Json:
    """What is asked, as the API takes it: `from`, `request`, and what a log says if it comes from one."""
    import msgspec

    from fairlead.simulate import asked

    try:
        if given["access_log"] or given["trace"]:
            return _from_log(given)
        if not given["caller"] or not given["url"]:
            raise click.UsageError("--from and --to are needed (or --access-log, or --trace)")
        claims, problem = _token(given)
        request = asked.request_of(
            given["url"],
            method=given["method"],
            headers=given["headers"],
            sni=given["sni"],
            claims=claims,
            problem=problem,
            certificate=given["certificate"] or "",
        )
        caller = asked.caller_of(given["caller"], given["gateway"], given["user"])
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    return {"from": msgspec.to_builtins(caller), "request": msgspec.to_builtins(request)}


def _token(given: Json) -> tuple[Json | None, str]:
    from fairlead.simulate import asked

    problem: str = given["token_problem"] or ""
    if given["jwt_claims"] and given["token"]:
        raise click.UsageError("--token and --jwt-claims exclude each other")
    if given["jwt_claims"]:
        return asked.claims_of(given["jwt_claims"]), problem
    if not given["token"]:
        return None, problem
    claims = asked.token_claims(given["token"])
    ends = claims.get("exp")
    if isinstance(ends, int | float) and ends < time.time():
        problem = problem or "expired"
    return claims, problem


def _from_log(given: Json) -> Json:
    """The request of an access log line. Who wrote the line is known for --trace, else --from says it."""
    import msgspec

    from fairlead.simulate import asked, logline

    writer = ""
    if given["trace"]:
        writer, line = _traced(given["trace"], given["state"])
    else:
        line = sys.stdin.readline() if given["access_log"] == "-" else given["access_log"]
    logged = logline.parse(line)
    who = given["caller"] or ("" if logged.inbound else writer)
    said = {"logged": f"{logged.status or 'connection'} {logged.flags} {logged.details}".replace("  ", " ")}
    request = msgspec.to_builtins(logged.request)
    if who:
        caller = msgspec.to_builtins(asked.caller_of(who, given["gateway"]))
    elif logged.peer:
        caller = {"kind": "peer", "address": logged.peer}
    else:
        raise ValueError("the line does not say who called: give --from")
    return {"from": caller, "request": request, "endpoint": logged.endpoint, **said}


def _traced(wanted: str, state: Path | None) -> tuple[str, str]:
    """The first line with an id in the access logs of this host, the client's side before the server's."""
    from fairlead.node.files import PROXY_LOG
    from fairlead.node.location import default_state
    from fairlead.node.logs import last_lines
    from fairlead.simulate import logline

    root = (state or default_state()) / "node"
    found: list[tuple[bool, str, str]] = []
    searched = 0
    for log in sorted(root.glob(f"*/*/{PROXY_LOG}")):
        searched += 1
        for raw in last_lines(log, None):
            line = raw.decode("utf-8", "replace")
            if wanted in line:
                try:
                    parsed = logline.parse(line)
                except ValueError:
                    continue
                found.append((parsed.inbound, f"{log.parent.name}.{log.parent.parent.name}", line))
    if not found:
        where = f"{searched} proxy logs below {root}" if searched else f"{root}, where there are no proxy logs"
        raise click.ClickException(
            f"no access log line has {wanted!r}; searched: {where}. Are access logs switched on?"
        )
    _, writer, line = min(found)
    return writer, line


def _documents(paths: Iterable[str], *, recursive: bool) -> list[Any]:
    names, missing = manifests.files(paths, recursive=recursive)
    documents, broken = manifests.read(names)
    for complaint in (*missing, *broken):
        printing.complain(complaint)
    if missing or broken:
        sys.exit(2)
    return documents


def _offline(asked: Json, files: tuple[str, ...], given: Json) -> Json:
    import msgspec

    from fairlead.cli.offlinemesh import load_mesh
    from fairlead.simulate.answering import answer, caller_of
    from fairlead.simulate.arrival import NobodyError
    from fairlead.simulate.request import Request

    base = _documents(files, recursive=given["recursive"])
    more = _documents(given["more"], recursive=given["recursive"]) if given["more"] else []
    mesh = load_mesh(base, more, given["namespace"])
    try:
        with busy("compiling configuration"):
            caller = caller_of(mesh, asked["from"])
        request = msgspec.convert(asked["request"], Request)
        with busy("walking the request"):
            found = answer(mesh, caller, request, fixes=not given["no_changes"], endpoint=asked.get("endpoint", ""))
    except NobodyError as error:
        raise click.UsageError(str(error)) from None
    return {**({"logged": asked["logged"]} if "logged" in asked else {}), **found}


def _live(asked: Json, revision: int | None, given: Json) -> Json:
    from fairlead.cli.client import PATIENCE, Refused
    from fairlead.cli.resources import connected

    body: Json = {"from": asked["from"], "request": asked["request"], "changes": not given["no_changes"]}
    if asked.get("endpoint"):
        body["endpoint"] = asked["endpoint"]
    if given["more"]:
        body["with"] = [one.data for one in _documents(given["more"], recursive=given["recursive"])]
    if revision is not None:
        body["at"] = revision
    with connected(given["kubeconfig"], given["state"]) as client:
        try:
            found: Json = client.request("POST", "/fairlead/v1/why", body, seconds=PATIENCE).document
        except Refused as error:
            if error.code == 400:
                raise click.UsageError(str(error)) from None
            raise
    return {**({"logged": asked["logged"]} if "logged" in asked else {}), **found}
