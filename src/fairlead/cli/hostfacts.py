"""Facts about hosts and what runs on them: asked of the control plane, read on this host, dialled.

What they mean says `fairlead.analyze.hostside`.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import msgspec

from fairlead import __version__
from fairlead.analyze import hostside
from fairlead.analyze.finding import Finding
from fairlead.analyze.hostside import (
    AgentFacts,
    Clock,
    EndpointFacts,
    Leaf,
    ProcessFacts,
    ProxyFacts,
    RefusalFacts,
    ReplicaFacts,
)
from fairlead.cli.client import PATIENCE, Client
from fairlead.model.diagnostic import Origin, Position
from fairlead.model.path import path_of
from fairlead.model.ref import Ref
from fairlead.node.capture.namespace import RUN_DIRECTORY
from fairlead.node.capture.plan import network_plan
from fairlead.node.files import NodeFiles, Record
from fairlead.node.hostprocess import identify

Json = dict[str, Any]
Now = Callable[[], float]
_ENTRIES, _PROCESSES = "networking.istio.io", "fairlead.dev"
_MOST_DIALLED = 200
_DIAL_SECONDS = 2.0
_MOST_CAPTURED = 50


def findings(client: Client, state: Path, block: str, now: Now = time.time) -> list[Finding]:
    """Everything that is to be said of hosts; of workloads on this host what only it can tell."""
    found: list[Finding] = []
    clocks, _ = ask_clocks(client, now)
    found += hostside.of_clocks(clocks)
    found += hostside.of_refusals(refusals(client))
    found += hostside.of_proxies(proxies(client), __version__)
    trust = client.request("GET", "/fairlead/v1/ca").document
    found += hostside.of_trust(lagging(trust))
    ailing = agents(client, {f"{one.name}.{one.namespace}" for one in records(state)})
    found += hostside.of_agents(ailing, now())
    unrenewed = {one.ref for one in ailing if one.certificate}
    found += hostside.of_endings([one for one in endings(trust) if one[0] not in unrenewed], now())
    found += hostside.of_processes(processes(client))
    found += hostside.of_endpoints(endpoints(client)[0])
    found += hostside.of_replicas(replicas(state, block, a_service(client)), now())
    return found


def workload(name: str) -> Ref:
    """The object of a proxy: its WorkloadEntry. `NAME.NAMESPACE`."""
    short, _, namespace = name.partition(".")
    return Ref(_ENTRIES, "WorkloadEntry", namespace, short)


def ask_clocks(client: Client, now: Now) -> tuple[list[Clock], Json]:
    """The clocks of this host and of workloads against the control plane's, and what it says of itself."""
    sent, begun = now(), time.monotonic()
    found: Json = client.request("GET", "/fairlead/v1/check").document
    took = time.monotonic() - begun
    own = Clock(Ref("", "Node", "", socket.gethostname()), sent + took / 2 - found["time"], took)
    told = client.request("GET", "/fairlead/v1/agents").document["clocks"]
    return [own, *(Clock(workload(one["proxy"]), one["seconds"]) for one in told)], found


def agents(client: Client, here: Collection[str] = ()) -> list[AgentFacts]:
    """What agents say is wrong; of what runs `here` (NAME.NAMESPACE), where rules and names are looked at, less."""
    return [
        AgentFacts(
            workload(one["proxy"]),
            one["certificate"],
            datetime.fromisoformat(one["ends"]).timestamp() if one["ends"] else 0.0,
            "" if one["proxy"] in here else one["capture"],
            "" if one["proxy"] in here else one["names"],
            one.get("files", ""),
        )
        for one in client.request("GET", "/fairlead/v1/agents").document["ailing"]
    ]


def proxies(client: Client) -> list[ProxyFacts]:
    """The connected proxies."""
    listed: list[Json] = client.request("GET", "/fairlead/v1/proxies?brief=true").document["proxies"]
    return [
        ProxyFacts(
            _proxied(one),
            one["agentVersion"],
            one["version"],
            0.0 if one["held"] else one["behindSeconds"] or 0.0,
        )
        for one in listed
    ]


def _proxied(one: Json) -> Ref:
    return workload(f"{one['name']}.{one['namespace']}")


