"""`fairlead node`, `fairlead run`, `fairlead logs`: what runs on this host. Heavy imports are late."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_BLOCK = "127.66.0.0/16"


def _state_option(function: F) -> F:
    return click.option(
        "--state",
        type=click.Path(file_okay=False, path_type=Path),
        help="The state directory. Default: /var/lib/fairlead for root, else ~/.local/state/fairlead.",
    )(function)


def _mesh_options(function: F) -> F:
    for option in (
        click.option("--root-cert", type=click.Path(path_type=Path), help="The mesh's root certificate (PEM)."),
        click.option("--join", default="", help="HOST:PORT for first certificates. Default: STATE/endpoints.json."),
        click.option("--xds", default="", help="HOST:PORT of the control plane. Default: STATE/endpoints.json."),
        click.option("--server", default="", help="The API's address, instead of the kubeconfig's."),
        click.option("--kubeconfig", type=click.Path(path_type=Path), help="Default: STATE/kubeconfig."),
        click.option("--loopback", default=DEFAULT_BLOCK, show_default=True, help="Block of addresses for workloads."),
    ):
        function = option(function)
    return _state_option(function)


def _node_name(name: str) -> str:
    import socket

    return name or socket.gethostname().split(".")[0].lower() or "node"


@click.command("node")
@_mesh_options
@click.option("--name", default="", help="This node's name. Default: the host's.")
@click.option("-v", "--verbose", is_flag=True, help="Say what is done.")
def node(
    state: Path | None,
    loopback: str,
    kubeconfig: Path | None,
    server: str,
    xds: str,
    join: str,
    root_cert: Path | None,
    name: str,
    verbose: bool,
) -> None:
    """Run the Processes of this host until SIGTERM or Ctrl-C.

    What runs goes on when the node ends: the next one takes it over. `fairlead up` is what ends everything.

    \b
    fairlead node --state /var/lib/fairlead

    Exit status: 0 after SIGTERM or Ctrl-C, 1 if the node cannot run.
    """
    import asyncio
    import contextlib
    import logging

    from fairlead.node.addresses import AddressError
    from fairlead.node.api import Client
    from fairlead.node.ends import ends
    from fairlead.node.kubeconfig import KubeconfigError, read_kubeconfig
    from fairlead.node.location import LocationError, default_state, find_mesh
    from fairlead.node.supervisor import NodeConfig, Supervisor

    level = logging.INFO if verbose else logging.WARNING
    logging.basicConfig(stream=sys.stderr, level=level, format="%(asctime)s %(levelname).1s [%(name)s] %(message)s")
    home = state or default_state()

    async def supervise() -> None:
        access = read_kubeconfig(kubeconfig or home / "kubeconfig", server)
        config = NodeConfig(home, find_mesh(home, xds, join, root_cert), _node_name(name), loopback)
        async with Client(access, lambda: read_kubeconfig(kubeconfig or home / "kubeconfig", server)) as client:
            task = asyncio.create_task(Supervisor(config, client).run())
            for number in ends():
                asyncio.get_running_loop().add_signal_handler(number, task.cancel)
            click.echo(f"node {config.name}: runs the Processes of {access.server}", err=True)
            with contextlib.suppress(asyncio.CancelledError):
                await task

    try:
        asyncio.run(supervise())
    except (KubeconfigError, LocationError, AddressError, OSError) as error:
        raise click.ClickException(str(error)) from None


@click.command("run", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@_mesh_options
@click.option("-n", "--namespace", default="default", show_default=True)
@click.option("--name", default="", help="The workload's name. Default: the command's.")
@click.option("--service-account", default="", help="The identity it gets. Default: default.")
@click.option(
    "--workload-group", default="", help="Join as a member of this WorkloadGroup, which says identity, labels, probe."
)
@click.option("-l", "--label", "labels", multiple=True, metavar="KEY=VALUE", help="A label; Services select by labels.")
@click.option("-p", "--port", "ports", multiple=True, metavar="[PROTOCOL:]PORT", help="A port it serves on.")
@click.option("--capture", type=click.Choice(["auto", "netns", "explicit", "none"]), default="auto", show_default=True)
@click.option("-m", "--message", default="", help="Why, for the history (`fairlead history`).")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(
    state: Path | None,
    loopback: str,
    kubeconfig: Path | None,
    server: str,
    xds: str,
    join: str,
    root_cert: Path | None,
    namespace: str,
    name: str,
    service_account: str,
    workload_group: str,
    labels: tuple[str, ...],
    ports: tuple[str, ...],
    capture: str,
    message: str,
    command: tuple[str, ...],
) -> None:
    """Put one COMMAND into the mesh for as long as it runs.

    It is given PORT and HOST to listen on.

    \b
    fairlead run --name web -n shop -p http:8080 -- ./server

    Exit status: that of COMMAND (128 + N if signal N ended it), 1 failed before, 2 wrong usage.
    """
    import asyncio

    from fairlead.cli.connecting import command_line
    from fairlead.model.caller import COMMAND_HEADER, MESSAGE_HEADER, encoded
    from fairlead.node.addresses import AddressError
    from fairlead.node.api import ApiError, Client
    from fairlead.node.capture.namespace import CaptureError
    from fairlead.node.foreground import Foreground, RunRequest
    from fairlead.node.kubeconfig import KubeconfigError, read_kubeconfig
    from fairlead.node.location import LocationError, default_state, find_mesh
    from fairlead.node.supervisor import default_agent_command, samples_directory

    home = state or default_state()
    if workload_group and (service_account or labels or name):
        raise click.UsageError("--workload-group says the name, the service account and the labels: leave them out")
    request = RunRequest(
        _workload_name(name or Path(command[0]).name),
        namespace,
        _run_spec(command, labels, ports, service_account or "default", capture),
        workload_group,
    )

    async def go() -> int:
        mesh = find_mesh(home, xds, join, root_cert)
        said = {COMMAND_HEADER: encoded(command_line(len(command))), MESSAGE_HEADER: encoded(message)}
        async with Client(read_kubeconfig(kubeconfig or home / "kubeconfig", server), said=said) as client:
            agent = default_agent_command()
            runner = Foreground(home, mesh, client, agent, samples_directory(), loopback, _node_name(""))
            status, _ = await runner.run(request)
            return status

    try:
        status = asyncio.run(go())
    except (KubeconfigError, LocationError, AddressError, ApiError, CaptureError, OSError) as error:
        raise click.ClickException(str(error)) from None
    sys.exit(status)


def _workload_name(text: str) -> str:
    import re

    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:50].strip("-") or "run"


def _run_spec(
    command: tuple[str, ...], labels: tuple[str, ...], ports: tuple[str, ...], account: str, capture: str
) -> Any:
    from fairlead.compiler.registry import registry
    from fairlead.model.decode import encode
    from fairlead.node.foreground import parse_port

    pairs: dict[str, str] = {}
    for one in labels:
        key, equals, value = one.partition("=")
        if not key or not equals:
            raise click.UsageError(f"-l {one}: write KEY=VALUE")
        pairs[key] = value
    try:
        served = [encode(parse_port(one)) for one in ports]
    except ValueError as error:
        raise click.UsageError(f"-p: {error}") from None
    spec = {
        "command": list(command),
        "labels": pairs,
        "ports": served,
        "serviceAccountName": account,
        "capture": capture,
    }
    document = {
        "apiVersion": "fairlead.dev/v1alpha1",
        "kind": "Process",
        "metadata": {"name": "run", "namespace": "default"},
        "spec": spec,
    }
    obj, problems = registry().read(document)
    if obj is None:
        raise click.UsageError("; ".join(f"{one.path}: {one.message}" for one in problems))
    return obj.spec


@click.command("logs")
@_state_option
@click.argument("name")
@click.option("-n", "--namespace", default="default", show_default=True)
@click.option("-f", "--follow", "following", is_flag=True, help="Go on with what is appended.")
@click.option("--proxy", is_flag=True, help="The log of the agent and its Envoy, not of the application.")
@click.option("--tail", type=click.IntRange(min=0), default=None, help="Only the last lines. Default: all.")
@click.option(
    "--replica", type=click.IntRange(min=0), default=None, help="Which replica. Default: all; with -f the last."
)
def logs(
    state: Path | None, name: str, namespace: str, following: bool, proxy: bool, tail: int | None, replica: int | None
) -> None:
    """Show what the replicas of Process NAME (or the one replica NAME-N) have written, as kept on this host.

    \b
    fairlead logs reviews-v1 -n shop --tail 20
    fairlead logs reviews-v1-0 -n shop --proxy -f

    Exit status 1 if this host keeps no logs of it.
    """
    from fairlead.node.files import APP_LOG, PROXY_LOG
    from fairlead.node.location import default_state
    from fairlead.node.logs import follow, last_lines

    root = (state or default_state()) / "node"
    found = _log_directories(root, namespace, name, replica)
    file = PROXY_LOG if proxy else APP_LOG
    if following:
        found = found[-1:]
    out = sys.stdout.buffer
    many = len(found) > 1
    try:
        for directory in found:
            for line in last_lines(directory / file, tail):
                out.write(f"[{directory.name}] ".encode() + line if many else line)
        out.flush()
        if following:
            for data in follow(found[0] / file):
                out.write(data)
                out.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}") from None


def _log_directories(root: Path, namespace: str, name: str, replica: int | None) -> list[Path]:
    from fairlead.model.names import nearest

    try:
        names = sorted(one.name for one in (root / namespace).iterdir() if one.is_dir())
    except FileNotFoundError:
        raise click.ClickException(
            f"{root / namespace}: no logs of namespace {namespace}; --state says where"
        ) from None
    except OSError as error:
        raise click.ClickException(f"{root}: {error.strerror}") from None
    chosen = [one for one in names if one.rpartition("-")[0] == name and one.rpartition("-")[2].isdigit()]
    chosen.sort(key=lambda one: int(one.rpartition("-")[2]))
    if replica is not None:
        chosen = [one for one in chosen if one == f"{name}-{replica}"]
    if not chosen and name in names and replica is None:
        chosen = [name]
    if not chosen:
        near = nearest(name, {one.rpartition("-")[0] for one in names})
        hint = f"; did you mean {near}?" if near else ""
        which = name if replica is None else f"{name}-{replica}"
        raise click.ClickException(f"no logs of {which} in namespace {namespace} on this host{hint}")
    return [root / namespace / one for one in chosen]
