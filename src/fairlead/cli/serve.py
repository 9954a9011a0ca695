"""`fairlead serve` and `fairlead up`: the control plane alone, or everything on this host."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

if TYPE_CHECKING:
    from fairlead.ca.oidc import JoinIssuer
    from fairlead.controlplane.plane import ControlPlane, Settings
    from fairlead.controlplane.state import StateDirectory

_PORT = click.IntRange(0, 65535)
_SIZE = click.IntRange(1)
_MIB = 1 << 20
F = TypeVar("F", bound=Callable[..., Any])


def _server_options(function: F) -> F:
    for option in (
        click.option(
            "--state",
            type=click.Path(file_okay=False, path_type=Path),
            help="Directory for everything that is kept. Default: /var/lib/fairlead, else ~/.local/state/fairlead.",
        ),
        click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on."),
        click.option("--api-port", default=16443, type=_PORT, show_default=True, help="API (0: any free port)."),
        click.option(
            "--xds-port", default=15012, type=_PORT, show_default=True, help="Configuration of proxies (0: any)."
        ),
        click.option("--join-port", default=15013, type=_PORT, show_default=True, help="First certificates (0: any)."),
        click.option("--trust-domain", default="cluster.local", show_default=True, help="Of all identities."),
        click.option("--service-range", default="10.96.0.0/16", show_default=True, help="Addresses of Services."),
        click.option("--name", "names", multiple=True, help="A further DNS name or address of this server."),
        click.option(
            "--ca-cert", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Signing certificate."
        ),
        click.option("--ca-key", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Its private key."),
        click.option(
            "--ca-root", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Its root, if another."
        ),
        click.option(
            "--ca-chain",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            help="Certificates between the signing certificate and its root.",
        ),
        click.option(
            "--join-issuers",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            help="File (YAML) of token issuers whose tokens join the mesh.",
        ),
        click.option(
            "--trust-domain-alias",
            "trust_domain_aliases",
            multiple=True,
            help="A former trust domain, whose proxies go on while they move to the new one.",
        ),
        click.option(
            "--jwks-block",
            "jwks_blocked",
            multiple=True,
            metavar="CIDR",
            help="A network from which keys of token issuers are never fetched.",
        ),
        click.option(
            "--jwks-ca",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            help="Certificates of authorities that are trusted for it, beside the system's.",
        ),
        click.option(
            "--keep", default="720h", show_default=True, metavar="DURATION", help="How long the past is kept."
        ),
        click.option(
            "--history-size", default=1024, show_default=True, metavar="MIB", type=_SIZE, help="Of objects, at most."
        ),
        click.option(
            "--timeline-size", default=512, show_default=True, metavar="MIB", type=_SIZE, help="Of events, at most."
        ),
        click.option("-v", "--verbose", is_flag=True, help="Say what is done."),
    ):
        function = option(function)
    return function


@click.command()
@_server_options
def serve(verbose: bool, state: Path | None, **options: Any) -> None:
    """Run the control plane until SIGTERM or Ctrl-C. Proxies go on with what they have while it is down.

    Its address, CA and an administrator's token are in STATE/kubeconfig: `kubectl --kubeconfig` works with it.

    \b
    fairlead serve --host 0.0.0.0 --name mesh.example.com

    Exit status: 0 stopped, 1 failed, 2 wrong usage.
    """
    _run(verbose, state, options, _serve_only)


@click.command()
@_server_options
@click.option("--loopback", default="127.66.0.0/16", show_default=True, help="Block of addresses for workloads.")
@click.option("--gateway/--no-gateway", default=True, show_default=True, help="Run the default ingress gateway.")
@click.argument("files", nargs=-1, type=click.Path(exists=True))
def up(verbose: bool, state: Path | None, loopback: str, gateway: bool, files: tuple[str, ...], **options: Any) -> None:
    """Run everything on this host: control plane, node, and a gateway that `istio: ingressgateway` selects.

    FILES (files or directories) are applied first. Ctrl-C stops all of it in order; what is stored stays.

    \b
    fairlead up shop/

    Exit status: 0 stopped, 1 failed, 2 wrong usage.
    """

    async def everything(plane: ControlPlane) -> None:
        await _everything(plane, loopback, gateway, files)

    _run(verbose, state, options, everything)


def _run(verbose: bool, state: Path | None, options: dict[str, Any], work: Callable[[ControlPlane], Any]) -> None:
    import gc
    import logging

    # What is imported and loaded stays; `controlplane.memory` looks for garbage again once everything is.
    gc.disable()
    import uvloop

    from fairlead.apiserver.server import ServerError
    from fairlead.ca.authority import AuthorityError
    from fairlead.controlplane.plane import ControlPlane
    from fairlead.controlplane.state import StateDirectory, StateError, default_directory
    from fairlead.node.addresses import AddressError
    from fairlead.store.errors import StoreError

    level = logging.INFO if verbose else logging.WARNING
    logging.basicConfig(stream=sys.stderr, level=level, format="%(asctime)s %(levelname).1s [%(name)s] %(message)s")

    async def main() -> None:
        directory = StateDirectory(state or default_directory())
        directory.lock()
        plane = ControlPlane(directory, _settings(options))
        try:
            await _until_signalled(plane, directory, work)
        finally:
            await plane.stop()

    try:
        uvloop.run(main())
    except (StateError, ServerError, AuthorityError, StoreError, AddressError, OSError) as error:
        raise click.ClickException(str(error)) from None


def _settings(options: dict[str, Any]) -> Settings:
    import ipaddress

    from fairlead.ca.authority import Supplied
    from fairlead.controlplane.plane import Settings
    from fairlead.model.duration import parse_duration
    from fairlead.store.retention import Retention
    from fairlead.store.timeline import Bounds

    certificate, key, root = options.pop("ca_cert"), options.pop("ca_key"), options.pop("ca_root")
    if (certificate is None) != (key is None):
        raise click.UsageError("--ca-cert and --ca-key go together")
    for option, texts in (("--service-range", (options["service_range"],)), ("--jwks-block", options["jwks_blocked"])):
        try:
            for text in texts:
                ipaddress.ip_network(text, strict=option == "--service-range")
        except ValueError as error:
            raise click.UsageError(f"{option}: {error}") from None
    chain, issuers = options.pop("ca_chain"), options.pop("join_issuers")
    try:
        keep = parse_duration(options.pop("keep"))
    except ValueError as error:
        raise click.UsageError(f"--keep: {error}") from None
    options["history"] = Retention(seconds=keep, bytes=options.pop("history_size") * _MIB)
    options["timeline"] = Bounds(seconds=keep, bytes=options.pop("timeline_size") * _MIB)
    supplied = Supplied(certificate, key, root or certificate, chain) if certificate is not None else None
    return Settings(**options, supplied=supplied, join_issuers=_issuers(issuers) if issuers is not None else ())


def _issuers(file: Path) -> tuple[JoinIssuer, ...]:
    import yaml

    from fairlead.ca.oidc import read_issuers

    try:
        return read_issuers(yaml.safe_load(file.read_text()))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValueError) as error:
        raise click.UsageError(f"--join-issuers {file}: {error} [FL2603]") from None


async def _until_signalled(plane: ControlPlane, directory: StateDirectory, work: Callable[[ControlPlane], Any]) -> None:
    import asyncio
    import contextlib

    from fairlead.node.ends import ends

    found = await plane.start()
    click.echo(f"api {found.api}   xds {found.xds}   join {found.join}", err=True)
    click.echo(f"kubectl --kubeconfig {directory.kubeconfig} get all -A", err=True)
    task = asyncio.ensure_future(work(plane))
    loop = asyncio.get_running_loop()
    for number in ends():
        loop.add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def _serve_only(plane: ControlPlane) -> None:
    import asyncio

    await asyncio.Event().wait()


async def _everything(plane: ControlPlane, loopback: str, gateway: bool, files: tuple[str, ...]) -> None:
    import asyncio
    import contextlib
    import socket

    from fairlead.node.api import Client
    from fairlead.node.kubeconfig import read_kubeconfig
    from fairlead.node.location import find_mesh
    from fairlead.node.supervisor import NodeConfig, Supervisor

    home = plane.state.path
    access = read_kubeconfig(plane.state.kubeconfig)
    async with Client(access, lambda: read_kubeconfig(plane.state.kubeconfig)) as client:
        config = NodeConfig(home, find_mesh(home), socket.gethostname().split(".")[0].lower() or "node", loopback)
        supervisor = Supervisor(config, client)
        running = asyncio.create_task(supervisor.run())
        try:
            if not await asyncio.to_thread(_apply, plane, gateway, files):
                raise click.ClickException("the files were not applied as a whole; mend them and start again")
            # Not `await running`: a cancellation of this must not tear the supervisor out of what it is doing.
            await asyncio.wait({running})
            running.result()
        finally:
            # Nobody reads it where the terminal has gone.
            with contextlib.suppress(OSError):
                click.echo("stopping", err=True)
            # The workloads drain while the control plane still serves: callers hear of their going.
            with contextlib.suppress(asyncio.CancelledError):
                await supervisor.stop()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


INGRESS: dict[str, Any] = {
    "apiVersion": "fairlead.dev/v1alpha1",
    "kind": "Process",
    "metadata": {"name": "istio-ingressgateway", "namespace": "istio-system"},
    "spec": {
        "proxy": "router",
        "capture": "none",
        "labels": {"istio": "ingressgateway", "app": "istio-ingressgateway"},
    },
}


def _apply(plane: ControlPlane, gateway: bool, files: tuple[str, ...]) -> bool:
    """Apply the files and the gateway; whether all of it was taken. What is refused is said on standard error.

    The default gateway stays away where the files or the store have one for the same selector: two would share their
    ports.
    """
    from fairlead.cli import manifests
    from fairlead.cli.resources import apply_entries, checked_entries, connected
    from fairlead.model.manifest import Manifest

    with connected(plane.state.kubeconfig, None) as client:
        entries: list[manifests.Entry] = []
        if files:
            try:
                entries = checked_entries(files, "default", given=False, recursive=False)
            except SystemExit:
                return False
        stored = client.request("GET", "/apis/fairlead.dev/v1alpha1/processes").document["items"]
        if gateway and not any(_is_ingress(one) for one in (*stored, *(entry.manifest.data for entry in entries))):
            built_in, _ = manifests.check(plane.model.kinds, [Manifest(INGRESS)], "default", given=False)
            apply_entries(client, built_in)
        return not apply_entries(client, entries)[1]


def _is_ingress(document: dict[str, Any]) -> bool:
    spec = cast("dict[str, Any]", document.get("spec") or {})
    labels = cast("dict[str, str]", spec.get("labels") or {})
    return document.get("kind") == "Process" and labels.get("istio") == INGRESS["spec"]["labels"]["istio"]