def refusals(client: Client) -> list[RefusalFacts]:
    """What proxies refuse, and what is behind it."""
    return [
        RefusalFacts(
            f"{one['type']} {one['name']}",
            one["error"],
            tuple(map(workload, one["proxies"])),
            tuple(map(_origin, one["behind"])),
        )
        for one in client.request("GET", "/fairlead/v1/refusals", seconds=PATIENCE).document["refusals"]
    ]


def _origin(one: Json) -> Origin:
    file, line, column = (one.get("position") or "::").rsplit(":", 2)
    at = Position(file, int(line), int(column)) if line else None
    return Origin(Ref(**one["object"]), path_of(one["field"]), at)


def lagging(trust: Json) -> list[tuple[Ref, str]]:
    """Who trusts other roots than the mesh, while those are not being changed."""
    return [(workload(one["proxy"]), one["reason"]) for one in trust["strangers"]]


def endings(trust: Json) -> list[tuple[Ref, float]]:
    """When certificates end, the first ones."""
    return [(workload(one["proxy"]), datetime.fromisoformat(one["notAfter"]).timestamp()) for one in trust["endings"]]


def processes(client: Client) -> list[ProcessFacts]:
    """The Processes."""
    out: list[ProcessFacts] = []
    for one in client.request("GET", "/apis/fairlead.dev/v1alpha1/processes").document["items"]:
        status: Json = one.get("status") or {}
        meta: Json = one["metadata"]
        spec: Json = one.get("spec") or {}
        conditions: list[Json] = status.get("conditions") or []
        said = next((str(each.get("message", "")) for each in conditions if each["status"] != "True"), "")
        ref = Ref(_PROCESSES, "Process", meta["namespace"], meta["name"])
        ready, wanted = int(status.get("readyReplicas", 0)), int(spec.get("replicas", 1))
        out.append(ProcessFacts(ref, str(status.get("node", "")), ready, wanted, said))
    return out


def endpoints(client: Client) -> tuple[list[EndpointFacts], list[str], int]:
    """The endpoints that were dialled from here; which entries are not healthy, and how many entries there are."""
    listed: list[Json] = client.request("GET", "/apis/networking.istio.io/v1/workloadentries").document["items"]
    targets: list[EndpointFacts] = []
    unwell: list[str] = []
    for one in listed:
        spec: Json = one.get("spec") or {}
        meta: Json = one["metadata"]
        status: Json = one.get("status") or {}
        conditions: list[Json] = status.get("conditions") or []
        ports: dict[str, int] = spec.get("ports") or {}
        if any(each["type"] == "Healthy" and each["status"] != "True" for each in conditions):
            unwell.append(f"{meta['name']}.{meta['namespace']}")
        elif not spec.get("network") and _is_address(str(spec.get("address", ""))):
            ref = Ref(_ENTRIES, "WorkloadEntry", meta["namespace"], meta["name"])
            targets += [EndpointFacts(ref, spec["address"], port) for port in ports.values()]
    with ThreadPoolExecutor(32) as pool:
        return list(pool.map(_dialled, targets[:_MOST_DIALLED])), unwell, len(listed)


def _is_address(text: str) -> bool:
    try:
        socket.getaddrinfo(text, None, flags=socket.AI_NUMERICHOST)
    except OSError:
        return False
    return True


def _dialled(target: EndpointFacts) -> EndpointFacts:
    try:
        with socket.create_connection((target.address, target.port), _DIAL_SECONDS):
            return target
    except OSError as error:
        return msgspec.structs.replace(target, problem=error.strerror or "no answer")


def objects(client: Client, about: Collection[Ref]) -> dict[Ref, Json]:
    """Those of the objects that findings are about which are there."""
    from fairlead.compiler.registry import registry

    out: dict[Ref, Json] = {}
    for kind in registry().kinds:
        if any((one.group, one.kind) == (kind.group, kind.kind) for one in about):
            version = f"/apis/{kind.group}/{kind.versions[0]}" if kind.group else f"/api/{kind.versions[0]}"
            for one in client.request("GET", f"{version}/{kind.plural}").document["items"]:
                ref = kind.ref(one["metadata"].get("namespace", ""), one["metadata"]["name"])
                if ref in about:
                    out[ref] = one
    return out


def a_service(client: Client) -> str:
    """A name that every workload should resolve, "" if the mesh has no service."""
    listed: list[Json] = client.request("GET", "/api/v1/services?limit=1").document["items"]
    meta: Json = listed[0]["metadata"] if listed else {}
    return f"{meta['name']}.{meta['namespace']}.svc.cluster.local" if meta else ""


