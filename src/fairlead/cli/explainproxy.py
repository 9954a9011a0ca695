"""Where settings of a proxy come from, asked of a running mesh or of files (`fairlead explain PROXY`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, urlencode

import click

from fairlead.cli import manifests, printing
from fairlead.cli.busy import busy
from fairlead.cli.client import PATIENCE, Client

Json = dict[str, Any]
_COLOURS = {
    "name": "cyan",
    "origin": "green",
    "default": "bright_black",
    "carried": "bright_black",
    "inexact": "yellow",
}


def live(client: Client, proxy: str, path: str, *, at: int | None, every: bool, exact: bool) -> Json:
    """The answer of the control plane. Raises Refused."""
    asked = {"path": path, "at": str(at or ""), "every": "true" if every else "", "exact": "true" if exact else ""}
    query = {key: value for key, value in asked.items() if value}
    path = f"/fairlead/v1/explain/{quote(proxy, safe='')}?{urlencode(query)}"
    return client.request("GET", path, seconds=PATIENCE).document


def of_files(
    proxy: str,
    path: str,
    filenames: Sequence[str],
    described: str | None,
    namespace: str,
    *,
    recursive: bool,
    every: bool,
    exact: bool,
) -> Json:
    """The answer from files: of a proxy of theirs, or of one that a file describes. Exits with 1 for wrong files."""
    from fairlead.cli.compile import proxy_view
    from fairlead.cli.offlinemesh import load_mesh
    from fairlead.envoy.settings import PathError
    from fairlead.model.diagnostic import Origin
    from fairlead.provenance.explained import Wish, explained

    mesh = load_mesh(documents(filenames, recursive=recursive), [], namespace)
    if described is not None:
        view = proxy_view(described)
    else:
        short, _, where = proxy.rpartition(".")
        named = mesh.workloads.named(short or where, where if short else "")
        if not named:
            known = ", ".join(mesh.workloads.names()[:10])
            raise click.ClickException(f"the files have no proxy {proxy!r}; there are: {known or 'none'} [FL3813]")
        view, proxy = named[0].view, named[0].shown
    try:
        with busy("compiling configuration"):
            mesh.model.publisher.open(view)
        with busy("trying objects and fields"):
            found = explained(
                mesh.model, view, path, lambda ref, field: mesh.origins.position(Origin(ref, field)), Wish(every, exact)
            )
    except PathError as error:
        raise click.ClickException(f"{error} [FL3813]") from None
    return {"proxy": proxy, **found}


def documents(filenames: Sequence[str], *, recursive: bool) -> list[Any]:
    """The documents of files. Ends the program with what cannot be read."""
    names, wrong = manifests.files(filenames, recursive=recursive)
    found, unread = manifests.read(names)
    for one in (*wrong, *unread):
        printing.complain(one)
    if wrong or unread:
        raise SystemExit(1)
    return found


def show(found: Json, output: str | None) -> None:
    """The answer, as data or for people."""
    from fairlead.provenance.explained import lines

    if output:
        printing.show(found, output)
        return
    for sort, text in lines(found):
        printing.line(text, fg=_COLOURS.get(sort), bold=sort == "name")
