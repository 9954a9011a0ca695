"""istio-sim once more, on real Envoy: each call is made, and Envoy's own access log says what it met.

What a real connection does not show is left out: the name of a virtual host, and whether a client certificate was of
the kind that a chain asks for (two calls of TestInboundSidecarTLSModes).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fairlead.compiler.model import MeshModel
from tests.conformance.replay import ENVOY, Certificates, Replay, Seen, replaying, self_signed
from tests.conformance.simulator import MTLS_ERROR, NO_LISTENER
from tests.conformance.suites import Case, parameters
from tests.conformance.test_sim import call_of, given_addresses, mesh, same, view

REPLAYED = "istio-sim on real Envoy"
COMPARED = {
    "listenerMatched": "listener",
    "filterChainMatched": "chain",
    "routeConfigMatched": "routes",
    "routeMatched": "route",
    "clusterMatched": "cluster",
}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return self_signed(tmp_path_factory.mktemp("certificates"))


@pytest.mark.suite(REPLAYED)
@pytest.mark.parametrize("case", parameters(REPLAYED, "istio-sim", lambda suite: suite["simulations"]))
def test_simulation(case: Any, certificates: Certificates, tmp_path: Path) -> None:
    if not ENVOY.exists():
        pytest.skip(f"no Envoy at {ENVOY}")
    model: MeshModel = mesh(case["kubeConfig"] or "", case["config"], settings=case.get("meshConfig"))
    with model.opened(view(case["proxy"])) as catalog, replaying(catalog, tmp_path, certificates) as replay:
        calls = given_addresses(model, case["calls"])
        wrong = {
            f"{one['name']}: {one['call']}": differs
            for one in calls
            if (differs := difference(replay, one, case["proxy"]["type"]))
        }
    assert not wrong


def difference(replay: Replay, one: Case, proxy_type: str) -> dict[str, tuple[str, str]]:
    """What was wanted and what came, by field."""
    call, expect = call_of(one["call"], proxy_type), one["expect"]
    error = expect.get("error") or ""
    if error == MTLS_ERROR:
        # A server that asks for no certificate never sees it, and Envoy has dialled before the client proves to have
        # none: the wire does not show what the suite asks.
        return {}
    seen = replay.call(call)
    if seen is None or error == NO_LISTENER:
        return {} if seen is None and error == NO_LISTENER else {"listener": (error, str(seen))}
    if error:
        return {} if fails(seen) else {"error": (error, str(seen))}
    return {
        said: (expect[said], getattr(seen, field))
        for said, field in COMPARED.items()
        if expect.get(said) and getattr(seen, field) not in same(said, expect[said])
    }


def fails(seen: Seen) -> bool:
    """Whether a call got nowhere: no cluster was asked, or TLS with the client failed."""
    return not seen.cluster or bool(seen.refused)
