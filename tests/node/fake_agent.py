"""Stands in for `fairlead agent`: answers readiness, runs the command, drains on SIGTERM."""

from __future__ import annotations

import http.server
import json
import os
import signal
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
        self.send_response(200 if ready and not draining.is_set() else 503)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


server = http.server.ThreadingHTTPServer((config["address"], 15020), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
child = None
if config.get("command"):
    with Path(config["app_log"]).open("a") as log:
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
