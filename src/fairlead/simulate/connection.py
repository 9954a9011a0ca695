"""A connection as it arrives at a proxy: where it was going, who makes it, and what the first bytes show."""

from __future__ import annotations

from typing import Literal

import msgspec

Inside = Literal["http/1.1", "h2", "tcp"]
"""What is spoken inside of the connection, inside of TLS if there is any."""


class Connection(msgspec.Struct, frozen=True):
    """A connection before anything has looked at it.

    `address` and `port` are where the client was going. `source` is the client's address, "" if it is not known.
    `alpn` is what a TLS client offers, in its order. `certificate` is the identity (URI) that the client can show, ""
    for none; `trusted` whether the mesh's roots vouch for it, `refused` whether no server would take it. `quic`: UDP.
    """

    address: str
    port: int
    source: str = ""
    tls: bool = False
    sni: str = ""
    alpn: tuple[str, ...] = ()
    certificate: str = ""
    trusted: bool = False
    inside: Inside = "http/1.1"
    refused: bool = False
    quic: bool = False


class Seen(msgspec.Struct, frozen=True):
    """A connection as filter chains are chosen for it, after the listener filters have looked at it."""

    address: str
    port: int
    source: str = ""
    transport: Literal["raw_buffer", "tls"] = "raw_buffer"
    sni: str = ""
    alpn: tuple[str, ...] = ()
