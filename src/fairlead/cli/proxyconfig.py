"""`fairlead proxy-config`: what an Envoy runs, as tables like istioctl's.

An Envoy on this host is asked itself; of one elsewhere, what the control plane has for it is shown.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeVar

import click

from fairlead.cli.printing import print_table, show

Row = tuple[object, ...]
F = TypeVar("F", bound=Callable[..., Any])
Rows = Callable[[dict[str, Any]], Iterator[Row]]


_ALSO = {
    "listener": "listeners",
    "l": "listeners",
    "route": "routes",
    "r": "routes",
    "cluster": "clusters",
    "c": "clusters",
    "endpoint": "endpoints",
    "ep": "endpoints",
    "secret": "secrets",
    "s": "secrets",
    "b": "bootstrap",
}
"""What istioctl calls them, too."""


class _Commands(click.Group):
    """The commands, under the names that fingers know from istioctl as well."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, _ALSO.get(cmd_name, cmd_name))


@click.group("proxy-config", cls=_Commands)
def proxy_config() -> None:
    """Show what an Envoy runs: its own answer, not what it was sent.

    PROXY is NAME.NAMESPACE, or NAME where that is enough; `fairlead proxy-status` lists them. Of a proxy on another
    host, what the control plane has for it is shown instead, and that is said.

    \b
    fairlead proxy-config routes web-0.shop
    fairlead proxy-config clusters istio-ingressgateway-0 --fqdn reviews -o yaml
    fairlead proxy-config log web-0.shop --level rbac:debug
    """


_EXIT = "Exit status: 0 done, 1 failed or no such proxy, 2 wrong usage."


def _where(function: F) -> F:
    state = click.option("--state", type=click.Path(file_okay=False, path_type=Path), help="The state directory.")
    kubeconfig = click.option(
        "--kubeconfig", type=click.Path(path_type=Path), help="For a proxy elsewhere. Default: $KUBECONFIG."
    )
    return state(kubeconfig(function))


def _narrowing(name: str) -> Callable[[F], F]:
    """Options that choose rows by a part of what stands in a column, or a pattern with `*` and `?`; by a whole port."""

    def add(function: F) -> F:
        for option, (_, said) in reversed(_NARROWING.get(name, {}).items()):
            function = click.option(f"--{option}", metavar=option.upper(), default="", help=said)(function)
        return function

    return add


def _chosen(name: str, row: Row, given: dict[str, str]) -> bool:
    """Whether a row is what the options of a command ask for."""
    for option, wanted in given.items():
        if wanted:
            value = str(row[_NARROWING[name][option][0]])
            if option == _PORT:
                if value.rpartition(":")[2] != wanted:
                    return False
            elif not fnmatchcase(value.lower(), wanted.lower() if _PATTERN.search(wanted) else f"*{wanted.lower()}*"):
                return False
    return True


def _command(name: str, columns: tuple[str, ...], rows: Rows, doc: str) -> None:
    @proxy_config.command(name, help=f"{doc}\n\n\b\nfairlead proxy-config {name} web-v1-0.shop\n\n{_EXIT}")
    @click.argument("proxy")
    @_narrowing(name)
    @_where
    @click.option("-o", "--output", type=click.Choice(["json", "yaml"]), help="Print Envoy's own form.")
    @click.option("--at", type=click.IntRange(1), metavar="REV", help="As the control plane had it at this revision.")
    def command(
        proxy: str, state: Path | None, kubeconfig: Path | None, output: str | None, at: int | None, **given: str
    ) -> None:
        if at is not None and name in _OWN:
            raise click.UsageError(f"only an Envoy itself shows its {name}: leave out --at")
        found = _found(proxy, state, kubeconfig, name, at)[name]
        if any(given.values()):
            found = [one for one in found if any(_chosen(name, row, given) for row in rows(one))]
        if output:
            show(found, output)
            return
        chosen = {row for one in found for row in rows(one) if _chosen(name, row, given)}
        print_table(columns, sorted(chosen, key=str), styles=_STYLES)
        if not chosen and any(given.values()):
            click.echo(f"none of its {name} is like that; without options all are shown", err=True)


