"""What the shop's services share: finding each other, passing trace headers on, serving HTTP, ending in order.

A service listens on HOST and PORT. It knows other services by name only; the mesh does the rest.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

HOST = os.environ.get("HOST", "127.0.0.1")
PORT = int(os.environ.get("PORT", "9080"))
VERSION = os.environ.get("VERSION", "v1")
INSTANCE = os.environ.get("POD_NAME", "local")

PORTS = {"web": 9080, "catalog": 9080, "reviews": 9080, "ratings": 9080, "orders": 9090, "ledger": 9000}
PASSED_ON = (
    "x-request-id",
    "traceparent",
    "tracestate",
    "baggage",
    "b3",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-flags",
    "x-user",
)
"""Request headers that go along with every call made for a request: traces, and who the user is."""
MAX_BODY = 1 << 20
GRACE = 10.0

Headers = Mapping[str, str]
Answer = tuple[int, dict[str, Any]]


def address(service: str) -> tuple[str, int]:
    """Where to connect to for a service: what the environment says (as in Kubernetes), else its DNS name."""
    name = service.upper().replace("-", "_")
    host = os.environ.get(f"{name}_SERVICE_HOST", service)
    return host, int(os.environ.get(f"{name}_SERVICE_PORT", str(PORTS[service])))


def authority(service: str) -> str:
    """The name by which routes know a service, whatever address is dialled."""
    return f"{service}:{PORTS[service]}"


def passed_on(headers: Headers) -> dict[str, str]:
    """The headers of a request that go along with the calls made for it."""
    lower = {name.lower(): value for name, value in headers.items()}
    return {name: lower[name] for name in PASSED_ON if name in lower}


def peer(headers: Headers) -> str:
    """The caller's identity, as the sidecar proved it: the URI of the nearest x-forwarded-client-cert element."""
    lower = {name.lower(): value for name, value in headers.items()}
    found = re.findall(r"(?:^|[;,])URI=([^;,]*)", lower.get("x-forwarded-client-cert", ""))
    return found[-1].strip('"') if found else ""


def call(service: str, path: str, headers: Headers, timeout: float = 15.0) -> tuple[int, Any, dict[str, str]]:
    """GET from a service, by the proxy if there is one: status, body (JSON if it is), headers. 0 if nobody answers."""
    proxy = urlsplit(os.environ.get("HTTP_PROXY", ""))
    name = authority(service)
    host, port = (proxy.hostname, proxy.port) if proxy.hostname else address(service)
    target = f"http://{name}{path}" if proxy.hostname else path
    connection = http.client.HTTPConnection(host, port or 80, timeout=timeout)
    try:
        connection.request("GET", target, headers={**passed_on(headers), "host": name, "connection": "close"})
        answer = connection.getresponse()
        text = answer.read(MAX_BODY).decode(errors="replace")
        got = {key.lower(): value for key, value in answer.getheaders()}
        try:
            return answer.status, json.loads(text), got
        except ValueError:
            return answer.status, text, got
    except (OSError, http.client.HTTPException) as error:
        return 0, f"{type(error).__name__}: {error}", {}
    finally:
        connection.close()


class Switch:
    """Fails a share of requests: exactly that share, evenly spread, so that a demonstration can count."""

    def __init__(self, share: float = 0.0, status: int = 503) -> None:
        self._lock = threading.Lock()
        self._owed: dict[float, float] = {}
        self.share = share
        self.status = status

    def fails(self, share: float) -> bool:
        """Whether this request is one of the share."""
        with self._lock:
            owed = self._owed.get(share, 0.0) + share
            failed = owed >= 1 - 1e-9
            self._owed[share] = owed - 1 if failed else owed
            if len(self._owed) > 100:
                self._owed.clear()
            return failed


