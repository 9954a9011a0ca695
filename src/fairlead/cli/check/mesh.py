"""The mesh that runs: control plane, store, certificates, proxies, endpoints, as the API tells."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

from fairlead import __version__
from fairlead.cli.check.finding import Category, Finding, named
from fairlead.cli.client import Client, ClientError, Refused

Json = dict[str, Any]
_SLOW = 1.0
_SKEW = 5.0
_LEAST_DISK = 1 << 30
_SHORT, _SOON = 0.2, 0.34
"""Shares of a certificate's life: below the first it should have been renewed, below the second it is time."""
_MOST_DIALLED = 200
_DIAL_SECONDS = 2.0
_BEHIND_SECONDS = 30.0


def reached(client: Client) -> tuple[list[Finding], Json | None]:
    """Whether the control plane answers, and what it says of itself; None if it does not."""
    made = Category("control plane")
    begun, sent = time.monotonic(), time.time()
    try:
        found: Json = client.request("GET", "/fairlead/v1/check").document
    except (ClientError, Refused) as error:
        hint = "Start it with `fairlead up` or `fairlead serve`, or point --state or --kubeconfig at it."
        return [made.fail("answers", str(error), hint)], None
    took = time.monotonic() - begun
    out = [
        made.well("answers", f"in {took * 1000:.0f} ms")
        if took < _SLOW
        else made.warn("answers", f"in {took:.1f} s", "Look where its time goes: `fairlead debug profile`.")
    ]
    if found["version"] == __version__:
        out.append(made.well("version", f"{found['version']}, as this command's"))
    else:
        said = f"{found['version']}, this command is {__version__}"
        out.append(made.warn("version", said, "Use the same version of both."))
    skew = found["time"] - (sent + took / 2)
    if abs(skew) < _SKEW + took:
        out.append(made.well("clock", f"{abs(skew):.1f} s from this host's"))
    else:
        said = f"{abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} this host's"
        out.append(made.fail("clock", said, "Set both clocks (NTP): certificates are judged by them."))
    return out, found


def stored(found: Json) -> Iterator[Finding]:
    """The store, and whether all of it is compiled."""
    made = Category("store")
    if found["integrity"] == "ok":
        yield made.well("integrity", f"{found['objects']} objects at revision {found['revision']}")
    else:
        yield made.fail("integrity", found["integrity"], "Stop the control plane and restore store.db from a copy.")
    free = f"{found['diskFree'] >> 20} MiB free, the store has {found['storeBytes'] >> 20} MiB"
    if found["diskFree"] < _LEAST_DISK:
        yield made.warn("disk space", free, "Make room: with a full disk nothing can be written.")
    else:
        yield made.well("disk space", free)
    late = found["revision"] - found["compiled"]
    if late <= 0:
        yield made.well("compiled", f"revision {found['compiled']}")
    else:
        hint = "Wait a second and look again; if it stays so, see `fairlead debug profile`."
        yield made.warn("compiled", f"{late} revisions behind", hint)
    if found["invalid"]:
        hint = "Write them anew as this version reads them: `fairlead get ... -o yaml`, then apply."
        yield made.warn("objects are valid", named(found["invalid"]), hint)
    else:
        yield made.well("objects are valid")
    if found["findings"]:
        said = f"{found['findings']} findings"
        yield made.warn("findings", said, "Read them: `fairlead analyze`.")
    else:
        yield made.well("findings", "none")


def certified(client: Client) -> Iterator[Finding]:
    """What ends when."""
    made = Category("certificates")
    found: Json = client.request("GET", "/fairlead/v1/ca").document
    for one in found["certificates"]:
        said = f"{one['name']}, until {one['notAfter']}"
        if one["left"] <= 0:
            yield made.fail(one["role"], f"{said}: it has ended", "Replace it: `fairlead ca rotate run`.")
        elif one["left"] < _SHORT:
            yield made.warn(one["role"], said, "Replace it before it ends: `fairlead ca rotate run`.")
        else:
            yield made.well(one["role"], said)
    if found["server"]:
        left = _until(found["server"])
        if left <= 0:
            yield made.fail("server", f"ended {found['server']}", "Restart the control plane, and read its log.")
        else:
            yield made.well("server", f"until {found['server']}")
    ended = [one["proxy"] for one in found["endings"] if _until(one["notAfter"]) <= 3600]
    if ended:
        said = f"{named(ended)} within an hour"
        hint = "They should have renewed at half of the life: read `fairlead logs NAME --proxy` for why not."
        yield made.warn("workloads", said, hint)
    else:
        first = f"the next of {found['proxies']} ends {found['endings'][0]['notAfter']}" if found["endings"] else "none"
        yield made.well("workloads", first)
    if found["lagging"] and found["phase"] != "stable":
        said = f"phase {found['phase']}, {len(found['lagging'])} proxies lag"
        yield made.warn("rotation", said, "`fairlead ca status` names them.")
    else:
        yield made.well("rotation", found["phase"])


def _until(text: str) -> float:
    return (datetime.fromisoformat(text) - datetime.now(UTC)).total_seconds()