_PORT = "port"
_PATTERN = re.compile(r"[*?]")
_NARROWING: dict[str, dict[str, tuple[int, str]]] = {
    "listeners": {"address": (0, "With this in the address."), "port": (1, "On this port.")},
    "routes": {
        "name": (0, "With this in the name of the route configuration."),
        "vhost": (1, "With this in the name of the virtual host."),
    },
    "clusters": {
        "fqdn": (0, "With this in the host's name."),
        "port": (1, "For this port."),
        "subset": (2, "With this in the subset's name."),
        "direction": (3, "inbound or outbound."),
    },
    "endpoints": {
        "address": (0, "With this in the address."),
        "port": (0, "On this port."),
        "status": (1, "With this in the health status (`healthy` is in `unhealthy`, too)."),
        "cluster": (2, "With this in the cluster's name."),
    },
    "secrets": {"name": (0, "With this in the name.")},
}
"""By command and option: the number of the column that it is about, and its help."""
_OWN = ("secrets", "bootstrap")
_STYLES = {"HEALTHY": "green", "UNHEALTHY": "red", "ACTIVE": "green", "OK": "green", "FAILED": "red"}


def _found(
    proxy: str, state: Path | None, kubeconfig: Path | None, what: str = "", at: int | None = None
) -> dict[str, list[dict[str, Any]]]:
    """The configuration by kind: of an Envoy here, else of the control plane. `what` is the kind that is wanted."""
    from fairlead.cli import envoyadmin
    from fairlead.controlplane.state import default_directory

    if at is not None:
        return _of_the_control_plane(proxy, state, kubeconfig, f"/at/{at}")
    directory = envoyadmin.local_directory(state or default_directory(), proxy)
    if directory is not None:
        return envoyadmin.dump(directory)
    found = _of_the_control_plane(proxy, state, kubeconfig)
    if what in _OWN:
        raise click.ClickException(f"{proxy} is not on this host, and only its own Envoy can show its {what}")
    click.echo(f"{proxy} is not on this host: this is what the control plane has for it", err=True)
    return found


def _of_the_control_plane(
    proxy: str, state: Path | None, kubeconfig: Path | None, below: str = ""
) -> dict[str, list[dict[str, Any]]]:
    from fairlead.cli.connecting import connected
    from fairlead.cli.protojson import decode, to_json
    from fairlead.envoy.resource import CLUSTER, ENDPOINT, LISTENER, ROUTE
    from fairlead.model.names import meant

    with connected(kubeconfig, state) as client:
        listed: list[dict[str, Any]] = client.request("GET", "/fairlead/v1/proxies").document["proxies"]
        names = [f"{one['name']}.{one['namespace']}" for one in listed]
        wanted = [name for name in names if proxy in (name, name.partition(".")[0])]
        if len(wanted) != 1:
            said = f"names several proxies: {', '.join(wanted)}" if wanted else "is neither on this host nor connected"
            hint = "" if wanted else meant(proxy, names)
            raise click.ClickException(f"{proxy!r} {said}{hint or '; `fairlead proxy-status` lists those that are'}")
        rows = client.request("GET", f"/fairlead/v1/proxies/{wanted[0]}{below}").document
    types = {"listeners": LISTENER, "routes": ROUTE, "clusters": CLUSTER, "endpoints": ENDPOINT}
    return {
        title: [
            to_json(decode(type_url, base64.b64decode(one["body"])), original_names=True)
            for one in rows.get(type_url, [])
        ]
        for title, type_url in types.items()
    }


def _address(one: dict[str, Any]) -> tuple[str, int]:
    socket = one.get("socket_address")
    if socket:
        return str(socket.get("address", "")), int(socket.get("port_value", 0))
    return str(one.get("pipe", {}).get("path", "")), 0


def _listeners(one: dict[str, Any]) -> Iterator[Row]:
    address, port = _address(one.get("address", {}))
    default = one.get("default_filter_chain")
    for chain in [*one.get("filter_chains", []), *([default] if default else [])]:
        yield address, port, _match(chain.get("filter_chain_match", {})), _destination(chain)


