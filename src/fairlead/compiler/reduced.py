"""Views without what cannot matter: proxies that differ in nothing else share everything that is compiled.

A proxy says more of itself than its configuration depends on. Labels count only if some object asks for them, addresses
only if something stands at them or is said of them, and all together for the families that they are of. When that
changes (a new policy asks for a new label), the proxies concerned are reduced to other views; the publisher moves them.

Whoever makes a result depend on a further attribute of a view must see to it that it is still there: `service_account`
and `workload_name` are dropped, as only patches look at them; what these ask for stands in `metadata`. The workload's
name stays where its calls are asked for (`compiler.ondemand`), or where its instances are (`compiler.endpoints`).
"""

from __future__ import annotations

from msgspec.structs import replace

from fairlead.compiler.labels import is_asked_for
from fairlead.compiler.near import matters, near_of, own_network
from fairlead.compiler.ondemand import asks
from fairlead.compiler.serving import telling_addresses
from fairlead.compiler.sidecars import SidecarKey, sidecar
from fairlead.inc import Reader, rule
from fairlead.ir.filters import Pairs
from fairlead.ir.selecting import PATCHES_ASKING, PATCHES_ASKING_ANYTHING, PROXY_VERSION
from fairlead.ir.view import View
from fairlead.model.launch import Capture

_OWN_ADDRESS = ("netns", "explicit")
"""Ways of capture in which inbound listeners stand at the workload's own address."""


@rule
def is_anything_looked_at(r: Reader, _: str) -> bool:
    """Whether some patch looks at any of the proxy's node metadata."""
    return r.has(PATCHES_ASKING_ANYTHING, "")


@rule
def is_looked_at(r: Reader, name: str) -> bool:
    """Whether some patch looks at this name of the proxy's node metadata."""
    return r.has(PATCHES_ASKING, name)


@rule
def reduced(r: Reader, view: View) -> View:
    """The view without labels, addresses and place where they cannot matter."""
    near = near_of(r, replace(view.client, network=own_network(r, view)))
    ordering = matters(r, "").labels if near is not None else frozenset[str]()
    labels = tuple(pair for pair in view.labels if pair[0] in ordering or is_asked_for(r, pair))
    addresses = view.addresses
    said = sidecar(r, SidecarKey(view.namespace, labels)) if view.type == "sidecar" else None
    if view.capture.mode not in _OWN_ADDRESS and not (said is not None and said.ingress):
        addresses = telling_addresses(r, view.namespace, addresses)
    # What it is known to call is not said here: only its list of clusters depends on that.
    asking = asks(r, view)
    place, network = (near.locality, near.network) if near is not None else ("", "")
    # Asked once where nobody looks at anything: of each name that is asked for it is remembered by whom.
    looked_at = is_anything_looked_at(r, "")
    return _first(
        r,
        replace(
            view,
            labels=labels,
            addresses=addresses,
            locality=place,
            network=network,
            service_account="",
            families=view.speaks if view.speaks != "IPv4" else "",
            workload_name=view.workload_name if asking or view.knows_peers else "",
            on_demand="true" if asking else "",
            version=view.version if looked_at and is_looked_at(r, PROXY_VERSION) else "",
            metadata=tuple(pair for pair in _said(view) if is_looked_at(r, pair[0])) if looked_at else (),
        ),
    )


@rule
def _first(_: Reader, view: View) -> View:
    """The first of equal views: one object for all proxies that are alike."""
    return view


def _said(view: View) -> Pairs:
    """What Istio's node metadata would say of the proxy, in words."""
    known = {
        "NAMESPACE": view.namespace,
        "SERVICE_ACCOUNT": view.service_account,
        "CLUSTER_ID": view.cluster_id,
        "NETWORK": view.network,
        "WORKLOAD_NAME": view.workload_name,
        "INTERCEPTION_MODE": _interception(view.capture),
        **dict(view.metadata),
    }
    return tuple(sorted((name, value) for name, value in known.items() if value))


def _interception(capture: Capture) -> str:
    if capture.mode not in ("redirect", "netns"):
        return "NONE"
    return "TPROXY" if capture.transparent else "REDIRECT"
