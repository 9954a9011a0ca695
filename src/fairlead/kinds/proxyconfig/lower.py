"""ProxyConfig to its fact."""

from __future__ import annotations

from collections.abc import Iterator

from fairlead.inc import Reader
from fairlead.ir.kind import Emission
from fairlead.ir.proxystart import PROXY_STARTS, ProxyStart
from fairlead.ir.view import pairs
from fairlead.kinds.proxyconfig.spec import ProxyConfigSpec
from fairlead.model.diagnostic import Origin
from fairlead.model.object import Object
from fairlead.model.ref import NamespacedName


def lower(_: Reader, obj: Object[ProxyConfigSpec]) -> Iterator[Emission]:
    """One fact. No resource of a proxy depends on it: it is read when a proxy starts."""
    spec = obj.spec
    key = NamespacedName(obj.ref.namespace, obj.ref.name)
    yield (
        PROXY_STARTS,
        key,
        ProxyStart(
            key=key,
            origin=Origin(obj.ref),
            selector=pairs(spec.selector.match_labels) if spec.selector else (),
            concurrency=spec.concurrency,
            environment=pairs(spec.environment_variables),
            created=obj.meta.creation_timestamp or "",
        ),
    )
