"""`fairlead proxy-status`: whether each proxy has what it should have."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import click

from fairlead.cli.printing import complain, print_table, show
from fairlead.model.names import meant
from fairlead.model.nodeid import called

if TYPE_CHECKING:
    from fairlead.cli.client import Client

_TYPES = ("CDS", "LDS", "EDS", "RDS", "SDS")
_PAGE = 500
_COMPLAINTS = 20
_STYLES = {"SYNCED": "green", "STALE": "yellow", "NACKED": "bold red", "NOT SENT": "dim"}


@click.command("proxy-status")
@click.argument("proxy", required=False)
@click.option("--state", type=click.Path(file_okay=False, path_type=Path), help="The state directory.")
@click.option("--kubeconfig", type=click.Path(path_type=Path), help="Default: $KUBECONFIG, then STATE/kubeconfig.")
@click.option("-n", "--namespace", default="", help="Only proxies of this namespace.")
@click.option("--slow", is_flag=True, help="Only proxies that lack something, the one that has waited longest first.")
@click.option("--limit", type=click.IntRange(0), default=200, show_default=True, help="Rows of the table; 0: all.")
@click.option("--release", is_flag=True, help="Send what is held back (see below), to PROXY and its like or to all.")
@click.option("-o", "--output", type=click.Choice(["json", "yaml"]), help="Print data of all, not a table.")
def proxy_status(
    proxy: str | None,
    state: Path | None,
    kubeconfig: Path | None,
    namespace: str,
    slow: bool,
    limit: int,
    release: bool,
    output: str | None,
) -> None:
    """Show how far each proxy has acknowledged its configuration, or of one PROXY what is behind and why.

    A push that would take away more than half of a proxy's clusters or endpoints, and more than ten, is held: the
    proxy goes on with what it has until enough comes back or until it is released. Deleting a whole namespace is held
    like this too, where a proxy uses little else: release it if it was meant.

    BEHIND is the age of the oldest change that a proxy has not acknowledged, LAST (with --slow) how long it took the
    last time.

    \b
    fairlead proxy-status
    fairlead proxy-status web-0.shop
    fairlead proxy-status --slow
    fairlead proxy-status --release

    Below the table stands what proxies refuse, with Envoy's reason and the fields behind it, and what agents say is
    wrong: a certificate that cannot be renewed, capture that does not work.

    Exit status: 0 if every proxy is in sync, 1 if one has refused something, if a push is held, if an agent says that
    something is wrong, or if there is no such proxy.
    """
    from fairlead.cli.connecting import connected

    if slow and (proxy or release):
        raise click.UsageError("--slow is about all proxies: it goes with neither PROXY nor --release")
    with connected(kubeconfig, state) as client:
        if release:
            _release(client, proxy)
            return
        asked = {"name": proxy or "", "namespace": namespace, "slow": "true" if slow else ""}
        # Data are of all, and in full; a table is of as many as somebody may want to read.
        whole = bool(proxy or output)
        found, counts = _listed(client, {**asked, "brief": "" if whole else "true"}, 0 if whole else limit)
        if proxy is not None and not found:
            listed = client.request("GET", "/fairlead/v1/names?of=proxies").document
            near = meant(proxy, (name for name, _ in listed))
            hint = near or "; `fairlead proxy-status` lists those that are"
            raise click.ClickException(f"no proxy {proxy!r} is connected{hint}")
        held = found
        if not whole:
            query = {**asked, "slow": "", "state": "held", "brief": "true"}
            held = _listed(client, query, _COMPLAINTS)[0] if counts["held"] else []
        ailing = _ailing(client, namespace, found if proxy is not None else None)
        refusals = _refusals(client, namespace, found if proxy is not None else None) if counts["refused"] else []
    _join(found, refusals)
    if output:
        show(found, output)
    elif proxy is not None:
        _one(found[0])
    elif slow:
        _slow(found, counts)
    else:
        _table(found, counts)
    _complaints(held, refusals, ailing)


def _release(client: Client, proxy: str | None) -> None:
    query = f"?{urlencode({'proxy': proxy})}" if proxy else ""
    sent: list[str] = client.request("POST", f"/fairlead/v1/release{query}").document["released"]
    for node in sent:
        click.echo(f"released: {called(node)}")
    if not sent:
        click.echo("nothing is held" + (f" for {proxy}" if proxy else ""))


def _listed(client: Client, asked: dict[str, str], limit: int) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Proxies, page by page: the control plane goes on with its work between two pages. And counts over all."""
    found: list[dict[str, Any]] = []
    after = ""
    while True:
        size = min(_PAGE, limit - len(found)) if limit else _PAGE
        wanted = {key: value for key, value in {**asked, "continue": after}.items() if value}
        answer = client.request("GET", f"/fairlead/v1/proxies?{urlencode({**wanted, 'limit': size})}").document
        found += answer["proxies"]
        after = answer["continue"]
        if not after or (limit and len(found) >= limit):
            return found, {key: answer[key] for key in ("total", "behind", "refused", "held")}


def _table(found: list[dict[str, Any]], counts: dict[str, int]) -> None:
    print_table(
        ("NAME", "TYPE", *_TYPES, "BEHIND", "IDENTITY", "CONNECTED"),
        [
            (
                _called(one),
                one["type"],
                *(one["types"][name]["state"] for name in _TYPES),
                _precise(one["behindSeconds"]) or "-",
                one["identity"].removeprefix("spiffe://"),
                _age(one["connectedSeconds"]),
            )
            for one in found
        ],
        styles=_STYLES,
    )
    if len(found) < counts["total"]:
        said = f"{len(found)} of {counts['total']} proxies; {counts['behind']} are behind"
        click.echo(f"{said}: --slow shows those, -n those of a namespace, --limit 0 all", err=True)


