"""Documents of any kind, from the kind's own schema: fields at random, values from pools that let objects meet.

Most of what a schema allows is refused by validation, so documents are mended: what a finding names is taken out until
nothing is wrong. What cannot be mended is no example.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from typing import Any, cast

from hypothesis import strategies as st
from msgspec import inspect

from fairlead.compiler.registry import registry
from fairlead.ir.kind import Kind
from fairlead.model.diagnostic import Severity
from fairlead.model.object import Object
from fairlead.model.path import FieldPath

Json = dict[str, Any]

_REVIEWS = "reviews.shop.svc.cluster.local"
_POOLS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        r"hosts?|service|snihosts|authority|hostname",
        (_REVIEWS, "ext.example.com", "*.example.com", "web.other.svc.cluster.local", "reviews", "*"),
    ),
    (r"gateways", ("mesh", "edge", "shop/edge")),
    (r"exportto|.*namespaces?", ("shop", "other", ".", "*")),
    (r".*(timeout|interval|duration|delay|time|ttl|backoff|age|minduration)", ("0s", "0.5s", "3s", "1m")),
    (r"address(es)?|bind|defaultendpoint", ("10.0.0.7", "10.1.0.0/16", "db.example.com", "unix:///run/a.sock")),
    (r".*ipblocks|destinationsubnets", ("10.0.0.0/8", "192.168.1.1")),
    (r"subset|name|version", ("v1", "v2", "edge", "http")),
    (r"protocol", ("HTTP", "HTTP2", "GRPC", "HTTPS", "TLS", "TCP", "MONGO")),
    (r"(prefix|exact|uri|path|paths|url|.*path)", ("/", "/a", "/a/b")),
    (r"regex|match", ("/a.*", "[a-z]+", "v1")),
    (r"key|when", ("source.ip", "request.headers[x-a]", "destination.port", "connection.sni")),
    (r"expression|value", ("response.code >= 400", "request.method", "GET", "8")),
    (r"jwksuri|jwks_uri|issuer", ("https://issuer.example.com/keys", "issuer@example.com")),
    (r"credentialname|secretname|.*credential", ("cert",)),
    (r"methods?", ("GET", "POST")),
    (r"principals|notprincipals|.*principals", ("*", "cluster.local/ns/shop/sa/web", "*/web")),
    (r"locality|from|to", ("eu/west/a", "eu/*", "us")),
    (r"kind", ("Gateway", "Service")),
    (r"group", ("gateway.networking.k8s.io", "")),
    (r"clusterip", ("None", "10.0.7.7")),
)
_TEXTS = ("a", "x-user", "b.example.com", "8080", "/p")
_LABELS = {"app": ("reviews", "web"), "version": ("v1", "v2"), "istio": ("ingressgateway",)}
_NUMBERS: tuple[tuple[str, tuple[int, ...]], ...] = (
    (r".*port|number", (80, 443, 8080, 9080, 9000)),
    (r".*(status|code)", (200, 404, 503)),
    (r"weight|percent.*", (0, 10, 50, 100)),
)
_WANTED = re.compile(
    r"hosts?|servers|selector|route|destination|ports?|jwtRules|rules|http|matchLabels|number|endpoints"
    r"|name|protocol|address|command"
)
"""Fields without which most objects say nothing."""
_DEEPEST = 9


def names(space: st.SearchStrategy[str]) -> st.SearchStrategy[Json]:
    """Metadata; when an object was made matters where several claim the same."""
    made = st.sampled_from(("2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"))
    required = {"name": st.sampled_from(("one", "two", "three", "edge")), "namespace": space}
    return st.fixed_dictionaries(required, optional={"creationTimestamp": made})


@st.composite
def documents(draw: st.DrawFn, kind: Kind[Any]) -> Json:
    """A document that the kind's schema allows."""
    info = cast("inspect.StructType", inspect.type_info(kind.spec))
    body = draw(_struct(info, 0))
    meta = draw(names(st.sampled_from(("shop", "other", "istio-system"))))
    if not kind.namespaced:
        meta.pop("namespace")
    if kind.kind == "MeshConfig":
        meta["name"] = "istio"
    head: Json = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": meta}
    return {**head, **body} if kind.inline else {**head, "spec": body}


def valid(kinds: tuple[Kind[Any], ...], least: int, most: int) -> st.SearchStrategy[list[tuple[Json, Object[Any]]]]:
    """Documents without errors, and their objects; those that cannot be mended are left out."""
    drawn = st.lists(st.sampled_from(kinds).flatmap(documents), min_size=least, max_size=most)
    return drawn.map(lambda found: [one for one in map(mended, found) if one is not None])


def mended(document: Json) -> tuple[Json, Object[Any]] | None:
    """The document without what validation refuses, or None if that leaves none."""
    document = copy.deepcopy(document)
    for _ in range(25):
        obj, problems = registry().read(document)
        if obj is not None:
            return document, obj
        wrong = next(one.path for one in problems if one.severity is Severity.ERROR)
        if not remove(document, wrong) and not _lessen(document.get("spec")):
            return None
    return None