class Service:
    """An HTTP service. `answer` gets path, query and headers, and returns status and body; None: not found."""

    def __init__(self, name: str, answer: Callable[[str, dict[str, str], Headers], Answer | None]) -> None:
        self.name = name
        self.answer = answer
        self.switch = Switch(float(os.environ.get("FAIL_SHARE", "0")), int(os.environ.get("FAIL_STATUS", "503")))
        self.seen: Counter[str] = Counter()
        self.lock = threading.Lock()
        self.active = 0
        self.ending = threading.Event()

    def about(self, headers: Headers) -> dict[str, Any]:
        """Who answers, and whom."""
        return {"service": self.name, "version": VERSION, "instance": INSTANCE, "peer": peer(headers)}

    def handle(self, target: str, headers: Headers) -> Answer:
        """One request: the paths that every service has, the switches, then the service's own."""
        parts = urlsplit(target)
        path, query = parts.path, dict(parse_qsl(parts.query))
        if path == "/healthz":
            return (503, {"status": "ending"}) if self.ending.is_set() else (200, {"status": "ok"})
        if path == "/seen":
            return self._seen(query)
        if path == "/fail":
            self.switch.share, self.switch.status = float(query.get("share", "0")), int(query.get("status", "503"))
            return 200, {**self.about(headers), "share": self.switch.share}
        with self.lock:
            self.seen[path] += 1
        if "delay" in query:
            time.sleep(min(float(query["delay"]), 30.0))
        share = float(query.get("fail", self.switch.share))
        if "status" in query and "fail" not in query:
            return int(query["status"]), {**self.about(headers), "error": "asked to"}
        if share > 0 and self.switch.fails(share):
            return int(query.get("status", self.switch.status)), {**self.about(headers), "error": "fails on purpose"}
        if path.startswith("/call/"):
            return self._call(path, parts.query, headers)
        return self.answer(path, query, headers) or (404, {**self.about(headers), "error": f"no page {path}"})

    def _seen(self, query: dict[str, str]) -> Answer:
        with self.lock:
            now = dict(self.seen)
            if "reset" in query:
                self.seen.clear()
        return 200, {
            "service": self.name,
            "version": VERSION,
            "instance": INSTANCE,
            "seen": sum(now.values()),
            "paths": now,
        }

    def _call(self, path: str, query: str, headers: Headers) -> Answer:
        _, _, service, *rest = path.split("/")
        if service not in PORTS:
            return 404, {"error": f"no service {service}"}
        began = time.monotonic()
        status, body, got = call(service, "/" + "/".join(rest) + (f"?{query}" if query else ""), headers)
        took = time.monotonic() - began
        return 200, {
            **self.about(headers),
            "called": service,
            "status": status,
            "seconds": took,
            "body": body,
            "headers": got,
        }

    def serve(self) -> None:
        """Serve until SIGTERM or SIGINT; then finish what has begun, and return."""
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = 1 << 16
            timeout = 75

            def do_GET(self) -> None:
                with service.lock:
                    service.active += 1
                try:
                    size = min(int(self.headers.get("content-length") or 0), MAX_BODY)
                    if size:
                        self.rfile.read(size)
                    try:
                        status, body = service.handle(self.path, self.headers)
                    except ValueError as error:
                        status, body = 400, {"error": str(error)}
                    text = json.dumps(body).encode() + b"\n"
                    self.send_response(status)
                    self.send_header("content-type", "application/json")
                    self.send_header("content-length", str(len(text)))
                    if service.ending.is_set():
                        self.send_header("connection", "close")
                    self.end_headers()
                    if self.command != "HEAD":
                        self.wfile.write(text)
                    self.wfile.flush()
                finally:
                    with service.lock:
                        service.active -= 1

            do_POST = do_PUT = do_DELETE = do_HEAD = do_GET  # noqa: N815

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                print(f"{self.address_string()} {format % args} peer={peer(self.headers)}", flush=True)

            def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
                if not self.path.startswith("/healthz"):
                    super().log_request(code, size)

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 256

            def handle_error(self, request: Any, client_address: Any) -> None:
                """A caller that has gone away is no news."""
                if not isinstance(sys.exception() if hasattr(sys, "exception") else sys.exc_info()[1], OSError):
                    super().handle_error(request, client_address)

        with Server((HOST, PORT), Handler) as server:
            until_asked_to_end(self.ending, server.shutdown)
            print(f"{self.name} {VERSION} serves on {HOST}:{PORT}", flush=True)
            server.serve_forever(poll_interval=0.1)
            deadline = time.monotonic() + GRACE
            while self.active and time.monotonic() < deadline:
                time.sleep(0.02)


def until_asked_to_end(ending: threading.Event, end: Callable[[], object]) -> None:
    """On SIGTERM or SIGINT set `ending` and call `end` in a thread of its own."""

    def asked(*_: object) -> None:
        if not ending.is_set():
            ending.set()
            threading.Thread(target=end, daemon=True).start()

    signal.signal(signal.SIGTERM, asked)
    signal.signal(signal.SIGINT, asked)
