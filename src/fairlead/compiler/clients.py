"""What of a caller its outbound configuration depends on.

Labels count only if some object looks at them: callers that differ in other labels share everything.
"""

from __future__ import annotations

from msgspec.structs import replace

from fairlead.compiler.scope import scope
from fairlead.compiler.sidecars import SidecarKey, proxy_scope
from fairlead.inc import Reader, rule
from fairlead.ir.filters import Pairs
from fairlead.ir.route import ROUTES_WITH_SOURCE_LABELS
from fairlead.ir.traffic import TRAFFIC_POLICIES_WITH_SELECTOR
from fairlead.ir.view import Client, View


def caller(r: Reader, view: View) -> Client:
    """A view as a caller: `namespace` is its scope where a Sidecar decides what it sees (`compiler.sidecars`)."""
    if view.type != "sidecar":
        return view.client
    where = proxy_scope(r, SidecarKey(view.namespace, view.labels))
    return replace(view.client, namespace=where)


@rule
def label_names(r: Reader, _: str) -> frozenset[str]:
    """The names of labels at which some routing rule or traffic policy looks (key: "")."""
    found: set[str] = set()
    for _key, routes in r.rows(ROUTES_WITH_SOURCE_LABELS, ""):
        for one in (*routes.http, *routes.tls, *routes.tcp):
            found.update(name for match in one.matches for name, _value in match.source_labels)
    for _key, policy in r.rows(TRAFFIC_POLICIES_WITH_SELECTOR, ""):
        found.update(name for name, _value in policy.selector)
    return frozenset(found)


@rule
def client(r: Reader, whole: Client) -> Client:
    """The caller without the labels at which nobody looks."""
    wanted = label_names(r, "")
    labels: Pairs = tuple(pair for pair in whole.labels if pair[0] in wanted)
    return replace(whole, labels=labels)


@rule
def seen_as(r: Reader, whole: Client) -> Client:
    """What of a caller its clusters, endpoints and listeners depend on.

    Namespaces to which nobody shows or says anything special are alike: they are seen as `EVERYWHERE`. Network,
    locality, cluster and families of addresses do not count here: see `fairlead.compiler.near`.
    """
    who = client(r, whole)
    return Client(scope(r, who.namespace), who.labels)
