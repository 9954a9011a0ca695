"""What a workload says of its proxy's connections, in the metadata of its node (Istio's `ISTIO_META_...`)."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from fairlead.model.duration import parse_duration

_LONGEST = 10 * 365 * 86400
_TRUE = ("1", "t", "T", "true", "TRUE", "True")


class Connections(msgspec.Struct, frozen=True):
    """How long connections without traffic live (seconds, None: as Envoy has it), and how they are taken.

    `http10` is whether clients may speak HTTP/1.0. The others have Envoy's workers take connections in turn.
    """

    idle_timeout: float | None = None
    http10: bool = False
    balance_inbound: bool = False
    balance_outbound: bool = False


USUAL = Connections()


def connections_of(metadata: Mapping[str, object]) -> Connections | None:
    """What a node says; None where it says nothing, or such as nobody can read.

    IDLE_TIMEOUT, HTTP10, INBOUND_LISTENER_EXACT_BALANCE and OUTBOUND_LISTENER_EXACT_BALANCE (Istio `NodeMetadata`).
    """
    made = Connections(
        _seconds(metadata.get("IDLE_TIMEOUT")),
        metadata.get("HTTP10") == "1",
        metadata.get("INBOUND_LISTENER_EXACT_BALANCE") in _TRUE,
        metadata.get("OUTBOUND_LISTENER_EXACT_BALANCE") in _TRUE,
    )
    return made if made != USUAL else None


def http_proxy_port_of(metadata: Mapping[str, object]) -> int | None:
    """The port of HTTP_PROXY_PORT, None where there is none."""
    text = metadata.get("HTTP_PROXY_PORT")
    return int(text) if isinstance(text, str) and text.isascii() and text.isdecimal() and len(text) < 6 else None


def _seconds(text: object) -> float | None:
    try:
        found = parse_duration(text) if isinstance(text, str) and text else -1
    except ValueError:
        return None
    return found if 0 <= found <= _LONGEST else None
