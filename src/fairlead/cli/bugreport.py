"""`fairlead bug-report`: everything that helps to find out what is wrong, in one file, without secrets."""

from __future__ import annotations

import io
import platform
import re
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from fairlead.cli.busy import counted
from fairlead.cli.connecting import connection
from fairlead.cli.printing import as_json, complain

if TYPE_CHECKING:
    from fairlead.cli.client import Client

Json = dict[str, Any]
_LOG_LINES = 2000
_MOST_PROXIES = 20
_HIDDEN = "(removed)"
_SECRET_FIELDS = re.compile(
    r"^(private_?key|password|passwd|token|secret|client_?secret|api_?key|authorization|cookie|inline_?string_?secret)$",
    re.IGNORECASE,
)
_PATTERNS = (
    re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL),
    re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)?"),
    re.compile(r"(?i)(?<=bearer )[A-Za-z0-9._~+/=-]{8,}"),
    re.compile(r"(?i)(?<=basic )[A-Za-z0-9+/=]{8,}"),
    re.compile(r"(?<=\"k\":\")[A-Za-z0-9_-]{8,}"),
    re.compile(r"(?<=://)[^/@\s:]+:[^/@\s]+(?=@)"),
)
_QUOTED = re.compile(
    r"(?i)((?:[\w-]*(?:password|passwd|secret|token|api[_-]?key))[\"']?\s*[=:]\s*[\"']?)([^\s\"',;&]{4,})"
)


@click.command("bug-report")
@click.option("-f", "--file", type=click.Path(dir_okay=False, path_type=Path), help="Default: fairlead-TIME.tar.gz.")
@click.option("--since", default="2h", show_default=True, metavar="DURATION", help="How much of the timeline.")
@click.option("--proxy", "proxies", multiple=True, metavar="NAME", help="Configuration of these only; may be repeated.")
@connection
def bug_report(
    file: Path | None, since: str, proxies: tuple[str, ...], kubeconfig: Path | None, state: Path | None
) -> None:
    """Collect versions, checks, objects, what proxies have, logs and what happened, in one tar.gz.

    Keys, tokens, passwords and the data of Secrets are removed; environments and arguments of Processes too. Look
    through it before you send it all the same: names and addresses of your services are in it. What cannot be had is
    listed in `errors.txt`, and does not keep the rest from being written.

    \b
    fairlead bug-report
    fairlead bug-report --proxy web-0.shop -f report.tar.gz

    Exit status: 0 written, 1 not, 2 wrong usage.
    """
    from fairlead.cli.history import ago

    begun = ago(since)
    made = file or Path(f"fairlead-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.tar.gz")
    errors: list[str] = []
    parts = _parts(kubeconfig, state, begun, proxies, errors)
    try:
        with tarfile.open(made, "w:gz") as archive:
            made.chmod(0o600)
            for name, text in counted(parts, "collecting part"):
                _add(archive, name, text)
            _add(archive, "errors.txt", "\n".join(errors) + "\n")
    except OSError as error:
        raise click.ClickException(f"{made} cannot be written: {error.strerror}") from None
    click.echo(f"{made} ({made.stat().st_size >> 10} KiB)")
    for one in errors[:5]:
        complain(f"left out: {one}", warning=True)


def _add(archive: tarfile.TarFile, name: str, text: str) -> None:
    data = text.encode()
    info = tarfile.TarInfo(f"fairlead/{name}")
    info.size, info.mtime, info.mode = len(data), int(time.time()), 0o600
    archive.addfile(info, io.BytesIO(data))


def _parts(
    kubeconfig: Path | None, state: Path | None, begun: float, proxies: tuple[str, ...], errors: list[str]
) -> Iterator[tuple[str, str]]:
    """Name and text of each file. What cannot be had goes to `errors`."""
    import msgspec

    from fairlead import __version__
    from fairlead.cli.check.command import findings
    from fairlead.cli.client import Client, ClientError, find_kubeconfig, read_kubeconfig
    from fairlead.controlplane.state import default_directory

    home = state or default_directory()
    yield (
        "version.json",
        as_json({"fairlead": __version__, "python": platform.python_version(), "os": platform.platform()}),
    )
    checked = msgspec.to_builtins(list(findings(kubeconfig, state, "127.66.0.0/16")))
    yield "check.json", as_json(without_secrets(checked))
    yield from _logs(home, errors)
    yield from _dumps(home, proxies, errors)
    try:
        client = Client(read_kubeconfig(find_kubeconfig(kubeconfig, state)))
    except ClientError as error:
        errors.append(str(error))
        return
    try:
        yield from _served(client, begun, errors)
    finally:
        client.close()


