"""From the fields of the kinds that add code to the facts about it."""

from __future__ import annotations

from typing import Literal, cast

from msgspec import json

from fairlead.ir.extension import Selector, Wasm
from fairlead.ir.view import pairs
from fairlead.model.wasm import Module, TrafficSelector, module_path, module_url


def phase_of(phase: str) -> Literal["", "AUTHN", "AUTHZ", "STATS"]:
    """The phase, "" for none in particular."""
    return "" if phase == "UNSPECIFIED_PHASE" else cast("Literal['AUTHN', 'AUTHZ', 'STATS']", phase)


def traffic_of(match: tuple[TrafficSelector, ...]) -> tuple[Selector, ...]:
    """The traffic that an extension sees."""
    return tuple(
        Selector(
            "CLIENT_AND_SERVER" if one.mode == "UNDEFINED" else one.mode,
            tuple(port.number for port in one.ports),
        )
        for one in match
    )


def wasm_of(said: Module) -> Wasm:
    """The module that an object names."""
    env = said.vm_config.env if said.vm_config is not None else ()
    return Wasm(
        url=module_url(said.url),
        # A file with a checksum is read by the agent, which gives Envoy the copy that it has checked.
        path="" if said.sha256 else module_path(said.url),
        root=said.plugin_name,
        config="" if said.plugin_config is None else json.encode(said.plugin_config, order="sorted").decode(),
        network=said.type == "NETWORK",
        on_failure=said.fail_strategy,
        environment=pairs({one.name: one.value for one in env if one.value_from == "INLINE"}),
        host_environment=tuple(sorted(one.name for one in env if one.value_from == "HOST")),
        sha256=said.sha256,
        always=_always(said),
        pull_secret=said.image_pull_secret,
    )


def _always(said: Module) -> bool:
    """As Istio: where nothing is said, only a tag that moves by its nature is asked for again."""
    if said.image_pull_policy in ("", "UNSPECIFIED_POLICY"):
        url = module_url(said.url)
        named = url.rpartition("/")[2]
        return url.startswith("oci://") and "@" not in named and (":" not in named or named.endswith(":latest"))
    return said.image_pull_policy == "Always"
