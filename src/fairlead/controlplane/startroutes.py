"""A route for nodes: `/fairlead/v1/proxystart?namespace=N&labels=A=B,C=D` says how a workload's proxy starts."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from fairlead.compiler.model import MeshModel
from fairlead.compiler.patches import SelectKey, bootstrap_patches
from fairlead.controlplane.operations import administrators, refused
from fairlead.ir.mesh import MESH_KEY, MESHES, Mesh
from fairlead.ir.proxystart import PROXY_STARTS, layers_of
from fairlead.ir.view import pairs


def start_routes(model: MeshModel) -> list[BaseRoute]:
    """The route; it answers with `fairlead.ir.proxystart.StartLayers`."""

    async def start(request: Request) -> Response:
        namespace = request.query_params.get("namespace", "")
        if not namespace:
            return refused(400, "namespace: required")
        words = filter(None, request.query_params.get("labels", "").split(","))
        labels = {key: value for key, _, value in (word.partition("=") for word in words)}
        mesh = model.engine.get(MESHES, MESH_KEY) or Mesh()
        found = layers_of(mesh, (one for _, one in model.engine.items(PROXY_STARTS)), namespace, labels)
        patches = model.engine.call(bootstrap_patches, SelectKey(namespace, pairs(labels)))
        found = msgspec.structs.replace(found, bootstrap=patches)
        return Response(msgspec.json.encode(found), media_type="application/json")

    return [Route("/fairlead/v1/proxystart", administrators(start))]
