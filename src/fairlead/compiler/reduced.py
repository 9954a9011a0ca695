"""Views without what cannot matter: proxies that differ in nothing else share everything that is compiled.

A proxy says more of itself than its configuration depends on. Labels count only if some object asks for them, addresses
only if something stands at them or is said of them. When that changes (a new policy asks for a new label), the proxies
concerned are reduced to other views; the publisher moves them.

Whoever makes a result depend on a further attribute of a view must see to it that it is still there: `service_account`
and `workload_name` are dropped, as nothing depends on them.
"""

from __future__ import annotations

from msgspec.structs import replace

from fairlead.compiler.near import matters, near_of, own_network
from fairlead.compiler.serving import telling_addresses
from fairlead.inc import Reader, rule
from fairlead.ir.filters import Pairs
from fairlead.ir.selecting import FILTERING, SELECTING, Label
from fairlead.ir.view import View

_OWN_ADDRESS = ("netns", "explicit")
"""Ways of capture in which inbound listeners stand at the workload's own address."""


@rule
def is_asked_for(r: Reader, label: Label) -> bool:
    """Whether some object asks for proxies with this label."""
    return any(r.has(index, label) for index in SELECTING)


@rule
def is_filtered_by(r: Reader, label: Label) -> bool:
    """Whether some object that makes filters asks for proxies with this label."""
    return any(r.has(index, label) for index in FILTERING)


@rule
def reduced(r: Reader, view: View) -> View:
    """The view without labels, addresses and place where they cannot matter."""
    near = near_of(r, replace(view.client, network=own_network(r, view)))
    ordering = matters(r, "").labels if near is not None else frozenset[str]()
    labels = tuple(pair for pair in view.labels if pair[0] in ordering or is_asked_for(r, pair))
    addresses = view.addresses
    if view.capture.mode not in _OWN_ADDRESS:
        addresses = telling_addresses(r, view.namespace, addresses)
    place, network = (near.locality, near.network) if near is not None else ("", "")
    kept = replace(view, labels=labels, addresses=addresses, locality=place, network=network)
    return _first(r, replace(kept, service_account="", workload_name=""))


@rule
def _first(_: Reader, view: View) -> View:
    """The first of equal views: one object for all proxies that are alike."""
    return view


def filter_labels(r: Reader, labels: Pairs) -> Pairs:
    """Those labels on which filters may depend."""
    return tuple(pair for pair in labels if is_filtered_by(r, pair))
