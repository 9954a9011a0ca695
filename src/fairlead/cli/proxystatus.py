"""`fairlead proxy-status`: whether each proxy has what it should have."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from fairlead.cli.printing import print_table, show

_TYPES = ("CDS", "LDS", "EDS", "RDS", "SDS")
_STYLES = {"SYNCED": "green", "STALE": "yellow", "NACKED": "bold red", "NOT SENT": "dim"}


@click.command("proxy-status")
@click.argument("proxy", required=False)
@click.option("--state", type=click.Path(file_okay=False, path_type=Path), help="The state directory.")
@click.option("--kubeconfig", type=click.Path(path_type=Path), help="Default: $KUBECONFIG, then STATE/kubeconfig.")
@click.option("-o", "--output", type=click.Choice(["json", "yaml"]), help="Print data instead of a table.")
def proxy_status(proxy: str | None, state: Path | None, kubeconfig: Path | None, output: str | None) -> None:
    """Show how far each proxy has acknowledged its configuration, or of one PROXY what is behind and why.

    Exit status: 0 if every proxy is in sync, 1 if one has refused something or there is no such proxy.
    """
    from fairlead.cli.resources import connected

    with connected(kubeconfig, state) as client:
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
    if any(one["types"][name]["state"] == "NACKED" for one in found for name in _TYPES):
        sys.exit(1)


def _one(found: dict[str, Any]) -> None:
    rows: list[tuple[object, ...]] = []
    for name in _TYPES:
        said = found["types"][name]
        rows.append((name, said["state"], said.get("resources", 0), said.get("sent", 0), said.get("acked", 0), ""))
        rows += [("", "", "", "", "", f"{one['name']} {one['error']}".strip()) for one in said.get("behind", [])]
    print_table(("TYPE", "STATE", "RESOURCES", "SENT", "ACKED", "BEHIND"), rows, styles=_STYLES)


def _age(seconds: float) -> str:
    whole = int(seconds)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if whole >= size:
            return f"{whole // size}{unit}"
    return f"{whole}s"