def _served(client: Client, begun: float, errors: list[str]) -> Iterator[tuple[str, str]]:
    """What the control plane tells."""
    from fairlead.cli.client import ClientError, Refused
    from fairlead.cli.resources import address
    from fairlead.compiler.registry import registry

    asked = {
        "proxy-status.json": "/fairlead/v1/proxies",
        "diagnostics.json": "/fairlead/v1/diagnostics",
        "certificates.json": "/fairlead/v1/ca",
        "memory.json": "/fairlead/v1/memory",
        "timeline.json": f"/fairlead/v1/timeline?since={begun}&limit=10000",
        "history.json": "/fairlead/v1/history?limit=200",
    }
    for name, path in asked.items():
        try:
            yield name, as_json(without_secrets(client.request("GET", path).document))
        except (ClientError, Refused) as error:
            errors.append(f"{name}: {error}")
    for kind in registry().kinds:
        name = f"objects/{kind.plural}.{kind.group or 'core'}.json"
        try:
            found: list[Json] = client.request("GET", address(kind, kind.versions[0], None)).document["items"]
        except (ClientError, Refused) as error:
            errors.append(f"{name}: {error}")
            continue
        if found:
            yield name, as_json([discreet(kind.kind, one) for one in found])


def _logs(home: Path, errors: list[str]) -> Iterator[tuple[str, str]]:
    from fairlead.node.logs import last_lines

    for log in sorted((home / "node").glob("*/*/*.log")):
        try:
            text = b"".join(last_lines(log, _LOG_LINES)).decode(errors="replace")
        except OSError as error:
            errors.append(f"{log}: {error.strerror}")
            continue
        if text:
            yield f"logs/{log.parent.parent.name}/{log.parent.name}/{log.name}", cleaned(text)


def _dumps(home: Path, proxies: tuple[str, ...], errors: list[str]) -> Iterator[tuple[str, str]]:
    """What the Envoys of this host run, and their counters."""
    from fairlead.cli import envoyadmin

    found = sorted((home / "node").glob("*/*/admin.sock"))
    chosen = [one.parent for one in found if not proxies or _is_named(one.parent, proxies)]
    for missing in [one for one in proxies if not any(_is_named(each.parent, (one,)) for each in found)]:
        errors.append(f"{missing} is not on this host")
    if len(chosen) > _MOST_PROXIES and not proxies:
        errors.append(f"configuration of {len(chosen) - _MOST_PROXIES} proxies: name them with --proxy")
        chosen = chosen[:_MOST_PROXIES]
    for directory in chosen:
        name = f"proxies/{directory.parent.name}/{directory.name}.json"
        parts: dict[str, Callable[[], Any]] = {
            "configuration": lambda directory=directory: envoyadmin.dump(directory),
            "server": lambda directory=directory: envoyadmin.get(directory, "/server_info"),
        }
        out: Json = {}
        for part, ask in parts.items():
            try:
                out[part] = without_secrets(ask())
            except click.ClickException as error:
                errors.append(f"{name}: {error.message}")
        if out:
            yield name, as_json(out)


def _is_named(directory: Path, proxies: tuple[str, ...]) -> bool:
    return bool({directory.name, f"{directory.name}.{directory.parent.name}"} & {*proxies})


def discreet(kind: str, document: Json) -> Json:
    """An object without what is nobody's business: data of Secrets, what Processes are given to run with."""
    out = {**document, "metadata": {key: one for key, one in document["metadata"].items() if key != "managedFields"}}
    notes: Json = dict(out["metadata"].get("annotations") or {})
    if notes.pop("kubectl.kubernetes.io/last-applied-configuration", None):
        out["metadata"]["annotations"] = notes
    if kind == "Secret":
        for field in ("data", "stringData"):
            if field in out:
                out[field] = dict.fromkeys(out[field], _HIDDEN)
    if kind in ("Process", "WasmPlugin", "TrafficExtension") and isinstance(out.get("spec"), dict):
        out["spec"] = _unconfigured(out["spec"])
    return without_secrets(out)


_GIVEN = ("env", "environment", "args", "command", "vmConfig", "pluginConfig")


def _unconfigured(spec: Json) -> Json:
    """Without environments, arguments and configurations: people put passwords there."""
    return {key: _HIDDEN if key in _GIVEN and value else value for key, value in spec.items()}


def without_secrets(value: Any, field: str = "") -> Any:
    """The same data without keys, tokens and passwords, by the names of fields and by what texts look like."""
    if isinstance(value, dict):
        given = cast("Json", value)
        out = {key: without_secrets(one, key) for key, one in given.items()}
        if _SECRET_FIELDS.match(str(given.get("name") or given.get("key") or "")) and isinstance(
            given.get("value"), str
        ):
            out["value"] = _HIDDEN
        return out
    if isinstance(value, list):
        return [without_secrets(one, field) for one in cast("list[Any]", value)]
    if isinstance(value, str):
        return _HIDDEN if value and _SECRET_FIELDS.match(field) else cleaned(value)
    if _SECRET_FIELDS.match(field) and value is not None and not isinstance(value, bool):
        return _HIDDEN
    return value


def cleaned(text: str) -> str:
    """A text without what looks like a key, token or password."""
    for pattern in _PATTERNS:
        text = pattern.sub(_HIDDEN, text)
    return _QUOTED.sub(rf"\g<1>{_HIDDEN}", text)
