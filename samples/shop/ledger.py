"""ledger: an append-only book over plain TCP, one line a question: ADD TEXT, COUNT, VERSION, PING, QUIT."""

from __future__ import annotations

import os
import socket
import socketserver
import threading
import time
from collections import deque

from base import GRACE, HOST, INSTANCE, PORT, VERSION, address, until_asked_to_end

MAX_LINE = 4096
MAX_ENTRIES = 100_000


class Book:
    """The entries."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: deque[str] = deque(maxlen=MAX_ENTRIES)
        self._count = 0

    def answer(self, line: str) -> str:
        """The answer to one line."""
        word, _, text = line.partition(" ")
        if word == "ADD":
            with self._lock:
                self._count += 1
                self._entries.append(text)
                return f"OK {self._count} {VERSION}"
        known = {"COUNT": str(self._count), "VERSION": f"{VERSION} {INSTANCE}", "PING": "PONG"}
        return known.get(word, "ERROR say ADD TEXT, COUNT, VERSION, PING or QUIT")


def serve() -> None:
    """Serve until SIGTERM; then let open conversations end."""
    book = Book()
    ending = threading.Event()
    active = 0
    lock = threading.Lock()

    class Conversation(socketserver.StreamRequestHandler):
        timeout = 300

        def handle(self) -> None:
            nonlocal active
            with lock:
                active += 1
            try:
                while line := self.rfile.readline(MAX_LINE):
                    text = line.decode(errors="replace").strip()
                    if text == "QUIT":
                        return
                    self.wfile.write(book.answer(text).encode() + b"\n")
                    if ending.is_set():
                        return
            except OSError:
                return
            finally:
                with lock:
                    active -= 1

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True
        request_queue_size = 256

    with Server((HOST, PORT), Conversation) as server:
        until_asked_to_end(ending, server.shutdown)
        print(f"ledger {VERSION} serves on {HOST}:{PORT}", flush=True)
        server.serve_forever(poll_interval=0.1)
        deadline = time.monotonic() + min(GRACE, float(os.environ.get("LEDGER_GRACE", "2")))
        while active and time.monotonic() < deadline:
            time.sleep(0.02)


def ask(line: str, timeout: float = 10.0) -> str:
    """Ask the ledger from another service; what goes wrong comes back as `ERROR ...`."""
    try:
        with socket.create_connection(address("ledger"), timeout=timeout) as connection:
            connection.sendall(line.encode() + b"\n")
            with connection.makefile("rb") as answers:
                said = answers.readline(MAX_LINE).decode(errors="replace").strip()
            return said or "ERROR the connection was closed"
    except OSError as error:
        return f"ERROR {error}"


if __name__ == "__main__":
    serve()
