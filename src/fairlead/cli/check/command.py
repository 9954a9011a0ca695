"""The command `fairlead check`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec

from fairlead.cli.busy import busy
from fairlead.cli.check import host as this_host
from fairlead.cli.check.finding import Category, Finding, guarded
from fairlead.cli.connecting import connection
from fairlead.cli.printing import columns, line, show, wrapped

_MARKS = {"pass": ("√", "green"), "warn": ("‼", "yellow"), "fail": ("×", "red"), "skip": ("-", "bright_black")}
_PAUSE = 1.0


@click.command("check")
@click.option("--pre", is_flag=True, help="Before anything runs: whether this host can run a mesh.")
@click.option("--wait", default="0s", metavar="DURATION", help="Look again until nothing fails, for so long.")
@click.option("--loopback", default="", help="Block of addresses, as `up` was told. Default: as workloads' addresses.")
@click.option("--api-port", default=16443, show_default=True, help="With --pre: the port that is to be free.")
@click.option("--xds-port", default=15012, show_default=True, help="With --pre: the port that is to be free.")
@click.option("--join-port", default=15013, show_default=True, help="With --pre: the port that is to be free.")
@click.option("-o", "--output", type=click.Choice(["json", "yaml", "short"]), help="Data, or only what is not well.")
@connection
def check(
    pre: bool,
    wait: str,
    loopback: str,
    output: str | None,
    kubeconfig: Path | None,
    state: Path | None,
    **ports: int,
) -> None:
    """Check the host, and the mesh that runs: each line passes, warns or fails, and says what to do.

    Looks at versions, disk, memory, clocks, names and rights of this host; that the control plane answers, and its
    store is whole; certificates; whether proxies are in sync; whether Processes are ready and endpoints can be reached;
    capture rules and name resolution inside of the workloads of this host.

    \b
    fairlead check --pre
    fairlead check --wait 2m
    fairlead check -o short

    Exit status: 0 nothing fails (there may be warnings), 1 something fails, 2 wrong usage.
    """
    from fairlead.model.duration import parse_duration

    try:
        end = time.monotonic() + float(parse_duration(wait))
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--wait") from None
    numbers = {name.removesuffix("_port"): number for name, number in ports.items()}
    while True:
        with busy("checking"):
            found = list(before(state, numbers) if pre else findings(kubeconfig, state, loopback))
        failed = any(one.state == "fail" for one in found)
        if not failed or time.monotonic() >= end:
            break
        with busy("something fails; looking again"):
            time.sleep(_PAUSE)
    if output in ("json", "yaml"):
        show({"ok": not failed, "findings": msgspec.to_builtins(found)}, output)
    else:
        _print(found, short=output == "short")
    raise SystemExit(1 if failed else 0)


def before(state: Path | None, ports: dict[str, int]) -> Iterator[Finding]:
    """What can be said before anything runs."""
    from fairlead.controlplane.state import default_directory

    yield from guarded("versions", this_host.versions)
    yield from guarded("host", lambda: this_host.ground(state or default_directory(), before=True))
    yield from guarded("ports", lambda: this_host.ports(ports))


def findings(kubeconfig: Path | None, state: Path | None, block: str) -> Iterator[Finding]:
    """What can be said of a mesh that runs."""
    from fairlead.cli.check import mesh, workloads
    from fairlead.cli.client import Client, ClientError, Refused, find_kubeconfig, read_kubeconfig
    from fairlead.cli.hostfacts import a_service
    from fairlead.controlplane.state import default_directory

    home = state or default_directory()
    yield from guarded("versions", this_host.versions)
    yield from guarded("host", lambda: this_host.ground(home, before=False))
    try:
        client = Client(read_kubeconfig(find_kubeconfig(kubeconfig, state)))
    except ClientError as error:
        yield Category("control plane").fail("kubeconfig", str(error), "Name it: --kubeconfig or --state.")
        return
    try:
        said, found = mesh.reached(client)
        yield from said
        if found is None:
            return
        yield from guarded("store", lambda: mesh.stored(found))
        for name, checks in (
            ("certificates", mesh.certified),
            ("proxies", mesh.proxies),
            ("processes", mesh.processes),
            ("endpoints", mesh.endpoints),
        ):
            try:
                yield from guarded(name, lambda checks=checks: checks(client))
            except (ClientError, Refused) as error:
                yield Category(name).fail("answers", str(error), "Look into the control plane's log.")
        yield from guarded("workloads here", lambda: workloads.here(home, block, a_service(client)))
    finally:
        client.close()


def _print(found: list[Finding], *, short: bool) -> None:
    category = ""
    for one in found:
        if short and one.state in ("pass", "skip"):
            continue
        if one.category != category:
            click.echo(("\n" if category else "") + click.style(one.category, bold=True))
            category = one.category
        mark, colour = _MARKS[one.state]
        said = f"{one.name}: {one.said}" if one.said else one.name
        width = columns()
        first, *more = wrapped(said, width - 2, 2) if width else [said]
        click.echo(f"{click.style(mark, fg=colour)} {first}")
        for each in more:
            click.echo(f"    {each}")
        if one.hint:
            line(f"    {one.hint}", hang=0)
    counts = {state: sum(one.state == state for one in found) for state in ("fail", "warn")}
    if not short or any(counts.values()):
        click.echo()
    verdict = f"{counts['fail']} fail, {counts['warn']} warn" if any(counts.values()) else "all is well"
    click.secho(verdict, fg="red" if counts["fail"] else "yellow" if counts["warn"] else "green")
