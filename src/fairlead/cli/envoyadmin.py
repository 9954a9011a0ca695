"""Reads what an Envoy on this host runs, through its admin socket."""

from __future__ import annotations

import http.client
import json
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import click

from fairlead.envoy.protojson import ordered

NAME = re.compile(r"[A-Za-z0-9_-]+")
_LARGEST = 256 << 20


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("envoy", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(10)
        self.sock.connect(str(self._path))


def local_directory(state: Path, proxy: str) -> Path | None:
    """The agent's directory of a proxy `NAME.NAMESPACE` or `NAME` on this host; None if it is not here.

    Raises ClickException where the name means several.
    """
    name, _, namespace = proxy.partition(".")
    if not NAME.fullmatch(name) or not NAME.fullmatch(namespace or "x"):
        raise click.ClickException(f"{proxy!r} is not a proxy's name: NAME or NAME.NAMESPACE")
    found = sorted((state / "node").glob(f"{namespace or '*'}/{name}/admin.sock"))
    if len(found) > 1:
        said = ", ".join(f"{one.parent.name}.{one.parent.parent.name}" for one in found)
        raise click.ClickException(f"{proxy!r} names several proxies: {said}")
    return found[0].parent if found else None


def _asked(directory: Path, method: str, path: str) -> bytes:
    """The answer of Envoy's admin interface. Raises ClickException if Envoy does not answer."""
    connection = _UnixConnection(directory / "admin.sock")
    try:
        connection.request(method, path)
        response = connection.getresponse()
        body = response.read(_LARGEST)
    except (OSError, http.client.HTTPException) as error:
        said = getattr(error, "strerror", "") or str(error) or type(error).__name__
        raise click.ClickException(f"the Envoy of {directory.name} does not answer: {said}") from None
    finally:
        connection.close()
    if response.status != 200:
        raise click.ClickException(
            f"Envoy answers {path} with {response.status}: {body[:200].decode(errors='replace')}"
        )
    return body


def log_levels(directory: Path, changes: Mapping[str, str] | None = None) -> dict[str, str]:
    """The level of each logger, after changes ("": of all). Raises ClickException if Envoy does not answer."""
    body = _asked(directory, "POST", "/logging")
    for logger, level in (changes or {}).items():
        body = _asked(directory, "POST", f"/logging?{logger or 'level'}={level}")
    rows = (line.partition(":") for line in body.decode(errors="replace").splitlines() if line.startswith(" "))
    return {name.strip(): level.strip() for name, _, level in rows}


def get(directory: Path, path: str) -> Any:
    """The JSON answer of Envoy's admin interface. Raises ClickException if Envoy does not answer."""
    body = _asked(directory, "GET", path)
    try:
        return json.loads(body)
    except ValueError:
        raise click.ClickException(f"the answer of Envoy to {path} is not JSON, or larger than 256 MiB") from None


def dump(directory: Path) -> dict[str, list[dict[str, Any]]]:
    """The configuration dump by kind: bootstrap, clusters, listeners, routes, endpoints, secrets."""
    out: dict[str, list[dict[str, Any]]] = {
        name: [] for name in ("bootstrap", "clusters", "listeners", "routes", "endpoints", "secrets")
    }
    whole = cast("dict[str, Any]", get(directory, "/config_dump?include_eds"))
    for config in cast("list[dict[str, Any]]", whole.get("configs", [])):
        kind = str(config.get("@type", "")).rpartition(".")[2]
        _sort_in(out, kind, config)
    return {title: sorted(cast("list[dict[str, Any]]", ordered(found)), key=_name) for title, found in out.items()}


def _name(one: dict[str, Any]) -> str:
    return str(one.get("name") or one.get("cluster_name") or "")


def _sort_in(out: dict[str, list[dict[str, Any]]], kind: str, config: dict[str, Any]) -> None:
    match kind:
        case "BootstrapConfigDump":
            out["bootstrap"].append(config["bootstrap"])
        case "ClustersConfigDump":
            out["clusters"] += [one["cluster"] for one in _both(config, "clusters")]
        case "ListenersConfigDump":
            for one in config.get("dynamic_listeners", []):
                state = one.get("active_state") or one.get("warming_state")
                if state:
                    out["listeners"].append(state["listener"])
            out["listeners"] += [one["listener"] for one in config.get("static_listeners", [])]
        case "RoutesConfigDump":
            out["routes"] += [one["route_config"] for one in _both(config, "route_configs")]
        case "EndpointsConfigDump":
            out["endpoints"] += [one["endpoint_config"] for one in _both(config, "endpoint_configs")]
        case "SecretsConfigDump":
            out["secrets"] += [
                {**one.get("secret", {"name": one["name"]}), "state": state}
                for state in ("active", "warming")
                for one in config.get(f"dynamic_{state}_secrets", [])
            ]
        case _:
            pass


def _both(config: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [*config.get(f"static_{name}", []), *config.get(f"dynamic_active_{name}", config.get(f"dynamic_{name}", []))]
