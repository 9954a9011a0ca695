"""Code that runs in proxies: Lua, and Wasm modules."""

from __future__ import annotations

from typing import Literal

import msgspec

from fairlead.inc import Table
from fairlead.ir.attachment import Target, places
from fairlead.ir.filters import Pairs
from fairlead.model.diagnostic import Origin
from fairlead.model.ref import NamespacedName

Mode = Literal["CLIENT", "SERVER", "CLIENT_AND_SERVER"]


class Selector(msgspec.Struct, frozen=True):
    """Traffic that a workload gets or sends; without ports on every one."""

    mode: Mode = "CLIENT_AND_SERVER"
    ports: tuple[int, ...] = ()


class Wasm(msgspec.Struct, frozen=True):
    """A module. `path` is a file on the proxy's host, "" where its agent gets the module from `url`.

    `sha256` is the checksum of what the agent gets ("": any); `always` asks the server again whenever the configuration
    is new, though the module is in the cache; `pull_secret` names the Secret with the registry's credentials.
    """

    url: str
    path: str = ""
    root: str = ""
    config: str = ""
    network: bool = False
    on_failure: Literal["FAIL_CLOSE", "FAIL_OPEN", "FAIL_RELOAD"] = "FAIL_CLOSE"
    environment: Pairs = ()
    host_environment: tuple[str, ...] = ()
    sha256: str = ""
    always: bool = False
    pull_secret: str = ""


class Extension(msgspec.Struct, frozen=True):
    """Code of one object, for the workloads that it is for; exactly one of `lua` and `wasm`."""

    key: NamespacedName
    kind: str
    origin: Origin
    selector: Pairs = ()
    targets: tuple[Target, ...] = ()
    phase: Literal["", "AUTHN", "AUTHZ", "STATS"] = ""
    priority: int = 0
    traffic: tuple[Selector, ...] = ()
    lua: str = ""
    wasm: Wasm | None = None


EXTENSIONS: Table[tuple[NamespacedName, str], Extension] = Table("extensions", stage=1)
EXTENSIONS_AT = EXTENSIONS.index("at", lambda key, value: places(key[0].namespace, value))
EXTENSIONS_BY_NAMESPACE = EXTENSIONS.index("namespace", lambda key, value: [key[0].namespace])


class PullSecret(msgspec.Struct, frozen=True):
    """The credentials of registries that a Secret holds: the text of its `.dockerconfigjson`. Never logged."""

    config: str

    def __repr__(self) -> str:
        return "PullSecret()"


PULL_SECRETS: Table[NamespacedName, PullSecret] = Table("pull-secrets", stage=1)
