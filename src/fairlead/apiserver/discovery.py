"""What is served: groups, versions, resources, in the plain and in the aggregated form. Pure."""

from __future__ import annotations

from typing import Any

from fairlead.compiler.registry import Registry
from fairlead.ir.kind import Kind

Json = dict[str, Any]

VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
AGGREGATED = ("v2", "v2beta1")

# Requests that are answered and not stored: group -> (plural, kind, namespaced).
REVIEWS: dict[str, tuple[tuple[str, str, bool], ...]] = {
    "authentication.k8s.io": (("selfsubjectreviews", "SelfSubjectReview", False),),
    "authorization.k8s.io": (
        ("selfsubjectaccessreviews", "SelfSubjectAccessReview", False),
        ("selfsubjectrulesreviews", "SelfSubjectRulesReview", False),
    ),
}


def groups(registry: Registry) -> dict[str, list[str]]:
    """Named groups and their versions, the preferred one first."""
    out: dict[str, list[str]] = {}
    for kind in registry.kinds:
        if kind.group:
            versions = out.setdefault(kind.group, [])
            versions.extend(one for one in kind.versions if one not in versions)
    return out | {group: ["v1"] for group in REVIEWS}


def _kinds(registry: Registry, group: str, version: str) -> list[Kind[Any]]:
    return [one for one in registry.kinds if one.group == group and version in one.versions]


def exists(registry: Registry, group: str, version: str) -> bool:
    """Whether anything is served in a version."""
    return bool(_kinds(registry, group, version)) or (group in REVIEWS and version == "v1")


def core() -> Json:
    """`/api`."""
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}


def group_document(group: str, versions: list[str]) -> Json:
    """`/apis/GROUP`."""
    listed = [{"groupVersion": f"{group}/{one}", "version": one} for one in versions]
    return {"kind": "APIGroup", "apiVersion": "v1", "name": group, "versions": listed, "preferredVersion": listed[0]}


def group_list(registry: Registry) -> Json:
    """`/apis`."""
    listed = [group_document(group, versions) for group, versions in groups(registry).items()]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": listed}


def resource_list(registry: Registry, group: str, version: str) -> Json:
    """`/api/v1` and `/apis/GROUP/VERSION`."""
    resources: list[Json] = []
    for kind in _kinds(registry, group, version):
        resource: Json = {
            "name": kind.plural,
            "singularName": kind.singular or kind.kind.lower(),
            "namespaced": kind.namespaced,
            "kind": kind.kind,
            "verbs": VERBS,
        }
        if kind.short_names:
            resource["shortNames"] = list(kind.short_names)
        if kind.categories:
            resource["categories"] = list(kind.categories)
        resources.append(resource)
        for name, target, verbs in _subresources(kind):
            resources.append(
                {
                    "name": f"{kind.plural}/{name}",
                    "singularName": "",
                    "namespaced": kind.namespaced,
                    **target,
                    "verbs": verbs,
                }
            )
    for plural, review, namespaced in REVIEWS.get(group, ()):
        resources.append(
            {"name": plural, "singularName": "", "namespaced": namespaced, "kind": review, "verbs": ["create"]}
        )
    group_version = f"{group}/{version}" if group else version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources}


def _subresources(kind: Kind[Any]) -> list[tuple[str, Json, list[str]]]:
    out: list[tuple[str, Json, list[str]]] = []
    if kind.has_status:
        out.append(("status", {"kind": kind.kind}, ["get", "patch", "update"]))
    if (kind.group, kind.kind) == ("", "ServiceAccount"):
        token = {"group": "authentication.k8s.io", "version": "v1", "kind": "TokenRequest"}
        out.append(("token", token, ["create"]))
    return out


def aggregated(registry: Registry, *, named: bool, form: str) -> Json:
    """`/apis` (named groups) or `/api` (the core group) with everything in one document."""
    listed = groups(registry) if named else {"": ["v1"]}
    items: list[Json] = []
    for group, versions in listed.items():
        items.append(
            {
                "metadata": {"name": group or None, "creationTimestamp": None},
                "versions": [
                    {
                        "version": version,
                        "freshness": "Current",
                        "resources": [
                            *(_aggregate(one, version) for one in _kinds(registry, group, version)),
                            *(_review(group, *one) for one in REVIEWS.get(group, ())),
                        ],
                    }
                    for version in versions
                ],
            }
        )
        if not group:
            items[-1]["metadata"].pop("name")
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": f"apidiscovery.k8s.io/{form}",
        "metadata": {},
        "items": items,
    }


def _review(group: str, plural: str, kind: str, namespaced: bool) -> Json:
    return {
        "resource": plural,
        "responseKind": {"group": group, "version": "v1", "kind": kind},
        "scope": "Namespaced" if namespaced else "Cluster",
        "singularResource": kind.lower(),
        "verbs": ["create"],
    }


def _aggregate(kind: Kind[Any], version: str) -> Json:
    response = {"group": kind.group, "version": version, "kind": kind.kind}
    out: Json = {
        "resource": kind.plural,
        "responseKind": response,
        "scope": "Namespaced" if kind.namespaced else "Cluster",
        "singularResource": kind.singular or kind.kind.lower(),
        "verbs": VERBS,
    }
    if kind.short_names:
        out["shortNames"] = list(kind.short_names)
    if kind.categories:
        out["categories"] = list(kind.categories)
    below = [
        {
            "subresource": name,
            "responseKind": {"group": kind.group, "version": version, **target},
            "verbs": verbs,
        }
        for name, target, verbs in _subresources(kind)
    ]
    if below:
        out["subresources"] = below
    return out
