"""`fairlead demo`: a shop in a real mesh on this machine, and what the mesh does for it, measured.

    place.py cleanup.py guard.py    where it runs, and that nothing of it stays
    mesh.py shop.py traffic.py      the processes, the shop in them, requests to it
    step.py                         what a step and its checks are
    routing.py resilience.py security.py operations.py    the steps
    run.py report.py progress.py    from beginning to end, and what is printed

Everything goes through the public API and through real requests; nothing here reaches into the control plane.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command()
@click.option("--once", is_flag=True, help="Measure every step, print a table, and end: 0 if all hold, else 1.")
@click.option(
    "--state",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep everything in this directory (a new one, or an earlier demo's, which is replaced). Default: temporary.",
)
@click.option(
    "--capture",
    type=click.Choice(["auto", "netns", "explicit"]),
    default="auto",
    show_default=True,
    help="How traffic meets its proxy: network namespaces (root), or own addresses and HTTP_PROXY.",
)
@click.option("--loopback", default="", metavar="127.N.0.0/16", help="Addresses of the workloads. Default: free ones.")
@click.option("--step", "only", multiple=True, type=click.IntRange(1, 15), help="Only this step; may be repeated.")
@click.option("-o", "--output", type=click.Choice(["json", "yaml"]), help="With --once: data instead of a table.")
@click.option("-v", "--verbose", is_flag=True, help="Let control plane and node log what they do (DIR/*.log).")
def demo(
    once: bool,
    state: Path | None,
    capture: str,
    loopback: str,
    only: tuple[int, ...],
    output: str | None,
    verbose: bool,
) -> None:
    """Bring up a shop of six services in a real mesh and show what the mesh does.

    Works as root and as an ordinary user, beside other meshes, and leaves nothing behind. Without --once it explains
    each step, with the YAML and a command to try, and stays up until Ctrl-C.

    \b
    fairlead demo
    fairlead demo -o json

    Exit status: 0 all steps hold, 1 one does not or the shop does not come up, 130 interrupted.
    """
    from fairlead.cli.demo import place
    from fairlead.cli.demo.failure import DemoError
    from fairlead.cli.demo.run import Wish, demonstrate

    if output and not once:
        raise click.UsageError("-o goes with --once")
    try:
        status = demonstrate(place.choose(state, loopback), Wish(once, capture, output, verbose, only))
    except (DemoError, OSError) as error:
        raise click.ClickException(str(error)) from None
    sys.exit(status)
