"""Which objects and fields are behind what a request meets: from the names that the compiler leaves, and its facts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, cast

import msgspec
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.base_pb2 import Metadata
from envoy.config.route.v3.route_components_pb2 import Route
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct

from fairlead.compiler.gateways import GatewaysKey, gateways_of
from fairlead.compiler.hosts import NameKey, host_named, mesh
from fairlead.compiler.model import OBJECTS, MeshModel
from fairlead.compiler.patches import Patched, ProxyKey
from fairlead.compiler.sidecars import SidecarKey, proxy_scope, sidecar_for
from fairlead.envoy.resource import LISTENER
from fairlead.envoy.routematch import is_catch_all, route_match
from fairlead.inc import Reader, rule
from fairlead.ir.authn import REQUEST_POLICIES_BY_NAMESPACE
from fairlead.ir.gateway import GATEWAYS, GATEWAYS_BY_OBJECT
from fairlead.ir.host import HOSTS, HOSTS_BY_NAME, HostKey
from fairlead.ir.mesh import MESH_KEY
from fairlead.ir.route import ROUTES, ROUTES_BY_OBJECT, WRITTEN_ROUTES, HttpRule, RouteSet
from fairlead.ir.security import (
    ACCESS_POLICIES,
    ACCESS_POLICIES_BY_NAMESPACE,
    PEER_POLICIES_BY_NAMESPACE,
    AccessPolicy,
    PeerPolicy,
)
from fairlead.ir.sidecar import SIDECARS
from fairlead.ir.traffic import TRAFFIC_POLICIES
from fairlead.ir.view import View, selects
from fairlead.ir.visibility import is_visible
from fairlead.model.diagnostic import Origin, Position
from fairlead.model.path import FieldPath
from fairlead.model.ref import NamespacedName, Ref

_RULE = re.compile(r"ns\[(?P<namespace>[^\]]*)\]-policy\[(?P<name>[^\]]*)\]-rule\[(?P<rule>\d+)\]")
_CONFIG = re.compile(r"/apis/(?P<group>[^/]*)/v1/namespaces/(?P<namespace>[^/]*)/(?P<kind>[^/]*)/(?P<name>.*)")
_EXTENSION = re.compile(r"extensions\.istio\.io/(?P<kind>\w+)/(?P<namespace>[^.]+)\.(?P<name>.+)")
_LIMIT = re.compile(r"fairlead\.ratelimit\.(?:local|global)\.(?P<namespace>[^.]+)\.(?P<name>.+)")
_NETWORKING = "networking.istio.io"
_EXTENSIONS = {"wasmplugin": "WasmPlugin", "trafficextension": "TrafficExtension"}

Positions = Callable[[Origin], Position | None]
Found = tuple[Origin, ...]


class Origins:
    """Origins of settings of a model's proxies. `positions` says where a field stands in a file, if it does."""

    def __init__(self, model: MeshModel, positions: Positions = lambda _: None) -> None:
        self._model = model
        self._positions = positions

    def position(self, origin: Origin) -> Position | None:
        """Where a field stands in a file, if it does."""
        return self._positions(origin)

    def placed(self, *origins: Origin | None) -> Found:
        """The origins with their places in files, each once."""
        out: dict[Origin, None] = {}
        for one in origins:
            if one is not None:
                at = one.position or self._positions(one)
                out[msgspec.structs.replace(one, position=at)] = None
        return tuple(out)

    def patches(self, view: View, type_url: str, name: str) -> Found:
        """The EnvoyFilters that have changed a resource; nothing where they leave it as it would be without them."""
        if not self._model.engine.call(_patch_sets, view):
            return ()
        part = self._model.publisher.part(view, type_url, name)
        if part is None or not isinstance(part.key, Patched):
            return ()
        at = part.key
        if self._model.engine.call(at.rule, at.key) == self._model.publisher.catalog(view)[type_url].get(name):
            return ()
        return self.placed(*(Origin(Ref(_NETWORKING, "EnvoyFilter", *one)) for one in at.proxy.sets))

    def exists(self, ref: Ref) -> bool:
        """Whether there is such an object."""
        return self._model.engine.get(OBJECTS, ref) is not None

    def policy(self, name: str) -> Found:
        """The rule of an AuthorizationPolicy by the name that Envoy reports."""
        found = _RULE.search(name)
        if found is None:
            return ()
        key = NamespacedName(found["namespace"], found["name"])
        policy = self._model.engine.get(ACCESS_POLICIES, key)
        if policy is None:
            return ()
        at = int(found["rule"])
        return self.placed(policy.rules[at].origin if at < len(policy.rules) else policy.origin)

    def policies(self, view: View, action: str) -> Found:
        """The AuthorizationPolicies of an action that are for a workload, the workload's namespace first."""
        return self.placed(*(one.origin for one in self._policies(view, action)))

    def _policies(self, view: View, action: str) -> Iterator[AccessPolicy]:
        for namespace in dict.fromkeys((view.namespace, self._root())):
            for key in self._model.engine.find(ACCESS_POLICIES_BY_NAMESPACE, namespace):
                policy = self._model.engine.get(ACCESS_POLICIES, key)
                if policy is not None and policy.action == action and selects(policy.selector, view.labels):
                    yield policy

    def refusing(self, view: View, failed: Mapping[str, str]) -> Found:
        """Why no ALLOW policy lets somebody in: of each rule the part that does not hold, then the policies.

        `failed` has that part (`from`, `to`; else the rule as a whole) by the rule's name in Envoy. What has none of
        its names is not compiled for the connection: on a TCP port rules that ask for HTTP.
        """
        parts: list[Origin] = []
        for policy in self._policies(view, "ALLOW"):
            for at, one in enumerate(policy.rules):
                name = f"ns[{policy.key.namespace}]-policy[{policy.key.name}]-rule[{at}]"
                part = failed.get(name, "to")
                path = one.origin.path / part if part in ("from", "to") else one.origin.path
                parts.append(Origin(one.origin.ref, path))
        return (*self.placed(*parts), *self.policies(view, "ALLOW"))

    def provider(self, policy: str) -> Found:
        """Where an AuthorizationPolicy names its authorizer, by a rule's name in Envoy."""
        return self.placed(*(_field(one, "spec", "provider", "name") for one in self.policy(policy)))

    def tokens(self, view: View, issuer: str | None = None) -> Found:
        """The rules of RequestAuthentications that are for a workload: all, or those of one issuer."""
        out: list[Origin] = []
        for namespace in dict.fromkeys((view.namespace, self._root())):
            for key in self._model.engine.find(REQUEST_POLICIES_BY_NAMESPACE, namespace):
                row = self._model.engine.get(REQUEST_POLICIES_BY_NAMESPACE.table, key)
                if row is not None and selects(row.selector, view.labels):
                    out.extend(one.origin for one in row.rules if issuer in (None, one.issuer))
        return self.placed(*out)

    def mtls(self, view: View, port: int) -> Found:
        """The field of a PeerAuthentication that decides the mTLS mode of a port; nothing where it is the default."""
        return self.placed(next(self._modes(view, port), None))

    def _modes(self, view: View, port: int) -> Iterator[Origin]:
        own = [one for one in self._peers(view.namespace) if one.selector and selects(one.selector, view.labels)]
        special = [min(own, key=_age)] if own and view.namespace != self._root() else []
        for one in special:
            for (number, mode), origin in zip(one.ports, one.port_origins, strict=True):
                if number == port and mode != "UNSET":
                    yield origin
            if one.mode != "UNSET":
                yield one.origin
        for namespace in dict.fromkeys((view.namespace, self._root())):
            general = [one for one in self._peers(namespace) if not one.selector]
            if general and min(general, key=_age).mode != "UNSET":
                yield min(general, key=_age).origin

    def _peers(self, namespace: str) -> list[PeerPolicy]:
        table = PEER_POLICIES_BY_NAMESPACE.table
        found = (
            self._model.engine.get(table, key) for key in self._model.engine.find(PEER_POLICIES_BY_NAMESPACE, namespace)
        )
        return [one for one in found if one is not None]

    def gateway(self, view: View, listener: str, port: int, sni: str = "") -> Found:
        """The servers of Gateways behind a gateway's listener, those of a server name only if there are such."""
        servers = [
            server
            for one in self._model.publisher.origins(view, LISTENER, listener)
            if isinstance(one, Ref)
            for at in self._model.engine.find(GATEWAYS_BY_OBJECT, one)
            for row in [self._model.engine.get(GATEWAYS, at)]
            if row is not None
            for server in row.servers
        ]
        on_port = [one for one in servers if one.port == port] or servers
        named = [one for one in on_port if sni and any(_bare(host) == sni for host in one.hosts)]
        return self.placed(*(one.origin for one in named or on_port))

    def gateways(self, view: View) -> Found:
        """The Gateways that are for a proxy."""
        refs = self._model.engine.call(_gateways_of, view)
        rows = (self._model.engine.get(GATEWAYS, one) for one in refs)
        return self.placed(*(one.origin for one in rows if one is not None))

    def route(self, route: Route) -> Found:
        """The rule, and the match of it, that made a route; nothing for a host's default route."""
        noted = _istio(route.metadata)
        ref = _named(noted["config"]) if noted is not None else None
        if ref is None:
            return ()
        key = NamespacedName(ref.namespace, ref.name)
        found = self._model.engine.get(ROUTES, key)
        if found is None:
            # What stands for an Ingress or an HTTPRoute has a name of its own.
            others = (self._model.engine.get(ROUTES, at) for at in self._model.engine.find(ROUTES_BY_OBJECT, ref))
            made = next((rule for one in others if one is not None and (rule := self._rule(one, route))), ())
            return self.placed(*(made or (Origin(ref),)))
        made = self._rule(found, route)
        return self.placed(*made) if made else self.placed(found.origin)

    def shadowed(self, route: Route) -> tuple[str, ...]:
        """The later rules of the same object that a route leaves nothing, if it takes every request: name or field."""
        found = next((one for one in self.route(route) if one.path[-2:-1] == ("http",)), None)
        if found is None or not is_catch_all(route.match):
            return ()
        key = NamespacedName(found.ref.namespace, found.ref.name)
        written = self._model.engine.get(WRITTEN_ROUTES, key)
        rules = written.http if written is not None else ()
        at = next((at for at, one in enumerate(rules) if one.origin.path == found.path), len(rules))
        return tuple(one.name or str(one.origin.path) for one in rules[at + 1 :])

    def _rule(self, routes: RouteSet, route: Route) -> tuple[Origin, ...]:
        asked = route.match.SerializeToString(deterministic=True)
        for said in routes.http:
            for at, match in enumerate(said.matches or (None,)):
                name = f"{said.name}.{match.name}" if match is not None and match.name else said.name
                if name != route.name:
                    continue
                made = route_match(match, whole_segments=routes.whole_segments)
                if made.SerializeToString(deterministic=True) == asked:
                    return (self._match_field(said, at), said.origin) if match is not None else (said.origin,)
        return ()

    def _match_field(self, rule: HttpRule, at: int) -> Origin:
        """The field of the match: only where the rule's conditions are its own, not joined with a root's."""
        ref = rule.origin.ref
        written = self._model.engine.get(WRITTEN_ROUTES, NamespacedName(ref.namespace, ref.name))
        own = next((one for one in written.http if one.origin == rule.origin), None) if written is not None else None
        if own is None or own.matches != rule.matches:
            return rule.origin
        name = "matches" if ref.kind == "HTTPRoute" else "match"
        return Origin(ref, rule.origin.path.child(name, at))

    def destination(self, route: Route, at: int) -> Found:
        """The destination of a rule: of weighted ones the one at a position among those that get something."""
        found = self.route(route)
        rules = [one for one in found if one.path and one.path[-2:-1] == ("http",)]
        if not rules:
            return found
        key = NamespacedName(rules[0].ref.namespace, rules[0].ref.name)
        written = self._model.engine.get(WRITTEN_ROUTES, key)
        for said in written.http if written is not None else ():
            if said.origin.path == rules[0].path and said.routes:
                weighted = [one for one in said.routes if one.weight > 0] if len(said.routes) > 1 else list(said.routes)
                chosen = weighted[max(at, 0)] if max(at, 0) < len(weighted) else weighted[0]
                return self.placed(_child(chosen.origin, "destination"), *found)
        return found

    def host(self, hostname: str, namespace: str, port: int = 0) -> Found:
        """The object that defines a host, and its port."""
        row = self._model.engine.get(HOSTS, HostKey(hostname, namespace))
        if row is None:
            return ()
        numbers = [one.number for one in row.ports]
        path = ()
        if port in numbers and not row.joined:
            path = ("spec", "ports", numbers.index(port))
        return self.placed(Origin(row.origin.ref, FieldPath(path)) if path else row.origin)

    def cluster(self, cluster: Cluster) -> Found:
        """The DestinationRule (and subset) and the host behind a cluster."""
        said = _istio(cluster.metadata)
        if said is None:
            return ()
        out: list[Origin] = []
        ref = _named(said["config"]) if "config" in said else None
        if ref is not None:
            policy = self._model.engine.get(TRAFFIC_POLICIES, NamespacedName(ref.namespace, ref.name))
            subset = str(said["subset"]) if "subset" in said else ""
            named = [one.origin for one in policy.subsets if one.name == subset] if policy is not None else []
            out.extend(named or [Origin(ref)])
        return (*self.placed(*out), *self._service(cluster))

    def cluster_tls(self, cluster: Cluster) -> Found:
        """The most specific TLS settings of the DestinationRule behind a cluster; what else is behind it if none."""
        found = self.cluster(cluster)
        rule = found[0] if found else None
        if rule is None or rule.ref.kind != "DestinationRule":
            return found[:1]
        said = cluster.metadata.filter_metadata["istio"]
        port = int(MessageToDict(said).get("default_original_port", 0))
        policies = [rule.path / "trafficPolicy"] if rule.path else []
        for policy in (*policies, FieldPath(("spec", "trafficPolicy"))):
            listed = self._value(Origin(rule.ref, policy / "portLevelSettings"))
            for at, one in enumerate(cast("list[dict[str, Any]]", listed or ())):
                if cast("dict[str, Any]", one.get("port") or {}).get("number") == port:
                    return self.placed(Origin(rule.ref, policy.child("portLevelSettings", at, "tls")))
            if self._value(Origin(rule.ref, policy / "tls")) is not None:
                return self.placed(Origin(rule.ref, policy / "tls"))
        return found[:1]

    def each(self, found: Found, name: str) -> Found:
        """A field of each of some origins."""
        return self.placed(*(Origin(one.ref, one.path / name) for one in found))

    def only(self, found: Found, *parts: str) -> Found:
        """A field of those of some origins that have it."""
        fields = (Origin(one.ref, one.path.child(*parts)) for one in found)
        return self.placed(*(one for one in fields if self._value(one)))

    def fields(self, found: Found, *names: str) -> Found:
        """Those of some fields that the innermost rule among origins has, before the origins."""
        rule = next((one for one in reversed(found) if one.path), None)
        if rule is None:
            return found
        fields = [_child(rule, name) for name in names]
        said = [one for one in fields if one is not None and self._value(one) is not None]
        return (*self.placed(*(msgspec.structs.replace(one, position=None) for one in said)), *found)

    def _value(self, origin: Origin) -> object:
        """What an object says at a field; None where it says nothing."""
        obj = self._model.engine.get(OBJECTS, origin.ref)
        value: Any = None if obj is None else {"spec": msgspec.to_builtins(obj.spec)}
        for part in origin.path:
            if isinstance(value, dict):
                value = cast("dict[str, Any]", value).get(str(part))
            elif isinstance(value, list | tuple) and isinstance(part, int):
                items = cast("list[Any]", value)
                value = items[part] if part < len(items) else None
            else:
                return None
        return None if value in ((), []) else value

    def _service(self, cluster: Cluster) -> Found:
        said = cluster.metadata.filter_metadata["istio"]
        if "services" not in said:
            return ()
        known = MessageToDict(said)
        service = known["services"][0]
        return self.host(str(service["host"]), str(service["namespace"]), int(known.get("default_original_port", 0)))

    def choosing(self, cluster: Cluster) -> Found:
        """Where a host says which endpoints it has: a selector, or a list."""
        found = self._service(cluster) if _istio(cluster.metadata) is not None else ()
        out: list[Origin] = []
        for one in found:
            if one.ref.kind == "Service":
                out.append(_field(one, "spec", "selector"))
            elif one.ref.kind == "ServiceEntry":
                selects_them = self._value(_field(one, "spec", "workloadSelector")) is not None
                out.append(_field(one, "spec", "workloadSelector" if selects_them else "endpoints"))
        return self.placed(*out)

    def looked_up(self, cluster: Cluster, name: str) -> Found:
        """Where a ServiceEntry gives a name that proxies look up in DNS: an endpoint's address, else the host."""
        found = self._service(cluster) if _istio(cluster.metadata) is not None else ()
        for one in found:
            listed = cast("list[dict[str, Any]]", self._value(_field(one, "spec", "endpoints")) or ())
            for at, endpoint in enumerate(listed):
                if endpoint.get("address") == name:
                    return self.placed(_field(one, "spec", "endpoints", at, "address"))
        return self.placed(*(_field(one, "spec", "hosts") for one in found if one.ref.kind == "ServiceEntry"))

    def limiting(self, view: View) -> Found:
        """What decides about hosts that a proxy does not see: its Sidecar, else the mesh's settings."""
        key = self._model.engine.call(sidecar_for, SidecarKey(view.namespace, view.labels))
        row = self._model.engine.get(SIDECARS, key) if key is not None else None
        out: list[Origin] = []
        if row is not None:
            said = ("spec", "outboundTrafficPolicy") if row.outbound_mode else ("spec", "egress")
            out.append(Origin(row.origin.ref, FieldPath(said)))
        if row is None or not row.outbound_mode:
            out.extend(self._settings())
        return self.placed(*out)

    def _settings(self) -> list[Origin]:
        """The objects that may hold the mesh's settings."""
        found = (Ref("", "ConfigMap", self._root(), "istio"), Ref("mesh.istio.io", "MeshConfig", "", "istio"))
        return [Origin(one) for one in found if self.exists(one)]

    def hiding(self, view: View, hostname: str) -> Found:
        """What keeps a proxy from seeing a host: that it is not exported there, or the proxy's Sidecar."""
        rows = [(key, self._model.engine.get(HOSTS, key)) for key in self._model.engine.find(HOSTS_BY_NAME, hostname)]
        unseen = [
            row for key, row in rows if row is not None and not is_visible(row.export_to, key.namespace, view.namespace)
        ]
        hidden = [_unexported(row.origin.ref) for row in unseen]
        if any(row.limit for row in unseen):
            hidden.extend(self._settings())  # serviceEntryVisibility
        key = self._model.engine.call(sidecar_for, SidecarKey(view.namespace, view.labels))
        row = self._model.engine.get(SIDECARS, key) if key is not None else None
        if row is not None and len(unseen) < len(rows):
            hidden.append(_field(row.origin, "spec", "egress"))
        return self.placed(*hidden)

    def shown(self, view: View, hostname: str) -> bool:
        """Whether a proxy sees a host, as far as its object and a Sidecar decide."""
        scope = self._model.engine.call(proxy_scope, SidecarKey(view.namespace, view.labels))
        return self._model.engine.call(host_named, NameKey(scope, hostname)) is not None

    def seen_host(self, scope: str, hostname: str) -> Found:
        """The object that speaks for a host name where a client is."""
        key = self._model.engine.call(host_named, NameKey(scope, hostname))
        return self.host(key.hostname, key.namespace) if key is not None else ()

    def extension(self, name: str) -> Found:
        """The object behind a rate limit, Lua or Wasm filter, by the filter's name."""
        limit = _LIMIT.fullmatch(name)
        if limit is not None:
            ref = Ref("fairlead.dev", "RateLimit", limit["namespace"], limit["name"])
            return self.placed(Origin(ref, FieldPath(("spec", "limits" if ".local." in name else "global"))))
        found = _EXTENSION.fullmatch(name)
        if found is None or found["kind"] not in _EXTENSIONS:
            return ()
        ref = Ref("extensions.istio.io", _EXTENSIONS[found["kind"]], found["namespace"], found["name"])
        return self.placed(Origin(ref))

    def _root(self) -> str:
        return self._model.engine.call(mesh, MESH_KEY).root_namespace


