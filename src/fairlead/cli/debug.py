"""`fairlead debug`: where the running control plane spends its time and what it holds."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click

from fairlead.cli.printing import print_table, show

_POLL = 0.25


def _options(command: Any) -> Any:
    state = click.option("--state", type=click.Path(file_okay=False, path_type=Path), help="The state directory.")
    said = "Default: $KUBECONFIG, then STATE/kubeconfig."
    return state(click.option("--kubeconfig", type=click.Path(path_type=Path), help=said)(command))


@click.group()
def debug() -> None:
    """Look into the running control plane: where its time and memory go."""


@debug.command()
@_options
@click.option("--seconds", type=click.FloatRange(0.1, 120), default=10, show_default=True, help="How long to look.")
@click.option("--rate", type=click.IntRange(1, 500), default=100, show_default=True, help="Looks a second.")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("fairlead-profile.svg"),
    show_default=True,
    help="The file: .svg is a flame graph, .json is for speedscope, .txt has a line for each stack.",
)
def profile(state: Path | None, kubeconfig: Path | None, seconds: float, rate: int, output: Path) -> None:
    """Write a sampling profile of the control plane while it works.

    Nothing in the control plane is slowed down but by the looks themselves, and nothing of this runs at other times.
    One profile is taken at a time. Where the event loop waited, the innermost box says (idle).

    \b
    fairlead debug profile
    fairlead debug profile --seconds 30 -o profile.json

    Exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
    """
    from fairlead.cli.connecting import connected
    from fairlead.cli.flamegraph import speedscope, svg

    if output.suffix not in (".svg", ".json", ".txt"):
        raise click.UsageError(f"{output}: the name must end in .svg, .json or .txt")
    with connected(kubeconfig, state) as client:
        client.request("POST", f"/fairlead/v1/profile?seconds={seconds}&rate={rate}")
        time.sleep(seconds)
        while (answer := client.request("GET", "/fairlead/v1/profile")).code == 202:
            time.sleep(_POLL)
    made: dict[str, Any] = answer.document
    stacks: list[tuple[list[str], int]] = [(stack, count) for stack, count in made["stacks"]]
    title = f"fairlead control plane, {made['seconds']:.1f} s, {made['samples']} samples"
    match output.suffix:
        case ".svg":
            text = svg(stacks, title)
        case ".json":
            text = json.dumps(speedscope(stacks, title, made["rate"]))
        case _:
            text = "".join(f"{';'.join(stack)} {count}\n" for stack, count in stacks)
    try:
        output.write_text(text)
    except OSError as error:
        raise click.ClickException(f"cannot write {output}: {error.strerror}") from None
    click.echo(f"written: {output} ({made['samples']} samples)")


@debug.command()
@_options
@click.option("-o", "--output", type=click.Choice(["json", "yaml"]), help="Print data instead of tables.")
def memory(state: Path | None, kubeconfig: Path | None, output: str | None) -> None:
    """Show what the control plane holds: rows of tables and values of rules, most first, and published resources.

    RUNS tells how often a rule has been evaluated since the start, BYTES about how much is held: that is an estimate
    from a few of each, and what several of them share is counted for each.

    \b
    fairlead debug memory -o json

    Exit status: 0 done, 1 failed, 2 wrong usage.
    """
    from fairlead.cli.connecting import connected

    with connected(kubeconfig, state) as client:
        found: dict[str, Any] = client.request("GET", "/fairlead/v1/memory").document
    if output:
        show(found, output)
        return
    published: dict[str, int] = found["published"]
    rows = [
        ("resident", f"{found['residentBytes'] / (1 << 20):.1f} MB"),
        ("resources", f"{published['bytes'] / (1 << 20):.1f} MB"),
        *((name, count) for name, count in published.items() if name != "bytes"),
        ("proxies", found["proxies"]),
        ("blocks of Python", found["allocatedBlocks"]),
    ]
    print_table(("WHAT", "HELD"), rows)
    click.echo()
    held: dict[str, int] = found["held"]
    runs: dict[str, int] = found["runs"]
    listed = sorted(held.items(), key=lambda one: (-one[1], one[0]))
    sizes: dict[str, int] = found["bytes"]
    print_table(
        ("TABLE OR RULE", "HELD", "BYTES", "RUNS"),
        [(name, count, sizes.get(name, ""), runs.get(name, "")) for name, count in listed],
        blank="-",
    )
