"""`fairlead explain`: what a kind and its fields mean, without a control plane."""

from __future__ import annotations

from typing import Any

import click

from fairlead.cli import printing
from fairlead.compiler import fields
from fairlead.compiler.registry import registry
from fairlead.ir.kind import Kind
from fairlead.model.names import nearest


@click.command("explain")
@click.argument("what", metavar="KIND[.FIELD...]")
@click.option("--recursive", is_flag=True, help="The fields inside of fields, too.")
def explain(what: str, recursive: bool) -> None:
    """Explain a kind, or a field of it.

    \b
    fairlead explain virtualservice.spec.http.retries
    fairlead explain dr --recursive
    """
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
