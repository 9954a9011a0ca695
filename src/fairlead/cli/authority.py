"""`fairlead ca`: how the certificate authority stands, and replacing its root."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from fairlead.cli.printing import complain, print_table, show

if TYPE_CHECKING:
    from fairlead.cli.client import Client

F = TypeVar("F", bound=Callable[..., Any])
_DONE = {
    "trusting": "both roots are trusted; certificates still come from the present one",
    "issuing": "certificates come from the next authority",
    "removing": "only the next root is trusted",
    "stable": "one root, nothing under way",
}
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


def _access(function: F) -> F:
    for option in (
        click.option("--state", type=click.Path(file_okay=False, path_type=Path), help="The state directory."),
        click.option("--kubeconfig", type=click.Path(path_type=Path), help="Default: $KUBECONFIG, then STATE's."),
        click.option("-o", "--output", type=click.Choice(["json", "yaml"]), help="Print data."),
    ):
        function = option(function)
    return function


def _step(function: F) -> F:
    for option in (
        click.option("--force", is_flag=True, help="Go on although proxies lag; they may lose their connections."),
        click.option("--dry-run", is_flag=True, help="Say what would be done, and what holds it up."),
    ):
        function = option(function)
    return _access(function)


@click.group()
def ca() -> None:
    """Show and rotate the certificate authority."""


@ca.command()
@_access
def status(state: Path | None, kubeconfig: Path | None, output: str | None) -> None:
    """Show what ends when, where a rotation stands and for whom it waits.

    \b
    fairlead ca status

    Exit status: 1 if something ends soon (less than a fifth of its life is left), else 0.
    """
    from fairlead.cli.connecting import connected

    with connected(kubeconfig, state) as client:
        found = client.request("GET", "/fairlead/v1/ca").document
    if output:
        show(found, output)
    else:
        _print(found)
    for said in found["warnings"]:
        complain(said)
    if found["warnings"]:
        sys.exit(1)


def _print(found: dict[str, Any]) -> None:
    click.echo(f"phase     {found['phase']}: {_DONE[found['phase']]}")
    click.echo(f"issuer    {found['issuer']['name']} ({found['issuer']['keyId'][:12]})")
    if found["next"]:
        click.echo(f"next      {found['next']['name']} ({found['next']['keyId'][:12]})")
    click.echo(f"proxies   {found['proxies']} report, {len(found['lagging'])} lag")
    click.echo()
    rows = [(one["role"], one["name"], one["notAfter"], f"{one['left']:.0%}") for one in found["certificates"]]
    rows.append(("server", "the control plane's ports", found["server"], ""))
    rows += [("proxy", one["proxy"], one["notAfter"], "") for one in found["endings"][:5]]
    print_table(("ROLE", "NAME", "ENDS", "LEFT"), rows, blank="")
    if found["lagging"]:
        click.echo()
        print_table(("LAGGING", "WHY"), [(one["proxy"], one["reason"]) for one in found["lagging"]])


@ca.group()
def rotate() -> None:
    """Replace the root while everything runs.

    \b
    start   make the next root and have everybody trust it too
    next    have the next authority sign; then, have the old root removed; then, finish
    undo    go back one step
    abort   go back all the way
    run     do all of it, waiting for the proxies at each step

    Each step waits for every proxy, and names those that lag.
    """


@rotate.command()
@click.option("--ca-cert", type=_FILE, help="Signing certificate of an authority made elsewhere.")
@click.option("--ca-key", type=_FILE, help="Its private key.")
@click.option("--ca-root", type=_FILE, help="Its root, if another: the root's key may stay offline.")
@click.option("--ca-chain", type=_FILE, help="Certificates between the two.")
@_step
def start(
    ca_cert: Path | None, ca_key: Path | None, ca_root: Path | None, ca_chain: Path | None, **options: Any
) -> None:
    """Make the next root, or take an authority from files, and publish its root beside the present one.

    \b
    fairlead ca rotate start

    Exit status: 0 done, 1 failed, 2 wrong usage.
    """
    if (ca_cert is None) != (ca_key is None):
        raise click.UsageError("--ca-cert and --ca-key go together")
    body: dict[str, str] | None = None
    if ca_cert is not None and ca_key is not None:
        files = {"cert": ca_cert, "key": ca_key, "root": ca_root or ca_cert, "chain": ca_chain}
        body = {name: path.read_text() for name, path in files.items() if path is not None}
    _take("start", body, **options)


@rotate.command("next")
@_step
def next_(**options: Any) -> None:
    """Take the next step, if no proxy lags.

    \b
    fairlead ca rotate next

    Exit status: 0 done, 1 refused because proxies lag or failed, 2 wrong usage.
    """
    _take("next", None, **options)


@rotate.command()
@_step
def undo(**options: Any) -> None:
    """Go back one step.

    \b
    fairlead ca rotate undo

    Exit status: 0 done, 1 failed, 2 wrong usage.
    """
    _take("undo", None, **options)


@rotate.command()
@click.option("--timeout", default="10m", show_default=True, help="How long to wait for the proxies at each step.")
@_access
def abort(timeout: str, state: Path | None, kubeconfig: Path | None, output: str | None) -> None:
    """Go back until nothing is under way, waiting for the proxies at each step.

    \b
    fairlead ca rotate abort --timeout 10m

    Exit status: 0 done, 1 failed or not in time, 2 wrong usage, 130 interrupted.
    """
    _through("undo", timeout, state, kubeconfig, output)


@rotate.command()
@click.option("--timeout", default="10m", show_default=True, help="How long to wait for the proxies at each step.")
@_access
def run(timeout: str, state: Path | None, kubeconfig: Path | None, output: str | None) -> None:
    """Rotate to the end, waiting for the proxies at each step; begins a rotation where none is under way.

    A proxy that lags for longer than the timeout stops it there: nothing is lost, run it again or undo.

    \b
    fairlead ca rotate run --timeout 1h

    Exit status: 0 done, 1 failed or not in time, 2 wrong usage, 130 interrupted.
    """
    _through("next", timeout, state, kubeconfig, output)


def _take(
    step: str,
    body: dict[str, str] | None,
    *,
    force: bool,
    dry_run: bool,
    state: Path | None,
    kubeconfig: Path | None,
    output: str | None,
) -> None:
    from fairlead.cli.connecting import connected

    with connected(kubeconfig, state) as client:
        found = _ask(client, step, body, force=force, dry_run=dry_run)
    if output:
        show(found, output)
        return
    would = "would go" if dry_run else "went"
    click.echo(f"{would} from {found['before']} to {found['after']}: {_DONE[found['after']]}")
    if found["forcedPast"]:
        complain(f"warning: went past proxies that lag: {', '.join(found['forcedPast'][:20])}")


def _ask(client: Client, step: str, body: dict[str, str] | None = None, **flags: bool) -> dict[str, Any]:
    query = "".join(f"&{name}=true" for name, on in (("force", flags["force"]), ("dryRun", flags["dry_run"])) if on)
    return client.request("POST", f"/fairlead/v1/ca/rotation?step={step}{query}", body).document


def _through(step: str, timeout: str, state: Path | None, kubeconfig: Path | None, output: str | None) -> None:
    from fairlead.model.duration import parse_duration

    try:
        seconds = float(parse_duration(timeout))
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--timeout") from None
    went: list[dict[str, Any]] = []
    try:
        _steps(step, seconds, state, kubeconfig, went, quiet=bool(output))
    except KeyboardInterrupt:
        # The authority goes on from where it stands, and so may whoever interrupted.
        at = f"it stands at {went[-1]['after']}" if went else "no step was taken"
        complain(
            f"interrupted: {at}; proxies are served as before. `fairlead ca rotate run` goes on from there, "
            "`fairlead ca rotate abort` goes back, `fairlead ca status` says whom it waits for",
            warning=True,
        )
        raise
    if output:
        show(went, output)
    elif not went:
        click.echo("nothing is under way")


def _steps(
    step: str,
    seconds: float,
    state: Path | None,
    kubeconfig: Path | None,
    went: list[dict[str, Any]],
    *,
    quiet: bool,
) -> None:
    """Take steps until nothing is under way; each that was taken is added to `went`."""
    from fairlead.cli.connecting import connected

    while True:
        # A connection for each step: the API's own certificate changes on the way.
        with connected(kubeconfig, state) as client:
            found = client.request("GET", "/fairlead/v1/ca").document
        if found["phase"] == "stable" and (went or step == "undo"):
            break
        if went or step == "undo" or found["phase"] != "stable":
            _wait(seconds, step, state, kubeconfig, quiet=quiet)
        chosen = "start" if found["phase"] == "stable" else step
        with connected(kubeconfig, state) as client:
            went.append(_ask(client, chosen, force=False, dry_run=False))
        if not quiet:
            click.echo(f"{went[-1]['before']} -> {went[-1]['after']}: {_DONE[went[-1]['after']]}")


def _wait(seconds: float, step: str, state: Path | None, kubeconfig: Path | None, *, quiet: bool) -> None:
    """Until the step would be taken. Raises ClickException with those that lag."""
    from fairlead.cli.client import Refused
    from fairlead.cli.connecting import connected

    end, said = time.monotonic() + seconds, ""
    while True:
        with connected(kubeconfig, state) as client:
            try:
                _ask(client, step, force=False, dry_run=True)
            except Refused as error:
                if time.monotonic() > end:
                    raise
                count = str(error).partition(":")[0]
            else:
                return
        if count != said and not quiet:
            click.echo(f"waiting: {count}", err=True)
        said = count
        time.sleep(0.5)
