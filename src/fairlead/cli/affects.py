"""`fairlead affects`: which proxies and Envoy resources depend on an object or on a field of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import click

from fairlead.cli import printing
from fairlead.cli.busy import busy
from fairlead.cli.client import PATIENCE
from fairlead.cli.connecting import connected, connection
from fairlead.cli.resources import kind_of
from fairlead.compiler import fields
from fairlead.ir.kind import Kind
from fairlead.model.path import ROOT, path_of
from fairlead.model.ref import Ref

Json = dict[str, Any]
_COLOURS = {"group": "cyan", "field": "bright_black"}


@click.command("affects")
@click.argument("what", metavar="KIND/NAME[.NAMESPACE][.FIELD]")
@click.option("-n", "--namespace", default="", metavar="NS", help="Then what follows the name is no namespace.")
@click.option("--field", default="", help="A field, if the name has dots.")
@click.option("--at", type=click.IntRange(1), metavar="REV", help="As things stood at a revision.")
@click.option("-f", "--filename", "filenames", multiple=True, metavar="FILE|DIR|-", help="With no mesh running.")
@click.option("-R", "--recursive", is_flag=True, help="Look into directories below a directory.")
@click.option("-o", "--output", type=click.Choice(["json", "yaml"]), help="Print data.")
@connection
def affects(
    what: str,
    namespace: str,
    field: str,
    at: int | None,
    filenames: tuple[str, ...],
    recursive: bool,
    output: str | None,
    kubeconfig: Path | None,
    state: Path | None,
) -> None:
    """Say which proxies depend on an object or on one of its fields, and which of their Envoy resources.

    It is what would be different without it, compiled for every proxy; nothing is changed.

    \b
    fairlead affects virtualservice/reviews.shop
    fairlead affects 'vs/reviews.shop.spec.http[0].timeout'
    fairlead affects serviceentry/api.example.com -n shop --field spec.ports
    fairlead affects dr/reviews.shop -f samples/shop -f subsets.yaml

    Exit status: 0 told, 1 there is no such thing or no mesh, 2 wrong usage.
    """
    word, slash, rest = what.partition("/")
    if not slash or not rest:
        raise click.UsageError("name the object as KIND/NAME[.NAMESPACE][.FIELD]")
    kind = kind_of(word)
    if filenames:
        ref, path = _asked(kind, rest, namespace, field, "default")
        found = _of_files(ref, path, filenames, recursive=recursive)
    else:
        with connected(kubeconfig, state) as client:
            ref, path = _asked(kind, rest, namespace, field, client.access.namespace)
            query = {**ref._asdict(), "field": path, "at": str(at or "")}
            asked = urlencode({key: value for key, value in query.items() if value})
            found = client.request("GET", f"/fairlead/v1/affects?{asked}", seconds=PATIENCE).document
    if output:
        printing.show(found, output)
        return
    from fairlead.effect.affected import lines

    for sort, text in lines(found):
        printing.line(text, fg=_COLOURS.get(sort), bold=sort == "group")


def _asked(kind: Kind[Any], rest: str, namespace: str, field: str, home: str) -> tuple[Ref, str]:
    """The object and the field that words mean. After the name stands a namespace, unless it is a field."""
    if namespace or field:
        name, _, where = rest.partition(".") if not namespace else (rest, "", namespace)
        return kind.ref(where or home, name), field
    name, _, more = rest.partition(".")
    first, _, after = more.partition(".")
    if not more:
        return kind.ref(home, name), ""
    if first in ("spec", "metadata") or fields.at(kind, (first.partition("[")[0],)) is not None:
        return kind.ref(home, name), more
    return kind.ref(first, name), after


def _of_files(ref: Ref, field: str, filenames: tuple[str, ...], *, recursive: bool) -> Json:
    from fairlead.cli.explainproxy import documents
    from fairlead.cli.offlinemesh import load_mesh
    from fairlead.effect.affected import affected
    from fairlead.envoy.settings import PathError
    from fairlead.simulate.standin import proxies

    mesh = load_mesh(documents(filenames, recursive=recursive), [], "default")
    names: dict[Any, list[str]] = {}
    for one in proxies(mesh.workloads):
        names.setdefault(one.view, []).append(one.shown)
        mesh.model.publisher.open(one.view)
    try:
        with busy("compiling without it"):
            return affected(mesh.model, ref, path_of(field) if field else ROOT, lambda view: names.get(view, []))
    except PathError as error:
        raise click.ClickException(f"{error} [FL3813]") from None
