"""What a workload says of its proxy's connections, in the metadata of its node (Istio's `ISTIO_META_...`)."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from fairlead.model.duration import parse_duration

_LONGEST = 10 * 365 * 86400
_TRUE = ("1", "t", "T", "true", "TRUE", "True")
DNS_CAPTURE = "DNS_CAPTURE"
"""Metadata of nodes whose host sends the application's DNS questions to the agent, as in Istio."""


class NodeSettings(msgspec.Struct, frozen=True):
    """How long connections without traffic live (seconds, None: as Envoy has it), and how they are taken.

    `http10` is whether clients may speak HTTP/1.0. `balance_inbound` and `balance_outbound` have Envoy's workers take
    connections in turn. `http_proxy_port` is where applications find an HTTP proxy (None: as the mesh says).
    """

    idle_timeout: float | None = None
    http10: bool = False
    balance_inbound: bool = False
    balance_outbound: bool = False
    http_proxy_port: int | None = None


USUAL = NodeSettings()


def node_settings(metadata: Mapping[str, object]) -> NodeSettings | None:
    """What a node says; None where it says nothing, or such as nobody can read.

    IDLE_TIMEOUT, HTTP10, INBOUND_LISTENER_EXACT_BALANCE, OUTBOUND_LISTENER_EXACT_BALANCE and HTTP_PROXY_PORT (Istio
    `NodeMetadata`).
    """
    made = NodeSettings(
        _seconds(metadata.get("IDLE_TIMEOUT")),
        metadata.get("HTTP10") == "1",
        is_true(metadata.get("INBOUND_LISTENER_EXACT_BALANCE")),
        is_true(metadata.get("OUTBOUND_LISTENER_EXACT_BALANCE")),
        _port(metadata.get("HTTP_PROXY_PORT")),
    )
    return made if made != USUAL else None


def is_true(text: object) -> bool:
    """Whether a node says yes, in one of the words that Istio takes for it."""
    return text in _TRUE


def _port(text: object) -> int | None:
    return int(text) if isinstance(text, str) and text.isascii() and text.isdecimal() and len(text) < 6 else None


def _seconds(text: object) -> float | None:
    try:
        found = parse_duration(text) if isinstance(text, str) and text else -1
    except ValueError:
        return None
    return found if 0 <= found <= _LONGEST else None
