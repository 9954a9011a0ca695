"""ProxyConfig: with how many threads and which environment proxies are started."""

from __future__ import annotations

from fairlead.ir.kind import Kind
from fairlead.kinds.proxyconfig.lower import lower
from fairlead.kinds.proxyconfig.spec import ProxyConfigSpec
from fairlead.kinds.proxyconfig.validate import validate

KIND: Kind[ProxyConfigSpec] = Kind(
    group="networking.istio.io",
    versions=("v1beta1",),
    kind="ProxyConfig",
    plural="proxyconfigs",
    spec=ProxyConfigSpec,
    doc="With how many threads and which environment the proxies of some workloads are started.",
    categories=("istio-io", "networking-istio-io"),
    validate=validate,
    lower=lower,
)
