"""Filters that run code: Lua and Wasm.

A module that is fetched stands in an extension configuration of its own, which the listener's filter discovers: the
proxy's agent fetches what it names before Envoy gets it. The agent's part of the configuration (when to ask again, and
with which credentials) goes in variables of the machine's environment, by the names that Istio's agent knows, and the
agent takes them out.
"""

from __future__ import annotations

from envoy.config.core.v3.config_source_pb2 import ApiVersion, ExtensionConfigSource
from envoy.config.core.v3.extension_pb2 import TypedExtensionConfig
from envoy.config.rbac.v3 import rbac_pb2
from envoy.extensions.filters.http.lua.v3.lua_pb2 import Lua
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2 as http_rbac_pb2
from envoy.extensions.filters.http.wasm.v3.wasm_pb2 import Wasm as HttpWasm
from envoy.extensions.filters.network.rbac.v3 import rbac_pb2 as network_rbac_pb2
from envoy.extensions.filters.network.wasm.v3.wasm_pb2 import Wasm as NetworkWasm
from envoy.extensions.wasm.v3.wasm_pb2 import FailurePolicy, PluginConfig
from google.protobuf.message import Message
from google.protobuf.wrappers_pb2 import StringValue

from fairlead.envoy.pack import pack, seconds
from fairlead.envoy.resource import EXTENSION, Resource
from fairlead.ir.extension import Extension, PullSecret, Wasm
from fairlead.ir.filters import Filter, Phase

_RUNTIME = "envoy.wasm.runtime.v8"
_POLICIES = {
    "FAIL_CLOSE": FailurePolicy.FAIL_CLOSED,
    "FAIL_OPEN": FailurePolicy.FAIL_OPEN,
    "FAIL_RELOAD": FailurePolicy.FAIL_RELOAD,
}
_FAR = 1 << 40
PULL_SECRET = "ISTIO_META_WASM_IMAGE_PULL_SECRET"  # noqa: S105 - the name of a variable
PULL_POLICY = "ISTIO_META_WASM_IMAGE_PULL_POLICY"
DISCOVERED = f"type.googleapis.com/{ExtensionConfigSource.DESCRIPTOR.full_name}"
"""The type of a `Filter` whose configuration is discovered by its name."""
_NO_CLUSTER = "wasm-fetched-by-agent"
"""The field must be set; no cluster of the name is needed, since Envoy never fetches."""


def lua_filter(extension: Extension) -> Filter:
    """The filter that runs an object's Lua."""
    made = Lua()
    made.default_source_code.inline_string = extension.lua
    return _filter(extension, made)


def wasm_filter(extension: Extension, wasm: Wasm) -> Filter:
    """The filter that runs a module: with its configuration if the module is a file, else one that discovers it."""
    if wasm.path:
        return _filter(extension, _running(wasm, _plugin(extension, wasm)))
    source = ExtensionConfigSource()
    source.config_source.ads.SetInParent()
    source.config_source.resource_api_version = ApiVersion.V3
    for one in (NetworkWasm, network_rbac_pb2.RBAC) if wasm.network else (HttpWasm, http_rbac_pb2.RBAC):
        source.type_urls.append(f"type.googleapis.com/{one.DESCRIPTOR.full_name}")
    if wasm.on_failure == "FAIL_OPEN":
        # For an Envoy that hears nothing at all; else the agent says what stands in the module's place.
        source.default_config.CopyFrom(pack(substitute(wasm, _name(extension))))
    return _filter(extension, source)


def substitute(wasm: Wasm, name: str) -> Message:
    """What stands in the place of a module that cannot be had: everything passes, or nothing does."""
    return standing(is_open=wasm.on_failure == "FAIL_OPEN", network=wasm.network, name=name)


def standing(*, is_open: bool, network: bool, name: str) -> Message:
    """A filter that lets everything pass, or nothing."""
    # Rules that allow nobody deny all; without rules nothing is denied.
    rules = None if is_open else rbac_pb2.RBAC(action=rbac_pb2.RBAC.ALLOW)
    return network_rbac_pb2.RBAC(rules=rules, stat_prefix=name) if network else http_rbac_pb2.RBAC(rules=rules)


def extension_name(extension: Extension) -> str:
    """The name of an extension's filter, and of the configuration that it discovers."""
    return f"extensions.istio.io/{extension.kind.lower()}/{_name(extension)}"


def extension_resource(extension: Extension, wasm: Wasm, secret: PullSecret | None) -> Resource:
    """The discovered configuration of a module that is fetched."""
    plugin = _plugin(extension, wasm)
    machine = plugin.vm_config
    machine.code.remote.http_uri.uri = wasm.url
    machine.code.remote.http_uri.cluster = _NO_CLUSTER
    machine.code.remote.http_uri.timeout.CopyFrom(seconds(30))
    machine.code.remote.sha256 = wasm.sha256
    if wasm.always:
        machine.environment_variables.key_values[PULL_POLICY] = "Always"
    if secret is not None:
        machine.environment_variables.key_values[PULL_SECRET] = secret.config
    name = extension_name(extension)
    made = TypedExtensionConfig(name=name, typed_config=pack(_running(wasm, plugin)))
    return Resource.of(EXTENSION, name, made.SerializeToString(deterministic=True))


def without_secret(body: bytes) -> bytes:
    """A discovered configuration as it may be shown: without the registry's credentials. Raises DecodeError."""
    config = TypedExtensionConfig.FromString(body)
    for kind in (HttpWasm, NetworkWasm):
        if config.typed_config.Is(kind.DESCRIPTOR):
            made = kind.FromString(config.typed_config.value)
            variables = made.config.vm_config.environment_variables.key_values
            if PULL_SECRET in variables:
                variables[PULL_SECRET] = "[redacted]"
                config.typed_config.CopyFrom(pack(made))
                return config.SerializeToString(deterministic=True)
    return body


def _plugin(extension: Extension, wasm: Wasm) -> PluginConfig:
    plugin = PluginConfig(name=_name(extension), root_id=wasm.root, failure_policy=_POLICIES[wasm.on_failure])
    machine = plugin.vm_config
    machine.runtime = _RUNTIME
    if wasm.path:
        machine.code.local.filename = wasm.path
    if wasm.config:
        plugin.configuration.CopyFrom(pack(StringValue(value=wasm.config)))
    machine.environment_variables.host_env_keys.extend(wasm.host_environment)
    for name, value in wasm.environment:
        machine.environment_variables.key_values[name] = value
    return plugin


def _running(wasm: Wasm, plugin: PluginConfig) -> Message:
    return NetworkWasm(config=plugin) if wasm.network else HttpWasm(config=plugin)


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
        extension_name(extension),
        f"type.googleapis.com/{config.DESCRIPTOR.full_name}",
        config.SerializeToString(deterministic=True),
        phase,
        order - extension.priority,
        (extension.origin,),
    )
