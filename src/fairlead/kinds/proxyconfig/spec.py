"""Fields of ProxyConfig (`networking.istio.io/v1beta1`)."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from fairlead.ir.proxyconfig import ProxyImage
from fairlead.model.object import Spec
from fairlead.model.target import WorkloadSelector


class ProxyConfigSpec(Spec, frozen=True):
    """How proxies are started; read when one starts."""

    selector: Annotated[
        WorkloadSelector | None,
        Meta(description="Workloads of this namespace; without it all (of all namespaces, in the root namespace)."),
    ] = None
    concurrency: Annotated[
        int | None,
        Meta(description="Worker threads of Envoy; 0: one for each core. Where nothing says it, 1."),
    ] = None
    environment_variables: Annotated[
        dict[str, Annotated[str, Meta(max_length=2048)]],
        Meta(description="Envoy's environment; ISTIO_META_NAME is also its node's metadata NAME."),
    ] = {}
    image: Annotated[ProxyImage | None, Meta(description="Has no effect: Envoy is the installed one.")] = None
