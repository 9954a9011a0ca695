"""`fairlead changed`: everything that happened, on one line of time."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import click

from fairlead.cli.connecting import connected, connection
from fairlead.cli.printing import print_table, show

if TYPE_CHECKING:
    from fairlead.cli.client import Client

Json = dict[str, Any]
_STYLES = {"nack": "bold red", "held": "bold red", "left": "yellow", "health": "yellow", "commit": "bold"}
_PAUSE = 1.0


@click.command("changed")
@click.option("--since", default="10m", show_default=True, metavar="DURATION", help="So far back.")
@click.option("--proxy", default="", metavar="NAME.NAMESPACE", help="Only what concerns this proxy.")
@click.option("--kind", "kinds", multiple=True, metavar="KIND", help="Only these kinds; may be repeated.")
@click.option("--limit", type=click.IntRange(0), default=200, show_default=True, help="The newest so many; 0: all.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what happens, until interrupted.")
@click.option("-o", "--output", type=click.Choice(["json", "yaml"]), help="Print data.")
@connection
def changed(
    since: str,
    proxy: str,
    kinds: tuple[str, ...],
    limit: int,
    follow: bool,
    output: str | None,
    kubeconfig: Path | None,
    state: Path | None,
) -> None:
    """Show what happened, the newest last: commits, pushes and who answered them, refusals, proxies that came and
    went, endpoints, health, certificates, pushes that were held.

    \b
    fairlead changed --since 1h
    fairlead changed --proxy web-0.shop --follow
    fairlead changed --kind nack --kind held

    With --proxy, each push says what that proxy did with it, and after how long.

    Kinds: commit push nack joined synced left endpoint certificate rotation health held released started stopped.

    Exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
    """
    from fairlead.cli.history import ago

    if follow and output:
        raise click.UsageError("--follow prints lines: leave out -o")
    asked = {"since": str(ago(since)), "limit": str(limit)}
    asked |= {"proxy": proxy} if proxy else {}
    asked |= {"kind": ",".join(kinds)} if kinds else {}
    with connected(kubeconfig, state) as client:
        found = _fetch(client, asked)
        if output:
            show(found["events"], output)
            return
        if found["events"]:
            _print(found["events"], title=True)
        elif not follow:
            click.echo(f"nothing happened in the last {since}", err=True)
        if follow:
            _follow(client, asked, found, titled=bool(found["events"]))


def _follow(client: Client, asked: dict[str, str], found: Json, *, titled: bool) -> None:
    try:
        while True:
            time.sleep(_PAUSE)
            found = _fetch(client, {**asked, "after": str(found["after"]), "revision": str(found["revision"])})
            if found["events"]:
                _print(found["events"], title=not titled)
                titled = True
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def _fetch(client: Client, asked: dict[str, str]) -> Json:
    return client.request("GET", f"/fairlead/v1/timeline?{urlencode(asked)}").document


def _print(events: list[Json], *, title: bool) -> None:
    rows = [(one["time"], one["kind"], _about(one), one["text"]) for one in events]
    print_table(("TIME", "KIND", "ABOUT", "WHAT"), rows, title=title, styles=_STYLES, blank="")


def _about(one: Json) -> str:
    if one["kind"] == "commit":
        return f"{one['revision']} {one['subject']}"
    if one["kind"] in ("joined", "left"):
        return str(one["proxy"])
    return " ".join(str(each) for each in (one["proxy"], one["subject"]) if each)
