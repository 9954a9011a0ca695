"""HTTP/2 of the xds port against a client of the library, without a network: frames, windows, clients that wait."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Callable
from typing import Any, cast

import grpc
import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, TrailersReceived
from h2.settings import SettingCodes

from fairlead.xds.call import Call
from fairlead.xds.frames import CHUNK, FIRST_WINDOW
from fairlead.xds.tls import Secured
from fairlead.xds.transport import DEFAULT_WINDOW, WINDOW, Connection, Connections

REQUEST = [
    (":method", "POST"),
    (":scheme", "https"),
    (":path", "/service/Method"),
    (":authority", "mesh"),
    ("content-type", "application/grpc"),
]


class Line:
    """In the place of TLS: keeps what is sent."""

    address = ("127.0.0.1", 1)
    certificate: dict[str, Any] = {}

    def __init__(self) -> None:
        self.sent = b""
        self.aborted = False

    def write(self, data: bytes) -> None:
        self.sent += data

    def abort(self) -> None:
        self.aborted = True

    def close(self) -> None:
        self.aborted = True


class Handled:
    """A handler that keeps what it is told."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.messages: list[bytes] = []
        self.over = False

    def message(self, body: bytes) -> None:
        self.messages.append(body)

    def finished(self) -> None:
        pass

    def writable(self) -> None:
        pass

    def lost(self) -> None:
        self.over = True


class Pair:
    """A client of the library h2 and the connection under test, with one call."""

    def __init__(self, *, hold: bool = False, most: int = 1 << 20, told: bool = True) -> None:
        self.line = Line()
        self.connection = Connection(Connections(), self._opened, most)
        self.hold = hold
        self.handled: list[Handled] = []
        self.events: list[Event] = []
        self.client = H2Connection(H2Configuration(header_encoding="utf-8"))
        self.connection.connected(cast("Secured", self.line))
        self.client.initiate_connection()
        if told:
            self.connection.flush()
            self.back()
        self.client.send_headers(1, REQUEST)

    def _opened(self, call: Call) -> Handled:
        if self.hold:
            call.hold()
        self.handled.append(Handled(call))
        return self.handled[-1]

    def there(self, cut: Callable[[bytes], list[bytes]] = lambda data: [data]) -> None:
        """What the client has to send arrives, in pieces."""
        for piece in cut(self.client.data_to_send()):
            self.connection.data_received(piece)

    def back(self) -> None:
        """What the connection has sent arrives."""
        sent, self.line.sent = self.line.sent, b""
        for event in self.client.receive_data(sent):
            self.events.append(event)
            if isinstance(event, DataReceived):
                self.client.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id or 0)

    def message(self, body: bytes) -> None:
        """The client sends one, a frame after the other, as far as it may."""
        data = b"\0" + len(body).to_bytes(4, "big") + body
        while data:
            room = min(self.client.local_flow_control_window(1), CHUNK)
            if not room:
                self.there()
                self.back()
                assert self.client.local_flow_control_window(1), "the client may send no more"
                continue
            self.client.send_data(1, data[:room])
            data = data[room:]

    @property
    def trailers(self) -> dict[str, str]:
        """With what the call ended."""
        ended = [event for event in self.events if isinstance(event, TrailersReceived)]
        return {str(key): str(value) for key, value in dict(ended[0].headers or {}).items()} if ended else {}


def run(test: Callable[[], None]) -> None:
    """Connections belong to an event loop."""

    async def inside() -> None:
        test()

    asyncio.run(inside())


@pytest.mark.parametrize("size", [1, 2, 7, 9, 10, 23, 1000])
def test_frames_come_in_pieces_of_any_size(size: int) -> None:
    def test() -> None:
        pair = Pair()
        bodies = [b"", b"one", b"x" * 40_000, b"last"]
        for body in bodies:
            pair.message(body)
        pair.client.ping(b"12345678")
        pair.there(lambda data: [data[at : at + size] for at in range(0, len(data), size)])
        assert pair.handled[0].messages == bodies
        assert not pair.line.aborted

    run(test)


def test_a_client_may_go_on_for_ever() -> None:
    def test() -> None:
        pair = Pair()
        pair.there()
        bodies = [bytes([number]) * 300_000 for number in range(12)]
        for body in bodies:
            pair.message(body)
            pair.there()
            pair.back()
        assert pair.handled[0].messages == bodies
        assert sum(map(len, bodies)) > 3 * WINDOW

    run(test)


def test_what_is_sent_waits_for_the_clients_windows() -> None:
    def test() -> None:
        pair = Pair()
        pair.there()
        call = pair.handled[0].call
        bodies = [b"a" * 50_000, b"small", b"b" * 90_000]
        for body in bodies:
            call.send(body)
        call.flush()
        assert not call.ready
        assert len(pair.line.sent) < DEFAULT_WINDOW + 2_000
        while pair.line.sent:
            pair.back()
            pair.there()
        assert call.ready
        got = b"".join(bytes(event.data or b"") for event in pair.events if isinstance(event, DataReceived))
        assert got == b"".join(b"\0" + len(body).to_bytes(4, "big") + body for body in bodies)

    run(test)


