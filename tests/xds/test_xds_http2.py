"""What a port keeps of HTTP/2 for each connection, and that clients understand what is sent without a table."""

from __future__ import annotations

import gc

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ResponseReceived, TrailersReceived
from h2.settings import SettingCodes
from hpack import Decoder

from fairlead.xds.http2 import Forgetful, ServerSide

REQUEST = [(":method", "POST"), (":scheme", "https"), (":path", "/a/b"), (":authority", "x"), ("user-agent", "test/1")]
BLOCKS = [
    [(b":status", b"200"), (b"content-type", b"application/grpc")],
    [("grpc-status", "13"), ("grpc-message", "a long one: " + "x" * 2000)],
    [(b":status", b"418"), (b"www-authenticate", b"none"), (b"x" * 127, b"y" * 126), (b"accept", b"")],
]


@pytest.mark.parametrize("size", [0, 32, 4096, 65_536])
def test_what_is_sent_is_understood_whatever_table_a_client_allows(size: int) -> None:
    """Of several connections in turn: one encoder serves them all."""
    encoder = Forgetful()
    encoder.header_table_size = size
    readers = [Decoder() for _ in range(2)]
    for reader in readers:
        reader.max_allowed_table_size = size
    for block in (*BLOCKS, *BLOCKS):
        said = [tuple(one.encode() if isinstance(one, str) else one for one in pair) for pair in block]
        for reader in readers:
            assert reader.decode(encoder.encode(block), raw=True) == said
    assert not encoder.header_table.dynamic_entries


def answered(size: int) -> tuple[H2Connection, ServerSide]:
    """A client that allows a table of so many bytes, and has been answered; its connection at the server."""
    client = H2Connection(H2Configuration(client_side=True))
    client.local_settings[SettingCodes.HEADER_TABLE_SIZE] = size
    server = ServerSide()
    client.initiate_connection()
    server.initiate_connection()
    for stream in (1, 3):
        client.send_headers(stream, REQUEST)
        server.receive_data(client.data_to_send())
        server.send_headers(stream, BLOCKS[0])
        server.send_headers(stream, BLOCKS[1], end_stream=True)
        found = client.receive_data(server.data_to_send())
        headers = [one.headers for one in found if isinstance(one, ResponseReceived | TrailersReceived)]
        assert [[(name, value) for name, value in one] for one in headers] == [
            BLOCKS[0],
            [(name.encode(), value.encode()) for name, value in BLOCKS[1]],  # type: ignore[union-attr]
        ]
    return client, server


@pytest.mark.parametrize("size", [0, 100, 65_536])
def test_a_client_of_the_library_and_the_servers_side(size: int) -> None:
    client, server = answered(size)
    client.send_headers(5, REQUEST)
    server.receive_data(client.data_to_send())
    assert server.streams[5].open


def test_a_connection_is_not_tied_to_itself() -> None:
    gc.collect()
    gc.disable()
    try:
        client, server = answered(4096)
        kept = [one for one in gc.get_objects() if isinstance(one, ServerSide)]
        assert kept == [server]
        del kept, server, client
        assert not [one for one in gc.get_objects() if isinstance(one, ServerSide)]
    finally:
        gc.enable()
