"""`fairlead scope`: which services workloads use, and Sidecar objects that leave out the others."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import click

from fairlead.cli.connecting import message_option
from fairlead.cli.printing import as_yaml, complain, print_table, show
from fairlead.cli.resources import yes_option


def _options(command: Any) -> Any:
    state = click.option("--state", type=click.Path(file_okay=False, path_type=Path), help="The state directory.")
    said = "Default: $KUBECONFIG, then STATE/kubeconfig."
    command = state(click.option("--kubeconfig", type=click.Path(path_type=Path), help=said)(command))
    namespace = click.option("-n", "--namespace", default="", help="Only workloads of this namespace.")
    return click.argument("workload", required=False, default="")(namespace(command))


@click.group()
def scope() -> None:
    """Show what workloads call, and propose Sidecar objects that leave out what they do not."""


@scope.command()
@_options
@click.option("-o", "--output", type=click.Choice(["json", "yaml"]), help="Print data instead of a table.")
def traffic(workload: str, namespace: str, state: Path | None, kubeconfig: Path | None, output: str | None) -> None:
    """Show which services WORKLOAD (NAME or NAME.NAMESPACE), or each one, has called.

    Agents count, so calls that pass by the mesh are not here. What was not called for 30 days is forgotten.

    \b
    fairlead scope traffic web-v1-0.shop

    Exit status: 0 done, 1 failed, 2 wrong usage.
    """
    found = _calls(workload, namespace, state, kubeconfig)
    if output:
        show(found, output)
        return
    now = time.time()
    rows = [
        (f"{one['workload']}.{one['namespace']}", called["host"], called["count"], _ago(now - called["last"]))
        for one in found
        for called in one["services"]
    ]
    print_table(("WORKLOAD", "CALLS", "COUNT", "LAST"), rows)


@scope.command()
@_options
@click.option("--namespace-wide", is_flag=True, help="One Sidecar for each namespace, not one for each workload.")
@click.option("-o", "--output", type=click.Choice(["json", "yaml"]), help="Print the objects (YAML without --apply).")
@click.option("--apply", "applying", is_flag=True, help="Apply them: shows first what that does to proxies, and asks.")
@click.option("--dry-run", is_flag=True, help="With --apply: only show what it would do.")
@yes_option
@message_option
def learn(
    workload: str,
    namespace: str,
    namespace_wide: bool,
    output: str | None,
    applying: bool,
    dry_run: bool,
    yes: bool,
    message: str,
    state: Path | None,
    kubeconfig: Path | None,
) -> None:
    """Print Sidecar objects whose egress is what WORKLOAD (or each one) was seen to call; change nothing.

    What is permitted plays no part: only what was called counts. A service that is called once a month is not in it
    before that month is over: read the objects before they are applied. On standard error stands for each how many
    services it leaves visible. With --apply they are applied, after you have seen what that takes from each proxy
    (`fairlead diff`); -o yaml then still prints them, to be kept with the rest of the configuration. What takes more
    than half of a proxy's clusters is held until `fairlead proxy-status --release`.

    \b
    fairlead scope learn web -n shop
    fairlead scope learn -n shop > scopes.yaml
    fairlead scope learn -n shop --apply -o yaml > scopes.yaml

    Exit status: 0 done, 1 failed, 2 wrong usage.
    """
    if workload and namespace_wide:
        raise click.UsageError("--namespace-wide is about whole namespaces: leave out WORKLOAD")
    if (dry_run or yes or message) and not applying:
        raise click.UsageError("--dry-run, --yes and --message are about --apply")
    found = _calls(workload, namespace, state, kubeconfig)
    if not found:
        raise click.ClickException("no agent has reported calls of such a workload yet")
    for one in found:
        name = f"{one['workload']}.{one['namespace']}"
        total = "" if one["visible"] is None else f" of {one['visible']} that it sees"
        click.echo(f"{name}: calls {len(one['services'])} services{total}", err=True)
        if one["truncated"]:
            left = "it is left out" if applying else "it is better left without a scope"
            complain(f"{name} calls more services than are remembered: {left}", warning=True)
    if applying:
        # Such a scope would surely lack something; of a namespace it is all that lacks it.
        lacking = {one["namespace"] for one in found if one["truncated"]}
        found = [one for one in found if not (one["namespace"] in lacking if namespace_wide else one["truncated"])]
    made = _namespaces(found) if namespace_wide else [one for at in found if (one := _workload(at)) is not None]
    if output == "json":
        show({"apiVersion": "v1", "kind": "List", "items": made}, output)
    elif output or not applying:
        click.echo("---\n".join(as_yaml(one) for one in made), nl=False)
    if not made:
        sys.exit(1)
    if applying and not _applied(made, kubeconfig, state, message, ask=not yes, dry=dry_run, quiet=output is not None):
        sys.exit(1)


def _applied(
    made: list[dict[str, Any]],
    kubeconfig: Path | None,
    state: Path | None,
    message: str,
    *,
    ask: bool,
    dry: bool,
    quiet: bool,
) -> bool:
    """Show what the objects do to proxies and apply them, if a person says yes; whether all went well."""
    from fairlead.cli import diff, manifests
    from fairlead.cli.connecting import connected
    from fairlead.cli.resources import apply_entries
    from fairlead.compiler.registry import registry
    from fairlead.model.yaml import parse_documents

    text = "---\n".join(as_yaml(one) for one in made)
    entries, wrong = manifests.check(registry(), parse_documents(text, "learned"), "default", given=False)
    for one in wrong:
        complain(one)
    if len(entries) != len(made):
        return False
    with connected(kubeconfig, state, message) as client:
        # Fields that somebody else has written stand: a Sidecar that was made by hand is not narrowed by this.
        found, changing = diff.judged(client, entries, force=False)
        if dry:
            diff.print_report(found, err=quiet)
            return True
        if not diff.may_go_on(found, ask=ask and changing, require_safe=False, quiet=quiet):
            return False
        return not apply_entries(client, entries, quiet=quiet)[1]


def _calls(workload: str, namespace: str, state: Path | None, kubeconfig: Path | None) -> list[dict[str, Any]]:
    from fairlead.cli.connecting import connected

    asked = {"namespace": namespace, "workload": workload, "refresh": "true"}
    query = urlencode({key: value for key, value in asked.items() if value})
    with connected(kubeconfig, state) as client:
        return client.request("GET", f"/fairlead/v1/traffic?{query}").document["calls"]


def _hosts(calls: dict[str, Any]) -> set[str]:
    """`NAMESPACE/HOST` of each service; `*` where its namespace is not known."""
    return {f"{one['namespace'] or '*'}/{one['host']}" for one in calls["services"]}


def _workload(calls: dict[str, Any]) -> dict[str, Any] | None:
    name = f"{calls['workload']}.{calls['namespace']}"
    if not calls["labels"]:
        complain(f"{name} has no labels that a Sidecar could select: --namespace-wide includes it", warning=True)
        return None
    return _sidecar(calls["namespace"], calls["workload"], _hosts(calls), calls["labels"])


def _namespaces(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    hosts: dict[str, set[str]] = {}
    for one in found:
        hosts.setdefault(one["namespace"], set()).update(_hosts(one))
    return [_sidecar(namespace, "default", called, {}) for namespace, called in sorted(hosts.items())]


def _sidecar(namespace: str, name: str, hosts: set[str], labels: dict[str, str]) -> dict[str, Any]:
    # Istio's `~/*` stands for nothing at all.
    spec: dict[str, Any] = {"egress": [{"hosts": sorted(hosts) or ["~/*"]}]}
    if labels:
        spec["workloadSelector"] = {"labels": labels}
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "Sidecar",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


def _ago(seconds: float) -> str:
    whole = max(int(seconds), 0)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if whole >= size:
            return f"{whole // size}{unit} ago"
    return f"{whole}s ago"