def remove(document: Json, path: FieldPath) -> bool:
    """Take out what stands at a path, or what should hold it; whether something other than the whole was."""
    at: Any = document
    parents: list[tuple[Any, Any]] = []
    for part in path:
        inside = (
            part < len(at)
            if isinstance(at, list) and isinstance(part, int)
            else part in at
            if isinstance(at, dict)
            else False
        )
        if not inside:
            break
        parents.append((at, part))
        at = at[part]
    if len(parents) < 2:
        return False
    holder, part = parents[-1]
    del holder[part]
    return True


def _lessen(spec: Any) -> bool:
    """Take out the last field of a spec that is wrong as a whole; whether there was one."""
    if not isinstance(spec, dict) or not spec:
        return False
    cast("Json", spec).popitem()
    return True


def _holds(at: Any, part: str | int) -> bool:
    if isinstance(at, list):
        return isinstance(part, int) and part < len(cast("list[Any]", at))
    return isinstance(at, dict) and part in at


def _struct(info: inspect.StructType, depth: int) -> st.SearchStrategy[Json]:
    fields = {one.encode_name: one for one in info.fields}
    fixed = [name for name, one in fields.items() if one.required]
    liked = [name for name in fields if name not in fixed and _WANTED.fullmatch(name)]
    other = [name for name in fields if name not in fixed and name not in liked]

    @st.composite
    def made(draw: st.DrawFn) -> Json:
        chosen = [*fixed, *(name for name in liked if draw(st.integers(0, 9)) < 8)]
        if other and depth < _DEEPEST:
            chosen += draw(st.lists(st.sampled_from(other), max_size=3 if depth < 4 else 1, unique=True))
        return {name: draw(value(fields[name].type, name, depth + 1)) for name in dict.fromkeys(chosen)}

    return made()


def value(info: inspect.Type, name: str, depth: int) -> st.SearchStrategy[Any]:
    """A value of a type, as one would write it in a field of this name."""
    if isinstance(info, inspect.Metadata):
        return value(info.type, name, depth)
    if isinstance(info, inspect.StructType):
        return st.deferred(lambda: _struct(info, depth)) if depth < _DEEPEST else st.just({})
    if isinstance(info, inspect.UnionType):
        options = [one for one in info.types if not isinstance(one, inspect.NoneType)]
        return st.one_of(*(value(one, name, depth) for one in options))
    if isinstance(info, inspect.ListType | inspect.VarTupleType):
        return st.lists(value(info.item_type, name, depth), min_size=1, max_size=2)
    if isinstance(info, inspect.DictType):
        return _mapping(info, name, depth)
    return _plain(info, name)


def _mapping(info: inspect.DictType, name: str, depth: int) -> st.SearchStrategy[Json]:
    if re.search(r"labels|selector", name, re.IGNORECASE):
        key = st.sampled_from(sorted(_LABELS))
        return st.lists(key, min_size=1, max_size=2, unique=True).flatmap(
            lambda keys: st.fixed_dictionaries({one: st.sampled_from(_LABELS[one]) for one in keys})
        )
    if re.search(r"port", name, re.IGNORECASE):
        keys = st.sampled_from(("8080", "9080", "http"))
    else:
        keys = st.sampled_from(("x-user", "a", "b"))
    return st.dictionaries(keys, value(info.value_type, name, depth), min_size=1, max_size=2)


def _plain(info: inspect.Type, name: str) -> st.SearchStrategy[Any]:
    if isinstance(info, inspect.LiteralType):
        return st.sampled_from(info.values)
    if isinstance(info, inspect.BoolType):
        return st.booleans()
    if isinstance(info, inspect.IntType | inspect.FloatType):
        pool = next((found for shape, found in _NUMBERS if re.fullmatch(shape, name, re.IGNORECASE)), (0, 1, 2, 5, 100))
        least, most = info.ge if info.ge is not None else 0, info.le if info.le is not None else 1 << 31
        return st.sampled_from([one for one in pool if least <= one <= most] or [int(least)])
    if isinstance(info, inspect.EnumType):
        return st.sampled_from([one.value for one in info.cls])
    if isinstance(info, inspect.StrType):
        pools = (found for shape, found in _POOLS if re.fullmatch(shape, name, re.IGNORECASE))
        return st.sampled_from(next(pools, _TEXTS))
    return st.one_of(st.just({}), st.sampled_from(_TEXTS))


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The paths of everything in a document."""
    if path:
        yield path
    items: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        items = list(cast("Json", value).items())
    elif isinstance(value, list):
        items = list(enumerate(cast("list[Any]", value)))
    for key, one in items:
        yield from places(one, (*path, key))


def changed(document: Json, path: tuple[str | int, ...], change: Callable[[Any], Any]) -> Json:
    """A copy with another value at a path."""
    out = copy.deepcopy(document)
    holder: Any = out
    for part in path[:-1]:
        holder = holder[part]
    holder[path[-1]] = change(holder[path[-1]])
    return out
