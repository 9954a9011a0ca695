"""`fairlead describe`: an object or workload, what applies to it and why, how it stands."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import click

from fairlead.cli.connecting import connected, connection
from fairlead.cli.history import by, object_of, title
from fairlead.cli.printing import line, print_table, show

Json = dict[str, Any]
_PROXIES = ("proxy", "workload")


@click.command("describe")
@click.argument("what", metavar="KIND/NAME|workload/NAME")
@click.option("-n", "--namespace", default="", metavar="NS", help="Default: the kubeconfig's, or default.")
@click.option("--at", type=click.IntRange(1), metavar="REV", help="As it was at this revision.")
@click.option("-o", "--output", type=click.Choice(["json", "yaml"]), help="Print data.")
@connection
def describe(
    what: str, namespace: str, at: int | None, output: str | None, kubeconfig: Path | None, state: Path | None
) -> None:
    """Show what applies to a workload, service, gateway or policy, in the order in which it counts, and how it stands.

    A workload (or Process, WorkloadEntry) has its mTLS mode and the policies behind it, tokens, authorization, Sidecar,
    telemetry, extensions, its services and gateways; a host its routes, traffic policies, gateways that expose it and
    endpoints with their health; a policy the workloads to which it applies. All have conditions, findings and the last
    changes.

    \b
    fairlead describe workload/web-0 -n shop
    fairlead describe svc/reviews -n shop
    fairlead describe authorizationpolicy/deny-all -n shop --at 41

    Exit status: 0 done, 1 there is no such object, 2 wrong usage.
    """
    word, _, name = what.partition("/")
    with connected(kubeconfig, state) as client:
        home = namespace or client.access.namespace
        if word in _PROXIES and name:
            query = {"kind": "Proxy", "namespace": home, "name": name}
        else:
            query = object_of(what, home)
        query |= {"at": str(at)} if at else {}
        found = client.request("GET", f"/fairlead/v1/describe?{urlencode(query)}").document
    if output:
        show(found, output)
        return
    line(title(found["object"]), bold=True)
    for one in found["conditions"]:
        colour = "green" if one["status"] == "True" else "red"
        said = " ".join(str(each) for each in (one.get("reason", ""), one.get("message", "")) if each)
        line(f"  {one['type']}: {one['status']}" + (f" ({said})" if said else ""), fg=colour)
    _proxies(found)
    for section in found["sections"]:
        _heading(section["title"])
        for row in section["rows"]:
            line(f"  {_row(row, found['object'])}")
        if section["count"] > len(section["rows"]):
            click.echo(f"  and {section['count'] - len(section['rows'])} more")
    if found["findings"]:
        _heading("Findings")
        for one in found["findings"]:
            line(f"  {one}", fg="yellow")
    if found["history"]:
        _heading("Last changes")
        rows = [(one["revision"], one["time"], by(one), _mine(one, found["object"])) for one in found["history"]]
        print_table(("REV", "TIME", "BY", "WHAT"), rows, blank="")


def _row(row: Json, described: Json) -> str:
    """`AuthorizationPolicy shop/a spec.rules[0]: what it says  (a.yaml:3:5)`; of what is described the field alone."""
    owner = title(row["object"]) if row["object"] and row["object"] != described else ""
    who = " ".join(part for part in (owner, row.get("field", "")) if part)
    where = f"  ({row['position']})" if "position" in row else ""
    return f"{who}: {row['said']}{where}" if who else f"{row['said']}{where}"


def _mine(commit: Json, target: Json) -> str:
    said = next((one["what"] for one in commit["changes"] if one["object"] == target), "")
    return f"{said} ({commit['message']})" if commit["message"] else str(said)


def _heading(text: str) -> None:
    click.echo()
    click.secho(text, bold=True)


def _proxies(found: Json) -> None:
    if not found["proxies"]:
        return
    _heading("Proxies")
    for one in found["proxies"]:
        state = "refused something" if one["refused"] else "in sync" if one["inSync"] else "behind"
        late = f" for {one['behindSeconds']} s" if one["behindSeconds"] else ""
        line(f"  {one['name']}: {state}{late}, {one['identity']}")
    if found["proxyCount"] > len(found["proxies"]):
        click.echo(f"  and {found['proxyCount'] - len(found['proxies'])} more")
