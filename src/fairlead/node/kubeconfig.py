"""Kubeconfig: where the API is and who we are there."""

from __future__ import annotations

import base64
import binascii
import ssl
from pathlib import Path
from typing import Any, cast

import msgspec
import yaml

_MAX_BYTES = 4 << 20


class KubeconfigError(Exception):
    """The file cannot be used; the text names it and says why."""


class Access(msgspec.Struct, frozen=True):
    """How to reach the API. `token` and the key are secrets; `ca` and certificates are PEM."""

    server: str
    ca: bytes = b""
    token: str = ""
    certificate_file: str = ""
    key_file: str = ""
    insecure: bool = False

    def __repr__(self) -> str:
        return f"Access(server={self.server!r})"

    def tls(self) -> ssl.SSLContext | bool:
        """The TLS settings; True where the server is plain HTTP. Raises KubeconfigError."""
        if not self.server.startswith("https:"):
            return True
        try:
            context = ssl.create_default_context(cadata=self.ca.decode("ascii") if self.ca else None)
            if self.insecure:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            if self.certificate_file:
                context.load_cert_chain(self.certificate_file, self.key_file or None)
        except (ssl.SSLError, OSError, ValueError) as error:
            raise KubeconfigError(f"certificates for {self.server}: {error}") from None
        return context


def read_kubeconfig(path: Path, server: str = "") -> Access:
    """The current context of a kubeconfig; `server` replaces its address. Raises KubeconfigError."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise KubeconfigError(f"{path}: larger than {_MAX_BYTES} bytes")
        data: Any = yaml.safe_load(path.read_bytes())
    except OSError as error:
        raise KubeconfigError(f"{path}: {error.strerror}; start the control plane or give --kubeconfig") from None
    except (yaml.YAMLError, ValueError) as error:
        raise KubeconfigError(f"{path}: not YAML: {str(error).splitlines()[0]}") from None
    try:
        context = _named(data, "contexts", "context", str(data["current-context"]))
        cluster = _named(data, "clusters", "cluster", str(context["cluster"]))
        user = _named(data, "users", "user", str(context["user"])) if context.get("user") else {}
        return Access(
            server=(server or str(cluster["server"])).rstrip("/"),
            ca=_bytes(cluster, "certificate-authority", path),
            token=_token(user, path),
            certificate_file=_file(user, "client-certificate", path),
            key_file=_file(user, "client-key", path),
            insecure=bool(cluster.get("insecure-skip-tls-verify", False)),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise KubeconfigError(f"{path}: no usable current context ({error})") from None
    except (OSError, binascii.Error) as error:
        raise KubeconfigError(f"{path}: {error}") from None


def _named(data: Any, items: str, item: str, name: str) -> dict[str, Any]:
    for one in data[items]:
        if one["name"] == name:
            return cast("dict[str, Any]", one[item])
    raise KeyError(f"no entry {name!r} in {items}")


def _bytes(item: dict[str, Any], field: str, path: Path) -> bytes:
    if item.get(f"{field}-data"):
        return base64.b64decode(str(item[f"{field}-data"]), validate=True)
    name = item.get(field)
    return (path.parent / str(name)).read_bytes() if name else b""


def _token(user: dict[str, Any], path: Path) -> str:
    if user.get("tokenFile"):
        return (path.parent / str(user["tokenFile"])).read_text().strip()
    return str(user.get("token") or "")


def _file(user: dict[str, Any], field: str, path: Path) -> str:
    if user.get(f"{field}-data"):
        raise KubeconfigError(f"{path}: {field}-data is not supported; use a token, or {field} with a file")
    return str(path.parent / str(user[field])) if user.get(field) else ""