def _match(match: dict[str, Any]) -> str:
    said: list[str] = []
    if match.get("transport_protocol"):
        said.append(f"Trans: {match['transport_protocol']}")
    if match.get("application_protocols"):
        said.append(f"App: {','.join(match['application_protocols'])}")
    if match.get("server_names"):
        said.append(f"SNI: {','.join(match['server_names'])}")
    if match.get("prefix_ranges"):
        said.append(
            "Addr: " + ",".join(f"{r['address_prefix']}/{r.get('prefix_len', 0)}" for r in match["prefix_ranges"])
        )
    if match.get("destination_port"):
        said.append(f"Port: {match['destination_port']}")
    return "; ".join(said) or "ALL"


def _destination(chain: dict[str, Any]) -> str:
    for one in chain.get("filters", []):
        config = one.get("typed_config", {})
        if "rds" in config:
            return f"Route: {config['rds'].get('route_config_name', '')}"
        if "route_config" in config:
            return f"Inline Route: {config['route_config'].get('name', '')}"
        if "cluster" in config:
            return f"Cluster: {config['cluster']}"
        if "weighted_clusters" in config:
            parts = config["weighted_clusters"].get("clusters", [])
            return "Clusters: " + ", ".join(f"{part['name']}={part.get('weight', 0)}" for part in parts)
    return "Non-HTTP/Non-TCP"


def _routes(one: dict[str, Any]) -> Iterator[Row]:
    for host in one.get("virtual_hosts", []):
        domains = host.get("domains", [])
        more = f" + {len(domains) - 2} more..." if len(domains) > 2 else ""
        for route in host.get("routes", []):
            match = route.get("match", {})
            path = match.get("prefix", "") + "*" if "prefix" in match else match.get("path", "")
            path = path or match.get("safe_regex", {}).get("regex", "") or f"{match.get('path_separated_prefix', '')}/*"
            owner = route.get("metadata", {}).get("filter_metadata", {}).get("istio", {}).get("config", "")
            yield one.get("name", ""), host.get("name", ""), ", ".join(domains[:2]) + more, path, _owner(owner)


def _owner(path: str) -> str:
    parts = path.split("/")
    return f"{parts[-1]}.{parts[-3]}" if len(parts) > 3 else ""


def _clusters(one: dict[str, Any]) -> Iterator[Row]:
    name = one.get("name", "")
    direction, port, subset, host = ([*name.split("|"), "", "", "", ""])[:4] if "|" in name else ("-", "-", "-", name)
    rule = one.get("metadata", {}).get("filter_metadata", {}).get("istio", {}).get("config", "")
    kind = one.get("type") or one.get("cluster_type", {}).get("name", "STATIC")
    yield host or "-", port, subset or "-", direction, kind, _owner(rule)


def _endpoints(one: dict[str, Any]) -> Iterator[Row]:
    for group in one.get("endpoints", []):
        for member in group.get("lb_endpoints", []):
            address, port = _address(member.get("endpoint", {}).get("address", {}))
            health = member.get("health_status", "HEALTHY")
            yield (
                f"{address}:{port}" if port else address,
                health,
                one.get("cluster_name", ""),
                member.get("load_balancing_weight", 1),
            )


def _secrets(one: dict[str, Any]) -> Iterator[Row]:
    chain = one.get("tls_certificate", {}).get("certificate_chain", {})
    trusted = one.get("validation_context", {}).get("trusted_ca", {})
    kind = "Cert Chain" if chain else "CA" if trusted else "-"
    encoded = (chain or trusted).get("inline_bytes", "")
    serial = until = since = valid = ""
    if encoded:
        from datetime import UTC, datetime

        from cryptography import x509

        certificate = x509.load_pem_x509_certificates(base64.b64decode(encoded))[0]
        serial = format(certificate.serial_number, "x")
        since, until = (
            f"{moment:%Y-%m-%dT%H:%M:%SZ}"
            for moment in (certificate.not_valid_before_utc, certificate.not_valid_after_utc)
        )
        valid = str(certificate.not_valid_before_utc <= datetime.now(UTC) < certificate.not_valid_after_utc).lower()
    yield one.get("name", ""), kind, str(one.get("state", "")).upper(), valid, serial, until, since


