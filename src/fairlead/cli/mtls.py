"""`fairlead mtls`: who still calls in plaintext, and which ports can be made STRICT."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import click

from fairlead.cli.printing import print_table, show

_NAMED = 3
_STYLES = {"yes": "green", "no": "yellow"}


@click.command()
@click.argument("workload", required=False, default="")
@click.option("--forget", is_flag=True, help="Forget the callers seen until now, of WORKLOAD or of all.")
@click.option("--state", type=click.Path(file_okay=False, path_type=Path), help="The state directory.")
@click.option("--kubeconfig", type=click.Path(path_type=Path), help="Default: $KUBECONFIG, then STATE/kubeconfig.")
@click.option("-o", "--output", type=click.Choice(["json", "yaml"]), help="Print data instead of a table.")
def mtls(workload: str, forget: bool, state: Path | None, kubeconfig: Path | None, output: str | None) -> None:
    """Show the ports of workloads, their mTLS mode, and who called them in plaintext in the last week.

    A port whose SAFE is `yes` takes plaintext and nobody uses it: a PeerAuthentication STRICT will cut nobody off.
    Agents report a few seconds after a call; a caller that comes once a month is only seen once a month.

    \b
    fairlead mtls
    fairlead mtls ratings-v1-0.shop

    Exit status: 0 done, 1 failed, 2 wrong usage.
    """
    from fairlead.cli.connecting import connected

    query = f"?{urlencode({'workload': workload})}" if workload else ""
    with connected(kubeconfig, state) as client:
        if forget:
            count = client.request("DELETE", f"/fairlead/v1/plaintext{query}").document["forgotten"]
            click.echo(f"forgot the callers of {count} ports")
            return
        found: list[dict[str, Any]] = client.request("GET", f"/fairlead/v1/plaintext{query}").document["ports"]
    if output:
        show(found, output)
        return
    if workload and not found:
        raise click.ClickException(f"no connected workload {workload!r} serves a port; `fairlead mtls` lists them")
    print_table(
        ("WORKLOAD", "PORT", "MODE", "SAFE", "CALLERS IN PLAINTEXT", "LAST"),
        [
            (
                f"{one['workload']}.{one['namespace']}",
                one["port"],
                one["mode"],
                _safe(one),
                _callers(one["callers"]),
                one["callers"][0]["last"] if one["callers"] else "",
            )
            for one in found
        ],
        styles=_STYLES,
        blank="",
    )


def _safe(one: dict[str, Any]) -> str:
    if one["mode"] == "STRICT":
        return "is"
    if not one["reporting"]:
        return "unknown"
    return "yes" if one["ready"] else "no"


def _callers(callers: list[dict[str, Any]]) -> str:
    named = ", ".join(f"{one['address']} ({one['count']})" for one in callers[:_NAMED])
    return f"{named} and {len(callers) - _NAMED} more" if len(callers) > _NAMED else named
