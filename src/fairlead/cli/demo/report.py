"""What the demonstration prints: the table, the JSON document, the texts of the walk."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from fairlead.cli.demo.shop import Shop
from fairlead.cli.demo.step import Result, Step
from fairlead.cli.printing import print_table

_WIDTH = 100


def table(results: Sequence[Result]) -> None:
    """STEP, WHAT IS MEASURED, EXPECTED, MEASURED, OK; a row for each check."""
    rows: list[list[object]] = [
        [f"{one.step} {one.title}", check.what, check.expected, check.measured, "yes" if check.ok else "NO"]
        for one in results
        for check in one.checks
    ]
    header = ["STEP", "WHAT IS MEASURED", "EXPECTED", "MEASURED", "OK"]
    print_table(header, rows, styles={"yes": "green", "NO": "bold red"})


def document(results: Sequence[Result], seconds: float, capture: str, left: Sequence[str]) -> dict[str, Any]:
    """Everything as data."""
    return {
        "ok": all(one.ok for one in results) and not left,
        "seconds": round(seconds, 1),
        "capture": capture,
        "left": list(left),
        "steps": [msgspec.to_builtins(one) for one in results],
    }


def introduce(step: Step, shop: Shop) -> None:
    """Say what a step is about, with its YAML and a command."""
    click.echo()
    click.secho(f"{step.number}. {step.title}", bold=True)
    click.echo(textwrap.fill(step.tells, _WIDTH))
    for name in step.files:
        click.echo()
        path = shop.file(f"policies/{name}")
        click.secho(f"  # {path}", dim=True)
        click.echo(textwrap.indent(path.read_text().rstrip(), "  "))
    if step.attempt or step.files:
        click.echo()
        click.echo("  To try it by hand, when the steps are done:")
        for line in _commands(step, shop):
            click.secho(f"    {line}", fg="cyan")


def _commands(step: Step, shop: Shop) -> list[str]:
    """What to type, with this run's addresses: apply, look, delete."""
    place = shop.mesh.place
    text = step.attempt
    found = {
        "fairlead": _program(),
        "http": shop.traffic.base,
        "https_port": place.https_port,
        "ratings": shop.ratings,
        "state": place.state,
        "files": shop.files,
    }
    for name, value in found.items():
        text = text.replace(f"{{{name}}}", str(value))
    if not step.files:
        return [text]
    files = " ".join(f"-f {shop.file(f'policies/{name}')}" for name in step.files)
    apply, delete = (f"{_program()} {verb} --state {place.state} {files}" for verb in ("apply", "delete"))
    return [apply, text, delete] if text else [apply]


def _program() -> str:
    """How this program was called, so that what is shown can be typed."""
    return sys.argv[0] if Path(sys.argv[0]).name == "fairlead" else "fairlead"


def outcome(result: Result) -> None:
    """Say what was measured."""
    click.echo()
    for check in result.checks:
        mark = click.style("ok", fg="green") if check.ok else click.style("NO", fg="red", bold=True)
        click.echo(f"  {mark}  {check.what}: {check.measured}   (expected {check.expected})")


def addresses(shop: Shop) -> None:
    """Where everything is while the demonstration stays up."""
    place, program = shop.mesh.place, _program()
    click.echo()
    click.secho("The shop stays up until Ctrl-C.", bold=True)
    for name, value in (
        ("shop", f"{shop.traffic.base}/"),
        ("API", f"kubectl --kubeconfig {place.state}/kubeconfig get all -n shop"),
        ("objects", f"{program} get processes,virtualservices -n shop --state {place.state}"),
        ("proxies", f"{program} proxy-status --state {place.state}"),
        ("a proxy's Envoy", f"{program} proxy-config all web-v1-0.shop --state {place.state}"),
        ("logs", f"{program} logs web-v1 -n shop --state {place.state}"),
        ("YAML to try", f"{program} apply --state {place.state} -f {shop.files}/policies/canary.yaml"),
    ):
        click.echo(f"  {name:<16}{value}")
