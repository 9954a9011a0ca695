"""Routing rules that leave the rest to other objects (VirtualService `delegate`), put together.

Istio's rules: a delegate is an object without hosts. Its rules take the place of the one that names it, each under the
conditions of both; what the delegate leaves open stays as the root says. A rule with a condition that is not narrower
than some condition of the root is left out as a whole. A delegate must be shown to the root's namespace, and delegates
no further.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec.structs import replace

from fairlead.inc import Derivation, Reader
from fairlead.ir.kind import Emission
from fairlead.ir.mesh import MESH_KEY, MESHES, Mesh
from fairlead.ir.route import ROUTES, WRITTEN_ROUTES, Headers, HttpMatch, HttpRule, RouteSet, StringMatch
from fairlead.ir.visibility import is_visible
from fairlead.model.diagnostic import Diagnostic, Origin, Severity
from fairlead.model.ref import NamespacedName

Conditions = tuple[tuple[str, StringMatch], ...]
_FIELDS = ("redirect", "direct", "rewrite", "timeout", "retry", "fault", "cors")


def _run(r: Reader, key: NamespacedName, written: RouteSet) -> Iterable[Emission]:
    """The rule set with the rules of its delegates; nothing for a delegate itself."""
    if not written.hosts:
        return
    http = tuple(one for said in written.http for one in _rules(r, written, said))
    yield ROUTES, key, written if http == written.http else replace(written, http=http)


DELEGATION: Derivation[NamespacedName, RouteSet] = Derivation("delegation", WRITTEN_ROUTES, 2, _run)
"""From rule sets as objects have them to those that hold."""


def _rules(r: Reader, root: RouteSet, said: HttpRule) -> Iterator[HttpRule]:
    if said.delegate is None:
        yield said
        return
    found = r.get(WRITTEN_ROUTES, said.delegate)
    if found is None or found.hosts:
        why = "does not exist" if found is None else "has hosts of its own, so it is no delegate"
        r.report(_without(said, f"VirtualService {said.delegate} {why}", "Create it without hosts, or name another."))
        return
    default = (r.get(MESHES, MESH_KEY) or Mesh()).default_route_export_to
    if not is_visible(found.export_to or default, found.key.namespace, root.key.namespace):
        message = f"VirtualService {said.delegate} is not exported to namespace {root.key.namespace}"
        r.report(_without(said, message, f"Add {root.key.namespace} to its exportTo."))
        return
    for one in found.http:
        if one.delegate is not None:
            continue
        matches = _matches(said.matches, one.matches)
        if matches is None:
            r.report(_unreachable(one, said.origin))
        else:
            yield _joined(said, one, matches)


def _joined(root: HttpRule, leaf: HttpRule, matches: tuple[HttpMatch, ...]) -> HttpRule:
    inherited = {name: getattr(root, name) for name in _FIELDS if getattr(leaf, name) is None}
    return replace(
        leaf,
        name="-".join(one for one in (root.name, leaf.name) if one),
        matches=matches,
        headers=root.headers if leaf.headers == Headers() else leaf.headers,
        mirrors=leaf.mirrors or root.mirrors,
        **inherited,
    )


def _matches(root: tuple[HttpMatch, ...], leaf: tuple[HttpMatch, ...]) -> tuple[HttpMatch, ...] | None:
    """The conditions under which both hold; () for all requests, None for none."""
    if not root or not leaf:
        return root or leaf
    narrowed = [[_both(one, other) for one in root if not _excluded(one, other)] for other in leaf]
    return tuple(one for found in narrowed for one in found) if all(narrowed) else None


def _both(root: HttpMatch, leaf: HttpMatch) -> HttpMatch:
    return HttpMatch(
        name="-".join(one for one in (root.name, leaf.name) if one),
        uri=leaf.uri or root.uri,
        ignore_uri_case=leaf.ignore_uri_case or root.ignore_uri_case,
        scheme=leaf.scheme or root.scheme,
        method=leaf.method or root.method,
        authority=leaf.authority or root.authority,
        headers=_union(root.headers, leaf.headers),
        without_headers=_union(root.without_headers, leaf.without_headers),
        query=_union(root.query, leaf.query),
        port=leaf.port or root.port,
        source_labels=tuple(sorted(dict((*root.source_labels, *leaf.source_labels)).items())),
        source_namespace=leaf.source_namespace or root.source_namespace,
        gateways=leaf.gateways or root.gateways,
        stat_prefix=leaf.stat_prefix or root.stat_prefix,
    )


def _union(root: Conditions, leaf: Conditions) -> Conditions:
    return tuple(sorted(dict((*root, *leaf)).items(), key=lambda one: one[0]))


def _excluded(root: HttpMatch, leaf: HttpMatch) -> bool:
    """Whether no request can meet both, or Istio does not say which can."""
    strings = (
        (root.uri, leaf.uri),
        (root.scheme, leaf.scheme),
        (root.method, leaf.method),
        (root.authority, leaf.authority),
        *_shared(root.headers, leaf.headers),
        *_shared(root.without_headers, leaf.without_headers),
        *_shared(root.query, leaf.query),
    )
    if any(_conflict(*pair) for pair in strings):
        return True
    if root.ignore_uri_case != leaf.ignore_uri_case:
        return True
    if root.port and leaf.port and root.port != leaf.port:
        return True
    if root.source_namespace and root.source_namespace != leaf.source_namespace:
        return True
    labels = dict(root.source_labels)
    if any(labels.get(name, value) != value for name, value in leaf.source_labels):
        return True
    return bool(root.gateways and leaf.gateways and not set(leaf.gateways) <= set(root.gateways))


def _shared(root: Conditions, leaf: Conditions) -> Iterator[tuple[StringMatch | None, StringMatch | None]]:
    known = dict(root)
    return ((known[name], one) for name, one in leaf if name in known)


def _conflict(root: StringMatch | None, leaf: StringMatch | None) -> bool:
    """Whether the leaf's comparison is not a narrower one than the root's."""
    if root is None or leaf is None:
        return False
    if root.kind == "prefix" and leaf.kind in ("prefix", "exact"):
        return not leaf.value.startswith(root.value)
    # Which expressions are narrower than others nobody can say; those of presence count as such, too.
    return root.kind != "exact" or leaf != root


def _without(said: HttpRule, why: str, remedy: str) -> Diagnostic:
    message = f"{why}: the rule that delegates to it is left out"
    return Diagnostic("FL2002", Severity.WARNING, message, said.origin, remedy)


def _unreachable(leaf: HttpRule, root: Origin) -> Diagnostic:
    return Diagnostic(
        "FL2003",
        Severity.WARNING,
        f"no request meets the conditions of this rule and those of {root} that delegates to it: it is left out",
        leaf.origin,
        "Let its matches be narrower than those of the rule that delegates.",
    )
