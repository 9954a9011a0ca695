"""What runs on this host: agents, their certificates, capture rules, and names inside of workloads."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from fairlead.cli.check.finding import Category, Finding, named
from fairlead.node.capture.namespace import RUN_DIRECTORY
from fairlead.node.capture.plan import network_plan
from fairlead.node.files import NodeFiles, Record
from fairlead.node.hostprocess import identify

_MOST = 50


class _Seen(msgspec.Struct, frozen=True):
    """What `node.capture.inspect` prints."""

    digests: dict[str, str]
    hosts: dict[str, str]


def here(state: Path, block: str, host: str) -> Iterator[Finding]:
    """The replicas of a state directory's node. `host` is a name of the mesh, resolved inside of each."""
    made = Category("workloads here")
    if not (state / "node").is_dir():
        yield made.skip("agents", f"no node has run with {state}")
        return
    files = NodeFiles(state)
    records = [one for one in files.records() if one.identity is not None and one.exited is None]
    gone = [_name(one) for one in records if one.identity is not None and identify(one.identity.pid) != one.identity]
    if gone:
        hint = "A running node starts them again: is `fairlead node` (or `up`) running on this host?"
        yield made.fail("agents run", named(gone), hint)
    elif records:
        yield made.well("agents run", str(len(records)))
    else:
        yield made.skip("agents run", "none")
        return
    live = [one for one in records if _name(one) not in gone]
    yield _certificates(made, files, live)
    yield from _captured(made, [one for one in live if one.netns][:_MOST], block, host)


def _name(one: Record) -> str:
    return f"{one.name}.{one.namespace}"


def _certificates(made: Category, files: NodeFiles, live: list[Record]) -> Finding:
    from cryptography import x509

    from fairlead.agent.identity import IDENTITY_FILE

    ended: list[str] = []
    late: list[str] = []
    now = datetime.now(UTC)
    for one in live:
        try:
            raw = (files.directory(one.namespace, one.name) / IDENTITY_FILE).read_bytes()
            leaf = x509.load_pem_x509_certificates(raw[raw.index(b"-----BEGIN CERTIFICATE") :])[0]
        except (OSError, ValueError):
            ended.append(f"{_name(one)} (none)")
            continue
        life = leaf.not_valid_after_utc - leaf.not_valid_before_utc
        left = leaf.not_valid_after_utc - now
        if leaf.not_valid_before_utc > now:
            ended.append(f"{_name(one)} (not valid before {leaf.not_valid_before_utc:%H:%M:%SZ}: is this clock late?)")
        elif left.total_seconds() <= 0:
            ended.append(_name(one))
        elif left < life / 3:
            late.append(_name(one))
    if ended:
        return made.fail("certificates", f"not valid: {named(ended)}", "Read `fairlead logs NAME --proxy` for why.")
    if late:
        hint = "They renew at half of the life: read `fairlead logs NAME --proxy` for why not."
        return made.warn("certificates", f"less than a third of the life is left: {named(late)}", hint)
    return made.well("certificates", f"{len(live)} valid")


def _captured(made: Category, live: list[Record], block: str, host: str) -> Iterator[Finding]:
    if not live:
        yield made.skip("capture rules", "no workload here has a network namespace")
        return
    right = [_expected(block, own_dns=own) for own in (False, True)]
    if not any(right):
        yield made.skip("capture rules", "it needs root")
        return
    other: list[str] = []
    deaf: list[str] = []
    for one in live:
        if not (RUN_DIRECTORY / one.netns).exists():
            other.append(f"{_name(one)} (no namespace {one.netns})")
            continue
        seen = _inspect(one.netns, b"", host)
        if isinstance(seen, str):
            other.append(f"{_name(one)} ({seen})")
            continue
        if seen.digests not in right:
            other.append(_name(one))
        deaf += [f"{_name(one)}: {answer}" for answer in seen.hosts.values() if answer.startswith("error")]
    if other:
        hint = "Delete the replica's process, its node makes all anew; if --loopback is another block, say so here too."
        yield made.fail("capture rules", f"not as they should be: {named(other)}", hint)
    else:
        yield made.well("capture rules", f"of {len(live)} are as they should be")
    if not host:
        yield made.skip("names inside", "the mesh has no service")
    elif deaf:
        hint = "The agent answers DNS there: read `fairlead logs NAME --proxy`."
        yield made.fail("names inside", f"{host}: {named(deaf)}", hint)
    else:
        yield made.well("names inside", f"{host} resolves in all {len(live)}")


def _expected(block: str, *, own_dns: bool) -> dict[str, str]:
    seen = _inspect("", msgspec.json.encode(network_plan(block, own_dns)), "")
    return {} if isinstance(seen, str) else seen.digests


def _inspect(name: str, plan: bytes, host: str) -> _Seen | str:
    command = [sys.executable, "-m", "fairlead.node.capture.inspect", name, *([host] if host else [])]
    done = subprocess.run(command, input=plan, capture_output=True, check=False, timeout=60)
    if done.returncode:
        return done.stderr.decode(errors="replace").strip()[-200:]
    return msgspec.json.decode(done.stdout, type=_Seen)
