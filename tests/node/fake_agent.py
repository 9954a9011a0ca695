"""Stands in for `fairlead agent`: answers readiness, runs the command, drains on SIGTERM."""

from __future__ import annotations

import http.server
import json
import os
import signal
import socketserver
import subprocess
import sys
import threading
import time
from pathlib import Path

config = json.loads(Path(sys.argv[sys.argv.index("--config") + 1]).read_text())
started = time.monotonic()
draining = threading.Event()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        ready = time.monotonic() - started > float(config.get("env", {}).get("READY_AFTER", "0"))
        state = {"health": {"healthy": ready}, "draining": draining.is_set()}
        body = json.dumps(state).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "local"

    def log_message(self, *args: object) -> None:
        pass


class Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


control = Path(config["directory"]) / "agent.sock"
control.unlink(missing_ok=True)
os.chdir(control.parent)
server = Server("agent.sock", Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
child = None
if config.get("command"):
    log = Path(config["app_log"]).open("a") if config.get("app_log") else None  # noqa: SIM115
    child = subprocess.Popen(
        config["command"], env=config["env"], cwd=config.get("working_dir") or None, stdout=log, stderr=log
    )


def drain(*_: object) -> None:
    draining.set()
    if child is not None:
        child.terminate()


signal.signal(signal.SIGTERM, drain)
if child is not None:
    status = child.wait()
    os._exit(0 if draining.is_set() else (status if status >= 0 else 128 - status))
draining.wait()
os._exit(0)
