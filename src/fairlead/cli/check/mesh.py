"""The mesh that runs: control plane, store, certificates, proxies, endpoints, as the API tells."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from fairlead import __version__
from fairlead.analyze import hostside
from fairlead.cli import hostfacts
from fairlead.cli.check.finding import Category, Finding, named
from fairlead.cli.client import Client, ClientError, Refused

Json = dict[str, Any]
_SLOW = 1.0
_LEAST_DISK = 1 << 30
_SHORT, _SOON = 0.2, 0.34
"""Shares of a certificate's life: below the first it should have been renewed, below the second it is time."""


def reached(client: Client, now: Callable[[], float] = time.time) -> tuple[list[Finding], Json | None]:
    """Whether the control plane answers, and what it says of itself; None if it does not."""
    made = Category("control plane")
    begun = time.monotonic()
    try:
        clocks, found = hostfacts.ask_clocks(client, now)
    except Refused as error:
        return [made.fail("answers", str(error), "Name the right kubeconfig: --kubeconfig or --state.")], None
    except ClientError as error:
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
    said = list(hostside.of_clocks(clocks))
    out.append(made.judged("clock", said, ["FL3734"], f"{abs(clocks[0].skew):.1f} s from this host's"))
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
    first = f"the next of {found['proxies']} ends {found['endings'][0]['notAfter']}" if found["endings"] else "none"
    ailing = hostfacts.agents(client)
    unrenewed = {one.ref for one in ailing if one.certificate}
    ends = [one for one in hostfacts.endings(found) if one[0] not in unrenewed]
    ending = [*hostside.of_agents(ailing, time.time()), *hostside.of_endings(ends, time.time())]
    yield made.judged("workloads", ending, ["FL3735", "FL3736"], first)
    yield made.judged("trust", list(hostside.of_trust(hostfacts.lagging(found))), ["FL3737"], "the mesh's roots")
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
    said = list(hostside.of_proxies(hostfacts.proxies(client), __version__))
    said += hostside.of_refusals(hostfacts.refusals(client)) if found["refused"] else ()
    yield made.judged("in sync", said, ["FL3732"], f"{found['behind']} on the way" if found["behind"] else "all")
    yield made.judged("listen", said, ["FL3730"], "")
    yield made.judged("accept what they are sent", said, ["FL3731"], "")
    yield made.judged("version", said, ["FL3733"], "as the control plane's")
    ailing = list(hostside.of_agents(hostfacts.agents(client), time.time()))
    yield made.judged("calls reach them", ailing, ["FL3738"], "as far as agents say")
    yield made.judged("names resolve", ailing, ["FL3739"], "as far as agents say")
    held = [one for one in listed if one["held"]]
    if held:
        names = f"{named(_name(one) for one in held)}: {held[0]['held']}"
        yield made.warn("nothing is held", names, "If it was meant: `fairlead proxy-status --release`.")
    else:
        yield made.well("nothing is held")


def _name(one: Json) -> str:
    return f"{one['name']}.{one['namespace']}"


def processes(client: Client) -> Iterator[Finding]:
    """Whether nodes run what they should."""
    made = Category("processes")
    listed = hostfacts.processes(client)
    if not listed:
        yield made.skip("running", "there are no Processes")
        return
    said = list(hostside.of_processes(listed))
    yield made.judged("have a node", said, ["FL3743"], named(sorted({one.node for one in listed})))
    yield made.judged("ready", said, ["FL3742"], f"all of {len(listed)}")


def endpoints(client: Client) -> Iterator[Finding]:
    """Whether the addresses of workloads can be reached from here."""
    made = Category("endpoints")
    dialled, unwell, count = hostfacts.endpoints(client)
    if unwell:
        yield made.warn("healthy", named(unwell), "`fairlead changed --kind health` says since when and why.")
    else:
        yield made.well("healthy", f"all of {count}")
    if not dialled:
        yield made.skip("reachable", "no endpoint has an address and a port")
        return
    said = list(hostside.of_endpoints(dialled))
    yield made.judged("reachable", said, ["FL3740"], f"{len(dialled)} by TCP from this host")
