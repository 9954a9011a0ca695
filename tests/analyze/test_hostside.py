"""What facts about hosts mean: each fault of a table, and nothing where all is well."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import pytest

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
from fairlead.analyze.suppression import of_option, suppress
from fairlead.model.diagnostic import Origin, Position, Severity
from fairlead.model.path import path_of
from fairlead.model.ref import Ref

NOW = 1_800_000_000.0
REF = Ref("networking.istio.io", "WorkloadEntry", "shop", "cart-0")
PROCESS = Ref("fairlead.dev", "Process", "shop", "cart")
GOOD = Leaf(NOW - 100, NOW + 1000, True)
WELL = ReplicaFacts(PROCESS, True, True, GOOD)
BOUND = "udp_x: error adding listener: cannot bind '127.0.0.1:8443': Address already in use"
ENVOY = "envoy 1.38.0"
HERE = Ref("", "Node", "", "here")


def proxies(*facts: ProxyFacts) -> Iterable[Finding]:
    return hostside.of_proxies(facts, "1")


def replica(**other: Any) -> Iterable[Finding]:
    return hostside.of_replicas([msgspec.structs.replace(WELL, **other)], NOW)


CASES: dict[str, tuple[Iterable[Finding], str, str]] = {
    "a clock ahead": (hostside.of_clocks([Clock(REF, 7)]), "FL3734", "7 s ahead of"),
    "a clock behind": (hostside.of_clocks([Clock(REF, -600.4)]), "FL3734", "600 s behind"),
    "a clock within what the answer took": (hostside.of_clocks([Clock(REF, 5.5, 1)]), "", ""),
    "a clock that is right": (hostside.of_clocks([Clock(REF, -4.9)]), "", ""),
    "a port of the control plane": (
        hostside.of_ports([(HERE, "127.0.0.1", 16443, "Address already in use")]),
        "FL3730",
        "127.0.0.1:16443",
    ),
    "a port of a gateway": (
        hostside.of_refusals([RefusalFacts("LDS a", BOUND, (REF,))]),
        "FL3730",
        "cart-0.shop cannot listen at 127.0.0.1:8443",
    ),
    "a refusal": (
        hostside.of_refusals([RefusalFacts("LDS a", "no such field", (REF, REF))]),
        "FL3731",
        "cart-0.shop, cart-0.shop refuse LDS a: no such field",
    ),
    "a proxy that is behind": (proxies(ProxyFacts(REF, behind=31)), "FL3732", "31 s behind"),
    "a proxy on its way": (proxies(ProxyFacts(REF, "1", ENVOY, 29)), "", ""),
    "an older agent": (proxies(ProxyFacts(REF, "0.9")), "FL3733", "is 0.9, the control plane 1"),
    "another Envoy than most": (
        proxies(ProxyFacts(REF, envoy=ENVOY), ProxyFacts(REF, envoy=ENVOY), ProxyFacts(REF, envoy="x")),
        "FL3733",
        "has x, most have envoy 1.38.0",
    ),
    "other roots": (hostside.of_trust([(REF, "it has not taken the trust bundle")]), "FL3737", "trust bundle"),
    "an end that agents report": (hostside.of_endings([(REF, NOW + 60)], NOW), "FL3736", "ends in 60 s"),
    "an end that is far": (hostside.of_endings([(REF, NOW + 3601)], NOW), "", ""),
    "an agent that is gone": (replica(running=False, certificate=None), "FL3741", "cart.shop"),
    "no certificate": (replica(certificate=None), "FL3735", "has no certificate"),
    "an expired certificate": (replica(certificate=Leaf(NOW - 9, NOW - 1)), "FL3735", "ended 1 s ago"),
    "a certificate of later": (replica(certificate=Leaf(NOW + 9, NOW + 99)), "FL3735", "is this host's clock late?"),
    "a certificate of which little is left": (replica(certificate=Leaf(NOW - 90, NOW + 9)), "FL3736", "a third"),
    "a certificate of strangers": (
        replica(certificate=Leaf(NOW - 100, NOW + 1000, False)),
        "FL3737",
        "no authority of the mesh",
    ),
    "rules that are missing": (replica(rules="they are others"), "FL3738", "the capture rules of cart.shop"),
    "names that nobody answers": (replica(names="x: error"), "FL3739", "inside of cart.shop"),
    "a replica that is well": (replica(), "", ""),
    "files that are gone": (
        hostside.of_agents([AgentFacts(REF, files="/a.pem: there is no such file")], NOW),
        "FL3744",
        "cart-0.shop goes on with what was in files before: /a.pem",
    ),
    "an endpoint without answer": (
        hostside.of_endpoints([EndpointFacts(REF, "10.0.0.1", 80, "Connection refused")]),
        "FL3740",
        "cart-0.shop at 10.0.0.1:80 (Connection refused)",
    ),
    "an endpoint that answers": (hostside.of_endpoints([EndpointFacts(REF, "10.0.0.1", 80)]), "", ""),
    "a process of nobody": (hostside.of_processes([ProcessFacts(PROCESS, "", 0, 1)]), "FL3743", "no node runs cart"),
    "a process that is not ready": (
        hostside.of_processes([ProcessFacts(PROCESS, "here", 1, 2, "cart-1: exit 3")]),
        "FL3742",
        "cart.shop 1/2: cart-1: exit 3",
    ),
    "a process that is ready": (hostside.of_processes([ProcessFacts(PROCESS, "here", 2, 2)]), "", ""),
}


@pytest.mark.parametrize("name", CASES)
def test_what_a_fact_means(name: str) -> None:
    found, code, said = CASES[name]
    listed = list(found)
    if not code:
        assert listed == []
        return
    (one,) = listed
    assert one.code == code
    assert said in one.message
    assert one.remedy
    assert one.kind in ("WorkloadEntry", "Process", "Node")


def test_a_refusal_is_about_the_field_behind_it() -> None:
    gateway = Ref("networking.istio.io", "Gateway", "shop", "edge")
    behind = tuple(
        Origin(gateway, path_of(f"spec.servers[{at}].port"), Position("gw.yaml", 7, 15) if at == 0 else None)
        for at in range(2)
    )
    (one,) = hostside.of_refusals([RefusalFacts("LDS a", "no", (REF,), behind)])
    assert (one.kind, one.name, one.field, one.place) == ("Gateway", "edge", "spec.servers[0].port", "gw.yaml:7:15")
    assert one.message.endswith("refuses LDS a: no; behind it are also Gateway shop/edge spec.servers[1].port")


def test_what_is_said_of_hosts_can_be_suppressed() -> None:
    (one,) = hostside.of_clocks([Clock(REF, 60)])
    assert one.severity is Severity.ERROR
    assert suppress([one], [of_option("FL3734=WorkloadEntry shop/*")]) == ([], 1)
