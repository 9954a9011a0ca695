"""Where the mesh is, as its state directory says (docs/architecture.md, State directory)."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from fairlead.node.launch import Mesh


class LocationError(Exception):
    """The mesh cannot be found; the text says what to do."""


class _Endpoints(msgspec.Struct, frozen=True):
    xds: str
    join: str
    api: str = ""


def default_state() -> Path:
    """The state directory where none is given."""
    if os.geteuid() == 0:
        return Path("/var/lib/fairlead")
    base = os.environ.get("XDG_STATE_HOME")
    return Path(base) / "fairlead" if base else Path.home() / ".local/state/fairlead"


def find_mesh(state: Path, xds: str = "", join: str = "", root_cert: Path | None = None) -> Mesh:
    """The mesh of a state directory; what is given wins over what the directory says. Raises LocationError."""
    if not (xds and join):
        file = state / "endpoints.json"
        try:
            found = msgspec.json.decode(file.read_bytes(), type=_Endpoints)
        except (OSError, msgspec.DecodeError) as error:
            said = error.strerror if isinstance(error, OSError) else str(error)
            raise LocationError(
                f"{file}: {said}; start the control plane with this --state, or give --xds, --join and --root-cert"
            ) from None
        xds, join = xds or found.xds, join or found.join
    root = (root_cert or state / "ca" / "root-cert.pem").resolve()
    if not root.is_file():
        raise LocationError(f"{root}: no such file; give the mesh's root certificate with --root-cert")
    return Mesh(xds, join, str(root))
