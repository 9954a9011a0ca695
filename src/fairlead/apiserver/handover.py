"""From client-side to server-side apply: what Kubernetes does so that `kubectl apply` may be followed by
`kubectl apply --server-side`. Pure.

Client-side apply keeps its last configuration in an annotation and owns its fields as `kubectl-client-side-apply`. If
kubectl then applies on the server and conflicts only with fields of that configuration, it conflicts with itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, cast

from fairlead.apiserver.ownership import FieldConflict, fields_of

Json = dict[str, Any]

MANAGER = "kubectl"
ANNOTATION = "kubectl.kubernetes.io/last-applied-configuration"
_MAX_ANNOTATION = 256 << 10


def _kept(document: Json) -> str:
    annotations: object = document.get("metadata", {}).get("annotations")
    return str(cast("Json", annotations).get(ANNOTATION, "")) if isinstance(annotations, dict) else ""


def is_own(live: Json, conflicts: Iterable[FieldConflict], schema: Json) -> bool:
    """Whether every conflict is about a field that kubectl itself applied on the client side."""
    try:
        last = json.loads(_kept(live) or "null")
    except (ValueError, RecursionError):
        return False
    if not isinstance(last, dict):
        return False
    mine = fields_of(cast("Json", last), schema)
    return all(one.path in mine for one in conflicts)


def refreshed(merged: Json, config: Json) -> Json:
    """The merged document with the annotation brought up to date, where there is one: client-side apply may be next."""
    if not _kept(merged):
        return merged
    meta = config["metadata"]
    given: object = meta.get("annotations") or {}
    if not isinstance(given, dict):
        return merged
    annotations = {key: value for key, value in cast("Json", given).items() if key != ANNOTATION}
    last = json.dumps({**config, "metadata": {**meta, "annotations": annotations}}, separators=(",", ":")) + "\n"
    kept: Json = {**merged["metadata"]["annotations"], ANNOTATION: last}
    if len(last) > _MAX_ANNOTATION:
        del kept[ANNOTATION]
    return {**merged, "metadata": {**merged["metadata"], "annotations": kept}}
