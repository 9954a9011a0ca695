"""The state directory: where it is, what stands in it, and that one control plane at a time uses it."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

import msgspec

from fairlead.ca.files import ensure_directory, write_atomic
from fairlead.controlplane.directory import default_directory

__all__ = ["Endpoints", "StateDirectory", "StateError", "default_directory"]
_OURS = frozenset({"lock", "store.db", "kubeconfig", "endpoints.json", "ca", "node"})


class StateError(Exception):
    """The state directory cannot be used; the message says why and what to do."""


class Endpoints(msgspec.Struct, frozen=True):
    """Where a control plane listens: `api` is a URL, `xds` and `join` are host:port."""

    api: str
    xds: str
    join: str


class StateDirectory:
    """Paths inside a state directory. Making one makes the directory (0700)."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        try:
            if self.path.is_dir() and (other := {one.name for one in self.path.iterdir()}) and not other & _OURS:
                raise StateError(
                    f"{self.path} holds other things ({', '.join(sorted(other)[:3])}): "
                    "choose an empty directory, or a new one inside it, with --state DIR"
                )
            ensure_directory(self.path)
        except OSError as error:
            raise StateError(
                f"{self.path}: {error.strerror}; choose a directory that you may write with --state DIR"
            ) from None
        self._lock: int | None = None

    @property
    def store(self) -> Path:
        """The SQLite file."""
        return self.path / "store.db"

    @property
    def timeline(self) -> Path:
        """What happened beside commits; an SQLite file that may be removed."""
        return self.path / "timeline.db"

    @property
    def ca(self) -> Path:
        """Roots and signing keys."""
        return self.path / "ca"

    @property
    def node(self) -> Path:
        """Per-replica directories and logs."""
        return self.path / "node"

    @property
    def kubeconfig(self) -> Path:
        """Address, CA and token of the API (0600)."""
        return self.path / "kubeconfig"

    @property
    def root_certificate(self) -> Path:
        """The mesh's trust bundle, PEM, for agents on this host."""
        return self.ca / "root-cert.pem"

    @property
    def keys(self) -> Path:
        """Public keys of token issuers that were fetched."""
        return self.path / "jwks.json"

    @property
    def bundles(self) -> Path:
        """Roots of SPIFFE bundles that were fetched."""
        return self.path / "bundles.json"

    @property
    def traffic(self) -> Path:
        """Who calls whom, as agents report."""
        return self.path / "traffic.json"

    @property
    def endpoints(self) -> Path:
        """Where the running control plane listens."""
        return self.path / "endpoints.json"

    def lock(self) -> None:
        """Take the directory for this process; the lock ends with the process. Raises StateError if it is taken."""
        try:
            handle = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StateError(f"{self.path / 'lock'}: {error.strerror}; choose another directory with --state") from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(handle, 32, 0).decode(errors="replace").strip() or "?"
            os.close(handle)
            raise StateError(
                f"{self.path} is in use by another control plane (process {holder}); stop it or choose another --state"
            ) from None
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        self._lock = handle

    def write_endpoints(self, endpoints: Endpoints) -> None:
        """Say where the control plane listens."""
        write_atomic(self.endpoints, msgspec.json.encode(endpoints))

    def read_endpoints(self) -> Endpoints:
        """Where the control plane listens, or listened last. Raises StateError if none ever ran here."""
        try:
            return msgspec.json.decode(self.endpoints.read_bytes(), type=Endpoints)
        except FileNotFoundError:
            raise StateError(f"no control plane has run with --state {self.path}") from None
        except (OSError, msgspec.DecodeError) as error:
            raise StateError(f"{self.endpoints} cannot be read: {error}") from None

    def write_kubeconfig(self, url: str, root_pem: str, token: str) -> None:
        """Write the administrator's kubeconfig (0600)."""
        import base64

        name = "fairlead"
        data = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": name,
            "clusters": [
                {
                    "name": name,
                    "cluster": {
                        "server": url,
                        "certificate-authority-data": base64.b64encode(root_pem.encode()).decode(),
                    },
                }
            ],
            "users": [{"name": "admin", "user": {"token": token}}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": "admin", "namespace": "default"}}],
        }
        write_atomic(self.kubeconfig, (json.dumps(data, indent=2) + "\n").encode())
