"""Filters that run code: Lua and Wasm; and the one that stands for a module that cannot be had."""

from __future__ import annotations

from envoy.config.rbac.v3 import rbac_pb2
from envoy.extensions.filters.http.lua.v3.lua_pb2 import Lua
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2 as http_rbac_pb2
from envoy.extensions.filters.http.wasm.v3.wasm_pb2 import Wasm as HttpWasm
from envoy.extensions.filters.network.rbac.v3 import rbac_pb2 as network_rbac_pb2
from envoy.extensions.filters.network.wasm.v3.wasm_pb2 import Wasm as NetworkWasm
from envoy.extensions.wasm.v3.wasm_pb2 import FailurePolicy, PluginConfig
from google.protobuf.message import Message
from google.protobuf.wrappers_pb2 import StringValue

from fairlead.envoy.pack import pack
from fairlead.ir.extension import Extension, Wasm
from fairlead.ir.filters import Filter, Phase

_RUNTIME = "envoy.wasm.runtime.v8"
_POLICIES = {
    "FAIL_CLOSE": FailurePolicy.FAIL_CLOSED,
    "FAIL_OPEN": FailurePolicy.FAIL_OPEN,
    "FAIL_RELOAD": FailurePolicy.FAIL_RELOAD,
}
_FAR = 1 << 40


def lua_filter(extension: Extension) -> Filter:
    """The filter that runs an object's Lua."""
    made = Lua()
    made.default_source_code.inline_string = extension.lua
    return _filter(extension, made)


def wasm_filter(extension: Extension, wasm: Wasm) -> Filter:
    """The filter that runs a module that is a file."""
    plugin = PluginConfig(name=_name(extension), root_id=wasm.root, failure_policy=_POLICIES[wasm.on_failure])
    machine = plugin.vm_config
    machine.runtime = _RUNTIME
    machine.code.local.filename = wasm.path
    if wasm.config:
        plugin.configuration.CopyFrom(pack(StringValue(value=wasm.config)))
    machine.environment_variables.host_env_keys.extend(wasm.host_environment)
    for name, value in wasm.environment:
        machine.environment_variables.key_values[name] = value
    return _filter(extension, NetworkWasm(config=plugin) if wasm.network else HttpWasm(config=plugin))


def closed_filter(extension: Extension, *, tcp: bool) -> Filter:
    """The filter that lets nothing through, in place of a module that fails closed."""
    nobody = rbac_pb2.RBAC(action=rbac_pb2.RBAC.ALLOW)
    if tcp:
        return _filter(extension, network_rbac_pb2.RBAC(rules=nobody, stat_prefix=_name(extension)))
    return _filter(extension, http_rbac_pb2.RBAC(rules=nobody))


def _name(extension: Extension) -> str:
    return f"{extension.key.namespace}.{extension.key.name}"


def _filter(extension: Extension, config: Message) -> Filter:
    """Phases are Istio's: before authentication, between it and authorization, before statistics, or last."""
    phase, order = {
        "AUTHN": (Phase.AUTHN, -_FAR),
        "AUTHZ": (Phase.AUTHN, _FAR),
        "STATS": (Phase.STATS, -_FAR),
        "": (Phase.LAST, 0),
    }[extension.phase]
    return Filter(
        f"extensions.istio.io/{extension.kind.lower()}/{_name(extension)}",
        f"type.googleapis.com/{config.DESCRIPTOR.full_name}",
        config.SerializeToString(deterministic=True),
        phase,
        order - extension.priority,
        (extension.origin,),
    )