@rule
def _gateways_of(r: Reader, view: View) -> tuple[NamespacedName, ...]:
    return gateways_of(r, GatewaysKey.of(r, view))


@rule
def _patch_sets(r: Reader, view: View) -> bool:
    """Whether any EnvoyFilter is for a proxy."""
    return bool(ProxyKey.of(r, view).sets)


def child(found: Iterable[Origin], *parts: str | int) -> Found:
    """A field of the innermost rule among origins, before them."""
    origins = tuple(found)
    rule = next((one for one in reversed(origins) if one.path), None)
    if rule is None:
        return origins
    return (msgspec.structs.replace(rule, path=rule.path.child(*parts)), *origins)


def _istio(metadata: Metadata) -> Struct | None:
    return metadata.filter_metadata["istio"] if "istio" in metadata.filter_metadata else None  # noqa: SIM401 - no dict


def _child(origin: Origin | None, *parts: str | int) -> Origin | None:
    return None if origin is None else msgspec.structs.replace(origin, path=origin.path.child(*parts))


def _field(origin: Origin, *parts: str | int) -> Origin:
    return Origin(origin.ref, FieldPath(parts))


def _age(one: PeerPolicy) -> tuple[str, NamespacedName]:
    return one.created, one.key


def _unexported(ref: Ref) -> Origin:
    """Where an object says to whom it is exported."""
    if ref.kind == "Service":
        return Origin(ref, FieldPath(("metadata", "annotations", "networking.istio.io/exportTo")))
    return Origin(ref, FieldPath(("spec", "exportTo")))


def _bare(host: str) -> str:
    return host.rpartition("/")[2]


def _named(config: object) -> Ref | None:
    """`/apis/networking.istio.io/v1/namespaces/shop/virtual-service/canary` as an object's name."""
    found = _CONFIG.fullmatch(str(config))
    if found is None:
        return None
    kind = "".join(part.capitalize() for part in found["kind"].split("-"))
    kind = {"HttpRoute": "HTTPRoute"}.get(kind, kind)
    return Ref(found["group"], kind, found["namespace"], found["name"])


__all__ = ["Origins", "Positions", "child"]
