"""The OpenAPI documents, from the kinds' schemas. Pure.

Clients use them to check fields (`apply`), to explain kinds, and to find out whether the server validates fields and
knows dry runs: kubectl looks for `fieldValidation` and `dryRun` among the parameters of a PATCH.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import msgspec

from fairlead import __version__
from fairlead.apiserver.discovery import groups
from fairlead.apiserver.schema import structural
from fairlead.compiler.registry import Registry
from fairlead.ir.kind import Kind

Json = dict[str, Any]

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"

_WRITE = (
    ("dryRun", "string", "All: do everything but store the result."),
    ("fieldManager", "string", "Who the changed fields belong to."),
    ("fieldValidation", "string", "Ignore, Warn or Strict; unknown fields are refused in any case."),
)
_FORCE = ("force", "boolean", "Take fields from other managers (apply only).")
_LIST = (
    ("labelSelector", "string", "Only objects with these labels."),
    ("fieldSelector", "string", "Only objects with these fields (metadata.name, metadata.namespace)."),
    ("limit", "integer", "At most so many objects; the answer's metadata.continue gets the next ones."),
    ("continue", "string", "Goes on with a list."),
    ("resourceVersion", "string", "The revision to begin at."),
    ("watch", "boolean", "Follow changes instead of listing."),
    ("allowWatchBookmarks", "boolean", "Take events that only tell the revision."),
    ("timeoutSeconds", "integer", "When to end a watch."),
)


def paths(registry: Registry) -> list[str]:
    """The paths below /openapi/v3 that have a document."""
    named = [f"apis/{group}/{version}" for group, versions in groups(registry).items() for version in versions]
    return ["api/v1", *named]


def _located(path: str) -> tuple[str, str]:
    parts = path.split("/")
    return ("", parts[1]) if parts[0] == "api" else (parts[1], parts[2])


def _prefix(group: str, version: str) -> str:
    return f"/apis/{group}/{version}" if group else f"/api/{version}"


def definition_name(kind: Kind[Any], version: str) -> str:
    """The name of a kind's schema: `io.istio.networking.v1.VirtualService`."""
    reverse = ".".join(reversed(kind.group.split("."))) if kind.group else "io.k8s.api.core"
    return f"{reverse}.{version}.{kind.kind}"


def patch_types(kind: Kind[Any]) -> list[str]:
    """The patches that the document claims. Strategic ones are taken for all kinds and claimed for those that
    Kubernetes has built in: for others kubectl cannot compute them."""
    return [JSON_PATCH, MERGE_PATCH, APPLY_PATCH, *([] if kind.group else [STRATEGIC_PATCH])]


def _parameter(name: str, kind: str, said: str, where: str, *, v3: bool) -> Json:
    out: Json = {"name": name, "in": where, "description": said}
    if where == "path":
        out["required"] = True
    return out | ({"schema": {"type": kind}} if v3 else {"type": kind})


def _operations(kind: Kind[Any], version: str, *, v3: bool) -> Json:
    """The path items of a kind."""
    prefix = _prefix(kind.group, version)
    namespace = [_parameter("namespace", "string", "The namespace.", "path", v3=v3)] if kind.namespaced else []
    name = _parameter("name", "string", "The object's name.", "path", v3=v3)
    collection = f"{prefix}/namespaces/{{namespace}}/{kind.plural}" if kind.namespaced else f"{prefix}/{kind.plural}"
    listing = [_parameter(*one, "query", v3=v3) for one in _LIST]
    writing = [_parameter(*one, "query", v3=v3) for one in _WRITE]
    patching = [*writing, _parameter(*_FORCE, "query", v3=v3)]
    make = _Operation(kind, version, v3=v3)
    out: Json = {
        collection: {
            "get": make("list", listing),
            "post": make("post", writing, ["application/json"]),
            "parameters": namespace,
        },
        f"{collection}/{{name}}": {
            "get": make("get", []),
            "put": make("put", writing, ["application/json"]),
            "patch": make("patch", patching, patch_types(kind)),
            "delete": make("delete", [writing[0]]),
            "parameters": [*namespace, name],
        },
    }
    if kind.namespaced:
        out[f"{prefix}/{kind.plural}"] = {"get": make("list", listing)}
    return out


class _Operation:
    """Makes the operation objects of one kind and version."""

    def __init__(self, kind: Kind[Any], version: str, *, v3: bool) -> None:
        self._gvk = {"group": kind.group, "version": version, "kind": kind.kind}
        base = "#/components/schemas/" if v3 else "#/definitions/"
        self._schema = {"$ref": base + definition_name(kind, version)}
        self._v3 = v3

    def __call__(self, action: str, parameters: list[Json], consumes: list[str] | None = None) -> Json:
        out: Json = {
            "parameters": parameters,
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": self._gvk,
        }
        body: Json = self._schema if action in ("post", "put") else {"type": "object"}
        if self._v3:
            out["responses"] = {"200": {"description": "OK", "content": {"application/json": {"schema": self._schema}}}}
            if consumes:
                out["requestBody"] = {"content": {one: {"schema": body} for one in consumes}}
            return out
        out["responses"] = {"200": {"description": "OK", "schema": self._schema}}
        out["produces"] = ["application/json"]
        if consumes:
            out["consumes"] = consumes
            out["parameters"] = [*parameters, {"name": "body", "in": "body", "required": True, "schema": body}]
        return out


def document_v3(registry: Registry, path: str) -> Json:
    """The document of one group and version."""
    group, version = _located(path)
    found: Json = {}
    schemas: Json = {}
    for kind in registry.kinds:
        if kind.group == group and version in kind.versions:
            found |= _operations(kind, version, v3=True)
            schemas[definition_name(kind, version)] = structural(kind, version)
    return {
        "openapi": "3.0.0",
        "info": {"title": "Fairlead", "version": __version__},
        "paths": found,
        "components": {"schemas": schemas},
    }


def document_v2(registry: Registry) -> Json:
    """Everything in one document, for old clients."""
    found: Json = {}
    definitions: Json = {}
    for kind in registry.kinds:
        for version in kind.versions:
            found |= _operations(kind, version, v3=False)
            definitions[definition_name(kind, version)] = structural(kind, version)
    return {
        "swagger": "2.0",
        "info": {"title": "Fairlead", "version": __version__},
        "paths": found,
        "definitions": definitions,
    }


class OpenAPI:
    """The documents as bytes, each made when it is first asked for."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._made: dict[str, tuple[bytes, str]] = {}

    def v3(self, path: str) -> tuple[bytes, str] | None:
        """The document of a path of `paths` and its hash, or None."""
        if path not in paths(self._registry):
            return None
        return self._document(path)

    def v2(self) -> tuple[bytes, str]:
        """The one document of version 2 and its hash."""
        return self._document("v2")

    def index(self) -> Json:
        """`/openapi/v3`: where the documents are; the hash in the address lets clients keep them."""
        return {
            "paths": {
                path: {"serverRelativeURL": f"/openapi/v3/{path}?hash={self._document(path)[1]}"}
                for path in paths(self._registry)
            }
        }

    def _document(self, path: str) -> tuple[bytes, str]:
        found = self._made.get(path)
        if found is None:
            made = document_v2(self._registry) if path == "v2" else document_v3(self._registry, path)
            raw = msgspec.json.encode(made)
            found = self._made[path] = (raw, sha256(raw).hexdigest().upper()[:32])
        return found