class _Seen(msgspec.Struct, frozen=True):
    """What `node.capture.inspect` prints."""

    digests: dict[str, str]
    hosts: dict[str, str]


def records(state: Path) -> list[Record]:
    """The replicas that a state directory's node has started, and that are to run."""
    if not (state / "node").is_dir():
        return []
    return [one for one in NodeFiles(state).records() if one.identity is not None and one.exited is None]


def replicas(state: Path, block: str, host: str) -> list[ReplicaFacts]:
    """The replicas of a state directory's node. `block`: as the node was told, "" for the usual one of their addresses.

    `host` is a name of the mesh, resolved inside of each.
    """
    listed = records(state)
    if not listed:
        return []
    files = NodeFiles(state)
    block = block or _usual_block(files, listed)
    right = [_expected(block, own_dns=own) for own in (False, True)] if any(one.netns for one in listed) else []
    roots = _roots(state)
    out: list[ReplicaFacts] = []
    for one in listed:
        ref = Ref(_PROCESSES, "Process", one.namespace, one.process)
        if one.identity is None or identify(one.identity.pid) != one.identity:
            out.append(ReplicaFacts(ref, running=False))
            continue
        captured = bool(one.netns) and any(right) and len(out) < _MOST_CAPTURED
        rules, names = _inside(one, right, host) if captured else ("", "")
        out.append(ReplicaFacts(ref, True, captured, _leaf(files, one, roots), rules, names))
    return out


def _usual_block(files: NodeFiles, listed: list[Record]) -> str:
    for one in listed:
        try:
            config: Json = msgspec.json.decode((files.directory(one.namespace, one.name) / "agent.json").read_bytes())
            return str(ip_network(f"{config['address']}/16", strict=False))
        except (OSError, ValueError, KeyError):
            continue
    return "127.66.0.0/16"


def _inside(one: Record, right: list[dict[str, str]], host: str) -> tuple[str, str]:
    if not (RUN_DIRECTORY / one.netns).exists():
        return f"there is no network namespace {one.netns}", ""
    seen = _inspect(one.netns, b"", host)
    if isinstance(seen, str):
        return seen, ""
    deaf = [f"{name}: {answer}" for name, answer in seen.hosts.items() if answer.startswith("error")]
    return "" if seen.digests in right else "they are not those that the node makes", ", ".join(deaf)


def _expected(block: str, *, own_dns: bool) -> dict[str, str]:
    seen = _inspect("", msgspec.json.encode(network_plan(block, own_dns)), "")
    return {} if isinstance(seen, str) else seen.digests


def _inspect(name: str, plan: bytes, host: str) -> _Seen | str:
    command = [sys.executable, "-m", "fairlead.node.capture.inspect", name, *([host] if host else [])]
    done = subprocess.run(command, input=plan, capture_output=True, check=False, timeout=60)
    if done.returncode:
        return done.stderr.decode(errors="replace").strip()[-200:]
    return msgspec.json.decode(done.stdout, type=_Seen)


def _roots(state: Path) -> list[Any]:
    """The mesh's authorities, where this host has them."""
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificates((state / "ca" / "root-cert.pem").read_bytes())
    except (OSError, ValueError):
        return []


def _leaf(files: NodeFiles, one: Record, roots: list[Any]) -> Leaf | None:
    from cryptography import x509

    from fairlead.agent.identity import IDENTITY_FILE

    try:
        raw = (files.directory(one.namespace, one.name) / IDENTITY_FILE).read_bytes()
        chain = x509.load_pem_x509_certificates(raw[raw.index(b"-----BEGIN CERTIFICATE") :])
    except (OSError, ValueError):
        return None
    begins, ends = chain[0].not_valid_before_utc.timestamp(), chain[0].not_valid_after_utc.timestamp()
    return Leaf(begins, ends, _signed(chain, roots) if roots else None)


def _signed(chain: list[Any], roots: list[Any]) -> bool:
    """Whether a chain leads from its first certificate to one of the roots."""
    from cryptography.exceptions import InvalidSignature

    at = chain[0]
    for issuer in (*chain[1:], *roots):
        if at.subject == at.issuer or at in roots:
            break
        try:
            at.verify_directly_issued_by(issuer)
        except (ValueError, TypeError, InvalidSignature):
            continue
        if issuer in roots:
            return True
        at = issuer
    return at in roots
