"""SPIFFE identities: syntax, and where they are read from."""

from __future__ import annotations

import pytest

from fairlead.ca.identity import Identity


def test_round_trip() -> None:
    text = "spiffe://cluster.local/ns/shop/sa/cart"
    assert str(Identity.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "https://cluster.local/ns/a/sa/b",
        "spiffe://cluster.local/ns/a/sa/",
        "spiffe:///ns/a/sa/b",
        "spiffe://td/ns/a/sa/b/c",
        "spiffe://td/ns/A/sa/b",
        "spiffe://td/ns/../sa/b",
        "spiffe://td/sa/a/ns/b",
        "spiffe://td/ns/a/sa/b\n",
    ],
)
def test_malformed_ids_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Identity.parse(text)


def test_of_peer_needs_tls_and_exactly_one_uri() -> None:
    tls = {"transport_security_type": [b"ssl"]}
    one = [b"spiffe://td/ns/a/sa/b", b"a.example"]
    assert Identity.of_peer({**tls, "x509_subject_alternative_name": one}) == Identity("td", "a", "b")
    with pytest.raises(ValueError, match="does not use TLS"):
        Identity.of_peer({"x509_subject_alternative_name": one})
    with pytest.raises(ValueError, match="2 URI names"):
        Identity.of_peer({**tls, "x509_subject_alternative_name": [*one, b"spiffe://td/ns/a/sa/c"]})
