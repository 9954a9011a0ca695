"""Patches applied to Envoy's messages: lists of named things, and clusters.

Semantics are those of Istio's `pilot/pkg/networking/core/envoyfilter`. Which patches took effect is gathered in a set,
so that one that never does can be told to its author.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import msgspec
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from google.protobuf.message import Message

from fairlead.envoy.merge import merge
from fairlead.envoy.patchvalue import VALUES
from fairlead.ir.patch import ApplyTo, Context, Patch

M = TypeVar("M", bound=Message)
MERGES = ("MERGE", "MERGE_AND_REPLACE_LIST")
_OLD_NAMES = {
    "envoy.http_connection_manager": "envoy.filters.network.http_connection_manager",
    "envoy.tcp_proxy": "envoy.filters.network.tcp_proxy",
    "envoy.router": "envoy.filters.http.router",
    "envoy.cors": "envoy.filters.http.cors",
    "envoy.fault": "envoy.filters.http.fault",
    "envoy.lua": "envoy.filters.http.lua",
    "envoy.grpc_web": "envoy.filters.http.grpc_web",
    "envoy.ext_authz": "envoy.filters.http.ext_authz",
    "envoy.rate_limit": "envoy.filters.http.ratelimit",
}


class Patches(msgspec.Struct, frozen=True):
    """The patches for a proxy, in order, and those that took effect so far."""

    wanted: tuple[Patch, ...]
    effective: set[Patch] = msgspec.field(default_factory=set)

    def of(self, apply_to: ApplyTo, context: Context) -> list[Patch]:
        """The patches of one sort that hold in a context."""
        return [one for one in self.wanted if one.apply_to == apply_to and one.context in ("ANY", context)]

    def took(self, patch: Patch) -> None:
        """Remember that a patch took effect."""
        self.effective.add(patch)


def value_of(patch: Patch) -> Any:
    """The message of a patch."""
    return VALUES[patch.apply_to].FromString(patch.value)


def merge_into(target: Message, patch: Patch) -> None:
    """Merge a patch's message into another."""
    merge(target, value_of(patch), replace_lists=patch.operation == "MERGE_AND_REPLACE_LIST")


def in_passes(patches: Iterable[Patch]) -> list[Patch]:
    """Patches of filters in the order in which Istio applies them: what adds or removes filters, then what merges."""
    wanted = list(patches)
    return [one for one in wanted if one.operation not in MERGES] + [one for one in wanted if one.operation in MERGES]


def is_named(name: str, wanted: str) -> bool:
    """Whether a filter has the name that a patch says; old names of Envoy's filters count, and "" is any."""
    return not wanted or name in (wanted, current_name(wanted))


def current_name(name: str) -> str:
    """The name that Envoy uses today for a filter."""
    return _OLD_NAMES.get(name, name)


def edit(
    items: Sequence[M],
    patch: Patch,
    matches: Callable[[M], bool],
    *,
    constrained: bool,
    place: Callable[[list[M]], int] = len,
) -> tuple[list[M], bool]:
    """The list after one patch, and whether that took effect.

    `constrained` says that the patch names an item: without one, "before" is the start, "after" the end, and nothing is
    replaced. `place` is where ADD puts things.
    """
    out = list(items)
    found = [at for at, one in enumerate(out) if matches(one)]
    operation = patch.operation
    if operation in MERGES:
        for at in found:
            merge_into(out[at], patch)
        return out, bool(found)
    if operation == "REMOVE":
        return [one for at, one in enumerate(out) if at not in found], bool(found)
    made = value_of(patch)
    if operation == "ADD":
        out.insert(place(out), made)
    elif operation == "INSERT_FIRST" or (operation == "INSERT_BEFORE" and not constrained):
        out.insert(0, made)
    elif operation == "INSERT_AFTER" and not constrained:
        out.insert(place(out), made)
    elif not found or (operation == "REPLACE" and not constrained):
        return out, False
    elif operation == "REPLACE":
        out[found[0]] = made
    else:
        out.insert(found[0] + (operation == "INSERT_AFTER"), made)
    return out, True


def put(target: Any, items: Iterable[Message]) -> None:
    """Let a repeated field hold these messages."""
    copies = list(items)
    kept = [type(one).FromString(one.SerializeToString(deterministic=True)) for one in copies]
    del target[:]
    target.extend(kept)


def patched_cluster(body: bytes, patches: Patches, role: str) -> bytes | None:
    """A serialised cluster after the patches, or None if they remove it."""
    cluster = Cluster.FromString(body)
    name, hosts = cluster.name, _hosts(cluster)
    changed = False
    for patch in patches.of("CLUSTER", cluster_context(name, role)):
        if patch.operation not in (*MERGES, "REMOVE") or not _is_cluster(name, hosts, patch):
            continue
        patches.took(patch)
        if patch.operation == "REMOVE":
            return None
        _merge_cluster(cluster, patch)
        changed = True
    return cluster.SerializeToString(deterministic=True) if changed else body


def _merge_cluster(cluster: Cluster, patch: Patch) -> None:
    """Merge a cluster; a transport socket goes into that of its name, since Envoy takes no second one beside matches.

    Where a cluster chooses by the endpoint between sockets, none of which has the name, the patch's has no place.
    """
    change: Cluster = value_of(patch)
    replace_lists = patch.operation == "MERGE_AND_REPLACE_LIST"
    if change.HasField("transport_socket"):
        choices = [one.transport_socket for one in cluster.transport_socket_matches] or [cluster.transport_socket]
        same = next((one for one in choices if one.name == change.transport_socket.name), None)
        if same is not None:
            merge(same, change.transport_socket, replace_lists=replace_lists)
        elif not cluster.transport_socket_matches:
            cluster.transport_socket.CopyFrom(change.transport_socket)
        change.ClearField("transport_socket")
    merge(cluster, change, replace_lists=replace_lists)


def cluster_context(name: str, role: str) -> Context:
    """For which direction of a proxy's traffic a cluster is."""
    if role == "router":
        return "GATEWAY"
    return "SIDECAR_INBOUND" if name.startswith(("inbound|", "Inbound")) else "SIDECAR_OUTBOUND"


def _hosts(cluster: Cluster) -> tuple[str, ...]:
    """The hosts behind a cluster; the name of an inbound one has none, so that its metadata tells."""
    host = cluster.name.rpartition("|")[2]
    if host or "|" not in cluster.name:
        return (host,)
    told = cluster.metadata.filter_metadata["istio"].fields["services"].list_value.values
    return tuple(one.struct_value.fields["host"].string_value for one in told)


def _is_cluster(name: str, hosts: tuple[str, ...], patch: Patch) -> bool:
    wanted = patch.cluster
    if wanted.name:
        return wanted.name == name
    _, port, subset, _ = name.split("|", 3) if name.count("|") >= 3 else ("", "", "", "")
    return (
        (not wanted.port or str(wanted.port) == port)
        and (not wanted.subset or wanted.subset == subset)
        and (not wanted.service or wanted.service in hosts)
    )
