"""Wasm modules that extension configurations name: what must be fetched, and what Envoy is given instead. No I/O.

A configuration from the control plane names a URL; Envoy's names a file. Where the module cannot be had, a filter that
lets everything pass or nothing stands in its place, as the object's failStrategy says.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from envoy.config.core.v3.extension_pb2 import TypedExtensionConfig
from envoy.extensions.filters.http.wasm.v3.wasm_pb2 import Wasm as HttpWasm
from envoy.extensions.filters.network.wasm.v3.wasm_pb2 import Wasm as NetworkWasm
from envoy.extensions.wasm.v3.wasm_pb2 import FailurePolicy
from envoy.service.discovery.v3 import discovery_pb2 as discovery

from fairlead.envoy.extension import PULL_POLICY, PULL_SECRET, standing
from fairlead.envoy.pack import pack


class Module(msgspec.Struct, frozen=True):
    """A module to fetch; `version` tells apart what must be asked for again ("" if any copy of the URL will do).

    `secret` is the text of a Docker configuration with the registry's credentials; it is in no `repr`.
    """

    url: str
    sha256: str = ""
    secret: str = ""
    version: str = ""

    def __repr__(self) -> str:
        return f"Module({self.url})"


class Ready(msgspec.Struct, frozen=True):
    """The module is this file."""

    path: str


class Failed(msgspec.Struct, frozen=True):
    """The module cannot be had now, and why."""

    reason: str


Outcome = Ready | Failed


def needed(message: discovery.DeltaDiscoveryResponse) -> dict[str, Module]:
    """The modules that the resources of a response need, by the resource's name. Raises DecodeError."""
    found: dict[str, Module] = {}
    for one in message.resources:
        plugin = _plugin(TypedExtensionConfig.FromString(one.resource.value))
        if plugin is None or not plugin.config.vm_config.code.HasField("remote"):
            continue
        machine = plugin.config.vm_config
        variables = machine.environment_variables.key_values
        found[one.name] = Module(
            url=machine.code.remote.http_uri.uri,
            sha256=machine.code.remote.sha256,
            secret=variables.get(PULL_SECRET, ""),
            version=one.version if PULL_POLICY in variables else "",
        )
    return found


def filled(
    message: discovery.DeltaDiscoveryResponse, wanted: Mapping[str, Module], outcomes: Mapping[Module, Outcome]
) -> tuple[bytes, dict[str, str]]:
    """The response for Envoy, and why modules are missing, by the resource's name. Every outcome must be known."""
    out = discovery.DeltaDiscoveryResponse()
    out.CopyFrom(message)
    missing: dict[str, str] = {}
    for one in out.resources:
        module = wanted.get(one.name)
        if module is None:
            continue
        config = TypedExtensionConfig.FromString(one.resource.value)
        outcome = outcomes[module]
        if isinstance(outcome, Failed):
            missing[one.name] = f"cannot fetch {module.url}: {outcome.reason}"
        _fill(config, outcome)
        one.resource.value = config.SerializeToString(deterministic=True)
    return out.SerializeToString(), missing


def _fill(config: TypedExtensionConfig, outcome: Outcome) -> None:
    plugin = _plugin(config)
    if plugin is None:
        return
    if isinstance(outcome, Failed):
        is_open = plugin.config.failure_policy == FailurePolicy.FAIL_OPEN
        made = standing(is_open=is_open, network=isinstance(plugin, NetworkWasm), name=plugin.config.name)
        config.typed_config.CopyFrom(pack(made))
        return
    machine = plugin.config.vm_config
    machine.code.local.filename = outcome.path
    for name in (PULL_SECRET, PULL_POLICY):
        machine.environment_variables.key_values.pop(name, None)
    config.typed_config.CopyFrom(pack(plugin))


def _plugin(config: TypedExtensionConfig) -> HttpWasm | NetworkWasm | None:
    for kind in (HttpWasm, NetworkWasm):
        if config.typed_config.Is(kind.DESCRIPTOR):
            return kind.FromString(config.typed_config.value)
    return None
