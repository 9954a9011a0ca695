"""Fields of WasmPlugin."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta

from fairlead.model.object import Spec
from fairlead.model.target import TargetReference, WorkloadSelector
from fairlead.model.wasm import PHASES, TrafficSelector, VmConfig


class WasmPlugin(Spec, frozen=True):
    """A Wasm module in the filter chains of workloads."""

    selector: Annotated[WorkloadSelector | None, Meta(description="The workloads; none: all of the namespace.")] = None
    target_ref: Annotated[TargetReference | None, Meta(description="The Gateway, instead of a selector.")] = None
    target_refs: Annotated[tuple[TargetReference, ...], Meta(description="The Gateways, instead of a selector.")] = ()
    phase: Annotated[PHASES, Meta(description="Where in the filter chain; UNSPECIFIED_PHASE: at its end.")] = (
        "UNSPECIFIED_PHASE"
    )
    priority: Annotated[
        int, Meta(ge=-2147483648, le=2147483647, description="Of one phase the highest comes first.")
    ] = 0
    match: Annotated[tuple[TrafficSelector, ...], Meta(description="Which traffic; none: all.")] = ()
    url: Annotated[
        str, Meta(description="The module: file:///PATH, http(s)://, or oci:// (also without a scheme).")
    ] = ""
    sha256: Annotated[
        str, Meta(description="Checksum of the file or of what is fetched; of an OCI image its digest.")
    ] = ""
    image_pull_policy: Annotated[
        Literal["", "UNSPECIFIED_POLICY", "IfNotPresent", "Always"],
        Meta(description="When to ask for the module again; tag latest: Always."),
    ] = ""
    image_pull_secret: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=253,
            description="Secret of type kubernetes.io/dockerconfigjson in the same namespace, for the registry.",
        ),
    ] = ""
    verification_key: Annotated[str, Meta(description="Not used by Istio either.")] = ""
    plugin_config: Annotated[dict[str, Any] | None, Meta(description="The module's configuration, given as JSON.")] = (
        None
    )
    plugin_name: Annotated[
        str, Meta(min_length=1, max_length=256, description="Name of the plugin in the module (its root id).")
    ] = ""
    type: Annotated[
        Literal["UNSPECIFIED_PLUGIN_TYPE", "HTTP", "NETWORK"],
        Meta(description="HTTP filters see requests, NETWORK filters bytes of TCP connections."),
    ] = "HTTP"
    fail_strategy: Annotated[
        Literal["FAIL_CLOSE", "FAIL_OPEN", "FAIL_RELOAD"],
        Meta(description="What happens where the module does not load or run."),
    ] = "FAIL_CLOSE"
    vm_config: Annotated[VmConfig | None, Meta(description="The machine that runs the module.")] = None