def proxies(client: Client) -> Iterator[Finding]:
    """Connected, in sync, of the control plane's version."""
    made = Category("proxies")
    found: Json = client.request("GET", "/fairlead/v1/proxies?brief=true").document
    listed: list[Json] = found["proxies"]
    if not listed:
        yield made.skip("connected", "none")
        return
    yield made.well("connected", str(found["total"]))
    late = [one for one in listed if (one["behindSeconds"] or 0) > _BEHIND_SECONDS and not one["held"]]
    if late:
        worst = max(one["behindSeconds"] for one in late)
        said = f"{named(_name(one) for one in late)} behind for up to {worst:.0f} s"
        yield made.warn("in sync", said, "`fairlead proxy-status --slow` says what they wait for.")
    else:
        yield made.well("in sync", f"{found['behind']} on the way" if found["behind"] else "all")
    refused = [one for one in listed if any(each["state"] == "NACKED" for each in one["types"].values())]
    if refused:
        said = named(_name(one) for one in refused)
        yield made.fail("accept what they are sent", said, "`fairlead proxy-status NAME` has Envoy's reason.")
    else:
        yield made.well("accept what they are sent")
    other = [one for one in listed if one["agentVersion"] and one["agentVersion"] != __version__]
    if other:
        said = f"{named(_name(one) for one in other)}: {other[0]['agentVersion']}"
        yield made.warn("version", said, "Start these workloads anew: their agents are of another version.")
    else:
        yield made.well("version", "as the control plane's")
    held = [one for one in listed if one["held"]]
    if held:
        said = f"{named(_name(one) for one in held)}: {held[0]['held']}"
        yield made.warn("nothing is held", said, "If it was meant: `fairlead proxy-status --release`.")
    else:
        yield made.well("nothing is held")


def _name(one: Json) -> str:
    return f"{one['name']}.{one['namespace']}"


def processes(client: Client) -> Iterator[Finding]:
    """Whether nodes run what they should."""
    made = Category("processes")
    listed: list[Json] = client.request("GET", "/apis/fairlead.dev/v1alpha1/processes").document["items"]
    if not listed:
        yield made.skip("running", "there are no Processes")
        return
    nobody: list[str] = []
    short: list[str] = []
    for one in listed:
        status: Json = one.get("status") or {}
        spec: Json = one.get("spec") or {}
        name = f"{one['metadata']['name']}.{one['metadata']['namespace']}"
        wanted = spec.get("replicas", 1)
        if not status.get("node"):
            nobody.append(name)
        elif status.get("readyReplicas", 0) < wanted:
            short.append(f"{name} {status.get('readyReplicas', 0)}/{wanted}")
    if nobody:
        yield made.fail("have a node", named(nobody), "Start `fairlead node` on their host (`fairlead up` has one).")
    else:
        nodes = sorted({one["status"]["node"] for one in listed})
        yield made.well("have a node", named(nodes))
    if short:
        yield made.fail("ready", named(short), "`fairlead describe process/NAME` and `fairlead logs NAME` say why.")
    else:
        yield made.well("ready", f"all of {len(listed)}")


def endpoints(client: Client) -> Iterator[Finding]:
    """Whether the addresses of workloads can be reached from here."""
    made = Category("endpoints")
    listed: list[Json] = client.request("GET", "/apis/networking.istio.io/v1/workloadentries").document["items"]
    targets: list[tuple[str, str, int]] = []
    unwell: list[str] = []
    for one in listed:
        spec: Json = one.get("spec") or {}
        name = f"{one['metadata']['name']}.{one['metadata']['namespace']}"
        status: Json = one.get("status") or {}
        conditions: list[Json] = status.get("conditions") or []
        if any(each["type"] == "Healthy" and each["status"] != "True" for each in conditions):
            unwell.append(name)
        elif not spec.get("network") and _is_address(str(spec.get("address", ""))):
            numbers: dict[str, int] = spec.get("ports") or {}
            targets += [(name, spec["address"], port) for port in numbers.values()]
    if unwell:
        yield made.warn("healthy", named(unwell), "`fairlead changed --kind health` says since when and why.")
    else:
        yield made.well("healthy", f"all of {len(listed)}")
    if not targets:
        yield made.skip("reachable", "no endpoint has an address and a port")
        return
    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(_dial, targets[:_MOST_DIALLED]))
    wrong = [one for one in answers if one]
    if wrong:
        hint = "Look there whether the application listens; from elsewhere a firewall may be between."
        yield made.warn("reachable", f"{len(wrong)} of {len(answers)}: {named(wrong)}", hint)
    else:
        yield made.well("reachable", f"{len(answers)} by TCP from this host")


def _is_address(text: str) -> bool:
    try:
        socket.getaddrinfo(text, None, flags=socket.AI_NUMERICHOST)
    except OSError:
        return False
    return True


def _dial(target: tuple[str, str, int]) -> str:
    name, address, port = target
    try:
        with socket.create_connection((address, port), _DIAL_SECONDS):
            return ""
    except OSError as error:
        return f"{name} at {address}:{port} ({error.strerror or 'no answer'})"
