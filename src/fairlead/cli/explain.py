"""`fairlead explain`: what a kind and its fields mean, and where settings of proxies come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fairlead.cli import printing
from fairlead.cli.connecting import connected, connection
from fairlead.compiler import fields
from fairlead.compiler.registry import registry
from fairlead.ir.kind import Kind
from fairlead.model.names import nearest


@click.command("explain")
@click.argument("what", metavar="KIND[.FIELD...]|PROXY", required=False)
@click.argument("path", metavar="[PATH]", required=False)
@click.option("--recursive", is_flag=True, help="Of a kind: the fields inside of fields, too.")
@click.option("--every", is_flag=True, help="Of a proxy: defaults of the mesh, too.")
@click.option("--exact", is_flag=True, help="Of a proxy: try every field, also where that takes long.")
@click.option("--at", type=click.IntRange(1), metavar="REV", help="Of a proxy: as things stood at a revision.")
@click.option(
    "-f", "--filename", "filenames", multiple=True, metavar="FILE|DIR|-", help="Of a proxy: no mesh is needed."
)
@click.option("-R", "--recurse-files", "descend", is_flag=True, help="Look into directories below a directory.")
@click.option("--proxy", "described", metavar="FILE", help="With -f: a file that describes the proxy, as for compile.")
@click.option("-n", "--namespace", default="default", help="With -f: the namespace of objects that name none.")
@click.option("-o", "--output", type=click.Choice(["json", "yaml"]), help="Of a proxy: print data.")
@connection
def explain(
    what: str | None,
    path: str | None,
    recursive: bool,
    every: bool,
    exact: bool,
    at: int | None,
    filenames: tuple[str, ...],
    descend: bool,
    described: str | None,
    namespace: str,
    output: str | None,
    kubeconfig: Path | None,
    state: Path | None,
) -> None:
    """Explain a kind or a field of it; or say which objects and fields make a setting of a proxy what it is.

    A PROXY is NAME.NAMESPACE. PATH is [TYPE/]NAME[/SETTING]: a type (listeners, routes, clusters, endpoints, secrets),
    the name of an Envoy resource, and a proto JSON path in it, all with * and ?. Without one, names are listed.

    \b
    fairlead explain virtualservice.spec.http.retries
    fairlead explain dr --recursive
    fairlead explain web-v1-0.shop clusters
    fairlead explain web-v1-0.shop 'clusters/*reviews*/connectTimeout'
    fairlead explain web-v1-0.shop 'routes/9080/virtualHosts[reviews*]'
    fairlead explain web-v1.shop routes/9080 -f samples/shop

    Exit status: 0 explained, 1 there is no such thing or no mesh, 2 wrong usage.
    """
    if described is not None and not filenames:
        raise click.UsageError("--proxy describes a proxy for files: name them with -f")
    if described is not None and path is None:
        what, path = "", what
    if what is None:
        raise click.UsageError("name a kind, or a proxy")
    if not filenames and path is None and registry().named(what.partition(".")[0]):
        _kind(what, recursive=recursive)
        return
    from fairlead.cli import explainproxy

    if filenames:
        found = explainproxy.of_files(
            what, path or "", filenames, described, namespace, recursive=descend, every=every, exact=exact
        )
    elif "." not in what and path is None:
        _kind(what, recursive=recursive)
        return
    else:
        with connected(kubeconfig, state) as client:
            found = explainproxy.live(client, what, path or "", at=at, every=every, exact=exact)
    explainproxy.show(found, output)


def _kind(what: str, *, recursive: bool) -> None:
    word, *path = what.split(".")
    named = registry().named(word)
    if not named:
        known = [name for one in registry().kinds for name in (one.kind, one.plural, *one.short_names)]
        near = nearest(word, known)
        raise click.ClickException(f"there is no kind {word!r}" + (f": did you mean {near}?" if near else ""))
    kind = named[0]
    here = fields.at(kind, tuple(path))
    if here is None:
        raise click.ClickException(_unknown(kind, path))
    click.echo(f"{kind.kind}  {kind.api_version}")
    if path:
        click.echo(f"field {'.'.join(path)}: {here.type}" + (f" (default {here.default})" if here.default else ""))
    click.echo(f"\n{here.description}")
    if here.struct is not None:
        click.echo("")
        rows = _rows(here.struct, "", recursive=recursive)
        printing.print_table(("FIELD", "TYPE", "DEFAULT", "MEANING"), rows, blank="")


def _rows(
    struct: type[object], indent: str, *, recursive: bool, above: tuple[type[object], ...] = ()
) -> list[tuple[str, ...]]:
    out: list[tuple[str, ...]] = []
    for one in fields.fields(struct):
        out.append((indent + one.name, one.type, "required" if one.required else one.default, one.description))
        if recursive and one.struct is not None and one.struct not in above:
            out += _rows(one.struct, indent + "  ", recursive=True, above=(*above, struct))
    return out


def _unknown(kind: Kind[Any], path: list[str]) -> str:
    """Which part of a path is no field, and what it may have been."""
    for count in range(1, len(path) + 1):
        if fields.at(kind, tuple(path[:count])) is None:
            before = fields.at(kind, tuple(path[: count - 1]))
            known = [one.name for one in fields.fields(before.struct)] if before and before.struct else []
            near = nearest(path[count - 1], known)
            hint = f": did you mean {near}?" if near else f"; known: {', '.join(known)}" if known else ""
            return f"{kind.kind} has no field {'.'.join(path[:count])}{hint}"
    return f"{kind.kind} has no such field"
