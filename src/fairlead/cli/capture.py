"""`fairlead capture`: the rules by which a pod's or VM's traffic meets its sidecar."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from fairlead.node.capture.rules import CaptureRule


@click.group()
def capture() -> None:
    """Rules that turn a workload's traffic to its sidecar, as Istio's init container makes them."""


@capture.command()
@click.option(
    "-f", "--file", "file", type=click.Path(dir_okay=False, path_type=Path), help="Settings, or a Pod (YAML)."
)
@click.option("--set", "chosen", multiple=True, metavar="NAME=VALUE", help="A setting; goes before those of the file.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["nftables", "iptables", "ip6tables"]),
    default="nftables",
    show_default=True,
    help="For `nft -f`, `iptables-restore` or `ip6tables-restore`.",
)
@click.option("--apply", "namespace", metavar="NETNS", help="Put them into this network namespace (root) instead.")
def rules(file: Path | None, chosen: tuple[str, ...], form: str, namespace: str | None) -> None:
    """Print the rules, or put them into a network namespace. What is printed changes nothing.

    Settings have the names of Istio's flags. A Pod's `traffic.sidecar.istio.io` annotations are settings too; what they
    leave out is then as Istio's injector has it: everything is captured but the ports of the proxy itself.

    With enable-ipv6 Envoy dials the application from ::6. `--apply` gives the loopback interface that address; beside
    printed rules it is up to you: `ip -6 addr add ::6/128 dev lo`.

    With redirect-dns names are asked of the agent, which listens where it starts with `ISTIO_META_DNS_CAPTURE: "true"`
    (a ProxyConfig's environmentVariables, or proxyMetadata), in the group that the rules leave alone (proxy-gid).

    \b
    fairlead capture rules --set inbound-ports-include='*' \\
        --set outbound-ip-ranges-include='*' | nft -f -
    fairlead capture rules -f pod.yaml --format iptables
    fairlead capture rules -f pod.yaml --apply my-namespace

    Exit status: 0 done, 1 failed, 2 wrong usage.
    """
    from fairlead.model.capturing import CaptureError, settings
    from fairlead.node.capture import iptables, nftables
    from fairlead.node.capture.rules import capture_rules

    try:
        values = _read(file) if file else {}
        for one in chosen:
            name, mark, value = one.partition("=")
            if not mark:
                raise click.BadParameter(f"{one!r} is not NAME=VALUE", param_hint="--set")
            values[name] = value
        made = settings(values)
    except CaptureError as error:
        raise click.ClickException(f"{error} [FL2600]") from None
    if namespace is not None:
        _install(namespace, capture_rules(made))
        return
    if form == "nftables":
        lines = nftables.render(capture_rules(made))
    else:
        lines = iptables.render(capture_rules(made, "iptables"), "ip" if form == "iptables" else "ip6")
    for line in lines:
        click.echo(line)


def _install(namespace: str, found: Sequence[CaptureRule]) -> None:
    """In a process of its own: a namespace belongs to a thread."""
    import subprocess
    import sys

    import msgspec

    command = [sys.executable, "-m", "fairlead.node.capture.kernel", namespace]
    done = subprocess.run(command, input=msgspec.json.encode(found), capture_output=True, check=False)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit status {done.returncode}"]
        raise click.ClickException(f"network namespace {namespace}: {said[-1]} [FL2600]")
    click.echo(f"{len(found)} rules are in {namespace}")


def _read(file: Path) -> dict[str, object]:
    """The settings of a file; of a Pod, those that its annotations stand for over the injector's defaults."""
    from typing import Any, cast

    import yaml

    from fairlead.model.capturing import CaptureError, of_annotations

    try:
        found: object = yaml.safe_load(file.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CaptureError(f"{file}: {error}") from None
    if not isinstance(found, dict):
        raise CaptureError(f"{file}: neither settings nor a Pod")
    document = cast("dict[str, Any]", found)
    if document.get("kind") != "Pod":
        return {str(name): value for name, value in document.items()}
    metadata = document.get("metadata")
    annotations = cast("dict[str, Any]", metadata).get("annotations") if isinstance(metadata, dict) else None
    given = cast("dict[str, Any]", annotations) if isinstance(annotations, dict) else {}
    return of_annotations({name: str(value) for name, value in given.items()})
