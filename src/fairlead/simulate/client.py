"""Whom a proxy takes for the original client of a request: the connection's other end, or whom a header names."""

from __future__ import annotations

from ipaddress import ip_address

from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)

from fairlead.simulate.matching import UNKNOWN_ADDRESS
from fairlead.simulate.message import Message

_HEADER = "x-forwarded-for"


def original_client(manager: HttpConnectionManager, message: Message, source: str) -> str:
    """The address that policies see as the client's, "" where it is that of the connection, which is `source`.

    A proxy at the edge (`use_remote_address`) believes only the entries that trusted proxies before it have added, and
    adds the connection's address. Any other believes the header (Envoy's HTTP header manipulation, x-forwarded-for).
    """
    entries = [one.strip() for one in (message.header(_HEADER) or "").split(",") if one.strip()]
    trusted = manager.xff_num_trusted_hops
    if not manager.use_remote_address.value:
        return _from_right(entries, trusted)
    found = _from_right(entries, trusted - 1) if trusted else ""
    if not manager.skip_xff_append:
        message.set(_HEADER, ",".join([*entries, source or UNKNOWN_ADDRESS]))
    return found


def _from_right(entries: list[str], skipped: int) -> str:
    """The entry that so many stand behind, "" if there is none or it is no address."""
    if len(entries) <= skipped:
        return ""
    found = entries[-1 - skipped]
    if found == UNKNOWN_ADDRESS:
        return found
    try:
        return str(ip_address(found))
    except ValueError:
        return ""