def test_a_held_call_keeps_what_a_client_may_not_have_known_not_to_send() -> None:
    def test() -> None:
        # Settings have not arrived: the client sends by the default window, which is larger than the first.
        pair = Pair(hold=True, told=False)
        body = b"h" * (FIRST_WINDOW * 2)
        pair.message(body)
        pair.there()
        assert not pair.handled[0].messages
        pair.handled[0].call.release()
        assert pair.handled[0].messages == [body]
        assert not pair.line.aborted

    run(test)


def test_a_client_that_waits_is_not_allowed_more_than_is_kept_of_it() -> None:
    def test() -> None:
        # A client of a large mesh says more than the default window when it returns, and waits for its turn to do so.
        pair = Pair(hold=True, told=False)
        body = b"h" * (3 * DEFAULT_WINDOW)
        data = b"\0" + len(body).to_bytes(4, "big") + body
        sent = 0

        def turns(count: int) -> int:
            at = sent
            for _ in range(count):
                room = min(pair.client.local_flow_control_window(1), CHUNK, len(data) - at)
                if room > 0:
                    pair.client.send_data(1, data[at : at + room])
                    at += room
                pair.there()
                pair.connection.flush()
                pair.back()
            return at

        sent = turns(40)
        assert not pair.trailers
        assert FIRST_WINDOW <= sent <= DEFAULT_WINDOW
        pair.handled[0].call.release()
        pair.back()
        assert turns(40) == len(data)
        assert pair.handled[0].messages == [body]

    run(test)


def test_a_client_that_waits_and_sends_more_than_it_may_is_refused() -> None:
    def test() -> None:
        pair = Pair(hold=True)
        pair.client.outbound_flow_control_window = 1 << 20
        pair.client.streams[1].outbound_flow_control_window = 1 << 20
        pair.message(b"m" * (DEFAULT_WINDOW + 1))
        pair.there()
        pair.back()
        assert pair.trailers["grpc-status"] == str(grpc.StatusCode.RESOURCE_EXHAUSTED.value[0])
        assert pair.handled[0].over

    run(test)


def test_a_message_that_is_too_large_or_compressed_ends_the_call() -> None:
    def test() -> None:
        for body in (b"\0" + (5000).to_bytes(4, "big") + b"x", b"\1\0\0\0\1x"):
            pair = Pair(most=4096)
            pair.client.send_data(1, body)
            pair.there()
            pair.back()
            assert pair.trailers["grpc-status"] == str(grpc.StatusCode.RESOURCE_EXHAUSTED.value[0])
            assert not pair.handled[0].messages

    run(test)


def test_a_frame_larger_than_allowed_ends_the_connection() -> None:
    def test() -> None:
        pair = Pair()
        pair.there()
        pair.connection.data_received((CHUNK + 1).to_bytes(3, "big") + b"\0\0" + (1).to_bytes(4, "big"))
        assert pair.line.aborted

    run(test)


def test_settings_that_one_client_changes_are_its_own() -> None:
    def test() -> None:
        one, other = Pair(), Pair()
        for pair in (one, other):
            pair.there()
        unknown = 0x7A7A
        one.client.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 8, cast("SettingCodes", unknown): 3})
        later = Pair()
        sizes: list[int] = []
        for pair in (one, other, later):
            pair.there()
            pair.handled[0].call.send(b"x" * 100)
            pair.handled[0].call.flush()
            pair.back()
            sizes.append(sum(len(event.data or b"") for event in pair.events if isinstance(event, DataReceived)))
        assert sizes == [8, 105, 105]

    run(test)


def test_what_is_no_http2_ends_the_connection() -> None:
    def test() -> None:
        line = Line()
        connection = Connection(Connections(), lambda call: None, 4096)
        connection.connected(cast("Secured", line))
        connection.data_received(b"GET / HTTP/1.1\r\nHost: mesh\r\n\r\n")
        assert line.aborted

    run(test)


def test_a_quiet_connection_is_small() -> None:
    """Bytes that one more connection with an open call keeps in Python, after a message that had to wait in parts."""

    def test() -> None:
        client = H2Connection(H2Configuration())
        client.initiate_connection()
        client.send_headers(1, REQUEST)
        client.increment_flow_control_window(WINDOW)
        client.increment_flow_control_window(WINDOW, 1)
        said = client.data_to_send()

        def connected() -> Connection:
            line, handled = Line(), list[Handled]()

            def opened(call: Call) -> Handled:
                handled.append(Handled(call))
                return handled[0]

            connection = Connection(seen, opened, 1 << 20)
            connection.connected(cast("Secured", line))
            connection.data_received(said)
            call = handled[0].call
            call.send(b"x" * 3 * CHUNK)
            call.flush()
            assert len(line.sent) > 3 * CHUNK and not call.pending()
            line.sent = b""
            return connection

        seen = Connections()
        connected()
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            kept = [connected() for _ in range(50)]
            each = (tracemalloc.get_traced_memory()[0] - before) / len(kept)
        finally:
            tracemalloc.stop()
        assert each < 5_000, each

    run(test)
