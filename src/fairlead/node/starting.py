"""How the proxy of a workload is to be started, asked of the control plane."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from fairlead.ir.proxystart import StartLayers
from fairlead.node.api import ApiError, Client

PATH = "/fairlead/v1/proxystart"


async def proxy_start(client: Client, namespace: str, labels: Mapping[str, str]) -> StartLayers:
    """What ProxyConfig objects and MeshConfig say of a workload. Raises ApiError."""
    params = {"namespace": namespace, "labels": ",".join(f"{key}={value}" for key, value in sorted(labels.items()))}
    try:
        return msgspec.convert(await client.get(PATH, params), StartLayers)
    except msgspec.ValidationError as error:
        raise ApiError(0, f"{PATH}: {error}") from None