def _bootstrap(one: dict[str, Any]) -> Iterator[Row]:
    node = one.get("node", {})
    metadata = node.get("metadata", {})
    yield (
        node.get("id", ""),
        metadata.get("NAMESPACE", ""),
        metadata.get("SERVICE_ACCOUNT", ""),
        metadata.get("INSTANCE_IPS", ""),
    )


_command("listeners", ("ADDRESS", "PORT", "MATCH", "DESTINATION"), _listeners, "What it listens for.")
_command("routes", ("NAME", "VHOST NAME", "DOMAINS", "MATCH", "VIRTUAL SERVICE"), _routes, "Where requests go.")
_command(
    "clusters", ("SERVICE FQDN", "PORT", "SUBSET", "DIRECTION", "TYPE", "DESTINATION RULE"), _clusters, "Upstreams."
)
_command("endpoints", ("ENDPOINT", "STATUS", "CLUSTER", "WEIGHT"), _endpoints, "Members of its clusters.")
_command(
    "secrets",
    ("RESOURCE NAME", "TYPE", "STATUS", "VALID CERT", "SERIAL NUMBER", "NOT AFTER", "NOT BEFORE"),
    _secrets,
    "Certificates that it holds (keys are never shown).",
)
_command("bootstrap", ("NODE", "NAMESPACE", "SERVICE ACCOUNT", "ADDRESSES"), _bootstrap, "What it was started with.")


@proxy_config.command("log")
@click.argument("proxy")
@click.option(
    "--level",
    default="",
    metavar="LEVEL|LOGGER:LEVEL,...",
    help="trace, debug, info, warning, error, critical or off; of all loggers, or of some (rbac:debug,jwt:debug).",
)
@click.option("--state", type=click.Path(file_okay=False, path_type=Path), help="The state directory.")
def log(proxy: str, level: str, state: Path | None) -> None:
    """Show what an Envoy on this host logs, by logger, or change it until it is started again.

    \b
    fairlead proxy-config log web-v1-0.shop
    fairlead proxy-config log web-v1-0.shop --level rbac:debug,jwt:debug
    fairlead proxy-config log web-v1-0.shop --level warning

    What is logged stands in the replica's log: `fairlead logs --proxy`.

    Exit status: 0 done, 1 failed or no such proxy, 2 wrong usage.
    """
    from fairlead.cli import envoyadmin
    from fairlead.controlplane.state import default_directory

    directory = envoyadmin.local_directory(state or default_directory(), proxy)
    if directory is None:
        raise click.ClickException(f"{proxy} is not on this host: its log level is changed where its Envoy runs")
    levels = envoyadmin.log_levels(directory)
    changes = _levels(level, levels)
    if changes:
        levels = envoyadmin.log_levels(directory, changes)
    print_table(("LOGGER", "LEVEL"), sorted(levels.items()))


_LEVELS = ("trace", "debug", "info", "warning", "error", "critical", "off")


def _levels(text: str, known: dict[str, str]) -> dict[str, str]:
    """What `--level` asks for, by logger ("": all). Raises click.BadParameter."""
    from fairlead.model.names import meant

    out: dict[str, str] = {}
    for part in filter(None, text.split(",")):
        logger, _, level = part.rpartition(":")
        if level not in _LEVELS:
            raise click.BadParameter(f"{level!r} is none of {', '.join(_LEVELS)}", param_hint="--level")
        if logger and logger not in known:
            raise click.BadParameter(f"Envoy has no logger {logger!r}{meant(logger, known)}", param_hint="--level")
        out[logger] = level
    return out


@proxy_config.command("all")
@click.argument("proxy")
@_where
@click.option("-o", "--output", type=click.Choice(["json", "yaml"]), default="json", show_default=True)
def everything(proxy: str, state: Path | None, kubeconfig: Path | None, output: str) -> None:
    """Everything, as Envoy has it.

    \b
    fairlead proxy-config all web-v1-0.shop -o yaml

    Exit status: 0 done, 1 failed or no such proxy, 2 wrong usage.
    """
    show(_found(proxy, state, kubeconfig), output)
