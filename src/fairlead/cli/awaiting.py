"""`fairlead apply --wait`: until proxies have what was applied, or one refuses it; or else which ones lack it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fairlead.cli.printing import complain
from fairlead.cli.proxystatus import waits_for

if TYPE_CHECKING:
    from fairlead.cli.client import Client
    from fairlead.cli.manifests import Entry

Json = dict[str, Any]
_PAUSE = 0.2
_MOST = 5
_SAYING = ("networking.istio.io", "security.istio.io", "telemetry.istio.io", "extensions.istio.io")
_SILENT = ("WorkloadEntry", "WorkloadGroup", "ProxyConfig")
"""Of these groups the kinds without the condition Programmed."""


def everywhere(client: Client, applied: Sequence[tuple[Entry, Json]], seconds: float) -> bool:
    """Wait for so long until all proxies have acknowledged these objects; says what is wrong if they have not."""
    end = time.monotonic() + seconds
    left = list(applied)
    while True:
        proxies: Json = client.request("GET", "/fairlead/v1/proxies?limit=1&brief=true").document
        states = [(one, _state(client, one[0], one[1], proxies)) for one in left]
        refused = [(entry, said) for (entry, _), said in states if said]
        for entry, said in refused:
            complain(f"error: {_named(entry)}: {said}; `fairlead proxy-status` names the field")
        left = [one for one, said in states if said is None]
        if refused or not left:
            return not refused
        if time.monotonic() >= end:
            _late(client, left, seconds)
            return False
        time.sleep(_PAUSE)


def _state(client: Client, entry: Entry, document: Json, proxies: Json) -> str | None:
    """Why proxies refuse an object, "" if all have it, None if that is not known yet."""
    from fairlead.cli.resources import address

    meta: Json = document["metadata"]
    if entry.kind.group not in _SAYING or entry.kind.kind in _SILENT:
        taken = proxies["revision"] >= int(meta["resourceVersion"]) and not proxies["behind"]
        return "" if taken else None
    path = address(entry.kind, entry.version, entry.ref.namespace, entry.ref.name)
    status: Json = client.request("GET", path).document.get("status") or {}
    listed: list[Json] = status.get("conditions") or []
    said = next((one for one in listed if one["type"] == "Programmed"), None)
    if said is None or said.get("observedGeneration") != meta.get("generation"):
        return None
    return "" if said["status"] == "True" else str(said.get("message") or said.get("reason"))


def _late(client: Client, left: Sequence[tuple[Entry, Json]], seconds: float) -> None:
    for entry, _ in left[:_MOST]:
        complain(f"error: {_named(entry)} is applied, and not everywhere after {seconds:g}s")
    slow: list[Json] = client.request("GET", f"/fairlead/v1/proxies?slow=true&limit={_MOST}").document["proxies"]
    for one in slow:
        name, behind = f"{one['name']}.{one['namespace']}", one["behindSeconds"] or 0.0
        complain(f"  {name} has been behind for {behind:.1f} s, with {waits_for(one)}")
    if slow:
        complain("  `fairlead proxy-status --slow` lists all of them")


def _named(entry: Entry) -> str:
    where = f"{entry.ref.namespace}/{entry.ref.name}" if entry.ref.namespace else entry.ref.name
    return f"{entry.ref.kind} {where}"
