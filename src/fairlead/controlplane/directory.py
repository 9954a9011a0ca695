"""Where the state directory is. Imports next to nothing: completion in a shell must be quick."""

from __future__ import annotations

import os
from pathlib import Path


def default_directory() -> Path:
    """`/var/lib/fairlead` for root, else `$XDG_STATE_HOME/fairlead` or `~/.local/state/fairlead`."""
    if os.geteuid() == 0:
        return Path("/var/lib/fairlead")
    home = os.environ.get("XDG_STATE_HOME")
    return Path(home) / "fairlead" if home else Path.home() / ".local" / "state" / "fairlead"


def kubeconfig_file(kubeconfig: Path | None, state: Path | None) -> Path:
    """The kubeconfig to use: --kubeconfig, --state, $KUBECONFIG, that of the default state directory."""
    if kubeconfig is not None:
        return kubeconfig
    if state is not None:
        return state / "kubeconfig"
    listed = [Path(one) for one in os.environ.get("KUBECONFIG", "").split(os.pathsep) if one]
    existing = [one for one in listed if one.is_file()]
    return (existing or listed or [default_directory() / "kubeconfig"])[0]
