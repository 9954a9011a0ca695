"""`fairlead proxy-status`: whether each proxy has what it should have."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import click

from fairlead.cli.printing import complain, print_table, show

_TYPES = ("CDS", "LDS", "EDS", "RDS", "SDS")
_STYLES = {"SYNCED": "green", "STALE": "yellow", "NACKED": "bold red", "NOT SENT": "dim"}


@click.command("proxy-status")
@click.argument("proxy", required=False)
@click.option("--state", type=click.Path(file_okay=False, path_type=Path), help="The state directory.")
@click.option("--kubeconfig", type=click.Path(path_type=Path), help="Default: $KUBECONFIG, then STATE/kubeconfig.")
@click.option("--release", is_flag=True, help="Send what is held back (see below), to PROXY and its like or to all.")
@click.option("-o", "--output", type=click.Choice(["json", "yaml"]), help="Print data instead of a table.")
def proxy_status(
    proxy: str | None, state: Path | None, kubeconfig: Path | None, release: bool, output: str | None
) -> None:
    """Show how far each proxy has acknowledged its configuration, or of one PROXY what is behind and why.

    A push that would take away more than half of a proxy's clusters or endpoints, and more than ten, is held: the
    proxy goes on with what it has until enough comes back or until it is released. Deleting a whole namespace is held
    like this too, where a proxy uses little else: release it if it was meant.

    \b
    fairlead proxy-status
    fairlead proxy-status web-0.shop
    fairlead proxy-status --release

    Exit status: 0 if every proxy is in sync, 1 if one has refused something, if a push is held, or if there is no such
    proxy.
    """
    from fairlead.cli.resources import connected

    with connected(kubeconfig, state) as client:
        if release:
            query = f"?{urlencode({'proxy': proxy})}" if proxy else ""
            sent: list[str] = client.request("POST", f"/fairlead/v1/release{query}").document["released"]
            for node in sent:
                click.echo(f"released: {node.split('~')[2]}")
            if not sent:
                click.echo("nothing is held" + (f" for {proxy}" if proxy else ""))
            return
        found: list[dict[str, Any]] = client.request("GET", "/fairlead/v1/proxies").document["proxies"]
    if proxy is not None:
        found = [one for one in found if proxy in (one["name"], f"{one['name']}.{one['namespace']}")]
        if not found:
            raise click.ClickException(f"no proxy {proxy!r} is connected; `fairlead proxy-status` lists those that are")
    if output:
        show(found, output)
    elif proxy is not None:
        _one(found[0])
    else:
        print_table(
            ("NAME", "TYPE", *_TYPES, "IDENTITY", "CONNECTED"),
            [
                (
                    f"{one['name']}.{one['namespace']}",
                    one["type"],
                    *(one["types"][name]["state"] for name in _TYPES),
                    one["identity"].removeprefix("spiffe://"),
                    _age(one["connectedSeconds"]),
                )
                for one in found
            ],
            styles=_STYLES,
        )
    held = [one for one in found if one["held"]]
    for one in held:
        said = f"{one['name']}.{one['namespace']} is held back: {one['held']}"
        complain(f"{said}; `fairlead proxy-status --release` sends it")
    refused = [one for one in found if any(one["types"][name]["state"] == "NACKED" for name in _TYPES)]
    if refused and proxy is None and not output:
        for one in refused:
            name = f"{one['name']}.{one['namespace']}"
            complain(f"{name} refused {_refusals(one)}; `fairlead proxy-status {name}` has it whole")
    if held or refused:
        sys.exit(1)


def _refusals(one: dict[str, Any]) -> str:
    said = [
        f"{name} {entry['name']}: {entry['error']}"
        for name in _TYPES
        for entry in one["types"][name].get("behind", [])
        if entry["error"]
    ]
    return f"{said[0][:300]}{f' (and {len(said) - 1} more)' if len(said) > 1 else ''}" if said else "something"


def _one(found: dict[str, Any]) -> None:
    rows: list[tuple[object, ...]] = []
    for name in _TYPES:
        said = found["types"][name]
        rows.append((name, said["state"], said.get("resources", 0), said.get("sent", 0), said.get("acked", 0), ""))
        rows += [("", "", "", "", "", f"{one['name']} {one['error']}".strip()) for one in said.get("behind", [])]
    print_table(("TYPE", "STATE", "RESOURCES", "SENT", "ACKED", "BEHIND"), rows, styles=_STYLES, blank="")


def _age(seconds: float) -> str:
    whole = int(seconds)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if whole >= size:
            return f"{whole // size}{unit}"
    return f"{whole}s"
