"""Looks into a workload's network namespace: run as a process of its own, because a namespace belongs to a thread.

    python -m fairlead.node.capture.inspect NAME [HOST...]

Prints JSON: `digests` of the rules in it, chain by chain, and what each HOST resolves to there (or why it does not).
With NAME empty it makes a namespace by the `NetworkPlan` on standard input, prints the same of that, and removes it:
what should be. Exit status 1 with one sentence on standard error where it cannot.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import socket
import sys
from typing import Any, cast

import msgspec
from pyroute2 import netns
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.nftables.main import NFTables

from fairlead.node.capture import netlink
from fairlead.node.capture.plan import TABLE, NetworkPlan

_PASSING = ("NFTA_RULE_HANDLE", "NFTA_RULE_POSITION", "NFTA_COUNTER_BYTES", "NFTA_COUNTER_PACKETS")


def digests() -> dict[str, str]:
    """Of each chain of Fairlead's table in the namespace that this process is in, a hash of its rules in order."""
    nft: Any = NFTables()
    try:
        found: dict[str, list[str]] = {}
        for message in nft.get_rules():
            attributes = dict(cast("list[tuple[str, Any]]", message["attrs"]))
            if attributes.get("NFTA_RULE_TABLE") == TABLE:
                rule = repr(_plain(attributes.get("NFTA_RULE_EXPRESSIONS")))
                found.setdefault(str(attributes["NFTA_RULE_CHAIN"]), []).append(rule)
    finally:
        nft.close()
    return {
        chain: f"{len(rules)}:{hashlib.sha256(chr(10).join(rules).encode()).hexdigest()[:16]}"
        for chain, rules in sorted(found.items())
    }


def _plain(value: Any) -> Any:
    """Without what differs between two equal rules."""
    if isinstance(value, dict):
        given = cast("dict[str, Any]", value)
        return _plain(given["attrs"]) if "attrs" in given else {key: _plain(given[key]) for key in sorted(given)}
    if isinstance(value, (list, tuple)):
        listed = cast("list[Any]", value)
        if len(listed) == 2 and isinstance(listed[0], str):
            return None if listed[0] in _PASSING else (listed[0], _plain(listed[1]))
        return [_plain(one) for one in listed]
    return value


def resolved(host: str) -> str:
    """The first address of a name in this namespace, or `error: ...`."""
    try:
        found = socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_STREAM)
    except OSError as error:
        return f"error: {error}"
    return str(found[0][4][0])


def main(arguments: list[str]) -> int:
    """The command line of this module (see above)."""
    name, hosts = arguments[0], arguments[1:]
    made = ""
    try:
        if name:
            shell: Any = netns
            shell.setns(name, flags=0)
        else:
            plan = msgspec.json.decode(sys.stdin.buffer.read(), type=NetworkPlan)
            made = f"fairlead-check-{secrets.token_hex(4)}"
            netlink.create(made, plan)
        answer = {"digests": digests(), "hosts": {host: resolved(host) for host in hosts}}
    except (OSError, NetlinkError, msgspec.DecodeError) as error:
        reason = error.args[1] if len(error.args) > 1 else error
        print(reason, file=sys.stderr)  # noqa: T201
        return 1
    finally:
        if made:
            with contextlib.suppress(OSError, NetlinkError):
                netlink.remove(made)
    sys.stdout.buffer.write(msgspec.json.encode(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
