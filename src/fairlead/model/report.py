"""What an agent and the control plane tell each other beside configuration.

Trust, certificates, plaintext callers, calls, and if asked how many connections are open.

One unary gRPC method on the xds port, bodies are JSON. A report is held by the control plane until there is something
to say, so that news reach every agent at once and an idle agent costs one call a minute.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from hashlib import sha256

import msgspec

SERVICE = "fairlead.v1.Agents"
METHOD = f"/{SERVICE}/Report"
HOLD_SECONDS = 60.0
MAX_CALLED = 256
"""Called services in one report; the next report brings the rest."""
MAX_CALLERS = 256
"""Callers in one report; the next report brings the rest."""
MAX_AILMENT = 500
"""Characters that are kept of each ailment."""
MAX_LISTENERS = 1_000
"""Listeners in one report of open connections; of more, those with the most."""
_BLOCK = re.compile(r"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)


class PlaintextCaller(msgspec.Struct, frozen=True, omit_defaults=True):
    """Connections that came to `port` without mutual TLS from one address: how many since the last report.

    `last` is Unix seconds of the newest.
    """

    port: int
    address: str
    count: int
    last: float


class CalledService(msgspec.Struct, frozen=True, omit_defaults=True):
    """A service (host, and its namespace where it has one) that this workload called so often since the last report.

    `last` is Unix seconds of the newest call, as exact as reports are frequent.
    """

    host: str
    namespace: str
    count: int
    last: float


class OpenConnections(msgspec.Struct, frozen=True, omit_defaults=True):
    """How many connections a listener of this proxy has open (Envoy's gauge `downstream_cx_active`)."""

    listener: str
    count: int


class Ailments(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is wrong with an agent's host or workload, in words; "" what is well.

    `certificate`: why it could not be renewed the last time. `capture`: why calls of the application do not reach the
    proxy. `names`: why a name of the mesh is not resolved for it. `files`: what is wrong with files (of certificates)
    that the proxy runs with; it keeps what was in them.
    """

    certificate: str = ""
    capture: str = ""
    names: str = ""
    files: str = ""


class AgentReport(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a proxy stands. `proxy` is its node id.

    `bundle` is the id of the trust bundle that Envoy has acknowledged; `issuer` the key id (hex) of who signed its
    certificate, `not_after` its end (Unix seconds); `asked` the issuer that it was last told to renew from. `hold`: for
    how many seconds the answer may be held. `ending`: the proxy goes, and is not waited for any more. `problem`: why
    changes of its bootstrap are left out. `open`: the listeners that have connections, if the last answer asked.
    `time`: what the clock of the agent's host says as it sends this (Unix seconds). `ailments`: what is wrong there.
    `anchors` is the id of the further roots that it has, "" for none, None where it takes none.
    """

    proxy: str
    bundle: str = ""
    issuer: str = ""
    not_after: float = 0
    asked: str = ""
    hold: float = 0
    ending: bool = False
    plaintext: tuple[PlaintextCaller, ...] = ()
    called: tuple[CalledService, ...] = ()
    problem: str = ""
    open: tuple[OpenConnections, ...] | None = None
    time: float = 0
    ailments: Ailments = Ailments()
    anchors: str | None = None


class ReportAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """`bundle`: the roots (PEM) to trust from now on, empty where the agent has them.

    `renew_from`: renew the certificate, from this issuer, at a random time within `within` seconds. `count`: report
    next how many connections are open. `anchors`: the further roots (PEM) by trust domain, all of them, None where the
    agent has them; under "" those that vouch for everybody. Peers of a domain that is not named are trusted only if no
    domain is.
    """

    bundle: str = ""
    renew_from: str = ""
    within: float = 0
    count: bool = False
    anchors: dict[str, str] | None = None


def anchors_id(anchors: Mapping[str, str]) -> str:
    """The name of further roots by trust domain; "" for none."""
    parts = [f"{domain}={bundle_id(pem)}" for domain, pem in sorted(anchors.items())]
    return sha256("\n".join(parts).encode()).hexdigest()[:16] if parts else ""


def bundle_id(pem: str | bytes) -> str:
    """The name of a set of certificates: the same for any order and any repetition."""
    text = pem.decode("ascii", "replace") if isinstance(pem, bytes) else pem
    found: set[bytes] = set()
    for block in _BLOCK.findall(text):
        try:
            found.add(sha256(base64.b64decode("".join(block.split()), validate=True)).digest())
        except ValueError:
            continue
    return sha256(b"".join(sorted(found))).hexdigest()[:16] if found else ""
