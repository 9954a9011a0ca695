"""Filter chains that would take one connection on equal terms, which Envoy refuses."""

from __future__ import annotations

from fairlead.envoy.listener import Match, match
from fairlead.envoy.overlap import Taken


def test_what_is_left_of_server_names() -> None:
    taken: Taken[str] = Taken()
    assert taken.free(match(sni=("a", "b")), "first") == ((match(sni=("a", "b")),), None)
    assert taken.free(match(sni=("b", "c")), "second") == ((match(sni=("c",)),), "first")
    assert taken.free(match(sni=("a", "c")), "third") == ((), "first")
    assert taken.free(match(sni=("*.a",)), "fourth")[1] is None, "a wildcard is another name"


def test_networks_may_have_different_names_left() -> None:
    taken: Taken[str] = Taken()
    taken.free(match(sni=("a",), subnets=("10.0.0.0/8",)), "first")
    wanted = match(sni=("a", "b"), subnets=("10.0.0.0/8", "11.0.0.0/8"))
    left, before = taken.free(wanted, "second")
    assert before == "first"
    assert left == (
        Match(sni=("b",), subnets=("10.0.0.0/8",)),
        Match(sni=("a", "b"), subnets=("11.0.0.0/8",)),
    )


def test_everything_is_taken_once() -> None:
    taken: Taken[str] = Taken()
    assert taken.free(match(), "first")[0] == (match(),)
    assert taken.free(match(), "second") == ((), "first")
    assert taken.free(match(transport="tls"), "third")[1] is None
