"""`fairlead history` and `fairlead show`: who changed what, when and how; and what one revision did."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlencode

import click

from fairlead.cli.connecting import connected, connection
from fairlead.cli.printing import line, print_table
from fairlead.cli.printing import show as show_data

if TYPE_CHECKING:
    from fairlead.cli.client import Client

Json = dict[str, Any]
MARKS = {"ADDED": "+", "MODIFIED": "~", "DELETED": "-"}
_FEW = 3
_UNANSWERED = {"left": "disconnected without an answer", "silent": "had not answered"}


@click.command("history")
@click.argument("what", required=False, metavar="[KIND[/NAME]]")
@click.option("-n", "--namespace", default="", metavar="NS", help="Default: the kubeconfig's, or default.")
@click.option("-A", "--all-namespaces", is_flag=True, help="Across namespaces; without KIND it always is.")
@click.option("--since", default="", metavar="DURATION", help="Only the last while, such as 10m or 2h.")
@click.option("--limit", type=click.IntRange(0), default=50, show_default=True, help="So many commits; 0: all.")
@click.option("--status", is_flag=True, help="Also writes of status only.")
@click.option("-o", "--output", type=click.Choice(["json", "yaml"]), help="Print data.")
@connection
def history(
    what: str | None,
    namespace: str,
    all_namespaces: bool,
    since: str,
    limit: int,
    status: bool,
    output: str | None,
    kubeconfig: Path | None,
    state: Path | None,
) -> None:
    """Show who changed what, and when: of everything, of a kind, or of one object.

    \b
    fairlead history
    fairlead history virtualservice/reviews -n shop
    fairlead history --since 1h -o json

    BY is who was authenticated, then the command or client that wrote it. `fairlead show REV` has a revision whole.

    Exit status: 0 done, 1 failed, 2 wrong usage.
    """
    with connected(kubeconfig, state) as client:
        query: dict[str, str] = {"limit": str(limit)}
        if since:
            query["since"] = str(ago(since))
        if status:
            query["status"] = "true"
        if what:
            query |= _object(what, None if all_namespaces else namespace or client.access.namespace)
        elif namespace:
            query["namespace"] = namespace
        found = client.request("GET", f"/fairlead/v1/history?{urlencode(query)}").document
    if output:
        show_data(found["commits"], output)
        return
    if not found["commits"]:
        click.echo(f"no change is on record (the history begins at revision {found['oldest']})", err=True)
        return
    rows = [(one["revision"], one["time"], by(one), _what(one)) for one in found["commits"]]
    print_table(("REV", "TIME", "BY", "WHAT"), rows, blank="")
    if limit and len(found["commits"]) == limit:
        click.echo(f"the newest {limit}; --limit 0 shows all", err=True)


def ago(text: str) -> float:
    """Unix seconds of so long ago. Raises click.BadParameter."""
    import time

    from fairlead.model.duration import parse_duration

    try:
        return time.time() - float(parse_duration(text))
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--since") from None


def _object(what: str, namespace: str | None) -> dict[str, str]:
    """The parameters for KIND or KIND/NAME."""
    from fairlead.cli.resources import kind_of

    word, slash, name = what.partition("/")
    kind = kind_of(word)
    if slash and not name:
        raise click.UsageError("give KIND, or KIND/NAME")
    out = {"group": kind.group, "kind": kind.kind}
    if name:
        out["name"] = name
    if not kind.namespaced:
        out["namespace"] = ""
    elif namespace is not None:
        out["namespace"] = namespace
    elif name:
        raise click.UsageError("an object has one namespace: name it with -n instead of -A")
    return out


def object_of(what: str, namespace: str) -> dict[str, str]:
    """The parameters for KIND/NAME. Raises click.UsageError."""
    if not what.partition("/")[2]:
        raise click.UsageError("name the object: KIND/NAME")
    return _object(what, namespace)


def by(one: Json) -> str:
    """Who made a commit, and with what."""
    return f"{one['author']}: {one['command'] or one['via']}" if one["command"] or one["via"] else str(one["author"])


def title(target: Json) -> str:
    """`VirtualService shop/reviews`."""
    where = f"{target['namespace']}/" if target["namespace"] else ""
    return f"{target['kind']} {where}{target['name']}"


def _what(one: Json) -> str:
    changes = one["changes"]
    said = "; ".join(f"{title(each['object'])} {each['what']}" for each in changes[:_FEW])
    if len(changes) > _FEW:
        said += f"; and {len(changes) - _FEW} more objects"
    return f"{said} ({one['message']})" if one["message"] else said


@click.command("show")
@click.argument("revision", type=click.IntRange(1), metavar="REV")
@click.option("--proxies", is_flag=True, help="What each proxy did; otherwise only of pushes to a few.")
@click.option("-o", "--output", type=click.Choice(["json", "yaml"]), help="Print data.")
@connection
def show(revision: int, proxies: bool, output: str | None, kubeconfig: Path | None, state: Path | None) -> None:
    """Show what one revision changed, field by field, and which proxies got it when.

    \b
    fairlead show 42
    fairlead show 42 --proxies

    Exit status: 0 done, 1 there is no such revision any more, 2 wrong usage.
    """
    with connected(kubeconfig, state) as client:
        found = _fetch(client, revision, proxies)
    if output:
        show_data(found, output)
        return
    for name in ("revision", "time", "author", "via", "command", "message"):
        if found[name]:
            line(f"{name:<9} {found[name]}", hang=10)
    for one in found["changes"]:
        click.echo()
        print_change(one)
    if found["pushes"]:
        click.echo()
    for one in found["pushes"]:
        _print_push(one)


def _print_push(one: Json) -> None:
    """Who got it, and when it was acknowledged."""
    detail = one["detail"]
    groups = ", ".join(f"{count} {name}" for name, count in detail.get("groups", {}).items())
    line(f"pushed    {one['time']} with {one['subject']}: {one['text']}" + (f" ({groups})" if groups else ""))
    answers, refused = detail.get("answers", {}), detail.get("refused", {})
    for name, seconds in sorted(detail.get("seconds", {}).items(), key=lambda each: each[1]):
        words = f"refused {refused.get(name, '')}" if name in refused or answers.get(name) == "refused" else ""
        line(f"    {name} {words or 'acknowledged'} after {seconds:.3f} s")
    for name, how in answers.items():
        if how in _UNANSWERED:
            line(f"    {name} {_UNANSWERED[how]}")


def _fetch(client: Client, revision: int, proxies: bool) -> Json:
    asked = "?answers=true" if proxies else ""
    return client.request("GET", f"/fairlead/v1/history/{revision}{asked}").document


def print_change(one: Json) -> None:
    """An object and what was done to each of its fields."""
    colour = {"ADDED": "green", "DELETED": "red"}.get(one["operation"])
    line(f"{MARKS[one['operation']]} {title(one['object'])}", bold=True, fg=colour)
    if one["operation"] != "MODIFIED":
        line(f"    {one['what']}")
        return
    for field in one["fields"]:
        line(f"    {field['path']}")
        if "before" in field:
            _value("-", field["before"], "red")
        if "after" in field:
            _value("+", field["after"], "green")


def _value(mark: str, value: object, colour: str) -> None:
    from fairlead.cli.printing import as_yaml

    text = as_yaml(cast("object", value)) if isinstance(value, (dict, list)) else json.dumps(value, ensure_ascii=False)
    for one in text.rstrip().splitlines():
        line(f"      {mark} {one}", hang=4, fg=colour)