def _slow(found: list[dict[str, Any]], counts: dict[str, int]) -> None:
    if not found:
        click.echo(f"none of {counts['total']} proxies waits for anything")
        return
    rows = [
        (
            _called(one),
            _precise(one["behindSeconds"]),
            _precise(one["lastSeconds"]),
            waits_for(one),
        )
        for one in found
    ]
    print_table(("NAME", "BEHIND", "LAST", "WAITS FOR"), rows, blank="-")
    if len(found) < counts["behind"]:
        click.echo(f"{len(found)} of {counts['behind']} that are behind; --limit 0 shows all", err=True)


def waits_for(one: dict[str, Any]) -> str:
    """What is due or unanswered: how many of each type, and a name."""
    if one["held"]:
        return "release of a push that is held"
    said: list[str] = []
    for title in _TYPES:
        types = one["types"][title]
        waiting = types.get("behindCount", 0)
        if waiting:
            more = f" and {waiting - 1} more" if waiting > 1 else ""
            said.append(f"{title} {types['behind'][0]['name']}{more}")
    return "; ".join(said) or "its answer"


def _precise(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds * 1000:.0f}ms" if seconds < 1 else f"{seconds:.1f}s" if seconds < 60 else _age(seconds)


def _refusals(client: Client, namespace: str, of: list[dict[str, Any]] | None) -> list[dict[str, Any]]:
    """What is refused, what is behind it, and by whom: by proxies of a namespace, or by these alone."""
    from fairlead.cli.client import PATIENCE

    found: list[dict[str, Any]] = client.request("GET", "/fairlead/v1/refusals", seconds=PATIENCE).document["refusals"]
    wanted = None if of is None else {_called(one) for one in of}
    out: list[dict[str, Any]] = []
    for one in found:
        names = [
            name
            for name in one["proxies"]
            if (not namespace or name.endswith(f".{namespace}")) and (wanted is None or name in wanted)
        ]
        if names:
            out.append({**one, "proxies": names})
    return out


def _ailing(client: Client, namespace: str, of: list[dict[str, Any]] | None) -> list[str]:
    """What agents say is wrong with their hosts and workloads."""
    import time

    from fairlead.analyze import hostside
    from fairlead.cli import hostfacts

    found = [
        one
        for one in hostfacts.agents(client)
        if one.ref.namespace == (namespace or one.ref.namespace)
        and (of is None or any((each["namespace"], each["name"]) == (one.ref.namespace, one.ref.name) for each in of))
    ]
    return [f"{one.message} [{one.code}]" for one in hostside.of_agents(found, time.time())]


def _called(one: dict[str, Any]) -> str:
    return f"{one['name']}.{one['namespace']}"


def _join(found: list[dict[str, Any]], refusals: list[dict[str, Any]]) -> None:
    """Put what is behind a refusal to the resource, for whoever asks for data."""
    known = {(each["type"], each["name"], name): each["behind"] for each in refusals for name in each["proxies"]}
    for one in found:
        for title in _TYPES:
            for entry in one["types"][title].get("behind", []):
                behind = known.get((title, entry["name"], _called(one)))
                if entry["error"] and behind:
                    entry["because"] = behind


def _complaints(held: list[dict[str, Any]], refusals: list[dict[str, Any]], ailing: list[str]) -> None:
    """Say what is wrong, and end with 1 if anything is."""
    held = [one for one in held if one["held"]]
    for one in held:
        complain(f"{_called(one)} is held back: {one['held']}; `fairlead proxy-status --release` sends it")
    for one in refusals[:_COMPLAINTS]:
        names = one["proxies"]
        who = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
        complain(f"{who} refused {one['type']} {one['name']}: {one['error']}")
        for at in one["behind"]:
            complain(f"  because of {_named(at)}")
    if len(refusals) > _COMPLAINTS:
        complain(f"and {len(refusals) - _COMPLAINTS} more are refused; `fairlead proxy-status -o json` has all")
    for said in ailing[:_COMPLAINTS]:
        complain(said)
    if held or refusals or ailing:
        sys.exit(1)


def _named(at: dict[str, Any]) -> str:
    ref = at["object"]
    where = f"{ref['namespace']}/{ref['name']}" if ref["namespace"] else ref["name"]
    place = f"  {at['position']}" if at.get("position") else ""
    return f"{ref['kind']} {where} {at['field']}".rstrip() + place


def _one(found: dict[str, Any]) -> None:
    rows: list[tuple[object, ...]] = []
    for name in _TYPES:
        said = found["types"][name]
        rows.append((name, said["state"], said.get("resources", 0), said.get("sent", 0), said.get("acked", 0), ""))
        rows += [("", "", "", "", "", f"{one['name']} {one['error']}".strip()) for one in said.get("behind", [])]
    print_table(("TYPE", "STATE", "RESOURCES", "SENT", "ACKED", "BEHIND"), rows, styles=_STYLES, blank="")


def _age(seconds: float) -> str:
    whole = int(seconds)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if whole >= size:
            return f"{whole // size}{unit}"
    return f"{whole}s"
